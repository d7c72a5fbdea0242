//! What waits for a connection: answers of its own, and all that it has not been given of its
//! channels, within the limit by which its slowness is judged.

use std::rc::Rc;
use std::sync::Arc;

use super::budget::{Budget, OutboxLeases};
use super::gap::Gap;
use super::subscribers::Channels;
use crate::channel::SlowPolicy;
use crate::connection::{Accounts, Connection, DeliveryMode, Flags, Frames, Outbox, State};
use crate::ids::{LocalId, Moment, Slot, Tick};
use crate::limits::OUTBOX_UNBLOCKED_FACTOR;
use crate::metrics::ShardCounters;
use crate::protocol::{Codec, OnGap, Push};
use crate::reason::{CloseReason, DropReason};

/// Whether a connection keeps up with its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "whoever is too slow must be closed"]
pub enum Pace {
    /// Its outbox holds everything.
    KeepsUp,
    /// It is too slow for its namespace, and must be closed.
    TooSlow(CloseReason),
}

/// Why a connection gets nothing more for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It is too slow for its namespace, and must be closed with this reason.
    TooSlow(CloseReason),
    /// It has come to a gap, and must be told. It has been given what came before.
    Gap(Gap),
}

/// What [`take_pending`] must be told and brings up to date.
struct Collecting<'a> {
    /// Bytes that may wait.
    limit: usize,
    counters: &'a ShardCounters,
    accounts: &'a mut Accounts,
    /// When the oldest publication was accepted of those that were collected.
    oldest: &'a mut Option<Moment>,
}

/// What the kernel took of an outbox.
pub(super) struct Taken {
    /// Frames that were not in the outbox yet.
    pub(super) frames: Option<Rc<Frames>>,
    /// Bytes of what is then in it.
    pub(super) bytes: usize,
    /// The time, if bytes were taken, or refused for the first time.
    pub(super) moved: Option<Tick>,
}

/// The outboxes of connections: what they may have, and do have.
pub(super) struct Outboxes {
    counters: Arc<ShardCounters>,
    /// Bytes that may wait for a connection whose socket has no room.
    bytes_max: usize,
    budget: Budget,
}

impl Outboxes {
    /// None yet. Each may have `bytes_max`.
    pub(super) fn new(
        counters: Arc<ShardCounters>,
        leases: OutboxLeases,
        bytes_max: usize,
    ) -> Outboxes {
        Outboxes { counters, bytes_max, budget: Budget::new(leases) }
    }

    /// The memory of all of them.
    pub(super) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Gives memory that is not needed back to the node.
    pub(super) fn end_turn(&mut self) {
        self.budget.give_back();
        self.counters.outbox_bytes.set(self.budget.accounts.bytes() as u64);
    }

    /// Puts frames for one connection alone into its outbox. Returns whether it takes them.
    pub(super) fn push_own(
        &mut self,
        connection: &mut Connection,
        slot: Slot,
        frames: &[u8],
    ) -> bool {
        if frames.is_empty() || !takes_own(connection) {
            return false;
        }
        let outbox = &mut connection.busy().outbox;
        outbox.push_own(frames, &mut self.budget.accounts);
        self.budget.rank(slot, outbox);
        true
    }

    /// The same for many bytes, which are not copied.
    pub(super) fn push_long(
        &mut self,
        connection: &mut Connection,
        slot: Slot,
        frames: Vec<u8>,
    ) -> bool {
        if !takes_own(connection) {
            return false;
        }
        let outbox = &mut connection.busy().outbox;
        outbox.push_long(Frames::new(frames), &mut self.budget.accounts);
        self.budget.rank(slot, outbox);
        true
    }

    /// Whether a connection reads what it is sent without having asked.
    pub(super) fn pace(&self, connection: &Connection) -> Pace {
        if connection.outbox_cost_bytes() > outbox_limit(connection, self.bytes_max) {
            Pace::TooSlow(CloseReason::Slow)
        } else {
            Pace::KeepsUp
        }
    }

    /// Puts what a connection has not been given into its outbox, which closes anyway. It is not
    /// told of gaps any more, nor that something does not fit.
    pub(super) fn collect_last(
        &mut self,
        channels: &mut Channels,
        connection: &mut Connection,
        slot: Slot,
    ) {
        let mut oldest = None;
        while let Some(Halt::Gap(gap)) = self.collect(channels, connection, slot, &mut oldest) {
            let Some(index) = connection.find_subscription(gap.place) else {
                unreachable!("who comes to a gap is subscribed")
            };
            // Nothing newer may follow a gap that it does not know of.
            connection.subscribed(index).mode = DeliveryMode::Recovering;
        }
    }

