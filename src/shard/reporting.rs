//! Events for the application: noted where things happen, and handed to the bridge. Nobody waits
//! for it: what finds no room is counted, and the count is told as soon as there is room.

use super::{Shard, Sockets, Token};
use crate::connection::{Slots, State};
use crate::ids::Slot;
use crate::mesh::{Event, EventKind, ToBridge};
use crate::protocol::Protocol;

/// What has been noted.
#[derive(Default)]
pub(super) struct Reporting {
    dropped: u64,
}

impl<S: Sockets> Shard<S> {
    /// Notes an event of a connection; `fill` says the rest.
    pub(super) fn report(&mut self, token: Token, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        if !self.has_room_for_reports() {
            self.reporting.dropped += 1;
            return;
        }
        self.report_dropped();
        let mut event = Event::new(kind, self.now);
        event.client = Some(self.identity.mint(self.connection_id(token)));
        fill(&mut event);
        self.post.to_bridge(ToBridge::Event(Box::new(event)));
    }

    /// Notes that a session has begun.
    pub(super) fn report_connect(&mut self, token: Token) {
        if self.options.settings.events.notes_connect() && self.is_session(token) {
            self.report(token, EventKind::Connect, |_| {});
        }
    }

    /// Notes that a session has ended, with the code and text that the client was told.
    pub(super) fn report_disconnect(&mut self, token: Token, (code, text): (u16, &str)) {
        if self.options.settings.events.notes_disconnect() && self.is_session(token) {
            self.report(token, EventKind::Disconnect, |event| {
                event.code = code;
                event.reason = text.into();
            });
        }
    }

    /// Notes that a client has become the subscriber of a channel.
    pub(super) fn report_subscribe(&mut self, token: Token, place: u32) {
        let Some(local) = self.locals.at(place) else { return };
        if local.namespace.events.subscribe && is_session_begun(&mut self.slots, token) {
            let channel = local.name.clone();
            self.report(token, EventKind::Subscribe, |event| event.channel = Some(channel));
        }
    }

    /// Notes the subscriptions with which a session begins.
    pub(super) fn report_subscriptions(&mut self, token: Token) {
        let Some(connection) = self.slots.get(token) else { return };
        let count = connection.subscriptions_count();
        let places: Vec<u32> = (0..count)
            .filter_map(|index| connection.subscription(index).map(|found| found.channel))
            .collect();
        places.into_iter().for_each(|place| self.report_subscribe(token, place));
    }

    /// Notes that the subscription with number `index` is about to end.
    pub(super) fn report_unsubscribe(
        &mut self,
        slot: Slot,
        index: usize,
        (code, text): (u16, &str),
    ) {
        let Some(token) = self.slots.token(slot) else { return };
        let Some(connection) = self.slots.at(slot) else { return };
        let Some(place) = connection.subscription(index).map(|found| found.channel) else { return };
        let Some(local) = self.locals.at(place) else { return };
        if local.namespace.events.unsubscribe && is_session_begun(&mut self.slots, token) {
            let channel = local.name.clone();
            self.report(token, EventKind::Unsubscribe, |event| {
                event.channel = Some(channel);
                event.code = code;
                event.reason = text.into();
            });
        }
    }

    /// Tells how many events found no room, if there is room for that.
    pub(super) fn report_dropped(&mut self) {
        if self.reporting.dropped > 0 && self.has_room_for_reports() {
            let mut event = Event::new(EventKind::Dropped, self.now);
            event.count = std::mem::take(&mut self.reporting.dropped);
            self.post.to_bridge(ToBridge::Event(Box::new(event)));
        }
    }

    /// Whether a connection is a client's, and not a test suite's.
    fn is_session(&mut self, token: Token) -> bool {
        let connection = self.slots.get(token);
        connection.is_some_and(|connection| connection.protocol != Protocol::Echo)
    }

    fn has_room_for_reports(&mut self) -> bool {
        !self.post.is_bridge_behind()
    }
}

/// Whether the application has been told of a connection: not while its upgrade waits.
fn is_session_begun(slots: &mut Slots, token: Token) -> bool {
    slots.get(token).is_some_and(|connection| connection.state == State::Connected)
}
