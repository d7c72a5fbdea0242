//! Shows that the simulation would notice: each fault that is built in on purpose makes it fail
//! within a bounded number of schedules, and without a fault it does not.
#![cfg(feature = "sabotage")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a check fails, and the output says with which seed"
)]

#[path = "sim/mod.rs"]
#[allow(dead_code, reason = "directed tests use more of it")]
mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use corecast::sabotage::{Fault, switch_on};

/// Schedules within which a fault must be noticed.
const SCHEDULES_MAX: u64 = 1000;

/// The first seed, from 0 on, whose schedule fails, and what it says.
fn first_failure(fault: Option<Fault>) -> Option<(u64, String)> {
    switch_on(fault);
    let failure = (0..SCHEDULES_MAX).find_map(|seed| {
        let played = catch_unwind(AssertUnwindSafe(|| drop(sim::schedule::play(seed))));
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
fn a_panic_while_one_clients_bytes_are_parsed_ends_that_connection_alone() {
    let setup = sim::setup::Setup::generous(1);
    let mut world = sim::world::World::new(setup, sim::random::Random::new(7));
    let channel = world.setup.channel_of("");
    let clients = [(); 2].map(|()| {
        let speech = sim::centrifugo::Centrifugo::new(vec![channel]);
        world.add(sim::client::Speech::Centrifugo(speech))
    });
    world.until("everybody is served", sim::world::World::is_settled);
    world.clients[clients[0]].tainted = true;
    world.clients[clients[0]].habits.connects = false;
    world.with_client(clients[0], |client, scene| {
        client.push_frame(scene, sim::wire::PING, b"x");
        client.act(scene);
    });
    switch_on(Some(Fault::PanicInParse));
    world.with_network(|network| network.deliver(0));
    (0..3).for_each(|_| world.node.run(0, &world.setup));
    switch_on(None);
    world.until("it is gone", |world| world.clients[clients[0]].link.is_none());
    assert_eq!(world.clients[clients[0]].ends, [3004]);
    assert_eq!(world.node.runners[0].cells.panics.value(), 1);
    let probe = world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
    world.pass(std::time::Duration::from_secs(1));
    let follow = &world.clients[clients[1]].centrifugo().subscribed[&channel];
    assert_eq!(follow.last_of(sim::truth::CONTROL), Some(probe), "the other one is served");
    assert_eq!(world.node.runners[0].shard.audit(), 0);
}

#[test]
fn schedules_without_a_fault_pass() {
    assert_eq!(first_failure(None), None);
}

#[test]
fn a_lost_wake_is_noticed() {
    check_noticed(Fault::LostWake);
}

#[test]
fn a_stale_generation_is_noticed() {
    check_noticed(Fault::StaleGeneration);
}

#[test]
fn a_recovery_that_begins_too_late_is_noticed() {
    check_noticed(Fault::OffsetOffByOne);
}

#[test]
fn publications_that_vanish_from_a_full_spill_are_noticed() {
    check_noticed(Fault::DropOnSpill);
}

#[test]
fn a_gap_that_nobody_is_told_of_is_noticed() {
    check_noticed(Fault::SkippedGap);
}

#[test]
fn a_shard_that_stays_interested_is_noticed() {
    check_noticed(Fault::LeakedInterest);
}
