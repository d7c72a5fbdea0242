//! `connect` opens the requested connections, and reports failures by kind.

use crate::run::bench;
use crate::server::{Mistake, Server};

#[test]
fn opens_all_connections_in_every_profile() {
    let server = Server::start(Mistake::None);
    for profile in ["corecast", "plain", "limit"] {
        let url = server.url(profile);
        let flags = format!("--profile {profile} --url {url}");
        let (code, report) = bench(&format!("connect -n 50 --hold 200ms {flags}"));
        assert_eq!(code, 0, "{profile}: {report}");
        assert_eq!(report["established"], 50, "{profile}: {report}");
        assert_eq!(report["handshake"]["count"], 50, "{profile}: {report}");
        assert_eq!(report["failures"], serde_json::json!({}), "{profile}: {report}");
    }
}

#[test]
fn threads_share_the_connections_and_the_rate_is_kept() {
    let server = Server::start(Mistake::None);
    let url = format!("ws://{}/ws", server.clients);
    let flags = "connect --profile plain -n 51 --threads 4 --connect-rate 200 --abort --hold 0";
    let (code, report) = bench(&format!("{flags} --url {url}"));
    assert_eq!((code, &report["established"]), (0, &51.into()), "{report}");
    assert!(report["seconds"].as_f64().unwrap() > 0.15, "{report}");
}

#[test]
fn connections_go_to_and_come_from_all_addresses_in_turn() {
    let servers = [Server::start(Mistake::None), Server::start(Mistake::None)];
    let flags = format!(
        "--profile plain --url {} --destination {} --source 127.0.0.7,127.0.0.8",
        servers[0].url("plain"),
        servers[1].clients
    );
    let (code, report) = bench(&format!("connect -n 40 --threads 2 --hold 0 {flags}"));
    assert_eq!((code, &report["established"]), (0, &40.into()), "{report}");
    for server in &servers {
        assert_eq!(server.sources(), [("127.0.0.7".into(), 10), ("127.0.0.8".into(), 10)]);
    }
}

#[test]
fn counts_failures_by_kind() {
    for (mistake, profile, kind) in
        [(Mistake::Refuse, "plain", "status"), (Mistake::Deny, "corecast", "subscribe")]
    {
        let server = Server::start(mistake);
        let flags = format!("--profile {profile} --url {}", server.url(profile));
        let (code, report) = bench(&format!("connect -n 50 --hold 0 {flags}"));
        assert_eq!((code, &report["established"]), (1, &0.into()), "{report}");
        assert_eq!(report["failures"][kind]["count"], 50, "{report}");
    }
    let (code, report) = bench("connect --profile plain -n 50 --hold 0 --url ws://127.0.0.1:1/ws");
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["failures"]["refused"]["count"], 50, "{report}");
}

#[test]
fn gives_up_on_a_server_that_never_answers() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", silent.local_addr().unwrap());
    let (code, report) =
        bench(&format!("connect --profile plain -n 50 --timeout 300ms --hold 0 --url {url}"));
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["failures"]["timeout"]["count"], 50, "{report}");
}

#[test]
fn reports_what_the_server_used() {
    let server = Server::start(Mistake::None);
    let url = format!("ws://{}/ws", server.clients);
    let pid = std::process::id();
    let (code, report) = bench(&format!(
        "idle --profile plain -n 25 --settle 100ms --hold 0 --pid {pid} --url {url}"
    ));
    assert_eq!((code, &report["established"]), (0, &50.into()), "{report}");
    assert!(report["rss_bytes_at_n"].as_u64().unwrap() > 0, "{report}");
    assert!(report["bytes_per_connection"].is_number(), "{report}");
}
