//! The state of one client. Everything that an idle connection does not need is in a box
//! (`Busy`), which exists only while it is needed. So an idle connection with one channel is one
//! cache line.

mod deadlines;
mod input;
mod meter;
mod outbox;
mod pending;
mod slots;

pub use deadlines::{Attention, Deadlines, Due, Patience};
pub use meter::{Meter, Rates};
pub use outbox::{Accounts, Frames, Outbox, Piece};
pub use pending::{
    BegunSubscription, Charge, PendingRequest, Recovery, Resuming, WaitingSubscribe,
};
pub use slots::Slots;

use crate::auth::Permissions;
use crate::channel::ChannelName;
use crate::handshake::Acceptance;
use crate::ids::{Generation, LocalId, Moment, Tick};
use crate::kernel::Socket;
use crate::protocol::{MessageKind, Protocol};
use crate::reason::CloseReason;
use crate::wire::Wire;
use crate::ws::Decoder;

/// The phase of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The slot is free.
    Vacant,
    /// The request head is not complete.
    Handshaking,
    /// The connection is a WebSocket, but `connect` has not arrived yet.
    Opened,
    /// A plain WebSocket waits for the subscriptions to its channels. Its outbox begins with the
    /// response to the upgrade, and is not sent before they have begun.
    Upgrading,
    /// A `connect` waits for the subscriptions that its client had before. The outbox is not sent
    /// before the reply is at its front.
    Resuming,
    /// The session runs.
    Connected,
    /// A close frame or an HTTP response is on its way out. Input is discarded.
    Closing,
    /// The socket is shut down. The slot becomes free when its watch has ended.
    Released,
}

/// Flags of a connection, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// The socket accepts no bytes until it reports that it is writable.
    pub const BLOCKED: Flags = Flags(1);
    /// A ping has not been answered.
    pub const PINGED: Flags = Flags(1 << 1);
    /// A request waits for its answer, and nothing is read until it arrives.
    pub const WAITING: Flags = Flags(1 << 2);
    /// The socket may have bytes that have not been read.
    pub const READABLE: Flags = Flags(1 << 3);
    /// The slot is on the ready list.
    pub const LISTED: Flags = Flags(1 << 4);
    /// Heartbeats are WebSocket pings, even if the protocol has its own.
    pub const FRAME_PINGS: Flags = Flags(1 << 5);
    /// The peer has sent its close frame, or ended its stream.
    pub const PEER_CLOSED: Flags = Flags(1 << 6);
    /// The stream to the peer is ended: a FIN follows the last byte.
    pub const FINISHED: Flags = Flags(1 << 7);
    /// The peer has ended its stream. Further reads show that, and no further event reports it.
    pub const HUNG_UP: Flags = Flags(1 << 8);
    /// A ping was sent before the last one was answered, so several pongs may arrive.
    pub const OVERDUE: Flags = Flags(1 << 9);
    /// Input is parked until there is room for its answers.
    pub const PARKED: Flags = Flags(1 << 10);
    /// The client has exceeded a rate, of frames or of bytes of histories, and must wait.
    pub const OWING: Flags = Flags(1 << 11);
    /// The bus recently acknowledged a publication of the client, which this node may not have read
    /// yet.
    pub const PUBLISHED: Flags = Flags(1 << 12);
    /// The same, and a ping was sent since. This node has read the publication before the next
    /// ping.
    pub const PUBLISHED_BEFORE: Flags = Flags(1 << 14);
    /// The peer will never accept bytes again. Its commands are carried out without answers.
    pub const DEAF: Flags = Flags(1 << 13);
    /// A message is sent with each ping, because browsers do not show pings to pages.
    pub const HEARTBEATS: Flags = Flags(1 << 15);

    /// Whether all of `flag` is set.
    pub const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// Sets `flag`.
    pub const fn set(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }

    /// Clears `flag`. Returns whether it was set.
    pub const fn clear(&mut self, flag: Flags) -> bool {
        let was = self.has(flag);
        self.0 &= !flag.0;
        was
    }
}

/// The publications that a subscription receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Every publication.
    Live,
    /// Publications for which there is room. Some were skipped since the last delivered one.
    Skipping,
    /// None, until the home shard has returned the missed publications or the subscription ends.
    Recovering,
}

/// A subscription of one client to one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The channel.
    pub channel: LocalId,
    /// Index of this subscription in the channel's list.
    pub list_index: u32,
    /// The first segment of the channel's log that this client has not received.
    pub cursor: u32,
    /// Whether the client is told about missed publications.
    pub positioned: bool,
    /// Whether it receives new publications.
    pub mode: DeliveryMode,
    /// Its creator.
    pub made_by: Maker,
}

