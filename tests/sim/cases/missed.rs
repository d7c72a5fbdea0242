//! Subscribers of the envelope that miss publications in mid-stream receive them later, or are told
//! of the gap.

use std::time::Duration;

use corecast::channel::ChannelName;
use corecast::ids::ShardId;
use corecast::limits::SWEEP_LOOKS_MAX;
use corecast::mesh::{ControlRequest, ShardMail, Target, ToHome};

use super::{Random, Setup, plain};
use crate::sim::control::Asked;
use crate::sim::missed::{begin, publish_unheard};
use crate::sim::world::World;

/// The second shard notices the gap and requests the missing publications. The first shard does not
/// answer yet.
fn ask(world: &mut World) {
    for _ in 0..3 {
        world.with_network(|network| network.deliver(1));
        world.node.run(1, &world.setup);
    }
}

/// The server ends all subscriptions to a channel on the second shard. The client does not return.
fn unsubscribe(world: &mut World, client: usize, channel: usize) {
    world.clients[client].habits.connects = false;
    world.truth.unsubscribed.push(Some(channel));
    let name = ChannelName::new(&world.setup.channels[channel].name);
    let target = Target { user: "".into(), connection: None };
    let request = ControlRequest::Unsubscribe { target, channel: Some(name) };
    world.with(|_, _, control| {
        control
            .send(ShardId::new(1), Asked::Affected, |ticket| ShardMail::Control { ticket, request })
    });
}

fn end(mut world: World) {
    world.settle();
    world.leave();
    world.check_remains();
}

#[test]
fn what_was_dropped_on_the_way_is_handed_to_subscribers_of_the_envelope() {
    (0..50).for_each(crate::sim::missed::play);
}

#[test]
fn what_the_history_has_not_is_told_as_it_is_and_the_subscription_goes_on() {
    let (mut world, client, channel) = begin(super::SEED);
    world.publish_many(channel, 3);
    world.pass(Duration::from_millis(200));
    assert!(publish_unheard(&mut world, channel, 20) > 0);
    world.with(|scene, _, control| {
        scene.truth.removed.insert(channel);
        control.send_home(scene, (channel, Asked::Removed), |channel, ticket| {
            ToHome::HistoryRemove { channel, ticket: Some(ticket) }
        })
    });
    world.node.run(0, &world.setup);
    ask(&mut world);
    world.pass(Duration::from_millis(500));
    assert_eq!(world.notices, 1);
    let reached = world.clients[client].plain().follows[&channel].reached();
    assert_eq!(reached, Some(23), "the notice says how much is missing");
    assert_eq!(world.node.runners[1].counters.recoveries_failed.value(), 1);
    end(world);
}

#[test]
fn a_client_that_ends_while_it_is_asked_for_it_is_gone_for_good() {
    for seed in 0..4 {
        let (mut world, client, channel) = begin(seed);
        assert!(publish_unheard(&mut world, channel, 20) > 0);
        ask(&mut world);
        if seed.is_multiple_of(2) {
            world.clients[client].habits.connects = false;
            world.with_client(client, |client, scene| client.reset(scene));
        } else {
            // The envelope has no message for that, so the connection is closed.
            unsubscribe(&mut world, client, channel);
        }
        ask(&mut world);
        world.until("it is gone", |world| world.clients[client].link.is_none());
        let counters = &world.node.runners[1].counters;
        assert_eq!(counters.subscriptions.value(), 0, "it is not subscribed again");
        world.pass(Duration::from_secs(1));
        assert_eq!(world.node.runners[1].counters.channels_local.value(), 0);
        assert_eq!(world.node.runners[1].shard.audit(), 0);
    }
}

#[test]
fn a_connection_that_is_closed_at_a_gap_is_sent_nothing_newer() {
    let mut setup = Setup::generous(2);
    (setup.inbox_batches, setup.spill_bytes) = (4, 1);
    let mut world = World::new(setup, Random::new(super::SEED));
    let channel = world.setup.channel_of("");
    let client = world.add_to(1, plain(true, &[channel]));
    world.serve();
    assert!(publish_unheard(&mut world, channel, 20) > 0);
    ask(&mut world);
    // The notice, a newer publication and the end of the subscription come in one turn.
    world.advance(Duration::from_millis(100));
    world.node.run(0, &world.setup);
    publish_unheard(&mut world, channel, 1);
    unsubscribe(&mut world, client, channel);
    ask(&mut world);
    world.until("it is gone", |world| world.clients[client].link.is_none());
    // The checker knows that nothing may be missing before what the client has received.
    end(world);
}

#[test]
fn a_turn_tells_so_many_of_a_gap_and_no_more() {
    const SUBSCRIBERS: usize = 2 * SWEEP_LOOKS_MAX + 100;
    let mut setup = Setup::generous(2);
    (setup.inbox_batches, setup.spill_bytes) = (1, 1);
    setup.options.connections_max = SUBSCRIBERS;
    let mut world = World::new(setup, Random::new(super::SEED));
    let channel = world.setup.channel_of("");
    for _ in 0..SUBSCRIBERS {
        world.add_to(1, plain(false, &[channel]));
    }
    world.serve();
    assert!(publish_unheard(&mut world, channel, 20) > 0);
    let subscriptions =
        |world: &World| world.node.runners[1].counters.subscriptions.value() as usize;
    let (mut most, mut turns) = (0, 0);
    while subscriptions(&world) > 0 {
        // The first shard has room for the notice now, and sends it in its next tick.
        world.advance(Duration::from_millis(100));
        world.node.run(0, &world.setup);
        let before = subscriptions(&world);
        world.with_network(|network| network.deliver(1));
        world.node.run(1, &world.setup);
        most = most.max(before - subscriptions(&world));
        turns += 1;
        assert!(turns < 100, "{} are not told", subscriptions(&world));
    }
    assert!(most <= SWEEP_LOOKS_MAX, "{most} were told in one turn");
    world.serve();
    end(world);
}
