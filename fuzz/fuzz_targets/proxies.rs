//! Fuzzes the readers of what proxies say of their clients.

#![no_main]

#[path = "../../tests/fuzz_bodies/proxies.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
