//! The sweep: connections with something to send are visited in the order of their slots, each
//! gets everything that it has not seen in one write, and 256 writes are one system call. Between
//! two such chunks the rest of the turn has its place.

use std::ops::Range;
use std::rc::Rc;

use super::Shard;
use super::locals::Locals;
use crate::channel::SlowPolicy;
use crate::connection::{
    Accounts, Connection, Delivery, Flags, Frames, Piece, State, Subscription,
};
use crate::ids::{Moment, Slot};
use crate::kernel::{ConnectionKey, Socket, Sockets, Write, Wrote};
use crate::limits::{
    COPY_BYTES_MAX, CORK_BYTES_MAX, GATHER_BYTES_MAX, OUTBOX_UNBLOCKED_FACTOR, SWEEP_LOOKS_MAX,
    SWEEP_SENDS_MAX,
};
use crate::metrics::ShardCounters;
use crate::protocol::{Codec, OnGap, Push};
use crate::reason::{CloseReason, DropReason};

/// Where the sweep is, and its buffers.
#[derive(Default)]
pub(super) struct Sweep {
    position: usize,
    pass: u64,
    cork: Vec<u8>,
    entries: Vec<Entry>,
    results: Vec<Wrote>,
    /// When the oldest publication of the chunk was accepted.
    oldest: Option<Moment>,
}

impl Sweep {
    /// Number of the round that is under way.
    pub(super) fn pass(&self) -> u64 {
        self.pass
    }
}

/// One write of a chunk.
struct Entry {
    key: ConnectionKey,
    socket: Socket,
    source: Source,
}

/// Where a write's bytes are.
enum Source {
    /// A segment that the connection has not been given, straight from the channel's log.
    Frames(Rc<Frames>),
    /// The rest of the first piece of the outbox, from this byte on.
    Front(Rc<Frames>, usize),
    /// Pieces of the outbox, gathered in the cork.
    Cork(Range<usize>),
}

impl Source {
    fn bytes<'a>(&'a self, cork: &'a [u8]) -> &'a [u8] {
        match self {
            Source::Frames(frames) => frames.bytes(),
            Source::Front(frames, from) => &frames.bytes()[*from..],
            Source::Cork(range) => &cork[range.clone()],
        }
    }
}

/// What [`collect_pending`] found.
enum Collected {
    /// The outbox holds everything.
    All,
    /// Its owner is too slow for its namespace.
    TooSlow(CloseReason),
}

/// What [`collect_pending`] must be told and brings up to date.
struct Collecting<'a> {
    /// Bytes that may wait.
    limit: usize,
    counters: &'a ShardCounters,
    accounts: &'a mut Accounts,
    /// When the oldest publication of the chunk was accepted.
    oldest: &'a mut Option<Moment>,
}

impl<S: Sockets> Shard<S> {
    /// Sends one chunk.
    pub(super) fn sweep_chunk(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let pass = self.sweep.pass;
        let mut sweep = std::mem::replace(&mut self.sweep, Sweep { pass, ..Sweep::default() });
        let mut looks = 0;
        while !self.dirty.is_empty()
            && looks < SWEEP_LOOKS_MAX
            && sweep.entries.len() < SWEEP_SENDS_MAX
            && sweep.cork.len() + GATHER_BYTES_MAX <= CORK_BYTES_MAX
        {
            match self.dirty.take_from(sweep.position) {
                Some(index) => {
                    looks += 1;
                    sweep.position = index + 1;
                    self.gather(Slot::new(index), &mut sweep);
                }
                None => self.sweep_wrap(&mut sweep),
            }
        }
        if self.dirty.is_empty() {
            self.sweep_wrap(&mut sweep);
        }
        self.sweep_send(&mut sweep);
        self.sweep = sweep;
    }

    /// A round is over: what was sealed before it began has been given to everybody, and if nobody
    /// is left to visit, all has.
    fn sweep_wrap(&mut self, sweep: &mut Sweep) {
        let all = self.dirty.is_empty();
        let done = if all { Some(sweep.pass) } else { sweep.pass.checked_sub(1) };
        sweep.position = 0;
        sweep.pass += 1;
        self.sweep.pass = sweep.pass;
        let Some(done) = done else { return };
        let locals = &mut self.locals;
        self.channels_with_segments.retain(|&place| {
            let Some(local) = locals.at(place) else { return false };
            local.forget(done);
            local.holds_segments()
        });
    }

