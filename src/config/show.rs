//! `corecast config show`: prints the effective settings without secrets, and the effective history
//! of each namespace.

use toml::{Table, Value};

use super::Loaded;
use super::secrets::holds_password;
use crate::channel::Namespace;
use crate::settings::Settings;

/// Replaces secrets.
const HIDDEN: &str = "***";

impl Loaded {
    /// The settings as a TOML file that yields the same settings. Secrets are replaced by "***".
    pub fn shown(&self) -> String {
        // All values come from TOML, so all can be written as TOML.
        let text = toml::to_string(&self.without_secrets());
        let mut text = text.unwrap_or_else(|error| format!("# can't be shown: {error}\n"));
        text += "\n# Effective history:\n";
        for namespace in self.settings.channel.namespaces.iter() {
            let name =
                if namespace.name.is_empty() { "without namespace" } else { &namespace.name };
            text += &format!("#   {name}: {}\n", Kept::of(&self.settings, namespace).describe());
        }
        text
    }

    /// The same as JSON.
    pub fn shown_json(&self) -> String {
        let mut table = self.without_secrets();
        let namespaces = self.settings.channel.namespaces.iter();
        let histories = namespaces
            .map(|namespace| (namespace.name.clone(), Kept::of(&self.settings, namespace).value()));
        table.insert("effective_history".to_owned(), Value::Table(histories.collect()));
        let text = serde_json::to_string_pretty(&table);
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

/// The effective history of the channels of one namespace: the smaller of the namespace's options
/// and the available memory.
struct Kept<'a> {
    namespace: &'a Namespace,
    /// The place of the history: "memory", "bus" or "redis".
    place: &'static str,
    /// Bytes that all channels share. `None` if each channel has its own limit.
    bytes_max: Option<usize>,
}

impl Kept<'_> {
    fn of<'a>(settings: &Settings, namespace: &'a Namespace) -> Kept<'a> {
        let redis = &settings.redis;
        let (place, bytes_max) = if namespace.durable_history {
            ("redis", None)
        } else if redis.url.is_empty() {
            ("memory", Some(settings.channel.history_bytes_max))
        } else {
            // A node keeps only the part of the window for which it has memory.
            let window = redis.streams.saturating_mul(redis.stream_bytes_max);
            ("bus", Some(window.min(settings.channel.history_bytes_max)))
        };
        Kept { namespace, place, bytes_max }
    }

    fn describe(&self) -> String {
        let Namespace { history_size, history_ttl, .. } = self.namespace;
        if !self.namespace.has_history() {
            return "none".to_owned();
        }
        let kept = format!("{history_size} publications of each channel for {history_ttl:?}");
        let all = self
            .bytes_max
            .map(|bytes| format!("within the last {} MiB of all channels", bytes >> 20));
        match (self.place, all) {
            ("memory", Some(all)) => format!("{kept}, {all}, in the memory of the process"),
            (_, Some(all)) => format!("{kept}, {all}"),
            (_, None) => format!("{kept}, in Redis"),
        }
    }

    fn value(&self) -> Value {
        let mut table = Table::new();
        let Namespace { history_size, history_ttl, .. } = self.namespace;
        let seconds = i64::try_from(history_ttl.as_secs()).unwrap_or(i64::MAX);
        let size = i64::try_from(*history_size).unwrap_or(i64::MAX);
        table.insert("publications".to_owned(), Value::Integer(size));
        table.insert("seconds".to_owned(), Value::Integer(seconds));
        table.insert("place".to_owned(), Value::String(self.place.to_owned()));
        if let Some(bytes) = self.bytes_max {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            table.insert("bytes_max".to_owned(), Value::Integer(bytes));
        }
        Value::Table(table)
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(hide),
        other => *other = Value::String(HIDDEN.to_owned()),
    }
}
