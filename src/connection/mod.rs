//! What the server keeps for one client. Everything that an idle connection does not need is in a
//! box that it does not have: an idle connection with one channel is one cache line.

mod deadlines;
mod input;
mod meter;
mod outbox;
mod slots;

pub use deadlines::{Attention, Deadlines, Due, Patience};
pub use meter::{Meter, Rates};
pub use outbox::{Accounts, Frames, Outbox, Piece};
pub use slots::Slots;

use crate::auth::{Grant, Permissions};
use crate::channel::ChannelName;
use crate::handshake::Acceptance;
use crate::ids::{Generation, Moment, Tick};
use crate::kernel::Socket;
use crate::protocol::{MessageKind, Protocol};
use crate::reason::CloseReason;
use crate::wire::Wire;
use crate::ws::Decoder;

/// Where a connection stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The slot is free.
    Vacant,
    /// The request head is not complete.
    Handshaking,
    /// WebSocket, but the protocol's `connect` has not come.
    Opened,
    /// Plain WebSocket whose channels are being subscribed. Nothing is sent from its outbox, which
    /// begins with the response to the upgrade if it is not empty.
    Upgrading,
    /// The session runs.
    Connected,
    /// A close frame or an HTTP answer is on its way out; what comes in is thrown away.
    Closing,
    /// The socket is shut down; the slot is free once its watch has ended.
    Released,
}

/// Switches of a connection, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// The socket takes no more bytes until it says so.
    pub const BLOCKED: Flags = Flags(1);
    /// A ping has not been answered.
    pub const PINGED: Flags = Flags(1 << 1);
    /// A request waits for its answer: nothing is read until it is here.
    pub const WAITING: Flags = Flags(1 << 2);
    /// The socket may have bytes that have not been read.
    pub const READABLE: Flags = Flags(1 << 3);
    /// The slot is on the ready list.
    pub const LISTED: Flags = Flags(1 << 4);
    /// Heartbeats are WebSocket pings, whatever the protocol.
    pub const FRAME_PINGS: Flags = Flags(1 << 5);
    /// The peer has sent its close frame, or ended its stream.
    pub const PEER_CLOSED: Flags = Flags(1 << 6);
    /// The write side is shut: a FIN follows the last byte.
    pub const FINISHED: Flags = Flags(1 << 7);
    /// The peer has ended its stream: reading on will show it, and no event will come for it.
    pub const HUNG_UP: Flags = Flags(1 << 8);
    /// A ping went out while the one before was not answered: several pongs may come.
    pub const OVERDUE: Flags = Flags(1 << 9);
    /// Input is parked until there is room for what it will be answered with.
    pub const PARKED: Flags = Flags(1 << 10);
    /// The client has been given more history than it may have for the time being, and waits.
    pub const OWING: Flags = Flags(1 << 11);
    /// The bus has acknowledged a publication of it lately: this node may not have read that yet.
    pub const PUBLISHED: Flags = Flags(1 << 12);
    /// The same, and a ping has been sent since: by the next one it has been read.
    pub const PUBLISHED_BEFORE: Flags = Flags(1 << 14);
    /// The peer takes no more bytes, ever: what it has sent is carried out, and nothing answered.
    pub const DEAF: Flags = Flags(1 << 13);
    /// Beside each ping goes a message, for pages, which are not shown pings.
    pub const HEARTBEATS: Flags = Flags(1 << 15);

    /// Whether all of `flag` is set.
    pub const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// Sets `flag`.
    pub const fn set(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }

    /// Clears `flag`; answers whether it was set.
    pub const fn clear(&mut self, flag: Flags) -> bool {
        let was = self.has(flag);
        self.0 &= !flag.0;
        was
    }
}

/// What a subscription is given of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Every publication.
    Live,
    /// Those that fit: some were skipped since the last one that was handed over.
    Skipping,
    /// None, until the home shard has handed out what was missed, or the subscription ends.
    Recovering,
}

