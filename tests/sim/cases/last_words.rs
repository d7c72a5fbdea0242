//! Requests sent before the end of a client's stream are carried out, and answered if the client
//! still reads.

use std::time::Duration;

use super::{World, centrifugo, world};
use crate::sim::centrifugo::Page;
use crate::sim::truth::Publisher;
use corecast::limits::CLOSE_TIMEOUT;

const PUBLICATIONS: usize = 100;

/// Returns a client that has sent all its publications, none of which the server has read yet.
/// Their home is another shard, so each waits for its answer.
fn speaks() -> (World, usize) {
    let mut world = world(2);
    let channel = world.setup.channel_of("");
    let client = world.add_to(1, centrifugo(&[]));
    world.serve();
    world.truth.padding = Some(10);
    world.with_client(client, |client, scene| {
        client.habits.connects = false;
        let publisher = Publisher { client: client.number, connection: client.connections };
        for _ in 0..PUBLICATIONS {
            client.centrifugo().publish(scene, channel, publisher);
            client.flush(scene);
        }
        while !client.outgoing.is_empty() {
            client.act(scene);
        }
    });
    (world, client)
}

fn published(world: &World) -> u64 {
    world.node.runners[1].counters.publications_client.value()
}

#[test]
fn who_ends_its_stream_and_reads_on_gets_every_answer() {
    let (mut world, client) = speaks();
    world.with_client(client, |client, scene| {
        client.finished = true;
        scene.network.finish_client(client.link.expect("it is connected"));
    });
    world.wait_end(client);
    assert_eq!(published(&world), PUBLICATIONS as u64);
    assert_eq!(world.truth.acked_count(), PUBLICATIONS);
}

#[test]
fn all_that_was_sent_before_the_socket_was_closed_is_carried_out() {
    let (mut world, client) = speaks();
    world.with_client(client, |client, scene| client.end(scene));
    (0..600).for_each(|_| world.round(Duration::from_millis(5)));
    assert_eq!(published(&world), PUBLICATIONS as u64);
    assert_eq!(world.node.runners[1].shard.connections_count(), 0);
}

#[test]
fn who_has_ended_its_stream_is_not_waited_for_longer_than_a_close_may_take() {
    let (mut world, client) = speaks();
    world.with_client(client, |client, scene| client.end(scene));
    for _ in 0..80 {
        // The other shard, which answers, does not run.
        world.advance(Duration::from_millis(100));
        world.with_network(|network| network.deliver(1));
        (0..2).for_each(|_| world.node.run(1, &world.setup));
    }
    world.pass(Duration::from_secs(60));
    assert_eq!(world.node.runners[1].shard.connections_count(), 0);
}

#[test]
fn pages_that_nobody_would_read_are_not_made() {
    let mut world = world(2);
    let channel = world.setup.channel_of("");
    world.truth.padding = Some(7_000);
    world.publish_many(channel, 90);
    let client = world.add_to(1, centrifugo(&[]));
    world.serve();
    world.with_client(client, |client, scene| {
        client.habits.connects = false;
        let page = Page { limit: -1, since: None, reverse: false };
        (0..200).for_each(|_| client.centrifugo().history(scene, channel, page));
        client.flush(scene);
        while !client.outgoing.is_empty() {
            client.act(scene);
        }
        client.end(scene);
    });
    // A client that reads has to wait for so many pages longer than any linger.
    world.pass(CLOSE_TIMEOUT / 5);
    assert_eq!(world.node.runners[1].shard.connections_count(), 0);
}
