//! What is kept of events for the application: how many found no room. The count is told as soon
//! as there is room.

use crate::ids::{ClientId, ConnectionId, Moment};
use crate::mesh::{AppEvent, EventKind, Post, ToBridge};
use crate::shard::identity::Identity;

/// Events that found no room, and the names that clients have in events.
pub struct Events {
    identity: Identity,
    dropped: u64,
}

impl Events {
    /// None yet. Clients are called as `identity` says.
    pub fn new(identity: Identity) -> Events {
        Events { identity, dropped: 0 }
    }

    /// The public id of a connection.
    pub fn client_id(&self, connection: ConnectionId) -> ClientId {
        self.identity.mint(connection)
    }

    /// Hands an event to the bridge. If that has no room, the event is counted.
    pub fn send(&mut self, post: &mut Post, event: AppEvent) {
        if post.is_bridge_behind() {
            self.dropped += 1;
            return;
        }
        self.tell_dropped(post, event.at);
        post.to_bridge(ToBridge::AppEvent(Box::new(event)));
    }

    /// Tells how many events found no room, if there is room for that.
    pub fn tell_dropped(&mut self, post: &mut Post, now: Moment) {
        if self.dropped > 0 && !post.is_bridge_behind() {
            let mut event = AppEvent::new(EventKind::Dropped, now);
            event.count = std::mem::take(&mut self.dropped);
            post.to_bridge(ToBridge::AppEvent(Box::new(event)));
        }
    }
}
