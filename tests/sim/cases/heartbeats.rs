//! Live clients stay connected, and dead ones are detected in time.

use std::time::Duration;

use super::{World, centrifugo, plain, world};
use crate::sim::truth::Publisher;

/// Maximum time to detect a dead peer. A round over all deadlines takes one second.
fn patience(world: &World) -> Duration {
    let options = &world.setup.options;
    options.client().ping_interval + options.client().pong_timeout + Duration::from_secs(1)
}

#[test]
fn a_client_that_answers_no_ping_is_closed_with_3012_in_time() {
    let mut world = world(2);
    let channel = world.setup.channel_of("live");
    let clients = [
        world.add(centrifugo(&[channel])),
        world.add(plain(false, &[channel])),
        world.add(plain(true, &[channel])),
    ];
    world.serve();
    for client in clients {
        world.clients[client].habits.pongs = false;
        world.clients[client].habits.connects = false;
    }
    world.pass(patience(&world));
    for client in clients {
        assert_eq!(world.last_end(client), Some(3012));
    }
}

#[test]
fn a_peer_that_vanished_is_gone_in_time_with_all_it_had() {
    let mut world = world(2);
    let channel = world.setup.channel_of("");
    let client = world.add_to(0, centrifugo(&[channel]));
    world.serve();
    world.clients[client].habits.connects = false;
    world.with_client(client, |client, scene| client.abandon(scene));
    world.pass(patience(&world) + Duration::from_secs(2));
    assert_eq!(world.node.runners[0].shard.connections_count(), 0);
    assert_eq!(world.node.network.borrow().open_count(0), 0);
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let mut world = world(1);
    let channel = world.setup.channel_of("live");
    let client = world.add(centrifugo(&[channel]));
    world.serve();
    world.clients[client].habits.pongs = false;
    for _ in 0..20 {
        publish(&mut world, client, channel);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.clients[client].connections, 1);
}

#[test]
fn a_client_may_answer_late_to_several_pings_at_once() {
    let mut world = world(1);
    let channel = world.setup.channel_of("live");
    let client = world.add(centrifugo(&[channel]));
    world.serve();
    world.clients[client].habits.pongs = false;
    for _ in 0..20 {
        publish(&mut world, client, channel);
        world.pass(Duration::from_secs(1));
    }
    assert!(world.clients[client].centrifugo().pings > 2, "several pings have come");
    world.clients[client].habits.pongs = true;
    world.pass(Duration::from_secs(20));
    assert_eq!(world.clients[client].connections, 1);
    assert_eq!(world.last_end(client), None);
}

fn publish(world: &mut World, client: usize, channel: usize) {
    world.with_client(client, |client, scene| {
        let publisher = Publisher { client: client.number, connection: client.connections };
        client.centrifugo().publish(scene, channel, publisher);
        client.flush(scene);
    });
}

#[test]
fn a_pong_that_answers_nothing_is_a_bad_request() {
    let mut world = world(1);
    let client = world.add(centrifugo(&[]));
    world.serve();
    let frame = crate::sim::wire::write_frame(1, true, b"{}", &mut super::Random::new(1));
    world.send_raw(client, &frame);
    assert_eq!(world.wait_end(client), Some(3501));
}

#[test]
fn a_client_that_never_connects_is_closed_with_3502() {
    let mut world = world(1);
    let client = world.add(centrifugo(&[]));
    world.until("the connection is open", |world| world.clients[client].is_open());
    world.clients[client].centrifugo().lines.clear();
    world.clients[client].outgoing.clear();
    world.clients[client].tainted = true;
    world.pass(world.setup.options.client().stale_timeout - Duration::from_secs(1));
    assert!(world.clients[client].is_open(), "it still has time");
    assert_eq!(world.wait_end(client), Some(3502));
}

#[test]
fn half_a_request_is_answered_408_when_its_time_is_over() {
    let mut world = world(1);
    let client = world.add(centrifugo(&[]));
    world.with_client(client, |client, scene| client.act(scene));
    world.clients[client].outgoing.clear();
    assert_eq!(world.wait_end(client), Some(408));
}

#[test]
fn who_is_not_read_is_not_dead_but_learns_in_time_that_the_server_has_failed() {
    let mut world = world(2);
    let channel = world.setup.channel_of("");
    let client = world.add_to(1, centrifugo(&[]));
    world.serve();
    world.clients[client].habits.connects = false;
    publish(&mut world, client, channel);
    // The shard that would answer does not run. The client answers every ping.
    let alone = |world: &mut World, time: Duration| {
        for _ in 0..time.as_millis() / 100 {
            world.advance(Duration::from_millis(100));
            world.act(client);
            world.with_network(|network| network.deliver(1));
            (0..2).for_each(|_| world.node.run(1, &world.setup));
        }
    };
    alone(&mut world, Duration::from_secs(50));
    assert!(world.clients[client].is_open(), "{:?}", world.last_end(client));
    world.clients[client].tainted = true; // Tainted, so that any close code is accepted.
    alone(&mut world, Duration::from_secs(30));
    assert_eq!(world.last_end(client), Some(3004));
}
