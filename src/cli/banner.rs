//! The banner that `serve` prints after its start: addresses, a publish command, the client limit.

use std::fmt::Write as _;

use crate::auth::Permissions;
use crate::server::StartupReport;
use crate::settings::{ListenAddress, Settings};

/// The banner of a started server, of several lines.
pub fn server_banner(settings: &Settings, report: &StartupReport) -> String {
    let mut out = String::new();
    // Writing to a String can't fail; each line is one statement to keep the text readable.
    let written = banner_lines(settings, report, &mut out);
    debug_assert!(written.is_ok(), "a String takes every text");
    out
}

fn banner_lines(settings: &Settings, report: &StartupReport, out: &mut String) -> std::fmt::Result {
    let StartupReport { driver, shards, .. } = report;
    let version = env!("CARGO_PKG_VERSION");
    let plural = if *shards == 1 { "" } else { "s" };
    writeln!(out, "Corecast {version} is running with {shards} shard{plural} on {driver}\n")?;
    let mut title = "Connect";
    for address in &report.listen {
        if let ListenAddress::Tcp(_) = address {
            let url = format!("ws://{}", reachable(address));
            writeln!(out, "  {title:<9}{url}/connection/websocket  (Centrifugo's protocol)")?;
            writeln!(out, "           {url}/ws?channels=news      (plain WebSocket)")?;
        } else {
            writeln!(out, "  {title:<9}{address}")?;
        }
        title = "";
    }
    if settings.echo {
        writeln!(out, "  Echo     ws://{}/echo", reachable(&report.listen[0]))?;
    }
    let (api, socket) = match &report.api_listen {
        tcp @ ListenAddress::Tcp(_) => (reachable(tcp), String::new()),
        ListenAddress::Unix(path) => {
            ("localhost".to_owned(), format!("--unix-socket {} ", path.display()))
        }
    };
    if settings.api.keys.is_empty() && !settings.dev {
        writeln!(out, "  Publish  closed: set api.keys to open http://{api}/api/publish")?;
    } else {
        let key = if settings.api.keys.is_empty() { "" } else { "-H \"X-API-Key: $KEY\" " };
        let body = r#"{"channel":"news","data":"Hello"}"#;
        writeln!(out, "  Publish  curl {socket}http://{api}/api/publish {key}-d '{body}'")?;
    }
    if settings.dev {
        writeln!(out, "  Page     http://{api}/")?;
    }
    writeln!(out, "  Metrics  http://{api}/metrics")?;
    writeln!(out, "  Limit    {}", banner_limit(settings, report))?;
    if let Some(note) = banner_note(settings) {
        writeln!(out, "\n  {note}")?;
    }
    Ok(())
}

/// The maximum number of clients, and the setting or limit that causes it.
fn banner_limit(settings: &Settings, report: &StartupReport) -> String {
    let clients = report.connections_max;
    if clients >= settings.server.max_connections {
        return format!("{clients} clients (server.max_connections)");
    }
    let each = if report.private_tables { "each shard" } else { "the process" };
    let descriptors = report.descriptors_max;
    format!("{clients} clients, because {each} may open {descriptors} files; see corecast doctor")
}

/// A warning for new users: an open server, or one that denies every subscription.
fn banner_note(settings: &Settings) -> Option<&'static str> {
    let namespaces = &settings.channel.namespaces;
    if settings.dev && settings.auth.insecure {
        return Some(
            "--dev: anyone who can reach these addresses may subscribe, publish and read.",
        );
    }
    let permissions = Permissions::without_token(&settings.auth);
    let may_subscribe = namespaces.iter().any(|one| permissions.may_subscribe_within(one));
    (!may_subscribe).then_some(
        "No client may subscribe yet: set auth.anonymous, and allow_subscribe_for_client\n  and \
         allow_subscribe_for_anonymous in a namespace; or try --dev.",
    )
}

/// An address to connect to: localhost if the server listens on all interfaces.
fn reachable(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(tcp) if tcp.ip().is_unspecified() => format!("localhost:{}", tcp.port()),
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, load};

    fn report() -> StartupReport {
        StartupReport {
            driver: "epoll",
            shards: 2,
            descriptors_max: 20_256,
            private_tables: true,
            connections_max: 40_000,
            api_listen: ListenAddress::parse("127.0.0.1:9000").expect("an address"),
            listen: vec![ListenAddress::parse("0.0.0.0:8000").expect("an address")],
        }
    }

    fn settings(dev: bool) -> Settings {
        load(&Flags { dev, ..Flags::default() }, []).expect("valid").settings
    }

    #[test]
    fn a_newcomer_can_copy_what_the_banner_says() {
        let text = server_banner(&settings(true), &report());
        for part in [
            "2 shards on epoll",
            "ws://localhost:8000/connection/websocket",
            "ws://localhost:8000/ws?channels=news",
            r#"curl http://127.0.0.1:9000/api/publish -d '{"channel":"news","data":"Hello"}'"#,
            "Page     http://127.0.0.1:9000/\n",
            "40000 clients, because each shard may open 20256 files; see corecast doctor",
            "--dev: anyone",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }

    #[test]
    fn unix_sockets_are_shown_as_they_are_used() {
        let unix = |text| ListenAddress::parse(text).expect("an address");
        let report = StartupReport {
            listen: vec![unix("unix:/run/a.sock")],
            api_listen: unix("unix:/run/b.sock"),
            ..report()
        };
        let text = server_banner(&settings(true), &report);
        for part in
            ["Connect  unix:/run/a.sock", "curl --unix-socket /run/b.sock http://localhost/"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn without_dev_the_banner_says_what_is_closed() {
        let mut settings = settings(false);
        settings.server.max_connections = 5;
        let text = server_banner(&settings, &StartupReport { connections_max: 5, ..report() });
        for part in ["closed: set api.keys", "5 clients (server.max_connections)", "No client may"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("Page"));
        settings.api.keys = vec!["sesame".to_owned()];
        let text = server_banner(&settings, &report());
        assert!(text.contains("X-API-Key: $KEY") && !text.contains("sesame"), "{text}");
    }
}
