//! Requests of one client are carried out and answered in order.

use super::{centrifugo, plain, world};
use crate::sim::truth::Publisher;

#[test]
fn what_follows_an_outstanding_request_waits_for_its_answer() {
    let mut world = world(2);
    let channel = world.setup.channel_of("");
    let client = world.add_to(1, centrifugo(&[]));
    world.serve();
    // The home of the channel does not run, so no request after the first one may be answered.
    world.with_client(client, |client, scene| {
        let publisher = Publisher { client: 0, connection: 1 };
        let name = scene.setup.channels[channel].name.clone();
        let centrifugo = client.centrifugo();
        centrifugo.subscribe(scene, (channel, None), Default::default());
        centrifugo.publish(scene, channel, publisher);
        centrifugo.publish(scene, channel, publisher);
        let (limit, since, reverse) = (-1, None, false);
        let page = crate::sim::centrifugo::Page { limit, since, reverse };
        centrifugo.history(scene, channel, page);
        centrifugo.unsubscribe(scene, channel);
        let body = format!(r#""presence":{{"channel":"{name}"}}"#);
        centrifugo.ask(&body, crate::sim::centrifugo::Ask::Refused { code: 108 });
        client.flush(scene);
    });
    for _ in 0..50 {
        world.act(client);
        world.with_network(|network| network.deliver(1));
        world.node.run(1, &world.setup);
    }
    assert_eq!(world.clients[client].centrifugo().asked().len(), 6, "nothing is answered yet");
    // The checker verifies the order of the answers.
    world.serve();
    let centrifugo = world.clients[client].centrifugo();
    assert_eq!(centrifugo.told, [108]);
    assert_eq!(centrifugo.memory[&channel].offset, 2, "its own publications came in between");
    assert!(centrifugo.subscribed.is_empty());
}

#[test]
fn a_publication_whose_home_is_here_is_answered_and_delivered_in_one_turn() {
    let mut world = world(1);
    let channel = world.setup.channel_of("live");
    let publishing = world.add(centrifugo(&[channel]));
    let reading = world.add(plain(false, &[channel]));
    // The whole publication arrives at once.
    world.clients[publishing].buffers = Some((20_000, 50_000));
    world.serve();
    let publisher = Publisher { client: publishing, connection: 1 };
    world.with_client(publishing, |client, scene| {
        client.centrifugo().publish(scene, channel, publisher);
        client.flush(scene);
    });
    world.act(publishing);
    world.with_network(|network| network.deliver(0));
    let before = world.node.runners[0].counters.deliveries.value();
    world.node.run(0, &world.setup);
    let after = world.node.runners[0].counters.deliveries.value();
    assert_eq!(after - before, 2, "both subscribers were sent it in that turn");
    (0..2).for_each(|client| world.act(client));
    assert!(world.clients[publishing].centrifugo().asked().is_empty(), "it is answered");
    assert!(world.clients[reading].plain().follows[&channel].last_of(publisher).is_some());
}

#[test]
fn what_a_client_was_acknowledged_reaches_it_before_the_end_of_its_subscription() {
    // With one shard the home is on the client's shard. With two, it may be on the other one.
    for shards in [1, 2, 2, 2] {
        let mut world = world(shards);
        let channel = world.setup.channel_of("live");
        let client = world.add(centrifugo(&[]));
        world.clients[client].buffers = Some((20_000, 50_000));
        world.serve();
        let publisher = Publisher { client, connection: 1 };
        world.with_client(client, |client, scene| {
            let centrifugo = client.centrifugo();
            for _ in 0..10 {
                centrifugo.subscribe(scene, (channel, None), Default::default());
                centrifugo.publish(scene, channel, publisher);
                centrifugo.unsubscribe(scene, channel);
            }
            client.flush(scene);
        });
        world.serve();
        let sent = world.node.runners.iter().map(|one| one.counters.deliveries.value());
        assert_eq!(sent.sum::<u64>(), 10, "each of its publications");
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let mut world = world(2);
    let channel = world.setup.channel_of("live");
    let client = world.add_to(1, centrifugo(&[]));
    world.serve();
    world.with_client(client, |client, scene| {
        client.centrifugo().subscribe(scene, (channel, None), Default::default());
        client.flush(scene);
        client.act(scene);
    });
    for _ in 0..5 {
        world.with_network(|network| network.deliver(1));
        world.node.run(1, &world.setup);
    }
    world.clients[client].habits.connects = false;
    world.with_client(client, |client, scene| client.reset(scene));
    world.until("everything has been said", |world| world.is_silent());
    world.truth.draining = true;
    world.check_remains();
}
