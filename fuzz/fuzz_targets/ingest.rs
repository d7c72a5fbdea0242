//! Fuzzes the reader of ingested entries.

#![no_main]

#[path = "../../tests/fuzz_bodies/ingest.rs"]
mod body;
#[path = "../../tests/fuzz_bodies/namespaces.rs"]
mod namespaces;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
