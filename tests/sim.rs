//! The simulation: plays thousands of random schedules of a node in one thread, and checks every
//! promise of the server. `CORECAST_SIM_SEED` replays the schedule of one seed.
//! `CORECAST_SIM_SCHEDULES` is the number of schedules to play.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says with which seed"
)]

#[path = "sim/mod.rs"]
mod sim;
#[path = "sim/cases/mod.rs"]
mod cases;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Duration of a test if no number of schedules is given.
const TIME: Duration = Duration::from_secs(20);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number: {text:?}")))
}

fn play_many(offset: u64) {
    if let Some(seed) = number("CORECAST_SIM_SEED") {
        sim::schedule::play(seed);
        return;
    }
    let most = number("CORECAST_SIM_SCHEDULES");
    let began = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = (now.as_nanos() as u64).wrapping_add(offset) % 1_000_000_000_000;
    let mut count = 0;
    while most.map_or_else(|| began.elapsed() < TIME, |most| count < most) {
        let seed = first + count;
        let played = catch_unwind(AssertUnwindSafe(|| sim::schedule::play(seed)));
        if let Err(panic) = played {
            println!("CORECAST_SIM_SEED={seed} shows it again");
            resume_unwind(panic);
        }
        count += 1;
    }
    println!("{count} schedules from seed {first} on took {:?}", began.elapsed());
}

#[test]
fn an_upgrade_waits_for_a_subscription_that_is_held_up() {
    (0..50).for_each(sim::upgrade::play);
}

#[test]
fn random_schedules_keep_every_promise() {
    play_many(0);
}

#[test]
fn more_random_schedules_keep_every_promise() {
    play_many(500_000_000_000);
}
