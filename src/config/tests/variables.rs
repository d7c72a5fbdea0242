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
fn a_setting_of_another_server_is_told_by_its_name_here() {
    for (text, expected) in [
        ("[server]\nport = 8000", "server.port; did you mean server.listen?"),
        ("[server]\naddress = \"::\"", "server.address; did you mean server.listen?"),
        ("[server]\nproxy = \"10.0.0.1\"", "server.proxy; did you mean server.proxies?"),
        ("[http_server]\nport = 8000", "http_server.port; did you mean server.listen?"),
        ("api_key = \"sesame\"", "api_key; did you mean api.keys?"),
        (
            "[client]\nconnection_limit = 5",
            "client.connection_limit; did you mean server.max_connections?",
        ),
    ] {
        let error = load_text(text, false).expect_err(text);
        assert_eq!(error, format!("FILE: unknown setting {expected}"));
    }
    for (name, same) in [
        ("CORECAST_SERVER_PORT", "CORECAST_SERVER_LISTEN"),
        ("CORECAST_HTTP_SERVER_INTERNAL_PORT", "CORECAST_SERVER_API_LISTEN"),
    ] {
        let error = load_all("", &[(name, "8000")], Flags::default()).expect_err(name);
        assert!(error.ends_with(&format!("did you mean {same}?")), "{error}");
    }
    for (text, part) in [
        ("proxies = []", "forwarding requests to the application is not part of this version"),
        ("[metrics]\nenabled = true", "all are at /metrics"),
    ] {
        let error = load_text(text, false).expect_err(text);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_variable_that_nothing_reads_is_an_error_for_commands_without_settings() {
    let check = |name: &str| {
        check_variables([(name.to_owned(), "x\u{fffd}".to_owned())])
            .map_err(|error| error.to_string())
    };
    for (name, same) in [
        ("CORECAST_APIKEY", "CORECAST_API_KEY"),
        ("CORECAST_API_ULR", "CORECAST_API_URL"),
        ("CORECAST_SERVER_LISEN", "CORECAST_SERVER_LISTEN"),
        ("CORECAST_SERVER_PORT", "CORECAST_SERVER_LISTEN"),
    ] {
        let error = check(name).expect_err(name);
        assert!(error.ends_with(&format!("{name}; did you mean {same}?")), "{error}");
    }
    for name in ["CORECAST_API_KEY", "CORECAST_REDIS_URL", "CORECAST_API_KEYS_FILE", "PATH"] {
        assert_eq!(check(name), Ok(()), "{name}");
    }
    assert!(check("CORECAST_SERVICE_HOST").is_ok(), "Kubernetes sets it");
    let of_tests = check("CORECAST_SIM_SEED");
    assert_eq!(of_tests.is_ok(), cfg!(feature = "sabotage"), "no program of users reads it");
}

#[test]
fn a_size_without_a_unit_counts_bytes() {
    let text = "[client]\nmessage_bytes_max = 131_072\noutbox_bytes_max = \"2097152\"";
    let variables = [("CORECAST_API_BODY_BYTES_MAX", "65536")];
    let settings = load_all(text, &variables, Flags::default()).expect("valid").settings;
    let client = &settings.client;
    assert_eq!((client.message_bytes_max, client.outbox_bytes_max), (131_072, 2 << 20));
    assert_eq!(settings.api.body_bytes_max, 65_536);
    for value in ["-1", "1.5", "true", "\"64 KB\""] {
        let text = format!("[client]\nmessage_bytes_max = {value}");
        let error = load_text(&text, false).expect_err(value);
        assert!(error.contains(&format!("{value} is not a size")), "{error}");
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

    std::fs::write(&path, "first\r\nsecond\nthird,fourth\n").expect("writable");
    assert_eq!(read(&[]).expect("valid"), ["first", "second", "third", "fourth"]);

    std::fs::write(&path, "x".repeat(70_000)).expect("writable");
    let long = read(&[]).expect_err("too long");
    assert!(long.contains("SECRET is longer than 65536 bytes"), "{long}");
    std::fs::remove_file(&path).expect("it was just written");
}