    /// Decides what one connection is sent now.
    fn gather(&mut self, slot: Slot, sweep: &mut Sweep) {
        let Some(connection) = self.slots.at(slot) else { return };
        if connection.state == State::Released {
            return;
        }
        let key = ConnectionKey { slot, generation: connection.generation };
        if connection.state == State::Upgrading && !crate::sabotage!(EarlyUpgrade) {
            // The channel forgets what everybody has been given; the client is sent it later.
            return self.collect_pending_or_close(slot, &mut sweep.oldest);
        }
        if connection.is_served() {
            let blocked = connection.flags.has(Flags::BLOCKED);
            let quiet = connection.busy.as_ref().is_none_or(|busy| busy.outbox.is_empty());
            if quiet
                && !blocked
                && let Some(source) =
                    take_only_segment(connection, &mut self.locals, sweep, &self.counters)
            {
                let socket = connection.socket;
                sweep.entries.push(Entry { key, socket, source });
                return;
            }
            self.collect_pending_or_close(slot, &mut sweep.oldest);
        }
        let Some(connection) = self.slots.get(key) else { return };
        if connection.flags.has(Flags::BLOCKED) || connection.state == State::Released {
            return;
        }
        let socket = connection.socket;
        let Some(busy) = connection.busy.as_ref() else { return };
        if let Some(source) = take_from_outbox(&busy.outbox, &mut sweep.cork) {
            sweep.entries.push(Entry { key, socket, source });
            // Whatever marked it meanwhile is in this write: one socket, one write.
            self.dirty.remove(slot.index());
        }
    }

    fn sweep_send(&mut self, sweep: &mut Sweep) {
        let cork = std::mem::take(&mut sweep.cork);
        if !sweep.entries.is_empty() {
            let writes: Vec<Write<'_>> = sweep
                .entries
                .iter()
                .map(|entry| Write { socket: entry.socket, bytes: entry.source.bytes(&cork) })
                .collect();
            self.io.send(&writes, &mut sweep.results);
        }
        assert_eq!(sweep.results.len(), sweep.entries.len(), "each write has a result");
        if let Some(oldest) = sweep.oldest.take() {
            let age = self.io.now().since(oldest);
            self.counters.delivery.record(age, sweep.entries.len() as u64);
        }
        let mut bytes = 0;
        for (entry, wrote) in sweep.entries.drain(..).zip(sweep.results.drain(..)) {
            let length = entry.source.bytes(&cork).len();
            if let (Source::Frames(_), Wrote::Bytes(count)) = (&entry.source, wrote)
                && count == length
            {
                bytes += count;
                continue; // By far the most common: nothing is left to do.
            }
            bytes += self.on_wrote(entry, length, wrote);
        }
        self.counters.delivered_bytes.add(bytes as u64);
        sweep.cork = cork;
        sweep.cork.clear();
    }

    /// Brings a connection's outbox up to what the kernel took; answers how much that was.
    fn on_wrote(&mut self, entry: Entry, length: usize, wrote: Wrote) -> usize {
        let key = entry.key;
        let Some(connection) = self.slots.get(key) else { return 0 };
        let count = match wrote {
            Wrote::Gone => {
                self.on_deaf(key);
                return 0;
            }
            Wrote::Blocked => {
                self.retries.note(key);
                0
            }
            Wrote::Bytes(count) => count,
        };
        let blocks = count < length && !connection.flags.has(Flags::BLOCKED);
        if blocks {
            connection.flags.set(Flags::BLOCKED);
        }
        let outbox = &mut connection.busy().outbox;
        if let Source::Frames(frames) = entry.source {
            outbox.push_shared(frames, &mut self.budget.accounts);
        }
        if count > 0 {
            outbox.consume(count, &mut self.budget.accounts);
        }
        if count > 0 || blocks {
            outbox.set_moved(self.tick);
        }
        self.budget.rank(key.slot, outbox);
        let (empty, after) = (outbox.is_empty(), outbox.cost_bytes());
        let (state, flags) = (connection.state, connection.flags);
        connection.shrink();
        if blocks && state == State::Connected {
            self.expect_progress(key);
        }
        if !empty && !flags.has(Flags::BLOCKED) {
            self.mark_dirty(key.slot);
        }
        if empty && state == State::Connected {
            self.tell_skips(key);
        }
        if empty && state == State::Closing {
            self.on_closing_sent(key);
        } else if after <= self.options.reading_bytes_max()
            && (flags.has(Flags::READABLE) || flags.has(Flags::PARKED))
            && !flags.has(Flags::WAITING)
            && !flags.has(Flags::OWING)
        {
            self.list(key);
        }
        count
    }

