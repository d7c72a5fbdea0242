//! Events of clients for the application, on their way to the bridge.

use core::net::IpAddr;

use crate::channel::ChannelName;
use crate::ids::{ClientId, Moment};

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A session began.
    Connect,
    /// A session ended.
    Disconnect,
    /// A subscription began.
    Subscribe,
    /// A subscription ended.
    Unsubscribe,
    /// A client sent a message to the application.
    Message,
    /// The server accepted a publication of a client.
    Publish,
    /// Events were dropped.
    Dropped,
}

impl EventKind {
    /// Returns the name of the event in the stream.
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

/// An event for the application.
#[derive(Clone, Debug)]
pub struct AppEvent {
    /// The kind of the event.
    pub kind: EventKind,
    /// The time of the event.
    pub at: Moment,
    /// The number of the event, without holes among the events of the node; 0 before it has one.
    pub seq: u64,
    /// The client of the connection.
    pub client: Option<ClientId>,
    /// The user of the client; empty for anonymous clients.
    pub user: Box<str>,
    /// The address of the client, if its session begins. `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The channel of the event.
    pub channel: Option<ChannelName>,
    /// The code of the end; 0 if there is none.
    pub code: u16,
    /// The text of the end.
    pub reason: Box<str>,
    /// The message of the client.
    pub data: Box<[u8]>,
    /// Number of dropped events.
    pub count: u64,
}

impl AppEvent {
    /// Creates an event that has only a kind and a time.
    pub fn new(kind: EventKind, at: Moment) -> AppEvent {
        AppEvent {
            kind,
            at,
            seq: 0,
            client: None,
            user: Box::default(),
            address: None,
            channel: None,
            code: 0,
            reason: Box::default(),
            data: Box::default(),
            count: 0,
        }
    }

    /// Returns the approximate memory of the event in bytes.
    pub fn cost_bytes(&self) -> usize {
        let channel = self.channel.as_ref().map_or(0, |channel| channel.as_str().len());
        size_of::<AppEvent>() + self.user.len() + self.reason.len() + self.data.len() + channel
    }
}
