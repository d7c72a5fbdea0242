//! Fuzzes the reader of request heads.

#![no_main]

#[path = "../../tests/fuzz_bodies/handshake.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