    /// A client that was too slow has read what it had: in channels that are quiet now it is told
    /// what it missed; in others the next publication tells.
    fn tell_skips(&mut self, key: ConnectionKey) {
        let Some(connection) = self.slots.get(key) else { return };
        let skips = connection.busy.as_ref().map_or(&[][..], |busy| &busy.skips);
        let places: Vec<u32> = skips.iter().map(|(place, _)| *place).collect();
        for place in places {
            let Some(local) = self.locals.at(place).filter(|local| !local.is_open()) else {
                continue;
            };
            let Some(index) = connection.find_subscription(place) else { continue };
            let Some(subscription) = connection.subscription(index) else { continue };
            let (Some(next), true) = (local.next(), subscription.cursor == local.head()) else {
                continue;
            };
            subscription.delivery = Delivery::Live;
            let accounts = &mut self.budget.accounts;
            push_skip_notice(connection, (place, local.name.as_str()), next.offset, accounts);
            self.dirty.insert(key.slot.index());
        }
        if let Some(busy) = connection.busy.as_mut() {
            self.budget.rank(key.slot, &mut busy.outbox);
        }
        connection.shrink();
    }

    /// Puts everything that a connection has not been given into its outbox.
    pub(super) fn collect_pending(&mut self, slot: Slot) {
        let mut oldest = None;
        self.collect_pending_or_close(slot, &mut oldest);
    }

    fn collect_pending_or_close(&mut self, slot: Slot, oldest: &mut Option<Moment>) {
        if let Collected::TooSlow(reason) = self.collect_pending_into(slot, oldest)
            && let Some(key) = self.slots.key(slot)
        {
            self.close(key, reason);
        }
    }

    /// The same up to the limit, for a connection that closes anyway: closing it from here would
    /// come back here.
    pub(super) fn collect_last(&mut self, slot: Slot) {
        let mut oldest = None;
        self.collect_pending_into(slot, &mut oldest);
    }

    fn collect_pending_into(&mut self, slot: Slot, oldest: &mut Option<Moment>) -> Collected {
        let Some(connection) = self.slots.at(slot) else { return Collected::All };
        let collecting = Collecting {
            limit: outbox_limit(connection, self.options.client().outbox_bytes_max),
            counters: &self.counters,
            accounts: &mut self.budget.accounts,
            oldest,
        };
        let collected = take_pending(connection, &mut self.locals, collecting);
        if let Some(busy) = connection.busy.as_mut() {
            self.budget.rank(slot, &mut busy.outbox);
        }
        connection.shrink();
        collected
    }

    /// Puts frames for one connection alone into its outbox.
    pub(super) fn send_own(&mut self, key: ConnectionKey, frames: &[u8]) {
        let Some(connection) = self.slots.get(key) else { return };
        let deaf = connection.flags.has(Flags::DEAF);
        if frames.is_empty() || deaf || connection.state == State::Released {
            return;
        }
        self.replied_bytes += frames.len();
        let outbox = &mut connection.busy().outbox;
        outbox.push_own(frames, &mut self.budget.accounts);
        self.budget.rank(key.slot, outbox);
        self.mark_dirty(key.slot);
    }

    /// Tells a client something that it has not asked for. Nothing limits how often that happens,
    /// so whoever does not read it is too slow.
    pub(super) fn send_event(&mut self, key: ConnectionKey, frames: &[u8]) {
        self.send_own(key, frames);
        let Some(connection) = self.slots.get(key) else { return };
        if connection.outbox_cost_bytes()
            > outbox_limit(connection, self.options.client().outbox_bytes_max)
        {
            self.close(key, CloseReason::Slow);
        }
    }
}

