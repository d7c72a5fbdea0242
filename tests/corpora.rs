//! Replays the corpora of the fuzz targets: what was ever worth keeping stays in order.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says on which file"
)]

use std::fs;
use std::path::Path;

#[path = "fuzz_bodies/centrifugo.rs"]
mod centrifugo;
#[path = "fuzz_bodies/frames.rs"]
mod frames;
#[path = "fuzz_bodies/handshake.rs"]
mod handshake;
#[path = "fuzz_bodies/plain.rs"]
mod plain;
#[path = "fuzz_bodies/written.rs"]
mod written;

/// Runs `check` on every file of the corpus, and on every front of it.
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        println!("{}", path.display());
        // A long file is cut in fewer places, so that the test stays fast.
        let stride = bytes.len().div_ceil(64).max(1);
        (0..bytes.len()).step_by(stride).for_each(|cut| check(&bytes[..cut]));
        check(&bytes);
        files += 1;
    }
    assert!(files > 0, "{} is empty", corpus.display());
}

#[test]
fn the_handshake_corpus_is_in_order() {
    replay("handshake", handshake::check);
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
