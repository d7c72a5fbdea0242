//! What `corecast config show` prints: the settings in force, without the secrets.

use toml::{Table, Value};

use super::Loaded;

/// Stands where a secret is.
const HIDDEN: &str = "***";

impl Loaded {
    /// The settings as a TOML file that would make them again, but for the secrets, which are
    /// "***".
    pub fn shown(&self) -> String {
        // Every value came out of TOML, so all can be written as TOML.
        let text = toml::to_string(&self.without_secrets());
        text.unwrap_or_else(|error| format!("# can't be shown: {error}\n"))
    }

    /// The same as JSON.
    pub fn shown_json(&self) -> String {
        let text = serde_json::to_string_pretty(&self.without_secrets());
        text.unwrap_or_else(|error| format!("\"can't be shown: {error}\""))
    }

    fn without_secrets(&self) -> Table {
        let mut table = self.table.clone();
        if let Some(keys) = table.get_mut("api").and_then(|api| api.get_mut("keys")) {
            hide(keys);
        }
        let redis = table.get_mut("redis").and_then(|redis| redis.get_mut("url"));
        if let Some(url) = redis
            && url.as_str().is_some_and(holds_password)
        {
            hide(url);
        }
        table
    }
}

/// Whether a URL of Redis has a password: of Redis before the host, or of Sentinels among the
/// parameters.
fn holds_password(url: &str) -> bool {
    url.contains('@') || url.contains("assword=")
}

fn hide(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(hide),
        other => *other = Value::String(HIDDEN.to_owned()),
    }
}
