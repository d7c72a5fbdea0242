//! The names of all settings, and the most similar name for a misspelt one.

use toml::Table;

use super::centrifugo;
use crate::limits::KEY_LIKENESS_MIN;

/// Returns all settings, as `section.key`.
pub(super) fn known_keys(defaults: &Table) -> Vec<String> {
    let sections = defaults.iter().filter_map(|(name, value)| Some((name, value.as_table()?)));
    let mut known: Vec<String> = sections
        .flat_map(|(name, settings)| settings.keys().map(move |key| format!("{name}.{key}")))
        .collect();
    // Their defaults are the values of other settings, so they are not in the list of defaults.
    let others = ["channel.slow_policy", "channel.events", "redis.ingest", "events.stream"];
    known.extend(others.map(str::to_owned));
    known
}

/// Settings as other servers call them, and the same in Corecast. Centrifugo's names are in
/// [`centrifugo`].
const OTHER_NAMES: [(&str, &str); 8] = [
    ("server.address", "server.listen"),
    ("server.addr", "server.listen"),
    ("server.bind", "server.listen"),
    ("server.host", "server.listen"),
    ("server.port", "server.listen"),
    ("server.api_port", "server.api_listen"),
    ("server.proxy", "server.proxies"),
    ("server.trusted_proxies", "server.proxies"),
];

/// Returns the setting that other servers call `key`.
pub(super) fn equivalent(key: &str) -> Option<String> {
    let own = OTHER_NAMES.iter().find(|(name, _)| *name == key).map(|(_, to)| *to);
    own.or_else(|| centrifugo::equivalent(key)).map(str::to_owned)
}

/// Returns the known key that is most similar to `key`. The last part is also compared alone,
/// because the setting may be in the wrong section.
pub(super) fn nearest(key: &str, known: &[String]) -> Option<String> {
    let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |candidate: &String| {
        let whole = strsim::normalized_damerau_levenshtein(key, candidate);
        let part = strsim::normalized_damerau_levenshtein(&last(key), &last(candidate));
        whole.max(part * 0.9)
    };
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= KEY_LIKENESS_MIN).then(|| best.clone())
}
