//! Fuzzes a node whose clients, time and turns the input chooses.

#![no_main]

#[path = "../../tests/fuzz_bodies/state.rs"]
mod body;
#[path = "../../tests/sim/mod.rs"]
#[allow(dead_code, reason = "directed tests use more of it")]
mod sim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
