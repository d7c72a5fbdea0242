//! Imports of whole files, in the forms that Centrifugo's documentation shows.

use super::*;
use crate::settings::ListenAddress;

/// Version 6.
const SIX: &str = r#"{
  "http_server": {"port": 8100, "internal_port": "9100",
    "tls": {"enabled": false, "cert_pem": "x"}},
  "log": {"level": "info", "file": ""},
  "engine": {"type": "redis", "redis": {"address": "redis://h:6379", "password": "p@ss", "db": 2,
    "prefix": "centrifugo", "io_timeout": "4s", "unknown_part": true}},
  "client": {
    "allowed_origins": ["https://example.com", "*"],
    "token": {"hmac_secret_key": "secret"},
    "ping_interval": "30s", "pong_timeout": 8000000000,
    "allow_anonymous_connect_without_token": true,
    "channel_limit": 100, "queue_max_size": 2097152, "connection_limit": 0,
    "proxy": {"connect": {"enabled": false, "endpoint": "http://localhost"}}
  },
  "websocket": {"message_size_limit": 65536, "compression": true},
  "channel": {
    "without_namespace": {"history_size": 10, "history_ttl": "1m", "presence": false},
    "namespaces": [{"name": "chat", "presence": true, "history_size": 100, "history_ttl": "1h30m",
      "force_recovery": true, "allow_subscribe_for_client": true, "channel_regex": "",
      "publication_data_format": "binary", "delta_publish": true, "history_meta_ttl": "1h"}]
  },
  "http_api": {"key": "sesame", "insecure": false},
  "grpc_api": {"enabled": true, "port": 10000},
  "admin": {"enabled": false, "password": "x"},
  "consumers": [{"name": "k", "type": "kafka", "enabled": true}],
  "shutdown": {"timeout": "20s"},
  "usage_stats": {"disabled": true}
}"#;

fn imported(text: &str, format: Format) -> Imported {
    import(text, format).expect("it can be read")
}

/// The advice for a setting.
fn note<'a>(imported: &'a Imported, key: &str) -> &'a str {
    let of_key = |note: &&Note| note.keys.iter().any(|one| one == key);
    let found = imported.notes.iter().find(of_key);
    &found.unwrap_or_else(|| panic!("no note for {key}: {:?}", imported.notes)).text
}

#[test]
fn version_6_becomes_valid_settings_and_a_note_for_each_rest() {
    let found = imported(SIX, Format::Json);
    assert_eq!(found.problems, Vec::<String>::new());
    let settings = check_text(&found.text).expect("valid");
    assert_eq!(settings.server.listen, [ListenAddress::parse("0.0.0.0:8100").expect("an address")]);
    assert_eq!(
        settings.server.api_listen,
        ListenAddress::parse("0.0.0.0:9100").expect("an address")
    );
    let (delay, drain) = (settings.server.drain_delay, settings.server.drain);
    assert_eq!((delay.as_secs(), drain.as_secs()), (5, 15), "together as long as there");
    assert_eq!(settings.redis.url, "redis://:p%40ss@h:6379/2");
    assert_eq!(settings.redis.prefix, "centrifugo", "it keeps deployments apart");
    let client = &settings.client;
    assert_eq!(client.allowed_origins, ["https://example.com"]);
    assert_eq!((client.ping_interval.as_secs(), client.pong_timeout.as_secs()), (30, 8));
    assert_eq!((client.channels_max, client.outbox_bytes_max), (100, 2 << 20));
    assert_eq!(settings.server.max_connections, Settings::default().server.max_connections);
    assert!(settings.auth.anonymous);
    assert_eq!(settings.api.keys, ["sesame"]);
    let all: Vec<_> = settings.channel.namespaces.iter().collect();
    assert_eq!((all[0].history_size, all[0].history_ttl.as_secs()), (10, 60));
    assert_eq!((all[1].name.as_str(), all[1].history_ttl.as_secs()), ("chat", 5400));
    assert_eq!(all[1].data, crate::channel::DataType::Binary);
    assert!(all[1].force_recovery && all[1].allow_subscribe_for_client);

    for (key, part) in [
        ("client.token.hmac_secret_key", "tokens are not part of this version"),
        ("client.allowed_origins", "list your own origins"),
        ("websocket.compression", "compression is not part of this version"),
        ("namespaces[\"chat\"].presence", "presence is not part of this version"),
        ("namespaces[\"chat\"].delta_publish", "not part of this version"),
        ("grpc_api.port", "this transport is not part of this version"),
        ("consumers[\"k\"]", "\"kafka\""),
        ("shutdown.timeout", "server.drain_delay"),
        ("engine.redis.unknown_part", "no equivalent in redis.url"),
    ] {
        assert!(note(&found, key).contains(part), "{key}: {}", note(&found, key));
    }
    let told: Vec<&String> = found.notes.iter().flat_map(|note| &note.keys).collect();
    for quiet in [
        "admin.password",
        "http_server.tls.cert_pem",
        "http_api.insecure",
        "log.file",
        "client.proxy.connect.endpoint",
        "usage_stats.disabled",
    ] {
        assert!(!told.contains(&&quiet.to_owned()), "{quiet} has no effect there either");
    }
}

