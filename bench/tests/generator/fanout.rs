//! `fanout` counts every delivery once, and any loss, repeat or disorder is found.

use crate::run::bench;
use crate::server::{MISTAKEN, Mistake, Server};
use serde_json::Value;

/// Publications of each run, the warm-up included.
const PUBLISHED: u64 = 8;
const CONNECTIONS: u64 = 50;

const _: () = assert!((MISTAKEN as u64) < PUBLISHED, "the mistake must happen within the run");

fn fanout(server: &Server, path: &str, flags: &str) -> (i32, Value) {
    let (clients, api) = (server.clients, server.api);
    let timeout = if flags.contains("--timeout") { "" } else { "--timeout 2s " };
    bench(&format!(
        "fanout -n {CONNECTIONS} --warmup 2 --messages {} --settle 100ms {timeout}\
         --url ws://{clients}{path} --api http://{api}/api {flags}",
        PUBLISHED - 2
    ))
}

#[test]
fn counts_every_delivery_once_whichever_way_it_is_published() {
    for (path, way) in [
        ("/connection/websocket", "--threads 3"),
        ("/connection/websocket", "--publish-ws"),
        ("/connection/websocket", "--outstanding 4 --bytes 5000"),
        ("/ws", "--spin --threads 2"),
        ("/ws", "--publish-ws"),
    ] {
        let server = Server::start(Mistake::None);
        let (code, report) = fanout(&server, path, way);
        assert_eq!(code, 0, "{path} {way}: {report}");
        assert_eq!(report["deliveries"], CONNECTIONS * (PUBLISHED - 2), "{report}");
        assert_eq!(report["delivery"]["count"], CONNECTIONS * (PUBLISHED - 2), "{report}");
        assert_eq!(report["last_delivery"]["count"], PUBLISHED - 2, "{report}");
    }
}

#[test]
fn counts_canned_frames() {
    let server = Server::start(Mistake::None);
    let trigger = format!("--trigger {}", server.trigger);
    let (code, report) = fanout(&server, "/", &trigger);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["deliveries"], CONNECTIONS * (PUBLISHED - 2), "{report}");
}

#[test]
fn answers_pings_of_both_kinds() {
    let server = Server::start(Mistake::None);
    let (code, report) = fanout(&server, "/connection/websocket", "--threads 1");
    assert_eq!(code, 0, "{report}");
    assert_eq!(u64::from(server.pongs()), 2 * CONNECTIONS * PUBLISHED);
}

#[test]
fn a_mistake_of_the_server_is_told() {
    for (mistake, faults) in [
        // A lost publication never completes, so the loop ends with it.
        (Mistake::Lose, (1, 0, 0)),
        (Mistake::Repeat, (0, 1, 0)),
        (Mistake::Swap, (0, 0, 1)),
    ] {
        let server = Server::start(mistake);
        let (code, report) = fanout(&server, "/ws", "--outstanding 4");
        assert_eq!(code, 1, "{mistake:?}: {report}");
        let counts = ["lost", "duplicates", "reordered"].map(|name| report[name].as_u64().unwrap());
        let (lost, duplicates, reordered) = faults;
        assert_eq!(counts, [lost, duplicates, reordered], "{mistake:?}: {report}");
    }
}

#[test]
fn a_repeat_of_a_canned_frame_is_told() {
    let server = Server::start(Mistake::Repeat);
    let trigger = format!("--trigger {}", server.trigger);
    let (code, report) = fanout(&server, "/", &trigger);
    assert_eq!((code, &report["duplicates"]), (1, &1.into()), "{report}");
}

#[test]
fn a_subscriber_that_is_closed_ends_the_run_at_once() {
    let server = Server::start(Mistake::Close);
    let (code, report) = fanout(&server, "/connection/websocket", "--timeout 60s");
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["failures"]["closed"]["first"], "close 3100 gone", "{report}");
}

#[test]
fn a_refused_publication_is_told() {
    let server = Server::start(Mistake::None);
    let (code, report) = fanout(&server, "/ws", "--api-key wrong");
    assert_eq!(code, 1, "{report}");
    assert!(report["publish_error"].as_str().unwrap().contains("401"), "{report}");
}

#[test]
fn one_publication_to_idle_connections_arrives_exactly_once() {
    for flags in ["", " --publish-ws"] {
        let server = Server::start(Mistake::None);
        let (clients, api) = (server.clients, server.api);
        let (code, report) = bench(&format!(
            "idle -n 25 --settle 50ms --hold 50ms --publish-once \
             --url ws://{clients}/connection/websocket --api http://{api}/api{flags}"
        ));
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["published"]["received"], 50, "{report}");
        assert_eq!(report["published"]["lost"], 0, "{report}");
    }
}
