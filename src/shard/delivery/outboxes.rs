//! Outboxes hold the data that waits for a connection: its own answers, and the undelivered
//! publications of its channels. The limit on their size decides which clients are too slow.

use std::rc::Rc;
use std::sync::Arc;

use super::budget::{Budget, OutboxLeases};
use super::gap::Gap;
use super::subscribers::LocalChannels;
use crate::channel::SlowPolicy;
use crate::connection::{Accounts, Connection, DeliveryMode, Flags, Frames, Outbox, State};
use crate::ids::{LocalId, Moment, Slot, Tick};
use crate::limits::{OUTBOX_SKIP_SHARE, OUTBOX_UNBLOCKED_FACTOR};
use crate::metrics::ShardCounters;
use crate::protocol::{Codec, OnGap, Push};
use crate::reason::{CloseReason, DropReason};

/// Whether a client is fast enough for the data that it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the connection of a client that is too slow must be closed"]
pub enum Pace {
    /// The outbox holds everything.
    KeepsUp,
    /// The client is too slow for its namespace, and its connection must be closed.
    TooSlow(CloseReason),
}

/// Why a connection receives nothing more for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The client is too slow for its namespace, and must be closed with this reason.
    TooSlow(CloseReason),
    /// The connection has reached a gap, and must be told. It has received everything before the
    /// gap.
    Gap(Gap),
}

/// The context of [`take_pending`], which updates some of it.
struct Collecting<'a> {
    /// Maximum size of the outbox in bytes.
    limit: usize,
    counters: &'a ShardCounters,
    accounts: &'a mut Accounts,
    /// Time at which the oldest collected publication was accepted.
    oldest: &'a mut Option<Moment>,
}

/// The part of an outbox that the kernel took.
pub(super) struct Taken {
    /// Frames of the write that were not in the outbox yet.
    pub(super) frames: Option<Rc<Frames>>,
    /// Number of bytes taken from the outbox after these frames were added.
    pub(super) bytes: usize,
    /// The time, if bytes were taken, or refused for the first time.
    pub(super) moved: Option<Tick>,
}

/// The outboxes of all connections, with their limits and memory.
pub(super) struct Outboxes {
    counters: Arc<ShardCounters>,
    /// Maximum bytes in the outbox of a connection whose socket has no room.
    bytes_max: usize,
    budget: Budget,
}

impl Outboxes {
    /// Creates the outboxes. Each may have `bytes_max` bytes.
    pub(super) fn new(
        counters: Arc<ShardCounters>,
        leases: OutboxLeases,
        bytes_max: usize,
    ) -> Outboxes {
        Outboxes { counters, bytes_max, budget: Budget::new(leases) }
    }

    /// The memory of all outboxes.
    pub(super) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Gives memory that is not needed back to the node.
    pub(super) fn end_turn(&mut self) {
        self.budget.give_back();
        self.counters.outbox_bytes.set(self.budget.accounts.bytes() as u64);
    }

    /// Copies frames for one connection into its outbox. Returns false if it accepts none.
    pub(super) fn push_own(
        &mut self,
        connection: &mut Connection,
        slot: Slot,
        frames: &[u8],
    ) -> bool {
        if !takes_own(connection, frames) {
            return false;
        }
        let outbox = &mut connection.busy().outbox;
        outbox.push_own(frames, &mut self.budget.accounts);
        self.budget.rank(slot, outbox);
        true
    }

    /// Copies frames for one connection to the front of its outbox. Returns false if it accepts
    /// none.
    pub(super) fn push_first(
        &mut self,
        connection: &mut Connection,
        slot: Slot,
        frames: &[u8],
    ) -> bool {
        if !takes_own(connection, frames) {
            return false;
        }
        let outbox = &mut connection.busy().outbox;
        outbox.push_first(frames, &mut self.budget.accounts);
        self.budget.rank(slot, outbox);
        true
    }

