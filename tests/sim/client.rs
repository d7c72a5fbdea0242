//! One simulated client, which connects, returns, and sometimes misbehaves.

use std::collections::VecDeque;

use super::centrifugo::Centrifugo;
use super::network::{LinkId, Taken};
use super::plain::Plain;
use super::scene::{Scene, trace};
use super::wire::{self, Incoming, Item};

/// The protocol of a client.
pub enum Speech {
    Centrifugo(Centrifugo),
    Plain(Plain),
}

/// The behaviour of a client.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Maximum number of bytes read at once; with 0 it never reads.
    pub reads_max: usize,
    /// Probability of reading when it acts, in percent.
    pub reads: usize,
    /// Whether it answers pings.
    pub pongs: bool,
    /// Probability of sending a request when it acts, in percent.
    pub talks: usize,
    /// Probability of breaking the protocol when it acts, in permille.
    pub rude: usize,
    /// Probability of ending the connection when it acts, in permille.
    pub leaves: usize,
    /// Whether it connects when it is not connected.
    pub connects: bool,
}

impl Habits {
    pub fn healthy() -> Habits {
        Habits {
            reads_max: usize::MAX,
            reads: 100,
            pongs: true,
            talks: 0,
            rude: 0,
            leaves: 0,
            connects: true,
        }
    }
}

/// Targets that are refused, either at once or right after the upgrade.
const BAD_TARGETS: [&str; 5] = [
    "/connection/websocket?cf_protocol=protobuf",
    "/nowhere",
    "/ws",
    "/ws?channels=no:such",
    "/ws?channels=closed:one",
];

/// The state of the present connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Head,
    Open,
    /// A close frame has been received, and the end of the stream is awaited.
    Closed,
}

pub struct Client {
    pub number: usize,
    pub speech: Speech,
    pub habits: Habits,
    /// The shard to connect to, if it matters.
    pub shard: Option<usize>,
    pub link: Option<LinkId>,
    /// Sizes of the socket's buffers up and down; random if absent.
    pub buffers: Option<(usize, usize)>,
    /// Number of connections so far.
    pub connections: usize,
    pub stage: Stage,
    pub outgoing: VecDeque<u8>,
    incoming: Incoming,
    /// The client has broken the protocol, so the server promises it nothing any more.
    pub tainted: bool,
    /// The client has ended its stream.
    pub finished: bool,
    /// The client has sent a close frame.
    pub leaving: bool,
    pings_sent: usize,
    /// Close codes and HTTP statuses, in the order of their arrival.
    pub ends: Vec<u16>,
    /// Texts of close frames.
    pub texts: Vec<String>,
    /// Connections that the client left without closing them.
    pub abandoned: Vec<LinkId>,
}

impl Client {
    pub fn new(number: usize, speech: Speech) -> Client {
        Client {
            number,
            speech,
            habits: Habits::healthy(),
            shard: None,
            link: None,
            buffers: None,
            connections: 0,
            stage: Stage::Head,
            outgoing: VecDeque::new(),
            incoming: Incoming::default(),
            tainted: false,
            finished: false,
            leaving: false,
            pings_sent: 0,
            ends: Vec::new(),
            texts: Vec::new(),
            abandoned: Vec::new(),
        }
    }

    /// Returns the state of a Centrifugo client.
    pub fn centrifugo(&mut self) -> &mut Centrifugo {
        match &mut self.speech {
            Speech::Centrifugo(centrifugo) => centrifugo,
            Speech::Plain(_) => panic!("client {} speaks plain WebSocket", self.number),
        }
    }

    /// Returns the state of a plain client.
    pub fn plain(&mut self) -> &mut Plain {
        match &mut self.speech {
            Speech::Plain(plain) => plain,
            Speech::Centrifugo(_) => panic!("client {} speaks Centrifugo's protocol", self.number),
        }
    }

    pub fn is_open(&self) -> bool {
        self.link.is_some() && self.stage == Stage::Open
    }

