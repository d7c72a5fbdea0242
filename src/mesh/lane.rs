//! The sending side of a thread: a lane to each other thread. Batches that do not fit into the
//! inbox wait in a spill.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::TrySendError;

use super::{Address, ShardMail, ToHome, ToShard, Wake};
use crate::channel::{ChannelName, Publication};
use crate::ids::Epoch;
use crate::limits::{
    BATCH_MESSAGES_MAX, ENTRY_OVERHEAD_BYTES, REPLAYS_BATCHES_MAX, SPILL_BYTES_MAX,
};

/// The lane to another thread, for messages that must arrive.
#[derive(Debug)]
pub struct Lane<M> {
    address: Address<M>,
    wake: Box<dyn Wake>,
    /// The messages of this turn.
    open: Vec<M>,
    /// The batches of earlier turns in which the inbox was full. They are sent before `open`.
    spill: VecDeque<Vec<M>>,
}

impl<M> Lane<M> {
    /// Creates a lane to the thread at `address`, which `wake` wakes.
    pub fn new(address: Address<M>, wake: Box<dyn Wake>) -> Lane<M> {
        Lane { address, wake, open: Vec::new(), spill: VecDeque::new() }
    }

    /// Appends a message.
    pub fn push(&mut self, message: M) {
        self.open.push(message);
        if self.open.len() >= BATCH_MESSAGES_MAX {
            self.flush();
        }
    }

    /// Hands over the gathered messages, as far as the inbox has room.
    pub fn flush(&mut self) {
        let mut sent = self.send_spill();
        sent |= self.send_open();
        if sent {
            self.wake();
        }
    }

    /// Sends a message immediately. Returns false, without taking the message, if earlier messages
    /// still wait for room in the inbox.
    pub fn send_now(&mut self, message: M) -> bool {
        self.flush();
        let room = !self.is_behind();
        if room {
            self.push(message);
            self.flush();
        }
        room
    }

    /// Whether batches wait because the inbox is full.
    pub fn is_behind(&self) -> bool {
        !self.spill.is_empty()
    }

    /// Whether the thread has so much to do that messages which can wait should not be sent to it.
    pub fn is_crowded(&self) -> bool {
        self.is_behind() || self.address.sender.len() >= REPLAYS_BATCHES_MAX
    }

    fn send_spill(&mut self) -> bool {
        let mut sent = false;
        while let Some(batch) = self.spill.pop_front() {
            match self.address.sender.try_send(batch) {
                Ok(()) => sent = true,
                Err(TrySendError::Full(batch)) => {
                    self.spill.push_front(batch);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        sent
    }

    fn send_open(&mut self) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let batch = std::mem::take(&mut self.open);
        if !self.spill.is_empty() {
            self.spill.push_back(batch);
            return false;
        }
        match self.address.sender.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(batch)) => {
                self.spill.push_back(batch);
                false
            }
            // The thread has ended, and with it all receivers of this batch.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    fn wake(&self) {
        if self.address.flag.notify() {
            self.wake.wake();
        }
    }
}

/// The lane to a shard. The number of publications is unlimited, so their spill has a limit.
/// Publications beyond it become a gap notice.
#[derive(Debug)]
pub struct ShardLane {
    lane: Lane<ShardMail>,
    /// Bytes of the publications in the spill.
    spill_bytes: usize,
    spill_bytes_max: usize,
    /// Dropped publications: the channel, the offset before the first one, and the last offset.
    /// They become gap notices as soon as there is room, in the order of names, so that runs are
    /// reproducible.
    gaps: BTreeMap<ChannelName, (u64, u64)>,
    /// Channels with publications that were dropped on the way to their home, which will ask for
    /// the position.
    lost: BTreeSet<ChannelName>,
    dropped: u64,
}

impl ShardLane {
    /// Creates a lane to the shard at `address`, which `wake` wakes.
    pub fn new(address: Address<ShardMail>, wake: Box<dyn Wake>) -> ShardLane {
        ShardLane::with_spill(address, wake, SPILL_BYTES_MAX)
    }

    /// Creates a lane with another limit for the spill.
    pub fn with_spill(
        address: Address<ShardMail>,
        wake: Box<dyn Wake>,
        spill_bytes_max: usize,
    ) -> ShardLane {
        ShardLane {
            lane: Lane::new(address, wake),
            spill_bytes: 0,
            spill_bytes_max,
            gaps: BTreeMap::new(),
            lost: BTreeSet::new(),
            dropped: 0,
        }
    }