    /// Moves a long buffer of frames into the outbox, without a copy. Returns false if it accepts
    /// none.
    pub(super) fn push_long(
        &mut self,
        connection: &mut Connection,
        slot: Slot,
        frames: Vec<u8>,
    ) -> bool {
        if !takes_own(connection, &frames) {
            return false;
        }
        let outbox = &mut connection.busy().outbox;
        outbox.push_long(Frames::new(frames), &mut self.budget.accounts);
        self.budget.rank(slot, outbox);
        true
    }

    /// Checks whether a client keeps up with events that it did not request.
    pub(super) fn pace(&self, connection: &Connection) -> Pace {
        if connection.outbox_cost_bytes() > outbox_limit(connection, self.bytes_max) {
            Pace::TooSlow(CloseReason::Slow)
        } else {
            Pace::KeepsUp
        }
    }

    /// Moves all undelivered publications of a closing connection into its outbox. It is no longer
    /// told about gaps, or about publications that do not fit.
    pub(super) fn collect_last(
        &mut self,
        channels: &mut LocalChannels,
        connection: &mut Connection,
        slot: Slot,
    ) {
        let mut oldest = None;
        while let Some(Halt::Gap(gap)) = self.collect(channels, connection, slot, &mut oldest) {
            let Some(index) = connection.find_subscription(gap.place) else {
                unreachable!("only subscribers reach a gap")
            };
            // The client is not told about this gap, so it must receive nothing newer from this
            // channel.
            connection.subscribed(index).mode = DeliveryMode::Recovering;
        }
    }

