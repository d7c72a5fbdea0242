//! Limits of client input: its size, its rate, and the memory it holds in the shard.

use super::{centrifugo, world};
use crate::sim::wire;

#[test]
fn memory_for_input_is_taken_back_from_who_has_held_it_longest() {
    let mut world = world(1);
    world.setup.options.inbound_bytes_max = 11_000;
    let mut world = super::World::new(world.setup, super::Random::new(super::SEED));
    let clients = [(); 3].map(|()| world.add_to(0, centrifugo(&[])));
    world.serve();
    for client in clients {
        // A message of 8000 bytes, of which half is sent.
        world.send_raw(client, b"\x81\xfe\x1f\x40\0\0\0\0");
        world.send_raw(client, &[b' '; 4000]);
        world.until("half a message is there", |world| {
            world.clients[client].outgoing.is_empty() && world.is_silent()
        });
    }
    assert_eq!(world.last_end(clients[0]), Some(1013));
    assert!(world.clients[clients[2]].is_open(), "the last one has just begun");
}

#[test]
fn a_message_that_is_announced_too_long_is_refused_before_it_comes() {
    let mut world = world(1);
    let client = world.add(centrifugo(&[]));
    world.serve();
    world.send_raw(client, b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0");
    assert_eq!(world.wait_end(client), Some(1009));
}

#[test]
fn more_frames_than_allowed_wait_and_end_the_connection_only_after_a_while() {
    let mut world = world(1);
    world.setup.settings().client.frames_per_second_max = 50;
    let mut world = super::World::new(world.setup, super::Random::new(super::SEED));
    let client = world.add(centrifugo(&[]));
    world.serve();
    let frame = wire::write_frame(wire::PONG, true, b"", &mut super::Random::new(1));
    world.send_raw(client, &frame.repeat(120));
    world.pass(std::time::Duration::from_secs(3));
    assert!(world.clients[client].is_open(), "it was too fast for two seconds");
    world.send_raw(client, &frame.repeat(600));
    world.pass(std::time::Duration::from_secs(3));
    assert!(world.clients[client].is_open(), "it has time to slow down");
    assert_eq!(world.wait_end(client), Some(3013));
}

#[test]
fn more_pings_than_allowed_wait_and_end_the_connection_only_after_a_while() {
    let mut world = world(1);
    world.setup.settings().client.pings_per_second_max = 5;
    let mut world = super::World::new(world.setup, super::Random::new(super::SEED));
    let client = world.add(centrifugo(&[]));
    world.serve();
    let frame = wire::write_frame(wire::PING, true, b"x", &mut super::Random::new(1));
    world.send_raw(client, &frame.repeat(5));
    world.pass(std::time::Duration::from_secs(2));
    assert!(world.clients[client].is_open(), "as many as are allowed");
    world.send_raw(client, &frame.repeat(11));
    world.pass(std::time::Duration::from_secs(2));
    assert!(world.clients[client].is_open(), "the others came later");
    world.send_raw(client, &frame.repeat(60));
    assert_eq!(world.wait_end(client), Some(3013));
}

#[test]
fn more_fragments_than_allowed_end_the_connection_even_if_they_are_empty() {
    let mut world = world(1);
    let client = world.add(centrifugo(&[]));
    world.serve();
    let random = &mut super::Random::new(1);
    let mut frames = wire::write_frame(wire::TEXT, false, b"", random);
    let rest = wire::write_frame(0, false, b"", random);
    frames.extend(rest.repeat(world.setup.options.client().fragments_max as usize));
    world.send_raw(client, &frames);
    assert_eq!(world.wait_end(client), Some(1009));
}