/// One client's channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The channel's place in the shard's table, or [`Subscription::NO_CHANNEL`].
    pub channel: u32,
    /// This subscription's place in the channel's list.
    pub place: u32,
    /// The first segment of the channel's log that this client has not been given.
    pub cursor: u32,
    /// The client is told when it misses something.
    pub positioned: bool,
    /// Whether it is given what comes.
    pub mode: DeliveryMode,
    /// The one who made it.
    pub made_by: Maker,
}

impl Subscription {
    /// No channel has this place.
    pub const NO_CHANNEL: u32 = u32::MAX;
    /// No subscription.
    pub const NONE: Subscription = Subscription {
        channel: Self::NO_CHANNEL,
        place: 0,
        cursor: 0,
        positioned: false,
        mode: DeliveryMode::Live,
        made_by: Maker::Client,
    };

    /// A subscription that begins with `terms`; its places are still to be set.
    pub fn new(terms: Terms) -> Subscription {
        let Terms { positioned, made_by } = terms;
        Subscription { positioned, made_by, ..Subscription::NONE }
    }
}

/// The one who made a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The client, with a command or the path of its request.
    Client,
    /// The application. A client would not ask for it again by itself.
    Application,
}

/// What is settled about a subscription when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The client is told when it misses something.
    pub positioned: bool,
    /// The one who made it.
    pub made_by: Maker,
}

/// A connection: the part that every event touches, one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Connection {
    /// Its socket.
    pub socket: Socket,
    /// Which tenant of its slot it is.
    pub generation: Generation,
    /// Where it stands.
    pub state: State,
    /// What it speaks.
    pub wire: Wire,
    /// What it may do.
    pub permissions: Permissions,
    /// Its switches.
    pub flags: Flags,
    /// When a byte last came, or was last taken by a slow socket.
    pub heard: Tick,
    /// When the last ping went out; [`Tick::NEVER`] before the first.
    pub pinged: Tick,
    /// How much it has sent lately.
    pub meter: Meter,
    /// Its first channel.
    pub first: Subscription,
    /// What an idle connection does not need.
    pub busy: Option<Box<Busy>>,
}

const _: () = assert!(size_of::<Connection>() == 64, "a connection is one cache line");
const _: () = assert!(size_of::<Subscription>() == 16, "128 channels are 2 KiB");

/// Input that could not be carried out to its end: a request in it waits for its answer.
#[derive(Debug, Default)]
pub struct Parked {
    /// A message of which commands have not been carried out.
    pub message: Option<ParkedMessage>,
    /// Bytes after the message, as they came from the socket.
    pub input: Vec<u8>,
}

/// The rest of a message. It is copied once, however many of its commands have to wait.
#[derive(Debug)]
pub struct ParkedMessage {
    /// Text or binary.
    pub kind: MessageKind,
    /// The message, from the first command that had to wait.
    pub bytes: Vec<u8>,
    /// Bytes of it that have been carried out since.
    pub done: usize,
}

/// The request that waits for its answer.
#[derive(Clone, Debug)]
pub enum PendingRequest {
    /// A subscription.
    Subscribe(WaitingSubscribe),
    /// A publication or a page of history: the answer has all that is needed.
    Answer(Charge),
    /// None, but no further publication may be on its way to the bus.
    Room,
    /// None, but the next command may rely on the publications before it: all must be answered.
    Publications,
}

/// A subscription that waits for its home shard.
#[derive(Clone, Debug)]
pub struct WaitingSubscribe {
    /// The client's number for the request.
    pub request: u32,
    /// The channel.
    pub channel: ChannelName,
    /// Its features.
    pub grant: Grant,
    /// Whether the client asked for what it missed.
    pub recovery: Recovery,
    /// Whether it was charged for the channel.
    pub charge: Charge,
}

