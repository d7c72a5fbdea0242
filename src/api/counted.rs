//! The names by which requests are counted. They are a fixed set, so that no client can make the
//! page of metrics longer.

/// Methods of all wordings, and the other paths of the listener. Everything else counts as `other`.
pub(super) const COUNTED: [&str; 26] = [
    "publish",
    "broadcast",
    "history",
    "history_remove",
    "channels",
    "info",
    "disconnect",
    "unsubscribe",
    "presence",
    "presence_stats",
    "subscribe",
    "refresh",
    "rpc",
    "map_publish",
    "map_remove",
    "map_read_state",
    "map_read_stream",
    "map_stats",
    "map_clear",
    "shared_poll_publish",
    "batch",
    "api",
    "metrics",
    "live",
    "ready",
    "page",
];

/// The name of requests that have no other one.
const OTHER: &str = "other";

/// Returns the name by which a request for `path` is counted.
pub(super) fn name(path: &str) -> &'static str {
    let name = match path {
        "/api" => "api",
        "/metrics" | "/live" | "/ready" => &path[1..],
        "/" | "/dev/config.json" | "/dev/numbers.json" => "page",
        _ => path.strip_prefix("/api/").unwrap_or_default(),
    };
    COUNTED.into_iter().find(|counted| *counted == name).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_name() {
        let table = [
            ("/api/publish", "publish"),
            ("/api", "api"),
            ("/metrics", "metrics"),
            ("/", "page"),
            ("/publish", OTHER),
            ("/api/nothing", OTHER),
            ("/api/", OTHER),
        ];
        for (path, expected) in table {
            assert_eq!(name(path), expected, "{path}");
        }
    }
}
