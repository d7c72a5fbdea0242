//! Tests of the settings from outside: one table for each kind of result.

mod variables;

use std::sync::Arc;

use super::*;
use crate::channel::{DataType, Namespace, SlowPolicy};
use crate::settings::{CHANGES, ListenAddress};
use crate::shard::Options;

/// The options of the first named namespace.
fn named(settings: &Settings) -> &Namespace {
    settings.channel.namespaces.iter().nth(1).expect("it has one")
}

/// The settings from the text of a file.
fn load_text(text: &str, dev: bool) -> Result<Loaded, String> {
    load_all(text, &[], Flags { dev, ..Flags::default() })
}

fn load_all(text: &str, environment: &[(&str, &str)], mut flags: Flags) -> Result<Loaded, String> {
    let name = format!("corecast-config-{}-{:p}.toml", std::process::id(), &flags);
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("the temporary directory can be written");
    flags.config = Some(path.clone());
    let environment = environment.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let loaded = load(&flags, environment);
    std::fs::remove_file(&path).expect("the file was just written");
    loaded.map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

#[test]
fn the_defaults_are_valid_and_complete() {
    let loaded = load(&Flags::default(), []).expect("the defaults are valid");
    assert_eq!(loaded.settings.server.listen, [ListenAddress::parse("0.0.0.0:8000").expect("one")]);
    assert!(loaded.settings.api.keys.is_empty());
    assert!(!loaded.settings.auth.insecure);
    assert_eq!(loaded.settings.channel.namespaces.iter().len(), 1);
}

#[test]
fn every_setting_is_listed_with_when_it_may_change() {
    let table: toml::Table = DEFAULT_TOML.parse().expect("the defaults are TOML");
    let mut known = keys::known_keys(&table);
    known.sort();
    let mut listed: Vec<&str> = CHANGES.iter().map(|(key, _)| *key).collect();
    listed.sort_unstable();
    assert_eq!(listed, known, "settings::CHANGES has each setting once");
}

#[test]
fn every_default_has_a_comment_above_it() {
    let mut commented = false;
    for line in DEFAULT_TOML.lines() {
        let is_setting = line.starts_with(|letter: char| letter.is_ascii_lowercase());
        assert!(!is_setting || commented, "no comment above {line}");
        commented = line.starts_with('#') || (is_setting && line.ends_with('['));
    }
}

#[test]
fn dev_opens_everything_on_loopback_only() {
    let loaded = load(&Flags { dev: true, ..Flags::default() }, []).expect("--dev is valid");
    let settings = loaded.settings;
    assert!(settings.auth.insecure && settings.dev);
    assert!(settings.server.listen.iter().all(ListenAddress::is_local));
    assert!(settings.server.api_listen.is_local());
    assert!(settings.channel.namespaces.resolve("chat:1").is_ok(), "any namespace");
    let namespace = settings.channel.namespaces.plain();
    assert!(namespace.force_recovery && namespace.has_history());
    assert_eq!((namespace.history_size, namespace.history_ttl.as_secs()), (100, 300));
}

#[test]
fn a_namespace_starts_from_the_defaults_and_not_from_the_channel_section() {
    let text = "[client]\nslow_policy = \"skip\"\n[channel]\nallow_positioning = true\n\
                slow_policy = \"disconnect\"\n[[channel.namespaces]]\nname = \"chat\"";
    let settings = load_text(text, false).expect("valid").settings;
    let all: Vec<&Namespace> = settings.channel.namespaces.iter().collect();
    let [plain, chat] = all[..] else { panic!("two namespaces") };
    assert!(plain.allow_positioning && !chat.allow_positioning);
    assert_eq!((plain.slow_policy, chat.slow_policy), (SlowPolicy::Disconnect, SlowPolicy::Skip));

    let dev = load_text("[[channel.namespaces]]\nname = \"chat\"", true).expect("valid").settings;
    assert!(dev.channel.namespaces.resolve("other:1").is_err(), "those of the file alone");
    assert!(named(&dev).force_recovery, "--dev changes the defaults of all");
}

#[test]
fn flags_come_before_environment_before_file_before_default() {
    let file = "[server]\nshards = 2\naccept_rate = 5\ndrain = \"5s\"";
    let environment = [("CORECAST_SERVER_SHARDS", "3"), ("CORECAST_SERVER_ACCEPT_RATE", "6")];
    let flags = Flags { shards: Some(4), ..Flags::default() };
    let settings = load_all(file, &environment, flags).expect("valid").settings;
    let server = settings.server;
    assert_eq!((server.shards, server.accept_rate, server.drain.as_secs()), (4, 6, 5));
    assert!(server.private_fd_tables);
}

#[test]
fn environment_variables_are_read_as_their_settings_kind() {
    let environment = [
        ("CORECAST_SERVER_LISTEN", "127.0.0.1:1, [::1]:2"),
        ("CORECAST_SERVER_CPU_AFFINITY", "0, 2"),
        ("CORECAST_SERVER_PRIVATE_FD_TABLES", "false"),
        ("CORECAST_API_KEYS", "one,two"),
        ("CORECAST_API_BODY_BYTES_MAX", "2MiB"),
        ("CORECAST_CHANNEL_NAMESPACES", r#"[{"name":"a","data":"text"}]"#),
        ("CORECAST_CHANNEL_SLOW_POLICY", "skip"),
        // Variables that Kubernetes sets for services called corecast and corecast-api.
        ("CORECAST_SERVICE_HOST", "10.0.0.1"),
        ("CORECAST_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("CORECAST_API_PORT", "tcp://10.0.0.1:9000"),
        ("CORECAST_CONFIG", "elsewhere"),
        ("PATH", "/bin"),
    ];
    let settings = load_all("", &environment, Flags::default()).expect("valid").settings;
    assert_eq!(settings.server.listen.len(), 2);
    assert_eq!(settings.server.cpu_affinity, [0, 2]);
    assert!(!settings.server.private_fd_tables);
    assert_eq!(settings.api.keys, ["one", "two"]);
    assert_eq!(settings.api.body_bytes_max, 2 << 20);
    assert_eq!(named(&settings).data, DataType::Text);
    assert_eq!(settings.channel.namespaces.plain().slow_policy, SlowPolicy::Skip);
}

#[test]
fn an_unknown_setting_is_an_error_that_names_the_nearest() {
    let table = [
        ("[server]\nlisen = \"127.0.0.1:1\"", "server.lisen; did you mean server.listen?"),
        ("[client]\nhistory_size = 1", "client.history_size; did you mean channel.history_size?"),
        ("[sever]\nlisten = \"a\"", "sever.listen; did you mean server.listen?"),
        ("listen = \"127.0.0.1:1\"", "listen; did you mean server.listen?"),
        ("[zzz]\nqqq = 1", "zzz.qqq; `corecast config default` lists all settings"),
        (
            "[[channel.namespaces]]\nname = \"a\"\nforce_recover = true",
            "channel.namespaces.force_recover; did you mean channel.namespaces.force_recovery?",
        ),
    ];
    for (text, expected) in table {
        let error = load_text(text, false).expect_err(text);
        assert_eq!(error, format!("FILE: unknown setting {expected}"));
    }
    let table = [
        ("CORECAST_CLIENT_PING_INTERVALL", "; did you mean CORECAST_CLIENT_PING_INTERVAL?"),
        ("CORECAST_SEVER_LISTEN", "; did you mean CORECAST_SERVER_LISTEN?"),
        ("CORECAST_SERVER_SHARD", "; did you mean CORECAST_SERVER_SHARDS?"),
        ("CORECAST_BUILD_ZZZZZ", "; unset it, or choose a name that does not begin with CORECAST_"),
        ("CORECAST_", "; unset it, or choose a name that does not begin with CORECAST_"),
    ];
    for (name, end) in table {
        let error = load_all("", &[(name, "5s")], Flags::default()).expect_err("unknown");
        assert!(error.starts_with(&format!("the environment: unknown setting {name}{end}")));
    }
    let others = [("CORECAST_BIN", "x"), ("CORECAST_WS_URL", "ws://h"), ("CORECASTER", "7")];
    assert!(load_all("", &others, Flags::default()).is_ok(), "others read them");
    let error = load_all("", &[("CORECAST_API_KEYS", "a\u{fffd}")], Flags::default());
    assert!(error.expect_err("no text").contains("CORECAST_API_KEYS: is not valid UTF-8"));
}

#[test]
fn a_value_of_the_wrong_kind_is_an_error_that_names_value_and_place() {
    let table = [
        ("[client]\nping_interval = 25", "FILE: client.ping_interval: 25 is not a duration"),
        ("[client]\nping_interval = \"25\"", "FILE: client.ping_interval: \"25\" is not a dur"),
        ("[client]\nmessage_bytes_max = \"1KB\"", "FILE: client.message_bytes_max: \"1KB\" is"),
        ("[server]\nlisten = \":8000\"", "FILE: server.listen: \":8000\" is not an address"),
        ("[server]\napi_listen = \"unix:a\"", "FILE: server.api_listen: \"unix:a\" is not a p"),
        ("[server]\nunix_mode = \"9\"", "FILE: server.unix_mode: \"9\" is not a mode"),
        ("[server]\nunix_mode = 660", "FILE: server.unix_mode: 660 is not a mode such as"),
        ("[server]\nproxies = \"proxy\"", "FILE: server.proxies: \"proxy\" is not a network"),
        ("[server]\nproxies = \"10.0.0.1/8\"", "FILE: server.proxies: \"10.0.0.1/8\" has bits"),
        ("[server]\nshards = \"two\"", "FILE: server.shards: \"two\" is not a whole number"),
        ("[server]\nshards = true", "FILE: server.shards: invalid type"),
        ("[server]\ndriver = \"uring\"", "FILE: server.driver: unknown variant `uring`"),
        ("[channel]\nnamespaces = 3", "FILE: channel.namespaces: is not a list"),
        (
            "[[channel.namespaces]]\nname = \"a\"\nhistory_ttl = \"x\"",
            "FILE: channel.namespaces.history_ttl: \"x\" is not a duration",
        ),
        ("# ü\n[server", "FILE is not valid TOML: line 2, column 8: "),
    ];
    for (text, expected) in table {
        let error = load_text(text, false).expect_err(text);
        assert!(error.starts_with(expected), "{text}\n{error}");
    }
    let error = load_all("", &[("CORECAST_SERVER_SHARDS", "x")], Flags::default());
    let error = error.expect_err("no number");
    let start = "the environment: CORECAST_SERVER_SHARDS: \"x\" is not a whole number";
    assert!(error.starts_with(start), "{error}");
    let missing = Flags { config: Some("/nowhere/corecast.toml".into()), ..Flags::default() };
    let error = load(&missing, []).expect_err("no file").to_string();
    assert!(error.contains("/nowhere/corecast.toml") && error.contains("Check the path"));
}

#[test]
fn settings_that_do_not_fit_together_name_value_limit_and_way_out() {
    let skip = "[channel]\nslow_policy = \"skip\"\nhistory_size = 1\nhistory_ttl = \"1s\"";
    let twice = "[[channel.namespaces]]\nname = \"a\"\n[[channel.namespaces]]\nname = \"a\"";
    let table = [
        ("[client]\npong_timeout = \"25s\"", "client.pong_timeout = 25s must be shorter than"),
        (
            "[client]\nping_interval = \"11500ms\"",
            "client.ping_interval = 11.5s is invalid: clients receive",
        ),
        ("[channel]\nhistory_size = 5", "channel.history_size = 5 has no effect while history_ttl"),
        ("[channel]\nforce_recovery = true", "channel.force_recovery needs a history"),
        (skip, "channel.slow_policy = \"skip\" causes gaps, but history_size promises"),
        (twice, "channel.namespaces[\"a\"] is defined twice"),
        ("[[channel.namespaces]]\nname = \"a:b\"", "channel.namespaces[\"a:b\"] needs a name"),
        ("[[channel.namespaces]]\ndata = \"text\"", "channel.namespaces[\"\"] needs a name"),
        (
            "[client]\nmessage_bytes_max = \"65MiB\"\noutbox_bytes_max = \"65MiB\"",
            "client.message_bytes_max = 68157440 is out of range: use 1024 to 67108864",
        ),
        ("[client]\noutbox_bytes_max = \"1KiB\"", "client.outbox_bytes_max = 1024 bytes is less"),
        (
            "[client]\noutboxes_bytes_max = \"512KiB\"",
            "client.outboxes_bytes_max = 524288 bytes is less than client.outbox_bytes_max",
        ),
        ("[server]\nshards = 5000", "server.shards = 5000 is out of range: use 0 to 4096"),
        ("[client]\nchannels_max = 1025", "client.channels_max = 1025 is out of range"),
        ("[client]\nchannel_bytes_max = 256", "client.channel_bytes_max = 256 is out of range"),
        ("[auth]\ninsecure = true", "auth.insecure = true lets anyone who can reach 0.0.0.0:8000"),
        ("[server]\napi_listen = \"0.0.0.0:9000\"", "api.keys is empty, but other hosts can reach"),
        ("[api]\nkeys = [\"\"]", "api.keys has an invalid key of 0 bytes"),
        ("[client]\nallowed_origins = [\"*\"]", "client.allowed_origins = [\"*\"] lets every"),
        ("[client]\nallowed_origins = [\"*://*\"]", "client.allowed_origins = [\"*://*\"] lets"),
        ("[client]\nallowed_origins = [\"https://*\"]", "client.allowed_origins = [\"https://*\"]"),
        ("[server]\nhosts = \"a.com:80\"", "server.hosts has \"a.com:80\", which is not a host"),
        ("[client]\nallowed_origins = [\"*://*.com\"]", "client.allowed_origins has \"*://*.com\""),
        ("[server]\nhosts = \"*\"", "server.hosts has \"*\", which is not a host"),
        ("[server]\nhosts = \"*.com\"", "server.hosts has \"*.com\", which matches names that"),
        ("[server]\npath_prefix = \"a\"", "server.path_prefix = \"a\" is not a path"),
        ("[server]\npath_prefix = \"/a/\"", "server.path_prefix = \"/a/\" is not a path"),
        (
            "[client]\nhandshake_bytes_max = \"64KiB\"",
            "client.handshake_bytes_max = 65536 is out of range: use 1024 to 32768",
        ),
        ("[api]\nkeep_alive = \"2h\"", "api.keep_alive = 7200s is out of range: use 1s to 3600s"),
        ("[api]\nkeep_alive = \"0s\"", "api.keep_alive = 0ns is out of range: use 1s to 3600s"),
        ("[client]\nallowed_origins = \"a.com\"", "client.allowed_origins has \"a.com\", which"),
        ("[server]\nlisten = []", "server.listen is empty"),
        ("[server]\nlisten = \"127.0.0.1:9000\"", "server.listen uses 127.0.0.1:9000 twice"),
        ("[server]\nlisten = [\"unix:/a\", \"unix:/a\"]", "server.listen uses unix:/a twice"),
        ("[server]\ncpu_affinity = [1024]", "server.cpu_affinity = 1024 is out of range"),
        ("[channel]\nforce_positioning = true", "channel.force_positioning has no effect"),
        (
            "[client]\nchannel_bytes_max = 5\n[[channel.namespaces]]\nname = \"four\"",
            "channel.namespaces[\"four\"] has a name of 4 bytes, and its channels have",
        ),
    ];
    for (text, expected) in table {
        let error = load_text(text, false).expect_err(text);
        assert!(error.starts_with(expected), "{text}\n{error}");
    }
    let echo = Flags { echo: true, ..Flags::default() };
    assert!(load(&echo, []).expect_err("--echo alone").to_string().contains("needs --dev"));
    let open = Flags { dev: true, listen: vec!["0.0.0.0:8000".into()], ..Flags::default() };
    let error = load(&open, []).expect_err("open").to_string();
    assert!(error.contains("(--dev sets it to true), or use --dev --expose"), "{error}");
    let open = Flags { dev: true, api_listen: Some("0.0.0.0:9000".into()), ..Flags::default() };
    let error = load(&open, []).expect_err("open").to_string();
    assert!(error.starts_with("api.keys is empty, but other hosts"), "{error}");
}

#[test]
fn expose_opens_dev_to_other_hosts() {
    let expose = Flags { dev: true, expose: true, ..Flags::default() };
    let settings = load(&expose, []).expect("valid").settings;
    assert!(settings.expose && settings.auth.insecure && !settings.host_name.is_empty());
    let addresses = [(&settings.server.listen[0], 8000), (&settings.server.api_listen, 9000)];
    for (address, port) in addresses {
        let tcp = address.tcp().expect("an IP address");
        assert!(tcp.ip().is_unspecified() && tcp.port() == port, "{address}");
    }
    let narrow = Flags { listen: vec!["127.0.0.1:1".into()], ..expose };
    let settings = load(&narrow, []).expect("valid").settings;
    assert!(settings.server.listen[0].is_local(), "flags come before it");
    let alone = Flags { expose: true, ..Flags::default() };
    let error = load(&alone, []).expect_err("--expose alone").to_string();
    assert!(error.starts_with("--expose needs --dev"), "{error}");
}

#[test]
fn pages_without_a_host_and_all_pages_may_be_listed() {
    let text = "[client]\nallowed_origins = [\"null\", \"file://\", \"https://a:443\"]\n\
                handshake_bytes_max = \"32KiB\"\n[server]\nhosts = [\"a\", \"[::1]\"]\n\
                path_prefix = \"/a/b\"\n[api]\nkeep_alive = \"1h\"";
    assert!(load_text(text, false).is_ok());
    let all = "[client]\nallowed_origins = \"*\"";
    assert!(load_text(all, true).is_ok(), "--dev allows it to those who ask");
    let open = load_text("", true).expect("valid").settings;
    assert!(open.client.allowed_origins.is_empty(), "but does not do so itself");
}

#[test]
fn all_problems_are_shown_at_once() {
    let text = "[client]\npong_timeout = \"1h\"\nchannels_max = 0\n[server]\nlisten = []";
    assert_eq!(load_text(text, false).expect_err("three").lines().count(), 3);
}

#[test]
fn what_show_prints_makes_the_same_settings_without_the_keys() {
    let text = "[api]\nkeys = [\"sesame\"]\n[[channel.namespaces]]\nname = \"chat\"";
    let shown = load_text(text, false).expect("valid").shown();
    assert!(!shown.contains("sesame") && shown.contains("\"***\""), "{shown}");
    let again = load_text(&shown, false).expect("the shown settings can be loaded");
    assert_eq!(again.shown(), shown);
    assert_eq!(named(&again.settings).name, "chat");
}

#[test]
fn no_error_shows_a_part_of_a_secret() {
    let files = [
        "[api]\nkeys = [\"sesame\"",
        "[api]\nkeys = [sesame]",
        "[api]\nkeys = \"sesame",
        "[api]\nkeys = [[\"sesame\"]]",
        "[api]\nkeys = [\"sesa me\"]",
        "[api]\nkeys = { sesame = 1 }",
        "[redis]\nurl = [\"redis://:sesame@h\"]",
        "[redis]\nurl = redis://:sesame@h",
        "[redis]\nurl = \"sesame\"",
        "[redis]\nurl = \"sesame@h:1\"",
        "[redis]\nurl = \"http://:sesame@h:1\"",
    ];
    for text in files {
        let error = load_text(text, false).expect_err(text);
        assert!(!error.contains("sesa"), "{text}\n{error}");
    }
    for (name, text) in
        [("CORECAST_API_KEYS", "[\"sesame\"]"), ("CORECAST_REDIS_URL", "http://:sesame@h")]
    {
        let error = load_all("", &[(name, text)], Flags::default()).expect_err(text);
        assert!(!error.contains("sesa"), "{text}\n{error}");
    }
}

#[test]
fn a_special_character_in_a_password_of_redis_works_or_the_error_says_how_to_write_it() {
    for password in ["se#ame", "1#ame", "se/ame", "1/ame", "se?ame", "1?ame", "se:a/me"] {
        for url in [format!("redis://:{password}@h:1"), format!("redis://u:{password}@h:1")] {
            let error = load_text(&format!("[redis]\nurl = \"{url}\""), false).expect_err(&url);
            assert!(error.contains("percent-encode special characters"), "{url}\n{error}");
            assert!(!error.contains("ame"), "{url}\n{error}");
        }
    }
    for url in [
        "redis://:s@h",
        "redis://:s@same@h:1",
        "redis://:s%23same@h:1",
        "redis+unix:///run/redis@1.sock",
        "redis-sentinel://h:1?sentinelServiceName=m&sentinelPassword=s@same",
    ] {
        load_text(&format!("[redis]\nurl = \"{url}\""), false).expect(url);
    }
}

#[test]
fn a_url_of_redis_is_shown_unless_it_holds_a_password() {
    for (url, shows) in [
        ("redis://h:1", true),
        ("redis-sentinel://h:1?sentinelServiceName=m", true),
        ("redis://:sesame@h:1", false),
        ("redis-sentinel://h:1?sentinelServiceName=m&sentinelPassword=sesame", false),
    ] {
        let loaded = load_text(&format!("[redis]\nurl = \"{url}\""), false).expect("valid");
        for shown in [loaded.shown(), loaded.shown_json()] {
            assert_eq!(shown.contains(url), shows, "{shown}");
            assert!(!shown.contains("sesame"), "{shown}");
        }
    }
}

#[test]
fn streams_without_a_name_are_called_after_the_prefix() {
    let names = |loaded: &Loaded| {
        (loaded.settings.redis.ingest.clone(), loaded.settings.events.stream.clone())
    };
    let staging = "[redis]\nprefix = \"staging\"\n";
    let app = format!("{staging}ingest = []\n[events]\nstream = \"app\"");
    for (text, ingest, events) in [
        ("", &["corecast:ingest"][..], "corecast:events"),
        (staging, &["staging:ingest"], "staging:events"),
        (&app, &[], "app"),
    ] {
        let loaded = load_text(text, false).expect("valid");
        let expected = (ingest.iter().map(|&name| name.into()).collect(), events.to_owned());
        assert_eq!(names(&loaded), expected);
        let again = load_text(&loaded.shown(), false).expect("the shown settings can be loaded");
        assert_eq!(names(&again), expected, "the names are shown");
    }
    let variables = [("CORECAST_REDIS_INGEST", "a, b"), ("CORECAST_REDIS_PREFIX", "p")];
    let loaded = load_all("", &variables, Flags::default()).expect("valid");
    assert_eq!(names(&loaded), (vec!["a".to_owned(), "b".to_owned()], "p:events".to_owned()));
}

#[test]
fn node_limits_are_divided_among_shards() {
    let settings = Settings::default();
    let settings = Arc::new(settings);
    let options = Options::new(&settings, 4);
    assert_eq!(options.inbound_bytes_max * 4, settings.client.inbound_bytes_max);
    assert_eq!(options.history_bytes_max * 4, settings.channel.history_bytes_max);
    assert_eq!(options.connections_max, settings.server.max_connections);
    let many = Options::new(&settings, 100_000).inbound_bytes_max;
    assert_eq!(many, settings.client.message_bytes_max, "room for one message stays");
}

#[test]
fn a_namespace_that_says_nothing_of_events_does_as_the_node_does() {
    let text = "[redis]\nurl = \"redis://h\"\n[events]\nsubscribe = true\n\
                [[channel.namespaces]]\nname = \"a\"\n\
                [[channel.namespaces]]\nname = \"b\"\nevents = [\"publish\"]\n\
                [[channel.namespaces]]\nname = \"c\"\nevents = []";
    let settings = load_text(text, false).expect("valid").settings;
    let events = settings.channel.namespaces.iter().map(|namespace| namespace.events);
    let events: Vec<_> = events.map(|on| (on.subscribe, on.unsubscribe, on.publish)).collect();
    let (node, own) = ((true, false, false), (false, false, true));
    assert_eq!(events, [node, node, own, (false, false, false)]);
    assert!(settings.has_events());
    assert!(!Settings::default().has_events());
    for (text, expected) in [
        ("[events]\nmessage = true", "there is no Redis to append them to"),
        ("[channel]\nevents = [\"publish\"]", "there is no Redis to append them to"),
        ("[channel]\nevents = [\"message\"]", "channel.events"),
        ("[events]\nentries_max = 1", "events.entries_max"),
        ("[events]\nbytes_max = 1000", "events.bytes_max"),
    ] {
        let error = load_text(text, false).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn keys_stay_out_of_debug_output() {
    let mut settings = Settings::default();
    settings.api.keys = vec!["sesame".to_owned()];
    assert!(!format!("{settings:?}").contains("sesame"));
}

#[test]
fn a_server_needs_a_key_or_dev() {
    let check = |flags: &Flags, environment: &[(&str, &str)]| {
        let own = environment.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        check_serve(&load(flags, own).expect("valid").settings).map_err(|error| error.to_string())
    };
    let error = check(&Flags::default(), &[]).expect_err("no key");
    assert!(error.starts_with("api.keys is empty") && error.contains("--dev"), "{error}");
    assert_eq!(check(&Flags { dev: true, ..Flags::default() }, &[]), Ok(()));
    assert_eq!(check(&Flags::default(), &[("CORECAST_API_KEYS", "sesame")]), Ok(()));
}

#[test]
fn a_durable_history_needs_redis_when_it_is_served() {
    let durable = [
        ("CORECAST_API_KEYS", "sesame"),
        ("CORECAST_CHANNEL_HISTORY_SIZE", "5"),
        ("CORECAST_CHANNEL_HISTORY_TTL", "1m"),
        ("CORECAST_CHANNEL_DURABLE_HISTORY", "true"),
        ("CORECAST_REDIS_URL", "redis://127.0.0.1"),
    ];
    let check = |settings: &[(&str, &str)]| {
        let own = settings.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let loaded = load(&Flags::default(), own).expect("a file may be checked without the URL");
        check_serve(&loaded.settings).map_err(|error| error.to_string())
    };
    assert_eq!(check(&durable), Ok(()));
    let error = check(&durable[..4]).expect_err("no Redis");
    assert!(error.contains("durable_history") && error.contains("redis.url"), "{error}");
}

#[test]
fn a_list_in_the_environment_has_no_brackets() {
    for (name, value) in [
        ("CORECAST_REDIS_INGEST", r#"["app"]"#),
        ("CORECAST_API_KEYS", "[sesame]"),
        ("CORECAST_SERVER_CPU_AFFINITY", "[0, 1]"),
        ("CORECAST_CHANNEL_EVENTS", "[]"),
    ] {
        let error = load_all("", &[(name, value)], Flags::default()).expect_err(name);
        assert!(error.contains(name) && error.contains("neither brackets nor quotes"), "{error}");
    }
    let listen = [("CORECAST_SERVER_LISTEN", "[::1]:1,[::1]:2")];
    assert!(load_all("", &listen, Flags::default()).is_ok(), "an address is no list");
}
