//! Limits of answers: of those that wait for a client, and of those that are produced per second.

use std::time::Duration;

use corecast::limits::{
    INBOX_BATCHES_MAX, RECOVERY_BYTES_MAX, REPLAY_BURST_BYTES, REPLAY_BYTES_PER_TICK,
    REPLAYS_BATCHES_MAX, SUBSCRIBING_REPLY_BYTES, TURN_REPLY_BYTES_MAX,
};

use super::{Random, SEED, Setup, World, centrifugo, plain};
use crate::sim::centrifugo::Page;
use crate::sim::wire;

/// Number of requests in one message.
const QUESTIONS: usize = 400;

const PAGE: Page = Page { limit: -1, since: None, reverse: false };

/// Maximum bytes of the answer to one request in `keeping`.
const PAGE_BYTES: usize = 100 * 2_100;

/// Returns a node with one channel that keeps about 200 KB, and a client that may request all of
/// it.
fn keeping() -> (World, usize, usize) {
    let mut world = World::new(Setup::generous(2), Random::new(SEED));
    let channel = world.setup.channel_of("");
    let client = world.add_to(0, centrifugo(&[]));
    world.truth.padding = Some(2_000);
    world.publish_many(channel, 100);
    world.serve();
    (world, channel, client)
}

fn ask_much(world: &mut World, client: usize, channel: usize) {
    world.with_client(client, |client, scene| {
        for _ in 0..QUESTIONS {
            client.centrifugo().history(scene, channel, PAGE);
        }
        let lines = std::mem::take(&mut client.centrifugo().lines);
        client.push_frame(scene, wire::TEXT, lines.join("\n").as_bytes());
    });
}

#[test]
fn one_message_of_many_questions_is_answered_as_fast_as_its_client_reads() {
    let (mut world, channel, client) = keeping();
    world.clients[client].habits.reads_max = 0;
    ask_much(&mut world, client, channel);
    world.pass(Duration::from_secs(1));
    let most = world.setup.options.client().outbox_bytes_max + PAGE_BYTES;
    let costs = world.node.runners[0].shard.outbox_costs();
    assert!(costs.len() == 1 && costs[0].is_blocked && costs[0].bytes < most, "{costs:?}");
    world.clients[client].habits.reads_max = usize::MAX;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[client].connections, 1, "no client is closed for it");
    world.clients[client].habits.reads_max = usize::MAX;
    // The answers have 80 MB, of which the client may get 1 MB per second.
    world.pass(Duration::from_secs(50));
    world.serve();
    assert!(!world.clients[client].centrifugo().is_waiting(), "everything is answered");
    assert_eq!(world.clients[client].connections, 1);
}

#[test]
fn a_client_that_reads_at_full_speed_is_given_so_much_of_histories_in_a_second_and_no_more() {
    let (mut world, channel, client) = keeping();
    ask_much(&mut world, client, channel);
    let before = world.node.runners[0].counters.delivered_bytes.value() as usize;
    world.pass(Duration::from_secs(10));
    let given = world.node.runners[0].counters.delivered_bytes.value() as usize - before;
    let earned = REPLAY_BURST_BYTES + 100 * REPLAY_BYTES_PER_TICK;
    assert!(given <= earned + RECOVERY_BYTES_MAX, "{given} B of {earned}");
    assert!(given > earned / 2, "it does get what it may have: {given} B of {earned}");
    assert_eq!(world.clients[client].connections, 1, "no client is closed for it");
}

#[test]
fn pings_of_a_client_that_does_not_read_are_answered_when_it_does() {
    let mut world = World::new(Setup::generous(1), Random::new(SEED));
    world.setup.settings().client.outbox_bytes_max = 10_000;
    let mut world = World::new(world.setup, Random::new(SEED));
    let client = world.add_to(0, centrifugo(&[]));
    world.clients[client].buffers = Some((200_000, 1_000));
    world.serve();
    world.clients[client].habits.reads_max = 0;
    world.with_client(client, |client, scene| {
        (0..900).for_each(|_| client.push_frame(scene, wire::PING, &[b'x'; 125]));
    });
    world.pass(Duration::from_millis(500));
    let costs = world.node.runners[0].shard.outbox_costs();
    assert!(costs.len() == 1 && costs[0].bytes < 11_000, "{costs:?}");
    world.clients[client].habits.reads_max = usize::MAX;
    world.serve();
    assert_eq!(world.clients[client].connections, 1);
}

#[test]
fn a_home_shard_hands_out_so_much_of_histories_in_a_turn_and_no_more() {
    let mut world = World::new(Setup::generous(1), Random::new(SEED));
    let channel = world.setup.channel_of("");
    let clients = [(); 20].map(|()| world.add_to(0, centrifugo(&[])));
    world.truth.padding = Some(2_000);
    world.publish_many(channel, 100);
    world.serve();
    for client in clients {
        world.with_client(client, |client, scene| {
            client.centrifugo().history(scene, channel, PAGE);
            client.flush(scene);
            client.act(scene);
        });
    }
    world.with_network(|network| network.deliver(0));
    let waiting = |world: &mut World| -> usize {
        world.node.runners[0].shard.outbox_costs().iter().map(|cost| cost.bytes).sum()
    };
    let mut most = 0;
    for _ in 0..40 {
        let before = waiting(&mut world);
        world.node.run(0, &world.setup);
        let after = waiting(&mut world);
        most = most.max(after.saturating_sub(before));
    }
    // Two pages of this turn, and two of the previous one that were still on their way.
    assert!(most > 200_000 && most < 1_000_000, "four pages in a turn, not 20: {most} B");
    world.serve();
    for client in clients {
        assert!(!world.clients[client].centrifugo().is_waiting(), "all have their answers");
    }
}