    /// Appends a message that must arrive.
    pub fn push(&mut self, message: impl Into<ShardMail>) {
        let message = message.into();
        // The answer to a subscription contains the position of the channel, which also reveals the
        // gap. A notice after it could refer to an epoch that has ended in the meantime.
        match &message {
            ShardMail::Shard(ToShard::Subscribed(answer)) => self.gaps.remove(&answer.channel),
            ShardMail::Shard(ToShard::Moved { channel, .. }) => self.gaps.remove(channel),
            _ => None,
        };
        self.lane.open.push(message);
        if self.lane.open.len() >= BATCH_MESSAGES_MAX {
            self.flush();
        }
    }

    /// Appends a publication, or records a gap if there is no room for it.
    pub fn push_publication(&mut self, channel: &ChannelName, publication: &Arc<Publication>) {
        if !self.has_room(channel, publication) {
            // A publication without an offset leaves no gap.
            if publication.offset > 0 && !crate::sabotage!(DropOnSpill) {
                let gap = self.gaps.entry(channel.clone());
                gap.or_insert((publication.offset - 1, 0)).1 = publication.offset;
            }
            return;
        }
        match self.lane.open.last_mut() {
            Some(ShardMail::Shard(ToShard::Live { channel: last, publications }))
                if last == channel =>
            {
                publications.push(Arc::clone(publication));
            }
            _ => self.push(ToShard::Live {
                channel: channel.clone(),
                publications: vec![Arc::clone(publication)],
            }),
        }
    }

    /// Appends a publication that the bus has ordered, on its way to the home of the channel.
    pub fn push_read(
        &mut self,
        channel: &ChannelName,
        epoch: Epoch,
        publication: &Arc<Publication>,
    ) {
        if !self.has_room(channel, publication) {
            self.lost.insert(channel.clone());
            return;
        }
        match self.lane.open.last_mut() {
            Some(ShardMail::Home(ToHome::Read { channel: last, epoch: of, publications }))
                if last == channel && *of == epoch =>
            {
                publications.push(Arc::clone(publication));
            }
            _ => self.push(ToHome::Read {
                channel: channel.clone(),
                epoch,
                publications: vec![Arc::clone(publication)],
            }),
        }
    }

    /// Charges a publication to the spill. Returns whether there is room for it. After a dropped
    /// publication, all further ones of that channel are dropped until the notice has been sent.
    fn has_room(&mut self, channel: &ChannelName, publication: &Arc<Publication>) -> bool {
        let cost = cost_bytes(publication);
        let full = self.spill_bytes + cost > self.spill_bytes_max && self.lane.is_behind();
        if full || self.gaps.contains_key(channel) || self.lost.contains(channel) {
            self.dropped += 1;
            return false;
        }
        if self.lane.is_behind() {
            self.spill_bytes += cost;
        }
        true
    }

    /// Hands over the gathered messages, as far as the inbox has room.
    pub fn flush(&mut self) {
        let mut sent = self.lane.send_spill();
        let fits = !self.lane.is_behind();
        if fits {
            self.spill_bytes = 0;
            let open = &mut self.lane.open;
            for (channel, (after, last)) in std::mem::take(&mut self.gaps) {
                open.push(ToShard::Gap { channel, after, next: last + 1 }.into());
            }
            let lost = std::mem::take(&mut self.lost).into_iter();
            open.extend(lost.map(|channel| ToHome::Lost { channel }.into()));
        }
        sent |= self.lane.send_open();
        if fits && let Some(first) = self.lane.spill.front() {
            // The inbox became full only now, so the spill contains just this batch.
            self.spill_bytes = first.iter().map(publications_bytes).sum();
        }
        if sent {
            self.lane.wake();
        }
    }

    /// Does the same as [`Lane::send_now`]. The message is no publication, so it costs nothing of
    /// the spill.
    pub fn send_now(&mut self, message: impl Into<ShardMail>) -> bool {
        self.flush();
        !self.is_behind() && self.lane.send_now(message.into())
    }

    /// Whether messages wait because the inbox is full.
    pub fn is_behind(&self) -> bool {
        self.lane.is_behind() || !self.gaps.is_empty() || !self.lost.is_empty()
    }

    /// Whether the shard has so much to do that messages which can wait should not be sent to it.
    pub fn is_crowded(&self) -> bool {
        self.lane.is_crowded()
    }

    /// Returns the number of publications that became gaps since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// Returns the bytes of the publications in a message. Other messages are few and count as 0.
fn publications_bytes(message: &ShardMail) -> usize {
    match message {
        ShardMail::Shard(ToShard::Live { publications, .. })
        | ShardMail::Home(ToHome::Read { publications, .. }) => {
            publications.iter().map(cost_bytes).sum()
        }
        _ => 0,
    }
}

fn cost_bytes(publication: &Arc<Publication>) -> usize {
    publication.cost_bytes() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
