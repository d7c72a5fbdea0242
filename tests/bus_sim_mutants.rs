//! Shows that the simulation of the bus would notice: each fault that is built in on purpose makes
//! it fail within a bounded number of schedules, and without a fault it does not.
#![cfg(feature = "sabotage")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says with which seed"
)]

#[path = "bus_sim/mod.rs"]
#[allow(dead_code, reason = "what shows a failure again is for the random schedules")]
mod bus_sim;
#[path = "sim/mod.rs"]
#[allow(dead_code, reason = "parts of it that are for single nodes")]
mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use corecast::sabotage::{Fault, switch_on};

/// Schedules within which a fault must be noticed.
const SCHEDULES_MAX: u64 = 1000;

/// The first seed, from 0 on, whose schedule fails, and what it says.
fn first_failure(fault: Option<Fault>) -> Option<(u64, String)> {
    switch_on(fault);
    let failure = (0..SCHEDULES_MAX).find_map(|seed| {
        let played = catch_unwind(AssertUnwindSafe(|| bus_sim::schedule::play(seed)));
        played.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            (seed, text.unwrap_or_default())
        })
    });
    switch_on(None);
    failure
}

fn check_noticed(fault: Fault) {
    let failure = first_failure(Some(fault));
    let (seed, text) = failure.unwrap_or_else(|| panic!("{fault:?} was not noticed"));
    println!("{fault:?} was noticed with seed {seed}: {text}");
}

#[test]
fn schedules_without_a_fault_pass() {
    assert_eq!(first_failure(None), None);
}

#[test]
fn a_publication_that_is_not_delivered_is_noticed() {
    check_noticed(Fault::DroppedRead);
}

#[test]
fn publications_that_change_places_are_noticed() {
    check_noticed(Fault::SwappedReads);
}

#[test]
fn another_server_that_goes_unnoticed_is_noticed() {
    check_noticed(Fault::SkippedFence);
}

#[test]
fn a_hole_that_goes_unnoticed_is_noticed() {
    check_noticed(Fault::IgnoredHole);
}

#[test]
fn a_number_that_is_used_twice_is_noticed() {
    check_noticed(Fault::ReusedNumber);
}

#[test]
fn an_acknowledgement_that_comes_too_early_is_noticed() {
    check_noticed(Fault::EarlyAcknowledgement);
}
