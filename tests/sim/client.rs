//! One simulated client: a person with a device, who connects, comes back, and has bad habits.

use std::collections::VecDeque;

use super::centrifugo::Centrifugo;
use super::network::{LinkId, Taken};
use super::plain::Plain;
use super::scene::{Scene, trace};
use super::wire::{self, Incoming, Item};

/// What a client speaks.
pub enum Speech {
    Centrifugo(Centrifugo),
    Plain(Plain),
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Most bytes taken at once; 0 never reads.
    pub reads_max: usize,
    /// Percent of its moments in which it reads.
    pub reads: usize,
    /// Answers pings.
    pub pongs: bool,
    /// Percent of its moments in which it asks for something.
    pub talks: usize,
    /// Permille of its moments in which it sends what nobody may send.
    pub rude: usize,
    /// Permille of its moments in which it leaves, in one way or another.
    pub leaves: usize,
    /// Connects whenever it is not connected.
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

/// What is refused, at once or right after the upgrade.
const BAD_TARGETS: [&str; 5] = [
    "/connection/websocket?cf_protocol=protobuf",
    "/nowhere",
    "/ws",
    "/ws?channels=no:such",
    "/ws?channels=closed:one",
];

/// Where the present connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Head,
    Open,
    /// A close frame has come; the end of the stream is awaited.
    Closed,
}

pub struct Client {
    pub number: usize,
    pub speech: Speech,
    pub habits: Habits,
    /// Connects to this shard, where it matters.
    pub shard: Option<usize>,
    pub link: Option<LinkId>,
    /// Bytes that its sockets hold on the way up and down; by chance if absent.
    pub buffers: Option<(usize, usize)>,
    /// How often it has connected.
    pub connections: usize,
    pub stage: Stage,
    pub outgoing: VecDeque<u8>,
    incoming: Incoming,
    /// It has sent what nobody may send: nothing is promised to it any more.
    pub tainted: bool,
    /// It has ended its stream.
    pub finished: bool,
    /// It has sent a close frame.
    pub leaving: bool,
    pings_sent: usize,
    /// Close codes and HTTP statuses, in the order in which they came.
    pub ends: Vec<u16>,
    /// Connections that were left without a word.
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
            abandoned: Vec::new(),
        }
    }

    /// The Centrifugo side of the client.
    pub fn centrifugo(&mut self) -> &mut Centrifugo {
        match &mut self.speech {
            Speech::Centrifugo(centrifugo) => centrifugo,
            Speech::Plain(_) => panic!("client {} speaks plain WebSocket", self.number),
        }
    }

    /// The plain side of the client.
    pub fn plain(&mut self) -> &mut Plain {
        match &mut self.speech {
            Speech::Plain(plain) => plain,
            Speech::Centrifugo(_) => panic!("client {} speaks Centrifugo's protocol", self.number),
        }
    }

    pub fn is_open(&self) -> bool {
        self.link.is_some() && self.stage == Stage::Open
    }

    /// A moment of the client's life.
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

    /// Hands the network some of what is to be sent, cut anywhere.
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
                // Plain WebSocket is told so where its channels can't be had at present.
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
        assert!(echoed || !text.is_empty(), "SDKs read an empty reason as: come back");
        assert!(
            echoed || super::verdict::may_close(self, scene, code),
            "client {} did nothing to be told {code} {text:?}",
            self.number
        );
        if let Speech::Plain(plain) = &mut self.speech {
            if code == 3010 && !plain.envelope {
                // One of its positions can't be continued, and nobody says which.
                plain.memory.clear();
            }
            // It may have been too slow for a channel that skips, or its position too old.
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

    /// The server has ended its stream.
    fn on_end(&mut self, scene: &mut Scene<'_>) {
        if self.stage == Stage::Closed {
            assert!(self.incoming.is_empty(), "nothing follows a close frame");
        } else if self.stage == Stage::Open && !self.tainted {
            assert!(self.finished, "client {}'s connection ended without a word", self.number);
        }
        self.end(scene);
    }

    /// Ends the connection in an orderly way.
    pub fn end(&mut self, scene: &mut Scene<'_>) {
        if let Some(link) = self.link {
            scene.network.close_client(link);
        }
        self.forget(scene);
    }

    /// Leaves without a word; the server must find out by itself.
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

    /// Makes frames of the commands that have gathered: one for each, or one for several.
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
