//! Variables of the environment, settings of later features, and numbers in all their forms.

use super::*;

#[test]
fn a_setting_of_a_later_feature_is_told_from_a_typo() {
    let end = "tokens are not part of this version: set auth.anonymous, and allow_";
    let error = load_text("[auth]\nhmac_secret_key = \"x\"", false).expect_err("no tokens");
    assert!(error.starts_with(&format!("FILE: auth.hmac_secret_key: {end}")), "{error}");
    let variable = [("CORECAST_AUTH_HMAC_SECRET_KEY", "x")];
    let error = load_all("", &variable, Flags::default()).expect_err("no tokens");
    let start = format!("the environment: CORECAST_AUTH_HMAC_SECRET_KEY: {end}");
    assert!(error.starts_with(&start), "{error}");
    for text in [
        "[channel]\npresence = true",
        "[[channel.namespaces]]\nname = \"a\"\npresence = true",
        "[tls]\ncert = \"a\"",
        "presence = true",
    ] {
        let error = load_text(text, false).expect_err(text);
        assert!(error.contains(" not part of this version: "), "{text}\n{error}");
    }
}

#[test]
fn variables_of_kubernetes_are_known_by_their_form_and_value() {
    let accepts = |name, value| load_all("", &[(name, value)], Flags::default()).is_ok();
    for (name, value) in [
        ("CORECAST_SERVICE_HOST", "10.0.0.1"),
        ("CORECAST_SERVICE_PORT", "8000"),
        ("CORECAST_SERVICE_PORT_WEBSOCKET", "8000"),
        ("CORECAST_PORT", "tcp://10.0.0.1:8000"),
        ("CORECAST_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("CORECAST_PORT_8000_TCP_PROTO", "tcp"),
        ("CORECAST_PORT_8000_TCP_PORT", "8000"),
        ("CORECAST_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("CORECAST_API_PORT", "tcp://10.0.0.1:9000"),
        ("CORECAST_API_PORT_9000_TCP_ADDR", "10.0.0.1"),
        ("CORECAST_REDIS_SERVICE_HOST", "10.0.0.2"),
    ] {
        assert!(accepts(name, value), "{name}={value}");
    }
    for (name, value) in [
        ("CORECAST_PORT", "8000"),
        ("CORECAST_SERVER_PORT", "8000"),
        ("CORECAST_SERVICE_PORT", "ws"),
        ("CORECAST_PORT_8000_TCP_NAME", "8000"),
        ("CORECAST_PORT_LISTEN", "8000"),
    ] {
        assert!(!accepts(name, value), "{name}={value}");
    }
}

#[test]
fn numbers_are_written_as_the_commands_take_them() {
    let text = "[server]\nmax_connections = \"100k\"\naccept_rate = \"2_000\"\n\
                [[channel.namespaces]]\nname = \"a\"\nhistory_size = \"1k\"\nhistory_ttl = \"1m\"";
    let variables =
        [("CORECAST_EVENTS_ENTRIES_MAX", "1M"), ("CORECAST_CHANNEL_CHANNELS_MAX", "5k")];
    let loaded = load_all(text, &variables, Flags::default()).expect("valid");
    let settings = &loaded.settings;
    let server = &settings.server;
    assert_eq!((server.max_connections, server.accept_rate), (100_000, 2000));
    assert_eq!(named(settings).history_size, 1000);
    assert_eq!((settings.events.entries_max, settings.channel.channels_max), (1_000_000, 5000));
    assert!(loaded.shown().contains("max_connections = 100000"), "as every reader takes it");
    let json = r#"[{"name":"a","history_size":"2k","history_ttl":"1m"}]"#;
    let variables = [("CORECAST_CHANNEL_NAMESPACES", json)];
    let settings = load_all("", &variables, Flags::default()).expect("valid").settings;
    assert_eq!(named(&settings).history_size, 2000);
}

#[test]
fn a_variable_that_ends_in_file_names_a_file_with_the_value() {
    let path = std::env::temp_dir().join(format!("corecast-secret-{}", std::process::id()));
    let name = path.display().to_string();
    let read = |more: &[(&str, &str)]| {
        let mut environment = vec![("CORECAST_API_KEYS_FILE", name.as_str())];
        environment.extend(more);
        load_all("", &environment, Flags::default())
            .map(|loaded| loaded.settings.api.keys)
            .map_err(|error| error.replace(&name, "SECRET"))
    };
    let missing = read(&[]).expect_err("there is no file");
    assert!(missing.contains("CORECAST_API_KEYS_FILE: can't read SECRET"), "{missing}");

    std::fs::write(&path, "first,second\n").expect("writable");
    assert_eq!(read(&[]).expect("valid").len(), 2);
    let twice = read(&[("CORECAST_API_KEYS", "third")]).expect_err("two values");
    assert!(twice.contains("sets api.keys, which another variable sets too"), "{twice}");

    std::fs::write(&path, "x".repeat(70_000)).expect("writable");
    let long = read(&[]).expect_err("too long");
    assert!(long.contains("SECRET is longer than 65536 bytes"), "{long}");
    std::fs::remove_file(&path).expect("it was just written");
}