    /// Moves the undelivered publications of one channel into the outbox of a connection. The
    /// subscription with number `index` ends, and earlier publications must come before its end.
    /// The client is no longer told about gaps.
    pub(super) fn collect_of_leaving(
        &mut self,
        channels: &mut LocalChannels,
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
            Some(Halt::Gap(_)) => {
                // The connection may close instead, and collect once more: nothing newer may follow
                // a gap that its client does not know of.
                connection.subscribed(index).mode = DeliveryMode::Recovering;
                Pace::KeepsUp
            }
            None => Pace::KeepsUp,
        }
    }

    /// Moves undelivered publications into the outbox of a connection, until something halts it.
    pub(super) fn collect(
        &mut self,
        channels: &mut LocalChannels,
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

    /// Updates an outbox with the bytes that the kernel took.
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

    /// Discards the frames of a connection that have not begun to be sent.
    pub(super) fn discard_unsent(&mut self, connection: &mut Connection, slot: Slot) {
        if let Some(busy) = connection.busy.as_mut() {
            busy.outbox.discard_unsent(connection.wire, &mut self.budget.accounts);
            self.budget.rank(slot, &mut busy.outbox);
        }
    }

    /// Discards the whole outbox of a connection.
    pub(super) fn clear(&mut self, connection: &mut Connection, slot: Slot) {
        if let Some(busy) = connection.busy.as_mut() {
            busy.outbox.clear(&mut self.budget.accounts);
            self.budget.rank(slot, &mut busy.outbox);
        }
    }

    /// Tells a client that was too slow, and has read its outbox, which publications it missed.
    /// This is for channels that are quiet now; in others, the next publication reveals the gap.
    /// Returns true if the client is told anything.
    pub(super) fn tell_skips(
        &mut self,
        channels: &mut LocalChannels,
        connection: &mut Connection,
        slot: Slot,
    ) -> bool {
        let mut told = false;
        let skips = connection.busy.as_ref().map_or(&[][..], |busy| &busy.skips);
        let places: Vec<LocalId> = skips.iter().map(|(place, _)| *place).collect();
        for place in places {
            let local = channels.local(place);
            let Some(index) = connection.find_subscription(place) else {
                unreachable!("publications are skipped only in subscribed channels")
            };
            let subscription = connection.subscribed(index);
            // More data follows in this channel, and the notice must come directly before it.
            if local.is_open() || subscription.cursor != local.head() {
                continue;
            }
            // Nothing can have been skipped before the home's first answer.
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

/// Moves every undelivered segment of all subscriptions into the outbox, until something halts it.
fn take_pending(
    connection: &mut Connection,
    channels: &mut LocalChannels,
    mut with: Collecting<'_>,
) -> Option<Halt> {
    (0..connection.subscriptions_count())
        .find_map(|index| take_pending_of(connection, index, channels, &mut with))
}

/// Does the same for one subscription, up to its first gap, and within the limit on the outbox.
fn take_pending_of(
    connection: &mut Connection,
    index: usize,
    channels: &mut LocalChannels,
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
    let behind = local.head().wrapping_sub(cursor);
    let mut halt = None;
    while cursor != local.head() {
        let Some((count, first, accepted)) = local.segment_facts(cursor) else {
            if let Some(gap) = local.gap_at(cursor) {
                cursor = cursor.wrapping_add(1);
                // A subscription without positions does not promise completeness, so its client is
                // not told.
                if subscription.positioned {
                    halt = Some(Halt::Gap(gap));
                    break;
                }
                continue;
            }
            // This is a bug: the segment was dropped too early. Continuing would lose publications
            // silently.
            counters.audit_errors.add(1);
            halt = Some(Halt::TooSlow(CloseReason::InsufficientState));
            break;
        };
        let frames = Rc::clone(local.frames(cursor, wire));
        let outbox = &mut connection.busy().outbox;
        let crowded = skipping && outbox.cost_bytes() > *limit / OUTBOX_SKIP_SHARE;
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
    let left = local.head().wrapping_sub(cursor);
    assert!(left <= behind, "a cursor only moves forward, and not past the last segment");
    let subscription = connection.subscribed(index);
    // The cursor moves even if the loop halted, because segments in the outbox must not be
    // collected a second time.
    subscription.cursor = cursor;
    subscription.mode = if skipping { DeliveryMode::Skipping } else { DeliveryMode::Live };
    halt
}

/// Moves a subscription past all undelivered segments. Its connection accepts no more data, or the
/// home will provide these publications.
fn forgo(connection: &mut Connection, channels: &mut LocalChannels, index: usize) {
    let subscription = connection.subscribed(index);
    subscription.cursor = channels.local(subscription.channel).head();
}

/// Whether a connection still accepts frames of its own.
fn takes_own(connection: &Connection, frames: &[u8]) -> bool {
    !frames.is_empty() && !connection.flags.has(Flags::DEAF) && connection.state != State::Released
}

/// Maximum size of a connection's outbox, in bytes. A client whose socket still takes bytes may
/// have more, because a burst is longer than one write and the client is not slow yet.
fn outbox_limit(connection: &Connection, bytes_max: usize) -> usize {
    let blocked = connection.flags.has(Flags::BLOCKED) && !crate::sabotage!(PatientOutbox);
    let factor = if blocked { 1 } else { OUTBOX_UNBLOCKED_FACTOR };
    bytes_max * factor
}

/// The reason to close a connection whose outbox is full, or `None` if it skips publications.
fn too_slow(policy: SlowPolicy, on_gap: OnGap) -> Option<CloseReason> {
    match (policy, on_gap) {
        (SlowPolicy::Disconnect, _) => Some(CloseReason::Slow),
        (SlowPolicy::Skip, OnGap::Close) => Some(CloseReason::InsufficientState),
        (SlowPolicy::Skip, OnGap::Notice | OnGap::Unsubscribe) => None,
    }
}

/// Adds a notice of the publications that a slow client has missed, if its protocol has one.
fn push_skip_notice(
    connection: &mut Connection,
    place: LocalId,
    channel: &str,
    next: u64,
    accounts: &mut Accounts,
) {
    let wire = connection.wire;
    let skips = &mut connection.busy().skips;
    let Some(at) = skips.iter().position(|(skipped, _)| *skipped == place) else {
        unreachable!("the first skipped publication of a channel is recorded")
    };
    let (_, after) = skips.swap_remove(at);
    if wire.protocol.on_gap() == OnGap::Notice {
        let mut frames = Vec::new();
        let encoded = wire.encode_push(&Push::Gap { channel, after, next }, &mut frames);
        if encoded.is_ok() {
            connection.busy().outbox.push_own(&frames, accounts);
        }
    }
}
