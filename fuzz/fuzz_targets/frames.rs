//! Fuzzes the frame decoder with a stream cut at random.

#![no_main]

#[path = "../../tests/fuzz_bodies/frames.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
