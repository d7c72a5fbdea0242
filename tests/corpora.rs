//! Replays the corpora of the fuzz targets: inputs that found an error once must pass.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says on which file"
)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "fuzz_bodies/bus_entry.rs"]
mod bus_entry;
#[path = "fuzz_bodies/centrifugo.rs"]
mod centrifugo;
#[path = "fuzz_bodies/frames.rs"]
mod frames;
#[path = "fuzz_bodies/handshake.rs"]
mod handshake;
#[path = "fuzz_bodies/ingest.rs"]
mod ingest;
#[path = "fuzz_bodies/namespaces.rs"]
mod namespaces;
#[path = "fuzz_bodies/plain.rs"]
mod plain;
#[path = "fuzz_bodies/proxies.rs"]
mod proxies;
#[path = "sim/mod.rs"]
#[allow(dead_code, reason = "directed tests use more of it")]
mod sim;
#[path = "fuzz_bodies/state.rs"]
mod state;
#[path = "fuzz_bodies/written.rs"]
mod written;

/// Returns the files of a corpus in a fixed order.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let paths = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    files.sort();
    files
}

/// Runs `check` on every file of the corpus, and on its prefixes.
fn replay(target: &str, check: fn(&[u8])) {
    for (path, bytes) in corpus(target) {
        println!("{}", path.display());
        // A long file has fewer prefixes, so that the test stays fast.
        let stride = bytes.len().div_ceil(64).max(1);
        (0..bytes.len()).step_by(stride).for_each(|cut| check(&bytes[..cut]));
        check(&bytes);
    }
}

/// Whether an input of the state corpus fails with this fault.
#[cfg(feature = "sabotage")]
fn state_notices(fault: corecast::sabotage::Fault) -> bool {
    use corecast::sabotage::switch_on;
    use std::panic::catch_unwind;

    corpus("state").into_iter().any(|(path, bytes)| {
        switch_on(Some(fault));
        let failed = catch_unwind(|| state::check(&bytes)).is_err();
        switch_on(None);
        if failed {
            println!("{fault:?} was noticed with {}", path.display());
        }
        failed
    })
}

#[test]
fn the_handshake_corpus_is_in_order() {
    replay("handshake", handshake::check);
}

#[test]
fn the_proxies_corpus_is_in_order() {
    replay("proxies", proxies::check);
}

#[test]
fn the_frames_corpus_is_in_order() {
    replay("frames", frames::check);
}

#[test]
fn the_centrifugo_corpus_is_in_order() {
    replay("centrifugo", centrifugo::check);
}

#[test]
fn the_plain_corpus_is_in_order() {
    replay("plain", plain::check);
}

#[test]
fn the_bus_entry_corpus_is_in_order() {
    replay("bus_entry", bus_entry::check);
}

#[test]
fn the_ingest_corpus_is_in_order() {
    replay("ingest", ingest::check);
}

#[test]
fn the_state_corpus_is_in_order() {
    // Each file is a complete schedule, so its prefixes would add little and take long.
    for (path, bytes) in corpus("state") {
        println!("{}", path.display());
        state::check(&bytes);
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn faults_are_noticed_by_the_state_corpus() {
    use corecast::sabotage::Fault;

    for fault in [
        Fault::LostWake,
        Fault::OffsetOffByOne,
        Fault::SkippedGap,
        Fault::ForgottenMissed,
        Fault::LeakedInterest,
        Fault::LeakedSubnet,
        Fault::ForgottenRelease,
        Fault::LeaseTwiceGivenBack,
        Fault::ForgottenCharge,
        Fault::DropOnSpill,
    ] {
        assert!(state_notices(fault), "{fault:?} was not noticed");
    }
}
