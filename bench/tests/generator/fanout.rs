//! `saturate` and `fanout` count every delivery once, and find each loss, repeat and disorder.

use crate::run::bench;
use crate::server::{MISTAKEN, Mistake, Server};
use serde_json::Value;

/// Number of publications in each run, including the warm-up.
const PUBLISHED: u64 = 8;
const CONNECTIONS: u64 = 50;

const _: () = assert!((MISTAKEN as u64) < PUBLISHED, "the mistake must happen within the run");

/// Loads `server` in a closed loop, with the messages of `profile`.
fn saturate(server: &Server, profile: &str, flags: &str) -> (i32, Value) {
    let timeout = if flags.contains("--timeout") { "" } else { "--timeout 2s " };
    bench(&format!(
        "saturate -n {CONNECTIONS} --warmup 2 --messages {} --settle 100ms {timeout}\
         {} {flags}",
        PUBLISHED - 2,
        server.flags(profile, flags)
    ))
}

#[test]
fn counts_every_delivery_once_whichever_way_it_is_published() {
    for (profile, way) in [
        ("corecast", "--threads 3"),
        ("corecast", "--publish frame"),
        ("corecast", "--outstanding 4 --bytes 5000"),
        ("plain", "--spin --threads 2"),
        ("plain", "--publish frame"),
    ] {
        let server = Server::start(Mistake::None);
        let (code, report) = saturate(&server, profile, way);
        assert_eq!(code, 0, "{profile} {way}: {report}");
        assert_eq!(report["deliveries"], CONNECTIONS * (PUBLISHED - 2), "{report}");
        assert_eq!(report["delivery"]["count"], CONNECTIONS * (PUBLISHED - 2), "{report}");
        assert_eq!(report["last_delivery"]["count"], PUBLISHED - 2, "{report}");
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_counts_from_when_a_publication_was_due() {
    let server = Server::start(Mistake::None);
    let flags = server.flags("plain", "");
    let (code, report) = bench(&format!("fanout -n 20 --rate 50 --seconds 1 {flags}"));
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["publications"], 50, "{report}");
    assert_eq!(report["publish_lag"]["count"], 50, "{report}");
    assert!(report["seconds"].as_f64().unwrap() > 0.95, "{report}");
}

#[test]
fn a_server_that_pauses_cannot_hide_it_from_an_open_loop() {
    let server = Server::start(Mistake::Pause);
    let flags = server.flags("plain", "");
    let (code, report) = bench(&format!("fanout -n 1 --warmup 1 --rate 100 --messages 50 {flags}"));
    assert_eq!(code, 0, "{report}");
    // The server pauses for half a second at 100 publications per second. Half of the publications
    // wait, on average for half of that time.
    assert!(report["delivery"]["p90_us"].as_f64().unwrap() > 250e3, "{report}");
}

#[test]
fn a_silent_line_that_the_server_has_closed_is_opened_again() {
    let server = Server::start(Mistake::Forget);
    let flags = server.flags("corecast", "");
    let (code, report) = bench(&format!("fanout -n 5 --warmup 1 --rate 5 --messages 3 {flags}"));
    assert_eq!((code, &report["deliveries"]), (0, &15.into()), "{report}");
}

#[test]
fn counts_canned_frames() {
    let server = Server::start(Mistake::None);
    let (code, report) = saturate(&server, "limit", "");
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["deliveries"], CONNECTIONS * (PUBLISHED - 2), "{report}");
}

#[test]
fn answers_pings_of_both_kinds() {
    let server = Server::start(Mistake::None);
    let (code, report) = saturate(&server, "corecast", "--threads 1");
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
        let (code, report) = saturate(&server, "plain", "--outstanding 4");
        assert_eq!(code, 1, "{mistake:?}: {report}");
        let counts = ["lost", "duplicates", "reordered"].map(|name| report[name].as_u64().unwrap());
        let (lost, duplicates, reordered) = faults;
        assert_eq!(counts, [lost, duplicates, reordered], "{mistake:?}: {report}");
    }
}

#[test]
fn a_repeat_of_a_canned_frame_is_told() {
    let server = Server::start(Mistake::Repeat);
    let (code, report) = saturate(&server, "limit", "");
    assert_eq!((code, &report["duplicates"]), (1, &1.into()), "{report}");
}

#[test]
fn a_subscriber_that_is_closed_ends_the_run_at_once() {
    let server = Server::start(Mistake::Close);
    let (code, report) = saturate(&server, "corecast", "--timeout 60s");
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["failures"]["closed"]["first"], "close 3100 gone", "{report}");
}

#[test]
fn a_refused_publication_is_told() {
    let server = Server::start(Mistake::None);
    let (code, report) = saturate(&server, "plain", "--publish-header X-API-Key:wrong");
    assert_eq!(code, 1, "{report}");
    assert!(report["publish_error"].as_str().unwrap().contains("401"), "{report}");
}

#[test]
fn one_publication_to_idle_connections_arrives_exactly_once() {
    for flags in ["", "--publish frame"] {
        let server = Server::start(Mistake::None);
        let more = server.flags("corecast", flags);
        let (code, report) =
            bench(&format!("idle -n 25 --settle 50ms --hold 50ms --publish-once {more} {flags}"));
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["published"]["received"], 50, "{report}");
        assert_eq!(report["published"]["lost"], 0, "{report}");
    }
}