impl Subscription {
    /// Creates a subscription with `terms` that begins with the segment `cursor`. `list_index` is
    /// its index in the channel's list.
    pub fn new(channel: LocalId, list_index: u32, cursor: u32, terms: Terms) -> Subscription {
        let Terms { positioned, made_by } = terms;
        let mode = DeliveryMode::Live;
        Subscription { channel, list_index, cursor, positioned, mode, made_by }
    }
}

/// The creator of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The client, with a command or the path of its request.
    Client,
    /// The application. The client would not request it again on its own.
    Application,
}

/// The properties of a subscription that are fixed when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether the client is told about missed publications.
    pub positioned: bool,
    /// Its creator.
    pub made_by: Maker,
}

/// The part of a connection that every event uses, in one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Connection {
    /// Its socket.
    pub socket: Socket,
    /// The generation of its slot.
    pub generation: Generation,
    /// The phase of its life.
    pub state: State,
    /// The protocol and the framing.
    pub wire: Wire,
    /// The permissions of its client.
    pub permissions: Permissions,
    /// Its flags.
    pub flags: Flags,
    /// The time of the last byte from the client, or of the last byte that its slow socket
    /// accepted.
    pub heard: Tick,
    /// The time of the last ping; [`Tick::NEVER`] before the first one.
    pub pinged: Tick,
    /// The rates of its client.
    pub meter: Meter,
    /// Its first channel.
    pub first: Option<Subscription>,
    /// The state that an idle connection does not need.
    pub busy: Option<Box<Busy>>,
    /// The state that a session keeps while it is idle. `None` for a session with one channel.
    pub session: Option<Box<Session>>,
}

const _: () = assert!(size_of::<Connection>() == 64, "a connection is one cache line");
const _: () = assert!(size_of::<Subscription>() == 16, "128 channels are 2 KiB");
const _: () =
    assert!(size_of::<Option<Subscription>>() == 16, "`None` must need no additional memory");

/// The state of a session that stays for as long as the session, however idle it is.
#[derive(Debug, Default)]
pub struct Session {
    /// The subscriptions after the first one.
    pub further_subscriptions: Vec<Subscription>,
}

/// Input that could not be carried out completely, because a request waits for its answer or there
/// is no room for answers.
#[derive(Debug, Default)]
pub struct Parked {
    /// A message with commands that have not been carried out.
    pub message: Option<ParkedMessage>,
    /// Bytes from the socket after the message.
    pub input: Vec<u8>,
}

/// The rest of a message. It is copied only once, even if many of its commands have to wait.
#[derive(Debug)]
pub struct ParkedMessage {
    /// The type of the message: text or binary.
    pub kind: MessageKind,
    /// The message, from the first command that had to wait.
    pub bytes: Vec<u8>,
    /// Number of its bytes that have been carried out since.
    pub done: usize,
}

/// The state that only a busy connection has. It is dropped as soon as it is empty.
#[derive(Debug, Default)]
pub struct Busy {
    /// An incomplete request head.
    pub head: Vec<u8>,
    /// Number of receives for the request head.
    pub head_receives: u8,
    /// An incomplete frame or message. It has its own box, because most busy connections have none.
    pub decoder: Option<Box<Decoder>>,
    /// Input that can't be carried out yet.
    pub parked: Option<Box<Parked>>,
    /// The request that waits for its answer.
    pub waiting: Option<Box<PendingRequest>>,
    /// Number of publications on their way to the bus. The server keeps reading from the client in
    /// the meantime.
    pub publishing: u16,
    /// Number of these publications for which the client was charged, because their channels may be
    /// new.
    pub charged_publishing: u16,
    /// The bytes to send.
    pub outbox: Outbox,
    /// The channels in which publications were skipped, with the last offset that the client
    /// received.
    pub skips: Vec<(LocalId, u64)>,
    /// The requests in the path.
    pub plain: Option<Box<Plain>>,
    /// The reason for the close.
    pub closing: Option<CloseReason>,
    /// Bytes of unfinished input that have been charged to the shard.
    pub charged: usize,
    /// Sequence number of the beginning of that input. If the shard has no memory for more input,
    /// it closes the connection with the oldest one.
    pub begun: u64,
    /// The period in which the server does not read, as observed by heartbeats.
    pub unread: Option<ReadPause>,
    /// When requests began to wait for the bus, if none has succeeded since. `None` when no
    /// request waits and no input is left.
    pub unserved: Option<Moment>,
}

/// A period in which the server does not read from a client, because it waits for an answer or does
/// not read its own.
#[derive(Clone, Copy, Debug)]
pub struct ReadPause {
    /// The beginning, as a heartbeat noticed it.
    pub since: Tick,
    /// Bytes that the client had accepted by then.
    pub taken_bytes: usize,
}

