//! Events for the application on their way to the bridge. Events without room are counted, and the
//! count is reported as soon as there is room.

use crate::ids::Moment;
use crate::mesh::{AppEvent, EventKind, Post, ToBridge};

/// The number of events without room.
#[derive(Default)]
pub struct Events {
    dropped: u64,
}

impl Events {
    /// Hands an event to the bridge. If the bridge is behind, the event is only counted.
    pub fn send(&mut self, post: &mut Post, event: AppEvent) {
        if post.is_bridge_behind() {
            self.dropped += 1;
            return;
        }
        // The report comes first, because the dropped events were earlier than this one.
        self.tell_dropped(post, event.at);
        post.to_bridge(ToBridge::AppEvent(Box::new(event)));
    }

    /// Reports the number of dropped events, if the bridge has room.
    pub fn tell_dropped(&mut self, post: &mut Post, now: Moment) {
        if self.dropped > 0 && !post.is_bridge_behind() {
            let mut event = AppEvent::new(EventKind::Dropped, now);
            event.count = std::mem::take(&mut self.dropped);
            post.to_bridge(ToBridge::AppEvent(Box::new(event)));
        }
    }
}