/// Whether a client was charged for a channel when it asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// It was not: the channel had subscribers on its shard.
    Free,
    /// It was, because the channel may be new: it is given that back if it was not.
    Charged,
}

/// What a client that subscribes wants of the publications it may have missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// None of them.
    Unasked,
    /// All of them, if they are there.
    Asked,
    /// All of them, or no subscription.
    Required,
}

impl Recovery {
    /// Whether it asked for them.
    pub fn is_asked(self) -> bool {
        self != Recovery::Unasked
    }
}

/// What only a busy connection has. Dropped as soon as it is empty.
#[derive(Debug, Default)]
pub struct Busy {
    /// A request head that is not complete.
    pub head: Vec<u8>,
    /// Receives that the request head has taken.
    pub head_receives: u8,
    /// A frame or message that is not complete: most that wait for something else have none.
    pub decoder: Option<Box<Decoder>>,
    /// Input that waits for an answer.
    pub parked: Option<Box<Parked>>,
    /// The request that waits.
    pub waiting: Option<Box<PendingRequest>>,
    /// Publications on their way to the bus, whose answers are not awaited before reading on.
    pub publishing: u16,
    /// How many of these the client was charged for, because their channels may be new.
    pub charged_publishing: u16,
    /// What is to be sent.
    pub outbox: Outbox,
    /// Channels beyond the first.
    pub more: Vec<Subscription>,
    /// Channels in which the client was too slow, and the last offset it was given.
    pub skips: Vec<(u32, u64)>,
    /// What the request's path asked for.
    pub plain: Option<Box<Plain>>,
    /// Why the connection closes.
    pub closing: Option<CloseReason>,
    /// Bytes of unfinished input that have been charged to the shard.
    pub charged: usize,
    /// Number of the beginning of that input.
    pub begun: u64,
    /// Since when the server does not read, as heartbeats have found.
    pub unread: Option<Unread>,
    /// Since when requests have waited for the bus, one after another, and none was granted. Absent
    /// when nothing waits and nothing is left to be read.
    pub unserved: Option<Moment>,
}

/// A time in which nothing is read from a client, because it waits or does not read itself.
#[derive(Clone, Copy, Debug)]
pub struct Unread {
    /// When it was first noticed.
    pub since: Tick,
    /// What the client had taken then.
    pub taken_bytes: usize,
}

/// What plain WebSocket's path asked for.
#[derive(Debug, Default)]
pub struct Plain {
    /// Channels whose subscriptions have not begun.
    pub waiting: Vec<WaitingSubscribe>,
    /// The channel that the client's messages go to.
    pub publish: Option<ChannelName>,
    /// What the upgrade is answered with, until the response is in the outbox.
    pub acceptance: Option<Acceptance>,
}

const _: () = assert!(size_of::<Busy>() <= 256, "an upgrade that waits is small");

impl Busy {
    /// Whether nothing is left in it.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
            && self.decoder.is_none()
            && self.parked.is_none()
            && self.waiting.is_none()
            && self.publishing == 0
            && self.outbox.is_empty()
            && self.more.is_empty()
            && self.skips.is_empty()
            && self.plain.is_none()
            && self.closing.is_none()
            && self.charged == 0
            && self.unserved.is_none()
    }

    /// Bytes of input that are kept because something is unfinished.
    pub fn inbound_bytes(&self) -> usize {
        let parked = self.parked.as_ref();
        self.head.capacity()
            + self.decoder.as_ref().map_or(0, |decoder| decoder.buffered_bytes())
            + parked.map_or(0, |parked| {
                let message = parked.message.as_ref().map_or(0, |message| message.bytes.capacity());
                message + parked.input.capacity()
            })
    }
}

