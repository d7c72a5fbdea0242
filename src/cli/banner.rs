//! The banner that `serve` prints after its start: addresses, a publish command, the client limit.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::auth::Permissions;
use crate::server::StartupReport;
use crate::settings::{ListenAddress, Settings};

/// The banner of a started server, of several lines.
pub fn server_banner(settings: &Settings, report: &StartupReport) -> String {
    let mut out = String::new();
    // Writing to a String can't fail; each line is one statement to keep the text readable.
    let written = banner_lines(settings, report, &mut out);
    debug_assert!(written.is_ok(), "writing to a String can't fail");
    out
}

fn banner_lines(settings: &Settings, report: &StartupReport, out: &mut String) -> std::fmt::Result {
    let StartupReport { driver, shards, .. } = report;
    let version = env!("CARGO_PKG_VERSION");
    let plural = if *shards == 1 { "" } else { "s" };
    writeln!(out, "Corecast {version} is running with {shards} shard{plural} on {driver}\n")?;
    let channel = banner_channel(settings);
    let mut title = "Connect";
    for address in &report.listen {
        if let ListenAddress::Tcp(_) = address {
            let url = format!("ws://{}", reachable(address));
            writeln!(out, "  {title:<9}{url}/connection/websocket  (Centrifugo's protocol)")?;
            let plain = format!("{url}/ws?channels={channel}");
            let width = format!("{url}/connection/websocket").len();
            writeln!(out, "           {plain:<width$}  (plain WebSocket)")?;
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
        let body = format!(r#"{{"channel":"{channel}","data":"Hello"}}"#);
        writeln!(out, "  Publish  curl {socket}http://{api}/api/publish {key}-d '{body}'")?;
    }
    if settings.dev {
        writeln!(out, "  Page     http://{api}/")?;
    }
    writeln!(out, "  Metrics  http://{api}/metrics")?;
    writeln!(out, "  Limit    {}", banner_limit(settings, report))?;
    if settings.expose {
        return banner_exposed(report, out);
    }
    if let Some(note) = note(settings) {
        writeln!(out, "\n  {note}")?;
    }
    Ok(())
}

/// A channel to try: one to which clients may subscribe, if there is any.
fn banner_channel(settings: &Settings) -> String {
    let namespaces = &settings.channel.namespaces;
    let permissions = Permissions::without_token(&settings.auth);
    let open = namespaces.iter().filter(|one| permissions.may_subscribe_within(one));
    let names = open.flat_map(|one| match one.name.as_str() {
        "" => vec!["news".to_owned()],
        name => vec![format!("{name}:1"), format!("{name}:example")],
    });
    let valid = |name: &String| namespaces.resolve(name).is_ok();
    names.into_iter().find(valid).unwrap_or_else(|| "news".to_owned())
}

/// What `--expose` opens, and to whom.
fn banner_exposed(report: &StartupReport, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "\n  --dev --expose: anyone who can reach this host may subscribe, publish and read:"
    )?;
    for address in &report.listen {
        match address {
            ListenAddress::Tcp(tcp) => {
                writeln!(out, "    ws://{}/ws?channels=news", from_outside(*tcp))?;
            }
            ListenAddress::Unix(_) => writeln!(out, "    {address}")?,
        }
    }
    match &report.api_listen {
        ListenAddress::Tcp(tcp) => {
            writeln!(out, "    http://{}/api/publish, without a key", from_outside(*tcp))?;
        }
        address @ ListenAddress::Unix(_) => writeln!(out, "    {address}, without a key")?,
    }
    writeln!(
        out,
        "  Web pages may too, if they are of this host, of private addresses, or of names"
    )?;
    writeln!(out, "  without a dot or under .local, .internal, .localhost and .test.")
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
pub(super) fn note(settings: &Settings) -> Option<&'static str> {
    let namespaces = &settings.channel.namespaces;
    if settings.dev && settings.auth.insecure {
        return Some(
            "--dev: programs and web pages of this host may subscribe, publish and read.\n  \
             --dev --expose opens the server to containers, phones and virtual machines.",
        );
    }
    let permissions = Permissions::without_token(&settings.auth);
    let may_subscribe = namespaces.iter().any(|one| permissions.may_subscribe_within(one));
    (!may_subscribe).then_some(
        "No client may subscribe yet: set auth.anonymous, and allow_subscribe_for_client and\n  \
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

/// The same for other hosts.
fn from_outside(address: SocketAddr) -> String {
    match own_address().filter(|_| address.ip().is_unspecified()) {
        Some(own) => SocketAddr::new(own, address.port()).to_string(),
        None => address.to_string(),
    }
}

/// Returns the address of this host towards others. Connecting a UDP socket sends nothing, but asks
/// the kernel for the route, here to an address for documentation (RFC 5737).
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
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
            "--dev: programs and web pages of this host may",
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
    fn the_banner_names_a_channel_to_which_clients_may_subscribe() {
        let mut namespace = settings(false).channel.namespaces.plain().clone();
        let plain = namespace.clone();
        namespace.name = "chat".to_owned();
        namespace.allow_subscribe_for_client = true;
        namespace.allow_subscribe_for_anonymous = true;
        let mut settings = settings(false);
        settings.auth.anonymous = true;
        settings.channel.namespaces = crate::channel::Namespaces::new(vec![plain, namespace], 255);
        settings.api.keys = vec!["sesame".to_owned()];
        let text = server_banner(&settings, &report());
        assert!(
            text.contains("channels=chat:1") && text.contains(r#""channel":"chat:1""#),
            "{text}"
        );
    }

    #[test]
    fn with_expose_the_banner_says_what_is_open() {
        let flags = Flags { dev: true, expose: true, ..Flags::default() };
        let settings = load(&flags, []).expect("valid").settings;
        let exposed = ListenAddress::parse("192.0.2.7:8000").expect("an address");
        let text = server_banner(&settings, &StartupReport { listen: vec![exposed], ..report() });
        for part in [
            "--dev --expose: anyone who can reach this host may subscribe, publish and read",
            "    ws://192.0.2.7:8000/ws?channels=news\n",
            "    http://127.0.0.1:9000/api/publish, without a key\n",
            "of private addresses",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        let open = server_banner(&settings, &report());
        assert!(!open.contains("ws://0.0.0.0:8000/ws") || own_address().is_none(), "{open}");
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