    /// Lets the client act once.
    pub fn act(&mut self, scene: &mut Scene<'_>) {
        if self.link.is_none() && self.habits.connects {
            self.connect(scene);
        }
        self.send(scene);
        if self.habits.reads_max > 0 && scene.chance(self.habits.reads) {
            self.receive(scene);
        }
        if self.is_open() && !self.finished && !self.leaving && !self.tainted {
            super::client_behaviour::talk(self, scene);
            self.flush(scene);
        }
        if self.link.is_some() {
            super::client_behaviour::misbehave(self, scene);
        }
        self.send(scene);
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        let random = &mut scene.network.random;
        let shard = self.shard.unwrap_or_else(|| random.below(scene.setup.shards));
        let some = (random.pick(&[80, 500, 20_000]), random.pick(&[100, 1_000, 5_000, 50_000]));
        let link = scene.network.connect(shard, self.buffers.unwrap_or(some));
        let bad = self.habits.rude > 0 && scene.chance(20);
        let target = match &mut self.speech {
            _ if bad => scene.network.random.pick(&BAD_TARGETS).to_owned(),
            Speech::Centrifugo(_) => match scene.chance(20) {
                true => "/connection/websocket?cf_ws_frame_ping_pong=true".to_owned(),
                false => "/connection/websocket".to_owned(),
            },
            Speech::Plain(plain) => plain.target(scene),
        };
        trace(|| format!("client {} opens {link:?} to shard {shard}: {target}", self.number));
        self.link = Some(link);
        self.connections += 1;
        self.stage = Stage::Head;
        self.incoming = Incoming::default();
        self.outgoing = wire::request_head(&target).into();
        (self.tainted, self.finished, self.leaving) = (bad, false, false);
        self.pings_sent = 0;
    }

    /// Sends part of the output to the network, cut at any point.
    fn send(&mut self, scene: &mut Scene<'_>) {
        let Some(link) = self.link.filter(|_| !self.finished) else { return };
        while !self.outgoing.is_empty() {
            let length = self.outgoing.len();
            let cut = scene.network.random.chance(40);
            let piece = if cut { scene.network.random.between(1, length) } else { length };
            let (bytes, _) = self.outgoing.make_contiguous().split_at(piece);
            let count = scene.network.give(link, bytes);
            self.outgoing.drain(..count);
            if count < piece || cut {
                return;
            }
        }
    }

    fn receive(&mut self, scene: &mut Scene<'_>) {
        let mut room = self.habits.reads_max;
        while let Some(link) = self.link.filter(|_| room > 0) {
            match scene.network.take(link, room.min(16 * 1024)) {
                Taken::Bytes(bytes) => {
                    room -= bytes.len();
                    self.incoming.push(&bytes);
                    while let Some(item) = self.next_item() {
                        self.on_item(scene, item);
                    }
                }
                Taken::Nothing => return,
                Taken::End => return self.on_end(scene),
                Taken::Reset => return self.end(scene),
            }
        }
    }

    fn next_item(&mut self) -> Option<Item> {
        self.link.and_then(|_| self.incoming.next_item())
    }

    fn on_item(&mut self, scene: &mut Scene<'_>, item: Item) {
        trace(|| format!("client {} <- {item}", self.number));
        match (item, &mut self.speech) {
            (Item::Status(101), speech) => {
                self.stage = Stage::Open;
                if let Speech::Plain(plain) = speech {
                    plain.open(scene);
                }
            }
            (Item::Status(status), speech) => {
                self.ends.push(status);
                // Plain WebSocket gets this status while its channels are not available.
                let waits = scene.truth.draining || matches!(speech, Speech::Plain(_));
                let late = status == 408 || status == 503 && waits;
                assert!(late || self.tainted, "the request was in order, and got {status}");
                self.stage = Stage::Closed;
            }
            (Item::Text(text), Speech::Centrifugo(centrifugo)) => {
                if !self.tainted {
                    centrifugo.on_text(scene, &text);
                }
            }
            (Item::Text(message) | Item::Binary(message), Speech::Plain(plain)) => {
                plain.on_message(scene, &message);
            }
            (Item::Binary(_), Speech::Centrifugo(_)) => panic!("JSON comes as text"),
            (Item::Ping(payload), _) => {
                if self.habits.pongs && self.stage == Stage::Open {
                    self.push_frame(scene, wire::PONG, &payload);
                }
            }
            (Item::Pong(_), _) => {
                assert!(self.tainted || self.pings_sent > 0, "a pong answers a ping");
                self.pings_sent = self.pings_sent.saturating_sub(1);
            }
            (Item::Close(code, text), _) => self.on_close(scene, code, &text),
        }
    }

