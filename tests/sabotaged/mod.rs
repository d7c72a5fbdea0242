//! Runs schedules of a simulation with a built-in fault, and checks that one of them fails.
#![allow(clippy::print_stdout, reason = "the output says with which seed")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use corecast::sabotage::{Fault, switch_on};

/// Number of schedules within which a fault must be noticed.
const SCHEDULES_MAX: u64 = 1000;

/// Returns the first seed, starting at 0, whose schedule fails, and the message.
fn first_failure<T>(
    schedules: u64,
    play: impl Fn(u64) -> T,
    fault: Option<Fault>,
) -> Option<(u64, String)> {
    switch_on(fault);
    let failure = (0..schedules).find_map(|seed| {
        let played = catch_unwind(AssertUnwindSafe(|| drop(play(seed))));
        played.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            (seed, text.unwrap_or_default())
        })
    });
    switch_on(None);
    failure
}

pub fn check_noticed<T>(play: impl Fn(u64) -> T, fault: Fault) {
    check_noticed_within(SCHEDULES_MAX, play, fault);
}

/// Checks that a fault is noticed that needs a rare schedule.
#[allow(dead_code, reason = "not every simulation has faults that are so rare")]
pub fn check_noticed_within<T>(schedules: u64, play: impl Fn(u64) -> T, fault: Fault) {
    let failure = first_failure(schedules, play, Some(fault));
    let (seed, text) = failure.unwrap_or_else(|| panic!("{fault:?} was not noticed"));
    println!("{fault:?} was noticed with seed {seed}: {text}");
}

pub fn check_passes<T>(play: impl Fn(u64) -> T) {
    check_passes_of(SCHEDULES_MAX, play);
}

#[allow(dead_code, reason = "not every simulation has schedules that are long")]
pub fn check_passes_of<T>(schedules: u64, play: impl Fn(u64) -> T) {
    assert_eq!(first_failure(schedules, play, None), None);
}
