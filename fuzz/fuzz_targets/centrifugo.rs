//! Fuzzes the decoder of Centrifugo's protocol.

#![no_main]

#[path = "../../tests/fuzz_bodies/centrifugo.rs"]
mod body;
#[path = "../../tests/fuzz_bodies/written.rs"]
mod written;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