/// The requests in the path of a plain WebSocket.
#[derive(Debug, Default)]
pub struct Plain {
    /// Subscriptions that have not begun.
    pub waiting: Vec<WaitingSubscribe>,
    /// The channel to which the client's messages are published.
    pub publish: Option<ChannelName>,
    /// The response to the upgrade, until it is in the outbox.
    pub acceptance: Option<Acceptance>,
}

const _: () =
    assert!(size_of::<Busy>() <= 256, "many upgrades may be waiting, so they must be small");

impl Busy {
    /// Whether the box has no content, so that it can be dropped.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
            && self.decoder.is_none()
            && self.parked.is_none()
            && self.waiting.is_none()
            && self.publishing == 0
            && self.outbox.is_empty()
            && self.skips.is_empty()
            && self.plain.is_none()
            && self.closing.is_none()
            && self.charged == 0
            && self.unserved.is_none()
    }

    /// Returns the memory of unfinished input, in bytes.
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
    /// Creates a connection that waits for its request head.
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
            first: None,
            busy: None,
            session: None,
        }
    }

    /// Returns the box for busy connections, and creates it if necessary.
    pub fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Drops the box if it is empty.
    pub fn shrink(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_empty()) {
            self.busy = None;
        }
    }

    /// Whether it may have subscriptions.
    pub fn is_served(&self) -> bool {
        matches!(self.state, State::Upgrading | State::Resuming | State::Connected)
    }

    /// Whether the peer has ended its stream while its upgrade waits. A client must not send
    /// anything before the response, so without parked input there is nothing left to do.
    pub fn is_upgrade_abandoned(&self) -> bool {
        let parked = self.busy.as_ref().is_some_and(|busy| busy.parked.is_some());
        self.state == State::Upgrading && self.flags.has(Flags::HUNG_UP) && !parked
    }

    /// Whether the server may read from it: not while a request waits for its answer or for room,
    /// and not while its outbox has more than `bytes_max`.
    pub fn may_read(&self, bytes_max: usize) -> bool {
        !self.flags.has(Flags::WAITING)
            && !self.flags.has(Flags::PARKED)
            && self.outbox_cost_bytes() <= bytes_max
    }

    /// Returns the cost of the bytes in the outbox.
    pub fn outbox_cost_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.outbox.cost_bytes())
    }

    /// Returns the number of its subscriptions.
    pub fn subscriptions_count(&self) -> usize {
        let first = usize::from(self.first.is_some());
        first + self.session.as_ref().map_or(0, |session| session.further_subscriptions.len())
    }

    /// Returns the subscription with number `index`.
    pub fn subscription(&mut self, index: usize) -> Option<&mut Subscription> {
        match index {
            0 => self.first.as_mut(),
            _ => self.session.as_mut()?.further_subscriptions.get_mut(index - 1),
        }
    }

    /// Returns the subscription with number `index`, which must exist.
    ///
    /// # Panics
    /// If there is none.
    #[expect(
        clippy::expect_used,
        reason = "callers get numbers from lists that agree with the connection"
    )]
    pub fn subscribed(&mut self, index: usize) -> &mut Subscription {
        self.subscription(index).expect("a subscription's number is below their count")
    }

    /// Returns the number of the subscription to `channel`.
    pub fn find_subscription(&self, channel: LocalId) -> Option<usize> {
        if self.first.as_ref().is_some_and(|first| first.channel == channel) {
            return Some(0);
        }
        let more = &self.session.as_ref()?.further_subscriptions;
        more.iter().position(|subscription| subscription.channel == channel).map(|at| at + 1)
    }

    /// Adds a subscription. Returns its number.
    pub fn add_subscription(&mut self, subscription: Subscription) -> usize {
        if self.first.is_none() {
            self.first = Some(subscription);
            return 0;
        }
        let more = &mut self.session.get_or_insert_default().further_subscriptions;
        more.push(subscription);
        more.len()
    }

    /// Removes the subscription with number `index`. If it was not the last one, the last one takes
    /// its number and is returned, so that the caller can update the channel's list.
    pub fn remove_subscription(&mut self, index: usize) -> Option<Subscription> {
        let channel = self.subscribed(index).channel;
        if let Some(busy) = self.busy.as_mut() {
            // Another channel may have this index later.
            busy.skips.retain(|(skipped, _)| *skipped != channel);
        }
        let last = self.session.as_mut().and_then(|session| session.further_subscriptions.pop());
        let moved = match last {
            None => {
                assert_eq!(index, 0, "only the first subscription is outside the list");
                self.first = None;
                None
            }
            Some(_) if index == self.subscriptions_count() => None,
            Some(last) => {
                *self.subscribed(index) = last;
                Some(last)
            }
        };
        self.session.take_if(|session| session.further_subscriptions.is_empty());
        self.shrink();
        moved
    }
}