#[test]
fn who_asks_for_a_channel_that_keeps_nothing_does_not_wait_behind_others() {
    let mut world = World::new(Setup::generous(1), Random::new(SEED));
    let (channel, empty) = (world.setup.channel_of(""), world.setup.channel_of("asked"));
    let clients = [(); 20].map(|()| world.add_to(0, centrifugo(&[])));
    world.add_to(0, centrifugo(&[empty]));
    let client = world.add_to(0, centrifugo(&[]));
    world.truth.padding = Some(2_000);
    world.publish_many(channel, 100);
    world.serve();
    let ask = |world: &mut World, client: usize, channel: usize| {
        world.with_client(client, |client, scene| {
            client.centrifugo().history(scene, channel, PAGE);
            client.flush(scene);
            client.act(scene);
        });
    };
    clients.into_iter().for_each(|other| ask(&mut world, other, channel));
    ask(&mut world, client, empty);
    world.with_network(|network| network.deliver(0));
    (0..4).for_each(|_| world.node.run(0, &world.setup));
    world.with_network(|network| network.deliver(0));
    world.act(client);
    assert!(!world.clients[client].centrifugo().is_waiting());
    world.act(clients[19]);
    assert!(world.clients[clients[19]].centrifugo().is_waiting(), "the others take longer");
    world.serve();
}

#[test]
fn a_turn_asks_for_so_many_channels_and_no_more() {
    const CHANNELS: usize = 100;
    let mut setup = Setup::generous(1);
    setup.settings().client.channels_max = CHANNELS;
    let namespace = setup.channels[setup.channel_of("live")].namespace.clone();
    let first = setup.channels.len();
    (0..CHANNELS).for_each(|_| setup.add_channel(&namespace, 0));
    let mut world = World::new(setup, Random::new(SEED));
    let channels: Vec<usize> = (first..first + CHANNELS).collect();
    let clients = [(); 60].map(|()| world.add_to(0, plain(true, &channels)));
    clients.into_iter().for_each(|client| (0..5).for_each(|_| world.act(client)));
    let subscriptions =
        |world: &World| world.node.runners[0].counters.subscriptions.value() as usize;
    let mut most = 0;
    for _ in 0..20 {
        let before = subscriptions(&world);
        world.with_network(|network| network.deliver(0));
        world.node.run(0, &world.setup);
        most = most.max(subscriptions(&world) - before);
    }
    let turn = TURN_REPLY_BYTES_MAX / SUBSCRIBING_REPLY_BYTES;
    assert!((turn / 2..turn + CHANNELS).contains(&most), "{most} in a turn");
    world.serve();
}

#[test]
fn a_home_shard_hands_nothing_out_to_a_shard_that_is_far_behind() {
    const CLIENTS: usize = REPLAYS_BATCHES_MAX + 100;
    let mut setup = Setup::generous(2);
    setup.inbox_batches = INBOX_BATCHES_MAX;
    setup.options.connections_max = CLIENTS;
    let mut world = World::new(setup, Random::new(SEED));
    let channel = world.setup.channel_of("");
    let clients: Vec<_> = (0..CLIENTS).map(|_| world.add_to(1, centrifugo(&[]))).collect();
    let near = world.add_to(0, centrifugo(&[]));
    world.truth.padding = Some(3_000);
    world.publish_many(channel, 100);
    world.serve();
    let ask = |world: &mut World, client: usize| {
        world.with_client(client, |client, scene| {
            client.centrifugo().history(scene, channel, PAGE);
            client.flush(scene);
            client.act(scene);
        });
    };
    clients.iter().for_each(|client| ask(&mut world, *client));
    // The second shard requests all of them, and then does not run.
    world.with_network(|network| network.deliver(1));
    (0..3).for_each(|_| world.node.run(1, &world.setup));
    let batches = |world: &World| world.node.runners[1].shard.inbox().len();
    (0..2 * CLIENTS).for_each(|_| world.node.run(0, &world.setup));
    assert_eq!(batches(&world), REPLAYS_BATCHES_MAX);
    assert!(world.node.is_asleep(0), "it does not try again and again");
    ask(&mut world, near);
    for _ in 0..200 {
        world.with_network(|network| network.deliver(0));
        world.node.run(0, &world.setup);
        world.act(near);
    }
    assert!(!world.clients[near].centrifugo().is_waiting(), "clients of others do not wait");
    assert_eq!(batches(&world), REPLAYS_BATCHES_MAX);
    world.serve();
    for client in clients {
        assert!(!world.clients[client].centrifugo().is_waiting(), "all have their answers");
    }
}
