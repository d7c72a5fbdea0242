//! Random behaviour of simulated clients: requests, protocol errors, and disconnects.

use super::centrifugo::{Ask, Centrifugo, Page, Wishes};
use super::client::{Client, Speech};
use super::scene::Scene;
use super::truth::{Place, Publisher};
use super::wire;

/// Number of requests that a greedy client sends at once. They fit into one message.
const GREEDY: usize = 40;

/// Sends requests for the client's channels, and sometimes others.
pub fn talk(client: &mut Client, scene: &mut Scene<'_>) {
    let publisher = Publisher { client: client.number, connection: client.connections };
    let talks = scene.chance(client.habits.talks);
    match &mut client.speech {
        Speech::Centrifugo(centrifugo) => {
            if centrifugo.client.is_none() {
                if centrifugo.is_waiting() || client.habits.talks > 0 && scene.chance(50) {
                    return;
                }
                centrifugo.connect(scene);
                if scene.chance(50) {
                    return; // Or sends everything in one frame, as SDKs do.
                }
            }
            keep_subscribed(centrifugo, scene);
            if talks {
                ask_something(centrifugo, scene, publisher);
            }
        }
        Speech::Plain(plain) => {
            let Some(channel) = plain.publish.filter(|_| talks) else { return };
            let attempt = scene.invoke(channel, publisher);
            let data = scene.truth.attempt(attempt).data.clone();
            let opcode = if std::str::from_utf8(&data).is_ok() { wire::TEXT } else { wire::BINARY };
            client.push_message(scene, opcode, &data);
        }
    }
}

fn keep_subscribed(centrifugo: &mut Centrifugo, scene: &mut Scene<'_>) {
    for channel in centrifugo.wanted.clone() {
        if centrifugo.subscribed.contains_key(&channel) || centrifugo.is_subscribing(channel) {
            continue;
        }
        let since = centrifugo.memory.get(&channel).copied();
        let since = since.filter(|_| scene.chance(90));
        let random = &mut scene.network.random;
        let wishes = Wishes {
            positioned: random.chance(50),
            recoverable: random.chance(50),
            strict: random.chance(10),
        };
        centrifugo.subscribe(scene, (channel, since), wishes);
    }
}

fn ask_something(centrifugo: &mut Centrifugo, scene: &mut Scene<'_>, publisher: Publisher) {
    let channel = scene.network.random.below(scene.setup.channels.len());
    match scene.network.random.below(100) {
        0..50 => centrifugo.publish(scene, channel, publisher),
        50..60 => {
            centrifugo.unsubscribe(scene, channel);
            if scene.chance(50) {
                centrifugo.wanted.retain(|&other| other != channel);
            }
        }
        60..70
            if !centrifugo.wanted.contains(&channel)
                && scene.setup.channels[channel].namespace.allow_subscribe_for_anonymous
                && centrifugo.wanted.len() < scene.setup.options.client().channels_max =>
        {
            centrifugo.wanted.push(channel);
        }
        70..76 => centrifugo.subscribe(scene, (channel, None), Wishes::default()),
        76..90 => {
            let page = page(centrifugo.memory.get(&channel).copied(), scene);
            centrifugo.history(scene, channel, page);
        }
        90..93 => centrifugo.ask(r#""presence":{"channel":"x"}"#, Ask::Refused { code: 108 }),
        93..96 => centrifugo.ask(r#""rpc":{"method":"x"}"#, Ask::Refused { code: 108 }),
        96..98 => {
            let body = r#""subscribe":{"channel":"no:such"}"#;
            centrifugo.ask(body, Ask::Refused { code: 102 });
        }
        98..99 => {
            for _ in 0..GREEDY {
                centrifugo.history(scene, channel, Page { limit: -1, since: None, reverse: false });
            }
        }
        _ => {}
    }
}

fn page(memory: Option<Place>, scene: &mut Scene<'_>) -> Page {
    let random = &mut scene.network.random;
    Page {
        limit: random.pick(&[-1, 0, 1, 3, 100]),
        since: memory.filter(|_| random.chance(60)),
        reverse: random.chance(30),
    }
}

/// Breaks the protocol or disconnects, with the probabilities of the client's habits.
pub fn misbehave(client: &mut Client, scene: &mut Scene<'_>) {
    let (rude, leaves) = (client.habits.rude, client.habits.leaves);
    if client.is_open() && !client.finished && scene.network.random.rarely(rude) {
        be_rude(client, scene);
    }
    if scene.network.random.rarely(leaves) {
        leave(client, scene);
    }
}

fn be_rude(client: &mut Client, scene: &mut Scene<'_>) {
    client.tainted = true;
    let speaks_json = matches!(client.speech, Speech::Centrifugo(_));
    let is_mute = matches!(&client.speech, Speech::Plain(plain) if plain.publish.is_none());
    match scene.network.random.below(10) {
        0 => {
            // A reserved bit: RFC 6455 §5.2. The bytes after it are noise.
            let noise = (0..scene.network.random.below(50)).map(|at| (at * 37) as u8);
            client.outgoing.push_back(0xF1);
            client.outgoing.extend(noise);
        }
        1 => client.outgoing.extend(b"\x81\x05hello"), // Not masked.
        2 => client.outgoing.extend(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
        3 => {
            for _ in 0..=scene.setup.options.client().fragments_max {
                let fragment = wire::write_frame(0, false, b"", &mut scene.network.random);
                client.outgoing.extend(fragment);
            }
        }
        4 if speaks_json => client.push_frame(scene, wire::TEXT, b"{\"id\":1,"),
        5 if speaks_json => client.push_frame(scene, wire::TEXT, b"{}\n{}\n{}"),
        6 if speaks_json => client.push_frame(scene, wire::TEXT, b"{\"id\":9,\"connect\":{}}"),
        // Half of a message, which is never completed.
        7 => {
            client.outgoing.extend(b"\x81\xfe\x0f\x00\0\0\0\0");
            let sent = scene.network.random.between(1, 3_000);
            client.outgoing.extend(std::iter::repeat_n(b' ', sent));
        }
        8 if speaks_json => client.push_frame(scene, wire::TEXT, b"{\"send\":{\"data\":1}}"),
        5 | 6 | 8 if is_mute => client.push_frame(scene, wire::TEXT, b"hello"),
        _ => client.push_frame(scene, wire::TEXT, b"\xff\xfe"),
    }
}

/// Number of ways to leave: a close frame, a closed socket, an ended stream, a reset, or silence.
pub const WAYS_TO_LEAVE: usize = 5;

/// Leaves in a random way.
pub fn leave(client: &mut Client, scene: &mut Scene<'_>) {
    if client.link.is_some() {
        let way = scene.network.random.below(WAYS_TO_LEAVE);
        leave_in(client, scene, way);
    }
}

/// Leaves in one of the [`WAYS_TO_LEAVE`].
pub fn leave_in(client: &mut Client, scene: &mut Scene<'_>, way: usize) {
    let Some(link) = client.link else { return };
    match way {
        0 if client.is_open() => {
            if !client.leaving && !client.finished {
                client.leaving = true;
                client.push_frame(scene, wire::CLOSE, &1000u16.to_be_bytes());
            }
        }
        1 => client.end(scene),
        2 => {
            client.finished = true;
            scene.network.finish_client(link);
        }
        3 => client.reset(scene),
        _ => client.abandon(scene),
    }
}
