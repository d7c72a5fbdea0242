//! Shows that the simulation notices errors: with each built-in fault it fails within a bounded
//! number of schedules, and without a fault it passes.
#![cfg(feature = "sabotage")]

#[path = "sim/mod.rs"]
#[allow(dead_code, reason = "directed tests use more of it")]
mod sim;
mod sabotaged;

use corecast::sabotage::{Fault, switch_on};
use sabotaged::{check_noticed, check_passes};
use sim::schedule::{play, play_deaf, play_greedy};

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
    assert_eq!(world.node.runners[0].counters.panics.value(), 1);
    let probe = world.with(|scene, _, control| control.publish(scene, channel, (None, false)));
    world.pass(std::time::Duration::from_secs(1));
    let follow = &world.clients[clients[1]].centrifugo().subscribed[&channel];
    assert_eq!(follow.last_of(sim::truth::CONTROL), Some(probe), "the other one is served");
    assert_eq!(world.node.runners[0].shard.audit(), 0);
}

#[test]
fn schedules_without_a_fault_pass() {
    check_passes(play);
}

#[test]
fn a_client_that_asks_for_more_than_it_reads_is_served_in_time() {
    play_greedy(1);
}

#[test]
fn a_lost_wake_is_noticed() {
    check_noticed(play, Fault::LostWake);
}

#[test]
fn a_stale_generation_is_noticed() {
    check_noticed(play, Fault::StaleGeneration);
}

#[test]
fn a_recovery_that_begins_too_late_is_noticed() {
    check_noticed(play, Fault::OffsetOffByOne);
}

#[test]
fn answers_that_nothing_bounds_are_noticed() {
    check_noticed(play_greedy, Fault::UnboundReplies);
}

#[test]
fn an_outbox_that_grows_while_its_socket_has_no_room_is_noticed() {
    play_deaf(0);
    check_noticed(play_deaf, Fault::PatientOutbox);
}

#[test]
fn frames_that_stay_charged_when_nobody_waits_for_them_are_noticed() {
    check_noticed(play, Fault::ForgottenRelease);
}

#[test]
fn memory_for_outboxes_that_is_given_back_twice_is_noticed() {
    check_noticed(play, Fault::LeaseTwiceGivenBack);
}

#[test]
fn publications_that_vanish_from_a_full_spill_are_noticed() {
    check_noticed(play, Fault::DropOnSpill);
}

#[test]
fn a_gap_that_nobody_is_told_of_is_noticed() {
    check_noticed(play, Fault::SkippedGap);
}

#[test]
fn what_was_missed_and_is_not_handed_over_is_noticed() {
    check_noticed(play, Fault::ForgottenMissed);
    check_noticed(sim::missed::play, Fault::ForgottenMissed);
}

#[test]
fn a_publication_that_stays_charged_is_noticed() {
    check_noticed(play, Fault::ForgottenCharge);
}

#[test]
fn a_channel_beyond_the_nodes_bound_is_noticed() {
    let crowd = |seed| {
        let mut setup = sim::setup::Setup::generous(2);
        setup.channels_max = 1;
        let mut world = sim::world::World::new(setup, sim::random::Random::new(seed));
        for namespace in ["", "asked"] {
            let wanted = vec![world.setup.channel_of(namespace)];
            let speech = sim::centrifugo::Centrifugo::new(wanted);
            world.add(sim::client::Speech::Centrifugo(speech));
        }
        world.pass(std::time::Duration::from_secs(5));
    };
    crowd(0);
    check_noticed(crowd, Fault::UnboundedChannels);
}

#[test]
fn idempotency_keys_beyond_the_nodes_bound_are_noticed() {
    check_noticed(play, Fault::UnboundedKeys);
}

#[test]
fn a_shard_that_stays_interested_is_noticed() {
    check_noticed(play, Fault::LeakedInterest);
}

#[test]
fn a_connection_that_its_subnet_counts_for_ever_is_noticed() {
    check_noticed(play, Fault::LeakedSubnet);
}

#[test]
fn an_upgrade_before_its_channels_are_subscribed_is_noticed() {
    check_noticed(sim::upgrade::play, Fault::EarlyUpgrade);
}

#[test]
fn a_socket_that_is_not_tried_again_is_noticed() {
    check_noticed(play, Fault::ForgottenRetry);
}