/// The one segment that the connection has not been given, if it is one and no more.
fn take_only_segment(
    connection: &mut Connection,
    locals: &mut Locals,
    sweep: &mut Sweep,
    counters: &ShardCounters,
) -> Option<Source> {
    let single = connection.busy.as_ref().is_none_or(|busy| busy.more.is_empty());
    let subscription = &mut connection.first;
    let live = subscription.delivery == Delivery::Live;
    if !single || subscription.channel == Subscription::NO_CHANNEL || !live {
        return None;
    }
    let local = locals.at(subscription.channel)?;
    if local.head().wrapping_sub(subscription.cursor) != 1 {
        return None;
    }
    let head = local.head();
    let (frames, count, accepted) = local.last_segment(connection.wire)?;
    let frames = Rc::clone(frames);
    subscription.cursor = head;
    counters.deliveries.add(count as u64);
    sweep.oldest = Some(sweep.oldest.map_or(accepted, |oldest| oldest.min(accepted)));
    (!frames.bytes().is_empty()).then_some(Source::Frames(frames))
}

/// What to send next from an outbox: a large shared piece as it is, or small ones gathered.
fn take_from_outbox(outbox: &crate::connection::Outbox, cork: &mut Vec<u8>) -> Option<Source> {
    let (first, sent, more) = outbox.front()?;
    if let Piece::Shared(frames) = first
        && (!more || frames.bytes().len() - sent > COPY_BYTES_MAX)
    {
        return Some(Source::Front(Rc::clone(frames), sent));
    }
    let begin = cork.len();
    outbox.gather(GATHER_BYTES_MAX, cork);
    Some(Source::Cork(begin..cork.len()))
}

/// Moves every segment that the connection has not been given into its outbox, within the limit
/// that its slowness is judged by.
fn take_pending(
    connection: &mut Connection,
    locals: &mut Locals,
    with: Collecting<'_>,
) -> Collected {
    let Collecting { limit, counters, accounts, oldest } = with;
    if connection.flags.has(Flags::DEAF) {
        (0..connection.subscriptions_count()).for_each(|index| forgo(connection, locals, index));
        return Collected::All;
    }
    let wire = connection.wire;
    for index in 0..connection.subscriptions_count() {
        let Some(&mut subscription) = connection.subscription(index) else { break };
        let Some(local) = locals.at(subscription.channel) else { continue };
        if subscription.delivery == Delivery::Recovering {
            forgo(connection, locals, index);
            continue;
        }
        let mut skipping = subscription.delivery == Delivery::Skipping;
        let mut cursor = subscription.cursor;
        let mut ended = None;
        while cursor != local.head() {
            let Some((count, first, accepted)) = local.segment_facts(cursor) else {
                // A defect: it was forgotten too early. Going on would be a silent loss for good.
                counters.audit_errors.add(1);
                ended = Some(CloseReason::InsufficientState);
                break;
            };
            let Some(frames) = local.frames(cursor, wire).map(Rc::clone) else { break };
            let outbox = &mut connection.busy().outbox;
            // Who has begun to skip goes on until there is much room: one gap, not one for each
            // publication that is a little shorter than those before.
            let crowded = skipping && outbox.cost_bytes() > limit / 2;
            if crowded || outbox.cost_bytes() + frames.bytes().len() > limit {
                ended = too_slow(local.namespace.slow_policy, wire.protocol.on_gap());
                if ended.is_some() {
                    break;
                }
                if !std::mem::replace(&mut skipping, true) {
                    let after = first.saturating_sub(1);
                    connection.busy().skips.push((subscription.channel, after));
                }
                counters.drops[DropReason::SlowSkip as usize].add(count as u64);
            } else {
                if std::mem::take(&mut skipping) {
                    let channel = (subscription.channel, local.name.as_str());
                    push_skip_notice(connection, channel, first, accounts);
                }
                counters.deliveries.add(count as u64);
                *oldest = Some(oldest.map_or(accepted, |before| before.min(accepted)));
                connection.busy().outbox.push_shared(frames, accounts);
            }
            cursor = cursor.wrapping_add(1);
        }
        if let Some(subscription) = connection.subscription(index) {
            // Also if it ends here: what is in the outbox must not come there again.
            subscription.cursor = cursor;
            subscription.delivery = if skipping { Delivery::Skipping } else { Delivery::Live };
        }
        if let Some(reason) = ended {
            return Collected::TooSlow(reason);
        }
    }
    Collected::All
}

/// Passes over every segment that a subscription has not been given: its connection takes nothing
/// any more, or it is to be given them otherwise.
fn forgo(connection: &mut Connection, locals: &mut Locals, index: usize) {
    if let Some(subscription) = connection.subscription(index)
        && let Some(local) = locals.at(subscription.channel)
    {
        subscription.cursor = local.head();
    }
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
    (place, channel): (u32, &str),
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
