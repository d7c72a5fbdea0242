//! Events for the application on their way to the bridge. Those that find no room are counted, and
//! the count is told as soon as there is room.

use crate::ids::Moment;
use crate::mesh::{AppEvent, EventKind, Post, ToBridge};

/// Events that found no room.
#[derive(Default)]
pub struct Events {
    dropped: u64,
}

impl Events {
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