impl Connection {
    /// A connection whose request head is awaited.
    pub fn new(socket: Socket, generation: Generation, now: Tick) -> Connection {
        Connection {
            socket,
            generation,
            state: State::Handshaking,
            wire: Wire::websocket(Protocol::Plain),
            permissions: Permissions::Nothing,
            flags: Flags::default(),
            heard: now,
            pinged: Tick::NEVER,
            meter: Meter::default(),
            first: Subscription::NONE,
            busy: None,
        }
    }

    /// The box for what an idle connection does not need.
    pub fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Drops the box if nothing is in it.
    pub fn shrink(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_empty()) {
            self.busy = None;
        }
    }

    /// Whether it may have subscriptions.
    pub fn is_served(&self) -> bool {
        matches!(self.state, State::Upgrading | State::Connected)
    }

    /// Whether its peer has ended the stream while its upgrade waits. Before the response no client
    /// may send anything, so without parked input nobody is left to serve.
    pub fn is_upgrade_abandoned(&self) -> bool {
        let parked = self.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
        self.state == State::Upgrading && self.flags.has(Flags::HUNG_UP) && !parked
    }

    /// Whether more may be read from it: not while a request waits for its answer or for room,
    /// nor while its outbox has more than `bytes_max`.
    pub fn may_read(&self, bytes_max: usize) -> bool {
        !self.flags.has(Flags::WAITING)
            && !self.flags.has(Flags::PARKED)
            && self.outbox_cost_bytes() <= bytes_max
    }

    /// Cost of what waits to be sent.
    pub fn outbox_cost_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.outbox.cost_bytes())
    }

    /// How many channels it has.
    pub fn subscriptions_count(&self) -> usize {
        let first = usize::from(self.first.channel != Subscription::NO_CHANNEL);
        first + self.busy.as_ref().map_or(0, |busy| busy.more.len())
    }

    /// The subscription with number `index`.
    pub fn subscription(&mut self, index: usize) -> Option<&mut Subscription> {
        match index {
            0 => Some(&mut self.first).filter(|first| first.channel != Subscription::NO_CHANNEL),
            _ => self.busy.as_mut()?.more.get_mut(index - 1),
        }
    }

    /// The subscription with number `index`, for those who know that it is there.
    ///
    /// # Panics
    /// There is none.
    #[expect(clippy::expect_used, reason = "numbers come from lists that agree with these")]
    pub fn subscribed(&mut self, index: usize) -> &mut Subscription {
        self.subscription(index).expect("a subscription's number is below their count")
    }

    /// The number of the subscription to the channel at `channel`.
    pub fn find_subscription(&self, channel: u32) -> Option<usize> {
        if self.first.channel == channel {
            return Some(0);
        }
        let more = &self.busy.as_ref()?.more;
        more.iter().position(|subscription| subscription.channel == channel).map(|at| at + 1)
    }

    /// Adds a subscription; answers its number.
    pub fn add_subscription(&mut self, subscription: Subscription) -> usize {
        assert_ne!(subscription.channel, Subscription::NO_CHANNEL, "a subscription has a channel");
        if self.first.channel == Subscription::NO_CHANNEL {
            self.first = subscription;
            return 0;
        }
        let more = &mut self.busy().more;
        more.push(subscription);
        more.len()
    }

    /// Removes the subscription with number `index`. Another one takes its number if it was not
    /// the last: that one is answered.
    pub fn remove_subscription(&mut self, index: usize) -> Option<Subscription> {
        let channel = self.subscribed(index).channel;
        if let Some(busy) = self.busy.as_mut() {
            // Another channel may have this place later.
            busy.skips.retain(|(skipped, _)| *skipped != channel);
        }
        let last = self.busy.as_mut().and_then(|busy| busy.more.pop());
        let moved = match last {
            None => {
                assert_eq!(index, 0, "only the first subscription is outside the list");
                self.first = Subscription::NONE;
                None
            }
            Some(_) if index == self.subscriptions_count() => None,
            Some(last) => {
                *self.subscribed(index) = last;
                Some(last)
            }
        };
        self.shrink();
        moved
    }
}
