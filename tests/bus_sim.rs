//! The simulation of the bus: plays random schedules of several nodes that share a Redis, in one
//! thread, and checks every promise. `CORECAST_SIM_SEED` replays the schedule of one seed.
//! `CORECAST_SIM_SCHEDULES` is the number of schedules to play.
#![allow(clippy::print_stdout, reason = "the output says with which seed")]

#[path = "bus_sim/mod.rs"]
mod bus_sim;
#[path = "sim/mod.rs"]
#[allow(dead_code, reason = "parts of it that are for single nodes")]
mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Duration of a test if no number of schedules is given.
const TIME: Duration = Duration::from_secs(15);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number: {text:?}")))
}

/// Replays a schedule that has failed, and prints its last steps.
fn show_again(seed: u64) {
    bus_sim::log::keep(true);
    let again = catch_unwind(AssertUnwindSafe(|| bus_sim::schedule::play(seed)));
    let steps = bus_sim::log::last_steps();
    bus_sim::log::keep(false);
    println!("the last steps:\n{steps}CORECAST_SIM_SEED={seed} shows it again");
    if let Err(panic) = again {
        resume_unwind(panic);
    }
    panic!("seed {seed} failed once, and not again: something in it is not from the seed");
}

fn play(seed: u64) -> bus_sim::schedule::Outcome {
    let played = catch_unwind(AssertUnwindSafe(|| bus_sim::schedule::play(seed)));
    played.unwrap_or_else(|_| {
        show_again(seed);
        unreachable!("it has failed")
    })
}

#[test]
fn random_schedules_keep_every_promise() {
    if let Some(seed) = number("CORECAST_SIM_SEED") {
        play(seed);
        return;
    }
    let most = number("CORECAST_SIM_SCHEDULES");
    let began = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = now.as_nanos() as u64 % 1_000_000_000_000;
    let (mut count, mut published, mut seen) = (0, 0, 0);
    while most.map_or_else(|| began.elapsed() < TIME, |most| count < most) {
        let outcome = play(first + count);
        (published, seen) = (published + outcome.published, seen + outcome.seen);
        count += 1;
    }
    println!("{count} schedules from seed {first} on took {:?}", began.elapsed());
    println!("{published} publications, of which clients have seen {seen}");
    assert!(seen > 0, "clients see publications");
}

#[test]
fn a_seed_plays_the_same_schedule_again() {
    for seed in 0..5 {
        assert_eq!(play(seed).digest, play(seed).digest, "of seed {seed}");
    }
}

#[test]
fn losses_while_everybody_rests_are_noticed() {
    for seed in 0..20 {
        bus_sim::rested::play_written_place(seed);
        bus_sim::rested::play_setback(seed);
        bus_sim::rested::play_generations(seed);
        bus_sim::rested::play_unread_end(seed);
        bus_sim::rested::play_forgotten_publisher(seed);
    }
}