#[test]
fn version_5_has_long_names_and_options_at_the_top() {
    let text = r#"{
      "address": "127.0.0.1", "port": "8000", "engine": "redis", "redis_address": "h1:6379",
      "redis_tls": true, "token_hmac_secret_key": "s", "api_key": "sesame", "log_level": "debug",
      "allow_anonymous_connect_without_token": true, "allowed_origins": ["https://a.com"],
      "client_channel_limit": 50, "history_size": 5, "history_ttl": "300s", "force_recovery": true,
      "allow_subscribe_for_client": true, "presence": true, "admin": true, "prometheus": true,
      "proxy_connect_endpoint": "http://localhost/connect", "something_else": 7,
      "namespaces": [{"name": "news", "allow_history_for_subscriber": true}]
    }"#;
    let found = imported(text, Format::Json);
    assert_eq!(found.problems, Vec::<String>::new());
    let settings = check_text(&found.text).expect("valid");
    assert_eq!(settings.server.listen, [ListenAddress::parse("127.0.0.1:8000").expect("one")]);
    assert_eq!(settings.redis.url, "rediss://h1:6379");
    assert_eq!(settings.client.channels_max, 50);
    let plain = settings.channel.namespaces.plain();
    assert!(plain.force_recovery && plain.allow_subscribe_for_client && plain.history_size == 5);
    for (key, part) in [
        ("api", "server.api_listen"),
        ("token_hmac_secret_key", "tokens"),
        ("presence", "presence"),
        ("admin", "corecast info"),
        ("prometheus", "docs/metrics.md"),
        ("proxy_connect_endpoint", "[events]"),
        ("something_else", "is not a setting that Corecast knows of Centrifugo"),
    ] {
        assert!(note(&found, key).contains(part), "{key}: {}", note(&found, key));
    }
}

#[test]
fn yaml_and_toml_are_read_like_json() {
    let yaml = "http_server:\n  port: 8100\nclient:\n  allowed_origins:\n    - https://a.com\n\
                channel:\n  namespaces:\n    - name: chat\n      history_size: 3\n      \
                history_ttl: 1m\nhttp_api:\n  key: sesame\n";
    let toml = "[http_server]\nport = 8100\n[client]\nallowed_origins = [\"https://a.com\"]\n\
                [[channel.namespaces]]\nname = \"chat\"\nhistory_size = 3\nhistory_ttl = \"1m\"\n\
                [http_api]\nkey = \"sesame\"\n";
    let found = imported(yaml, Format::Yaml);
    assert_eq!(found.text, imported(toml, Format::Toml).text);
    assert!(found.text.contains("name = \"chat\"") && found.text.contains("8100"));
    for (text, format) in [("[", Format::Json), ("a = ", Format::Toml), ("a: [", Format::Yaml)] {
        assert!(import(text, format).is_err(), "{text}");
    }
    assert!(import("[1]", Format::Json).expect_err("a list").contains("table of settings"));
}

