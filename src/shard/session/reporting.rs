//! Events for the application: noted where things happen, and handed to the bridge. Nobody waits
//! for it: what finds no room is counted, and the count is told as soon as there is room.

use super::Sessions;
use super::closing::Farewell;
use crate::connection::{Slots, State};
use crate::ids::Slot;
use crate::kernel::{ConnectionKey, Sockets};
use crate::mesh::{AppEvent, EventKind, ToBridge};
use crate::protocol::Protocol;

/// What has been noted.
#[derive(Default)]
pub(super) struct Reporting {
    dropped: u64,
}

impl<S: Sockets> Sessions<S> {
    /// Notes an event of a connection; `fill` says the rest.
    pub(super) fn report(
        &mut self,
        key: ConnectionKey,
        kind: EventKind,
        fill: impl FnOnce(&mut AppEvent),
    ) {
        if !self.has_room_for_reports() {
            self.reporting.dropped += 1;
            return;
        }
        self.report_dropped();
        let mut event = AppEvent::new(kind, self.now);
        event.client = Some(self.identity.mint(self.connection_id(key)));
        fill(&mut event);
        self.post.to_bridge(ToBridge::AppEvent(Box::new(event)));
    }

    /// Notes that a session has begun.
    pub(super) fn report_connect(&mut self, key: ConnectionKey) {
        if self.options.settings.events.notes_connect() && self.is_session(key) {
            self.report(key, EventKind::Connect, |_| {});
        }
    }

    /// Notes that a session has ended, with the code and text that the client was told.
    pub(super) fn report_disconnect(
        &mut self,
        key: ConnectionKey,
        Farewell { code, text }: Farewell<'_>,
    ) {
        if self.options.settings.events.notes_disconnect() && self.is_session(key) {
            self.report(key, EventKind::Disconnect, |event| {
                event.code = code;
                event.reason = text.into();
            });
        }
    }

    /// Notes that a client has become the subscriber of a channel.
    pub(super) fn report_subscribe(&mut self, key: ConnectionKey, place: u32) {
        let local = self.delivery.local(place);
        if local.namespace.events.subscribe && is_session_begun(&mut self.slots, key) {
            let channel = local.name.clone();
            self.report(key, EventKind::Subscribe, |event| event.channel = Some(channel));
        }
    }

    /// Notes the subscriptions with which a session begins.
    pub(super) fn report_subscriptions(&mut self, key: ConnectionKey) {
        let connection = self.slots.connection(key);
        let count = connection.subscriptions_count();
        let places: Vec<u32> =
            (0..count).map(|index| connection.subscribed(index).channel).collect();
        places.into_iter().for_each(|place| self.report_subscribe(key, place));
    }

    /// Notes that the subscription with number `index` is about to end.
    pub(super) fn report_unsubscribe(
        &mut self,
        slot: Slot,
        index: usize,
        Farewell { code, text }: Farewell<'_>,
    ) {
        let connection = self.slots.tenant(slot);
        let key = ConnectionKey { slot, generation: connection.generation };
        let place = connection.subscribed(index).channel;
        let local = self.delivery.local(place);
        if local.namespace.events.unsubscribe && is_session_begun(&mut self.slots, key) {
            let channel = local.name.clone();
            self.report(key, EventKind::Unsubscribe, |event| {
                event.channel = Some(channel);
                event.code = code;
                event.reason = text.into();
            });
        }
    }

    /// Tells how many events found no room, if there is room for that.
    pub(super) fn report_dropped(&mut self) {
        if self.reporting.dropped > 0 && self.has_room_for_reports() {
            let mut event = AppEvent::new(EventKind::Dropped, self.now);
            event.count = std::mem::take(&mut self.reporting.dropped);
            self.post.to_bridge(ToBridge::AppEvent(Box::new(event)));
        }
    }

    /// Whether a connection is a client's, and not a test suite's.
    fn is_session(&mut self, key: ConnectionKey) -> bool {
        self.slots.connection(key).wire.protocol != Protocol::Echo
    }

    fn has_room_for_reports(&mut self) -> bool {
        !self.post.is_bridge_behind()
    }
}

/// Whether the application has been told of a connection: not while its upgrade waits.
fn is_session_begun(slots: &mut Slots, key: ConnectionKey) -> bool {
    slots.connection(key).state == State::Connected
}