    /// Puts what a connection has not been given of one channel into its outbox: its subscription
    /// with number `index` ends, and what was published before comes before the end. It is not told
    /// of gaps any more.
    pub(super) fn collect_of_leaving(
        &mut self,
        channels: &mut Channels,
        connection: &mut Connection,
        slot: Slot,
        index: usize,
    ) -> Pace {
        let mut oldest = None;
        let mut collecting = self.collecting(connection, &mut oldest);
        let halt = take_pending_of(connection, index, channels, &mut collecting);
        self.end_collecting(connection, slot);
        match halt {
            Some(Halt::TooSlow(reason)) => Pace::TooSlow(reason),
            Some(Halt::Gap(_)) | None => Pace::KeepsUp,
        }
    }

    /// Puts what a connection has not been given into its outbox, up to what halts it.
    pub(super) fn collect(
        &mut self,
        channels: &mut Channels,
        connection: &mut Connection,
        slot: Slot,
        oldest: &mut Option<Moment>,
    ) -> Option<Halt> {
        let collecting = self.collecting(connection, oldest);
        let halt = take_pending(connection, channels, collecting);
        self.end_collecting(connection, slot);
        halt
    }

    fn collecting<'a>(
        &'a mut self,
        connection: &Connection,
        oldest: &'a mut Option<Moment>,
    ) -> Collecting<'a> {
        Collecting {
            limit: outbox_limit(connection, self.bytes_max),
            counters: &self.counters,
            accounts: &mut self.budget.accounts,
            oldest,
        }
    }

    fn end_collecting(&mut self, connection: &mut Connection, slot: Slot) {
        if let Some(busy) = connection.busy.as_mut() {
            self.budget.rank(slot, &mut busy.outbox);
        }
        connection.shrink();
    }

    /// Brings an outbox up to what the kernel took of it.
    pub(super) fn wrote(&mut self, outbox: &mut Outbox, slot: Slot, taken: Taken) {
        if let Some(frames) = taken.frames {
            outbox.push_shared(frames, &mut self.budget.accounts);
        }
        if taken.bytes > 0 {
            outbox.consume(taken.bytes, &mut self.budget.accounts);
        }
        if let Some(now) = taken.moved {
            outbox.set_moved(now);
        }
        self.budget.rank(slot, outbox);
    }

    /// Forgets what a connection has not begun to be sent.
    pub(super) fn discard_unsent(&mut self, connection: &mut Connection, slot: Slot) {
        if let Some(busy) = connection.busy.as_mut() {
            busy.outbox.discard_unsent(connection.wire, &mut self.budget.accounts);
            self.budget.rank(slot, &mut busy.outbox);
        }
    }

    /// Forgets all that waits for a connection.
    pub(super) fn clear(&mut self, connection: &mut Connection, slot: Slot) {
        if let Some(busy) = connection.busy.as_mut() {
            busy.outbox.clear(&mut self.budget.accounts);
            self.budget.rank(slot, &mut busy.outbox);
        }
    }

    /// A client that was too slow has read what it had: in channels that are quiet now it is told
    /// what it missed; in others the next publication tells. Returns whether it is told anything.
    pub(super) fn tell_skips(
        &mut self,
        channels: &mut Channels,
        connection: &mut Connection,
        slot: Slot,
    ) -> bool {
        let mut told = false;
        let skips = connection.busy.as_ref().map_or(&[][..], |busy| &busy.skips);
        let places: Vec<LocalId> = skips.iter().map(|(place, _)| *place).collect();
        for place in places {
            let local = channels.local(place);
            let Some(index) = connection.find_subscription(place) else {
                unreachable!("what is skipped is subscribed")
            };
            let subscription = connection.subscribed(index);
            if local.is_open() || subscription.cursor != local.head() {
                continue;
            }
            // No answer has come yet, so nothing can have been skipped.
            let Some(next) = local.next() else { continue };
            subscription.mode = DeliveryMode::Live;
            let accounts = &mut self.budget.accounts;
            push_skip_notice(connection, place, local.name.as_str(), next.offset, accounts);
            told = true;
        }
        self.end_collecting(connection, slot);
        told
    }
}

/// Moves every segment that the connection has not been given into its outbox, up to the first
/// thing that halts it.
fn take_pending(
    connection: &mut Connection,
    channels: &mut Channels,
    mut with: Collecting<'_>,
) -> Option<Halt> {
    (0..connection.subscriptions_count())
        .find_map(|index| take_pending_of(connection, index, channels, &mut with))
}

