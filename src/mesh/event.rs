//! What the application may be told: things that clients do, on their way to the bridge.

use crate::channel::ChannelName;
use crate::ids::{ClientId, Moment};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A session began.
    Connect,
    /// It ended.
    Disconnect,
    /// A subscription began.
    Subscribe,
    /// It ended.
    Unsubscribe,
    /// A client sent a message to the application.
    Message,
    /// A client's publication was accepted.
    Publish,
    /// Events were dropped.
    Dropped,
}

impl EventKind {
    /// Its name in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Connect => "connect",
            EventKind::Disconnect => "disconnect",
            EventKind::Subscribe => "subscribe",
            EventKind::Unsubscribe => "unsubscribe",
            EventKind::Message => "message",
            EventKind::Publish => "publish",
            EventKind::Dropped => "dropped",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct AppEvent {
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Moment,
    /// Its number among those that the node writes, without holes; 0 before it has one.
    pub seq: u64,
    /// Whose connection.
    pub client: Option<ClientId>,
    /// Its user; empty for anonymous.
    pub user: Box<str>,
    /// In which channel.
    pub channel: Option<ChannelName>,
    /// Why it ended; 0 where there is no code for it.
    pub code: u16,
    /// The same in words.
    pub reason: Box<str>,
    /// What was sent.
    pub data: Box<[u8]>,
    /// How many were dropped.
    pub count: u64,
}

impl AppEvent {
    /// An event of which nothing but its kind is known.
    pub fn new(kind: EventKind, at: Moment) -> AppEvent {
        AppEvent {
            kind,
            at,
            seq: 0,
            client: None,
            user: Box::default(),
            channel: None,
            code: 0,
            reason: Box::default(),
            data: Box::default(),
            count: 0,
        }
    }

    /// Bytes that keeping it costs, more or less.
    pub fn cost_bytes(&self) -> usize {
        let channel = self.channel.as_ref().map_or(0, |channel| channel.as_str().len());
        size_of::<AppEvent>() + self.user.len() + self.reason.len() + self.data.len() + channel
    }
}