    fn on_close(&mut self, scene: &mut Scene<'_>, code: u16, text: &str) {
        self.ends.push(code);
        self.stage = Stage::Closed;
        let echoed = self.leaving || self.tainted;
        assert!(echoed || !text.is_empty(), "SDKs reconnect after an empty reason");
        assert!(
            echoed || super::verdict::may_close(self, scene, code, text),
            "client {} was closed without cause: {code} {text:?}",
            self.number
        );
        self.texts.push(text.to_owned());
        if let Speech::Centrifugo(centrifugo) = &mut self.speech {
            centrifugo.on_close(scene, text);
        }
        if let Speech::Plain(plain) = &mut self.speech {
            if code == 3010 && !plain.envelope {
                // One of its positions can't be recovered, but the code does not say which.
                plain.memory.clear();
            }
            // The client may have been too slow for a channel that skips, or its position may be
            // too old.
            let skips = |channel: &usize| scene.setup.channels[*channel].skips();
            let other = !plain.since.is_empty() || plain.channels.iter().any(skips);
            scene.notices += usize::from(code == 3010 && !other);
        }
        match scene.network.random.below(10) {
            0 => {}
            1 => self.abandon(scene),
            2 => self.reset(scene),
            _ if !self.finished && !self.leaving => {
                self.leaving = true;
                self.outgoing.clear();
                let code = code.max(1000).to_be_bytes();
                self.push_frame(scene, wire::CLOSE, &code);
            }
            _ => {}
        }
    }

    /// Handles the end of the server's stream.
    fn on_end(&mut self, scene: &mut Scene<'_>) {
        if self.stage == Stage::Closed {
            assert!(self.incoming.is_empty(), "nothing follows a close frame");
        } else if self.stage == Stage::Open && !self.tainted {
            assert!(
                self.finished,
                "client {}'s connection ended without a close frame",
                self.number
            );
        }
        self.end(scene);
    }

    /// Closes the connection in an orderly way.
    pub fn end(&mut self, scene: &mut Scene<'_>) {
        if let Some(link) = self.link {
            scene.network.close_client(link);
        }
        self.forget(scene);
    }

    /// Leaves without closing the connection, so the server has to detect it.
    pub fn abandon(&mut self, scene: &mut Scene<'_>) {
        self.abandoned.extend(self.link);
        self.forget(scene);
    }

    pub fn reset(&mut self, scene: &mut Scene<'_>) {
        if let Some(link) = self.link {
            scene.network.reset_client(link);
        }
        self.forget(scene);
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        trace(|| format!("client {} is gone from {:?}", self.number, self.link));
        self.link = None;
        self.outgoing.clear();
        match &mut self.speech {
            Speech::Centrifugo(centrifugo) => centrifugo.end(),
            Speech::Plain(plain) => plain.end(scene),
        }
    }

    pub fn push_frame(&mut self, scene: &mut Scene<'_>, opcode: u8, payload: &[u8]) {
        if opcode == wire::PING {
            self.pings_sent += 1;
        }
        let random = &mut scene.network.random;
        self.outgoing.extend(wire::write_frame(opcode, true, payload, random));
    }

    pub fn push_message(&mut self, scene: &mut Scene<'_>, opcode: u8, payload: &[u8]) {
        let (bytes, pings) = wire::write_message(opcode, payload, &mut scene.network.random);
        self.pings_sent += pings;
        self.outgoing.extend(bytes);
    }

    /// Puts waiting commands into frames: one frame for each, or one for several.
    pub fn flush(&mut self, scene: &mut Scene<'_>) {
        let Speech::Centrifugo(centrifugo) = &mut self.speech else { return };
        let mut lines = std::mem::take(&mut centrifugo.lines);
        if self.habits.pongs {
            let pongs = std::mem::take(&mut centrifugo.pings);
            lines.extend((0..pongs).map(|_| "{}".to_owned()));
        }
        while !lines.is_empty() {
            let count = match scene.chance(50) {
                true => lines.len(),
                false => 1,
            };
            let message = lines.drain(..count).collect::<Vec<_>>().join("\n");
            trace(|| format!("client {} -> {message}", self.number));
            self.push_message(scene, wire::TEXT, message.as_bytes());
        }
    }
}
