//! Fuzzes the reader of ingested entries.

#![no_main]

#[path = "../../tests/fuzz_bodies/ingest.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