#[test]
fn every_form_of_redis_is_a_url_that_the_server_takes() {
    for (redis, url) in [
        (r#"{"address": ["h:1", "h:2"]}"#, "redis://h:1"),
        (r#"{"address": "rediss://u:p@h:1/3"}"#, "rediss://u:p@h:1/3"),
        (r#"{"address": "unix:///run/redis.sock"}"#, "redis+unix:///run/redis.sock"),
        (r#"{"cluster_address": ["h1:7000,h2:7000"]}"#, "redis-cluster://h1:7000?node=h2:7000"),
        (
            r#"{"sentinel_address": "s1:26379,s2:26379", "sentinel_master_name": "mymaster",
                "sentinel_password": "q", "password": "p"}"#,
            "redis-sentinel://:p@s1:26379?sentinelServiceName=mymaster&sentinelPassword=q\
             &node=s2:26379",
        ),
        ("{}", "redis://127.0.0.1:6379"),
    ] {
        let text = format!(r#"{{"engine": {{"type": "redis", "redis": {redis}}}}}"#);
        let found = imported(&text, Format::Json);
        let settings = check_text(&found.text).expect("valid");
        assert_eq!(settings.redis.url, url);
    }
    let unused = r#"{"engine": {"type": "memory", "redis": {"address": "h:1"}}}"#;
    assert!(!imported(unused, Format::Json).text.contains("redis"));
    let nats = r#"{"broker": {"enabled": true, "type": "nats", "nats": {"url": "nats://h"}}}"#;
    assert!(note(&imported(nats, Format::Json), "broker.type").contains("connected by Redis"));
}

#[test]
fn a_result_that_serve_would_refuse_is_told() {
    let found = imported(r#"{"client": {"ping_interval": "5s"}}"#, Format::Json);
    assert!(found.problems.iter().any(|problem| problem.contains("pong_timeout")), "{found:?}");
    let found = imported("{}", Format::Json);
    assert!(found.problems.iter().any(|problem| problem.contains("api.keys")), "{found:?}");
}

#[test]
fn a_regex_for_parts_of_names_becomes_one_for_whole_names() {
    let imported = |regex: &str| {
        let namespace = serde_json::json!({"name": "n", "channel_regex": regex});
        let text = serde_json::json!({"channel": {"namespaces": [namespace]}});
        imported(&text.to_string(), Format::Json)
    };
    for (regex, matching, other) in [
        ("^[a-z]+$", "n:abc", "n:ab1"),
        ("[0-9]", "n:room1b", "n:room"),
        ("^a|b$", "n:axx", "n:xax"),
        (r"^a\$", "n:a$b", "n:ab"),
    ] {
        let found = imported(regex);
        let settings = check_text(&found.text).expect("valid");
        let allows = |name: &str| settings.channel.namespaces.resolve(name).is_ok();
        assert!(allows(matching) && !allows(other), "{regex}: {}", found.text);
        let told = found.notes.iter().any(|note| note.text.contains("whole name"));
        assert_eq!(told, regex != "^[a-z]+$", "{regex}: {:?}", found.notes);
    }
}

#[test]
fn the_streams_of_all_consumers_are_read() {
    let text = r#"{
      "engine": {"type": "redis", "redis": {"address": "h:6379", "prefix": "app"}},
      "consumers": [
        {"name": "a", "type": "redis_stream", "enabled": true, "redis_stream": {"address":
          "redis://h:6379", "streams": ["one", "two"], "consumer_group": "app", "num_workers": 2}},
        {"name": "b", "type": "redis_stream", "redis_stream": {"address": "redis://:sesame@other:1",
          "streams": ["two", "three"], "consumer_group": "other", "method_value": "m",
          "tls": {"enabled": true}}},
        {"name": "c", "type": "redis_stream", "enabled": false,
          "redis_stream": {"streams": ["no"]}},
        {"name": "d", "type": "kafka"},
        {"name": "e", "type": "kafka"}
      ]}"#;
    let found = imported(text, Format::Json);
    let settings = check_text(&found.text).expect("valid");
    assert_eq!(settings.redis.ingest, ["one", "two", "three"]);
    for (key, part) in [
        ("consumers[\"b\"].address", "which is another"),
        ("consumers[\"b\"].consumer_group", "old entries are published again"),
        ("consumers[\"b\"].method_value", "the names of fields are fixed"),
        ("consumers[\"b\"].tls", "the connection of redis.url alone"),
        ("consumers[\"e\"]", "\"kafka\""),
    ] {
        assert!(note(&found, key).contains(part), "{key}: {}", note(&found, key));
    }
    assert_eq!(found.notes.iter().map(|note| note.keys.len()).sum::<usize>(), 7, "{found:?}");
    assert!(!format!("{:?}", found.notes).contains("sesame"), "a password stays in the result");

    let text = r#"{"consumers": [{"name": "a", "type": "redis_stream",
        "redis_stream": {"streams": ["one"]}}]}"#;
    let found = imported(text, Format::Json);
    assert!(note(&found, "consumers[\"a\"].address").contains("set it to the Redis of these"));
}

#[test]
fn a_name_and_the_time_of_a_shutdown_have_equivalents() {
    for (timeout, delay, drain) in
        [("30s", 5_000, 25_000), ("20s", 5_000, 15_000), ("2s", 500, 1_500), ("0s", 0, 0)]
    {
        let text = serde_json::json!({"node": {"name": "eu-1"},
            "shutdown": {"timeout": timeout, "termination_delay": "1s"}});
        let found = imported(&text.to_string(), Format::Json);
        let server = check_text(&found.text).expect("valid").server;
        assert_eq!(server.name, "eu-1");
        let millis = (server.drain_delay.as_millis(), server.drain.as_millis());
        assert_eq!(millis, (delay, drain), "{timeout}");
    }
}

#[test]
fn origins_of_strangers_are_told_and_left_out() {
    let text = r#"{"client": {"allowed_origins":
        ["https://*", "*://*.com", "http://*.localhost", "https://*.example.com"]}}"#;
    let found = imported(text, Format::Json);
    let settings = check_text(&found.text).expect("valid");
    assert_eq!(settings.client.allowed_origins, ["http://*.localhost", "https://*.example.com"]);
    let words = note(&found, "client.allowed_origins");
    assert!(words.contains(r#"["https://*", "*://*.com"]"#), "{words}");
}

#[test]
fn a_lost_permission_and_a_typing_error_are_told_as_what_they_are() {
    let text = r#"{"client": {"alowed_origins": ["https://a.com"]}, "channel": {
        "without_namespace": {"allow_user_limited_channels": true, "history_meta_ttl": "1h"},
        "namespaces": [{"name": "n", "allow_user_limited_channels": true, "histori_size": 5}]}}"#;
    let found = imported(text, Format::Json);
    for (key, part) in [
        ("channel.without_namespace.allow_user_limited_channels", "restricts nobody here"),
        ("namespaces[\"n\"].allow_user_limited_channels", "restricts nobody here"),
        ("client.alowed_origins", "(did you mean client.allowed_origins?)"),
        ("namespaces[\"n\"].histori_size", "(did you mean history_size?)"),
    ] {
        assert!(note(&found, key).contains(part), "{key}: {}", note(&found, key));
    }
    let old = imported(r#"{"allow_user_limited_channels": true}"#, Format::Json);
    assert!(note(&old, "allow_user_limited_channels").contains("restricts nobody here"));
    let told = found.notes.iter().flat_map(|note| &note.keys);
    assert_eq!(told.filter(|key| key.contains("history_meta_ttl")).count(), 0);
}
