//! A node that stops closes its connections one after another, and accepts no new ones.

use std::time::Duration;

use corecast::limits::CLOSE_TIMEOUT;

use super::{centrifugo, world};

const CLIENTS: usize = 40;
const OVER: Duration = Duration::from_secs(4);

#[test]
fn closes_are_spread_over_the_time_of_the_drain() {
    let mut world = world(2);
    let channel = world.setup.channel_of("");
    for number in 0..CLIENTS {
        world.add_to(number % 2, centrifugo(&[channel]));
    }
    world.serve();
    for client in &mut world.clients {
        client.habits.connects = false;
    }
    let began = world.with_network(|network| network.now());
    world.with(|scene, _, control| assert!(control.drain(scene, OVER)));
    while world.control.drained < 2 {
        world.round(Duration::from_millis(50));
        let passed = world.with_network(|network| network.now()).since(began);
        assert!(passed < OVER + CLOSE_TIMEOUT + Duration::from_secs(1), "the drain ends in time");
        let closed = world.clients.iter().filter(|client| client.link.is_none()).count();
        let share = passed.as_secs_f64() / OVER.as_secs_f64();
        // Each shard rounds up.
        let due = (CLIENTS as f64 * share).ceil() as usize + 2;
        assert!(closed <= due, "{closed} closed after {passed:?}");
    }
    for client in &world.clients {
        assert_eq!(client.ends, [3001]);
    }
    assert!(world.node.runners.iter().all(|runner| runner.shard.is_draining()));
}

/// Returns the seconds after which the server gives up two clients that don't answer its close
/// frame. The drain takes `seconds`, and ends one second after the last close.
fn given_up(seconds: u64) -> [f64; 2] {
    let mut world = world(1);
    let clients = [(); 2].map(|()| world.add_to(0, centrifugo(&[])));
    world.serve();
    for client in clients {
        world.clients[client].habits.connects = false;
        world.clients[client].habits.reads_max = 0;
    }
    let over = Duration::from_secs(seconds);
    let began = world.with_network(|network| network.now());
    world.with(|scene, _, control| {
        assert!(control.drain_until(scene, over, over + Duration::from_secs(1)));
    });
    let mut ends = Vec::new();
    while ends.len() < 2 {
        world.round(Duration::from_millis(50));
        let passed = world.with_network(|network| network.now()).since(began).as_secs_f64();
        assert!(passed < 60.0, "the drain ends");
        let left = world.node.runners[0].shard.connections_count();
        ends.resize(ends.len().max(2 - left), passed);
    }
    [ends[0], ends[1]]
}

#[test]
fn a_client_that_is_gone_without_a_word_is_waited_for_as_long_as_the_drain_leaves_time() {
    let long = given_up(10);
    // The first one is closed at once, the second one after half of the time.
    assert!((4.9..5.5).contains(&long[0]), "{long:?}");
    assert!((9.9..11.3).contains(&long[1]), "{long:?}");
    let short = given_up(2);
    assert!((2.8..3.3).contains(&short[0]), "{short:?}");
    assert!((2.8..3.3).contains(&short[1]), "{short:?}");
}

#[test]
fn a_request_that_comes_while_the_node_drains_is_refused() {
    let mut world = world(1);
    let early = world.add_to(0, centrifugo(&[]));
    let late = world.add_to(0, centrifugo(&[]));
    world.clients[late].habits.connects = false;
    world.until("the first is served", |world| world.clients[early].is_open());
    // The second client has been accepted, but has not sent all of its request.
    world.with_client(late, |client, scene| {
        client.habits.connects = true;
        client.act(scene);
        client.habits.connects = false;
    });
    let head: Vec<u8> = world.clients[late].outgoing.drain(..).collect();
    world.round(Duration::from_millis(1));
    world.with(|scene, _, control| assert!(control.drain(scene, OVER)));
    world.round(Duration::from_millis(1));
    world.round(Duration::from_millis(1));
    world.clients[late].outgoing.extend(head);
    assert_eq!(world.wait_end(late), Some(503));
    assert_eq!(world.wait_end(early), Some(3001));
}

#[test]
fn a_node_without_clients_drains_at_once() {
    let mut world = world(2);
    world.with(|scene, _, control| assert!(control.drain(scene, OVER)));
    world.until("the drain is over", |world| world.control.drained == 2);
}