/// The same for one subscription, within the limit that its connection's slowness is judged by, up
/// to the first gap.
fn take_pending_of(
    connection: &mut Connection,
    index: usize,
    channels: &mut Channels,
    with: &mut Collecting<'_>,
) -> Option<Halt> {
    let subscription = *connection.subscribed(index);
    if connection.flags.has(Flags::DEAF) || subscription.mode == DeliveryMode::Recovering {
        forgo(connection, channels, index);
        return None;
    }
    let Collecting { limit, counters, accounts, oldest } = with;
    let wire = connection.wire;
    let local = channels.local(subscription.channel);
    let mut skipping = subscription.mode == DeliveryMode::Skipping;
    let mut cursor = subscription.cursor;
    let mut halt = None;
    while cursor != local.head() {
        let Some((count, first, accepted)) = local.segment_facts(cursor) else {
            if let Some(gap) = local.gap_at(cursor) {
                cursor = cursor.wrapping_add(1);
                if subscription.positioned {
                    halt = Some(Halt::Gap(gap));
                    break;
                }
                continue;
            }
            // A defect: it was forgotten too early. Going on would be a silent loss for good.
            counters.audit_errors.add(1);
            halt = Some(Halt::TooSlow(CloseReason::InsufficientState));
            break;
        };
        let frames = Rc::clone(local.frames(cursor, wire));
        let outbox = &mut connection.busy().outbox;
        // Who has begun to skip goes on until there is much room: one gap, not one for each
        // publication that is a little shorter than those before.
        let crowded = skipping && outbox.cost_bytes() > *limit / 2;
        if crowded || outbox.cost_bytes() + frames.bytes().len() > *limit {
            let reason = too_slow(local.namespace.slow_policy, wire.protocol.on_gap());
            if reason.is_some() {
                halt = reason.map(Halt::TooSlow);
                break;
            }
            if !std::mem::replace(&mut skipping, true) {
                let after = first.saturating_sub(1);
                connection.busy().skips.push((subscription.channel, after));
            }
            counters.drops[DropReason::SlowSkip as usize].add(count as u64);
        } else {
            if std::mem::take(&mut skipping) {
                let name = local.name.as_str();
                push_skip_notice(connection, subscription.channel, name, first, accounts);
            }
            counters.deliveries.add(count as u64);
            **oldest = Some(oldest.map_or(accepted, |before| before.min(accepted)));
            connection.busy().outbox.push_shared(frames, accounts);
        }
        cursor = cursor.wrapping_add(1);
    }
    let subscription = connection.subscribed(index);
    // Also if it ends here: what is in the outbox must not come there again.
    subscription.cursor = cursor;
    subscription.mode = if skipping { DeliveryMode::Skipping } else { DeliveryMode::Live };
    halt
}

/// Passes over every segment that a subscription has not been given: its connection takes nothing
/// any more, or it is to be given them otherwise.
fn forgo(connection: &mut Connection, channels: &mut Channels, index: usize) {
    let subscription = connection.subscribed(index);
    subscription.cursor = channels.local(subscription.channel).head();
}

/// Whether a connection is sent what is for it alone.
fn takes_own(connection: &Connection) -> bool {
    !connection.flags.has(Flags::DEAF) && connection.state != State::Released
}

/// Bytes that may wait for a connection before it is too slow.
fn outbox_limit(connection: &Connection, bytes_max: usize) -> usize {
    let factor = if connection.flags.has(Flags::BLOCKED) { 1 } else { OUTBOX_UNBLOCKED_FACTOR };
    bytes_max * factor
}

/// What a full outbox means: nothing more than a gap, or the end of the connection.
fn too_slow(policy: SlowPolicy, on_gap: OnGap) -> Option<CloseReason> {
    match (policy, on_gap) {
        (SlowPolicy::Disconnect, _) => Some(CloseReason::Slow),
        (SlowPolicy::Skip, OnGap::Close) => Some(CloseReason::InsufficientState),
        (SlowPolicy::Skip, OnGap::Notice | OnGap::Unsubscribe) => None,
    }
}

/// Tells a client whose protocol has a word for it what it has missed by being slow.
fn push_skip_notice(
    connection: &mut Connection,
    place: LocalId,
    channel: &str,
    next: u64,
    accounts: &mut Accounts,
) {
    let wire = connection.wire;
    let skips = &mut connection.busy().skips;
    let Some(at) = skips.iter().position(|(skipped, _)| *skipped == place) else { return };
    let (_, after) = skips.swap_remove(at);
    if wire.protocol.on_gap() == OnGap::Notice {
        let mut frames = Vec::new();
        let encoded = wire.encode_push(&Push::Gap { channel, after, next }, &mut frames);
        if encoded.is_ok() {
            connection.busy().outbox.push_own(&frames, accounts);
        }
    }
}
