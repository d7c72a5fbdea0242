//! The sending side of a thread: one lane to each other thread, with a spill of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::TrySendError;

use super::{Address, Batch, Message, Wake};
use crate::channel::{ChannelName, Publication};
use crate::ids::Epoch;
use crate::limits::{BATCH_MESSAGES_MAX, ENTRY_OVERHEAD_BYTES, SPILL_BYTES_MAX};

/// The way to one other thread.
#[derive(Debug)]
pub struct Lane {
    address: Address,
    wake: Box<dyn Wake>,
    /// Gathered in this turn.
    open: Batch,
    /// Gathered in earlier turns, when the inbox was full. Sent before `open`.
    spill: VecDeque<Batch>,
    spill_bytes: usize,
    spill_bytes_max: usize,
    /// Publications that found no room: the channel, the last offset before them and the last of
    /// them. They become gap notices as soon as there is room, in the order of names, so that the
    /// same run always sends the same.
    gaps: BTreeMap<ChannelName, (u64, u64)>,
    /// The same for publications on their way to their home, which will ask where the channel is.
    lost: BTreeSet<ChannelName>,
    dropped: u64,
}

impl Lane {
    /// A lane to the thread at `address`, which `wake` wakes.
    pub fn new(address: Address, wake: Box<dyn Wake>) -> Lane {
        Lane::with_spill(address, wake, SPILL_BYTES_MAX)
    }

    /// The same with another bound on the spill.
    pub fn with_spill(address: Address, wake: Box<dyn Wake>, spill_bytes_max: usize) -> Lane {
        Lane {
            address,
            wake,
            open: Vec::new(),
            spill: VecDeque::new(),
            spill_bytes: 0,
            spill_bytes_max,
            gaps: BTreeMap::new(),
            lost: BTreeSet::new(),
            dropped: 0,
        }
    }

    /// Appends a message that must arrive.
    pub fn push(&mut self, message: Message) {
        // The answer to a subscription says where the channel stands, and so tells of the gap as
        // well. A notice behind it could speak of an epoch that has ended meanwhile.
        match &message {
            Message::Subscribed(answer) => self.gaps.remove(&answer.channel),
            Message::Moved { channel, .. } => self.gaps.remove(channel),
            _ => None,
        };
        self.open.push(message);
        if self.open.len() >= BATCH_MESSAGES_MAX {
            self.flush();
        }
    }

    /// Appends a publication, or notes a gap if there is no room for it.
    pub fn push_publication(&mut self, channel: &ChannelName, publication: &Arc<Publication>) {
        if !self.has_room(channel, publication) {
            // A publication outside the channel's order leaves no gap in it.
            if publication.offset > 0 && !crate::sabotage!(DropOnSpill) {
                let gap = self.gaps.entry(channel.clone());
                gap.or_insert((publication.offset - 1, 0)).1 = publication.offset;
            }
            return;
        }
        match self.open.last_mut() {
            Some(Message::Live { channel: last, publications }) if last == channel => {
                publications.push(Arc::clone(publication));
            }
            _ => self.push(Message::Live {
                channel: channel.clone(),
                publications: vec![Arc::clone(publication)],
            }),
        }
    }

    /// The same for a publication that the bus has ordered, on its way to the channel's home.
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
        match self.open.last_mut() {
            Some(Message::Read { channel: last, epoch: of, publications })
                if last == channel && *of == epoch =>
            {
                publications.push(Arc::clone(publication));
            }
            _ => self.push(Message::Read {
                channel: channel.clone(),
                epoch,
                publications: vec![Arc::clone(publication)],
            }),
        }
    }

    /// Charges for a publication. Answers whether there is room for it; what follows one that found
    /// none in the same channel finds none either, until the notice is on its way.
    fn has_room(&mut self, channel: &ChannelName, publication: &Arc<Publication>) -> bool {
        let cost = publication.cost_bytes() + ENTRY_OVERHEAD_BYTES;
        let full = self.spill_bytes + cost > self.spill_bytes_max && !self.spill.is_empty();
        if full || self.gaps.contains_key(channel) || self.lost.contains(channel) {
            self.dropped += 1;
            return false;
        }
        if !self.spill.is_empty() {
            self.spill_bytes += cost;
        }
        true
    }

    /// Hands over what has been gathered, as far as the inbox has room.
    pub fn flush(&mut self) {
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
        if self.spill.is_empty() {
            self.spill_bytes = 0;
            for (channel, (after, last)) in std::mem::take(&mut self.gaps) {
                self.open.push(Message::Gap { channel, after, next: last + 1 });
            }
            let lost = std::mem::take(&mut self.lost).into_iter();
            self.open.extend(lost.map(|channel| Message::Lost { channel }));
        }
        if !self.open.is_empty() {
            let batch = std::mem::take(&mut self.open);
            sent |= self.flush_open(batch);
        }
        if sent && self.address.flag.notify() {
            self.wake.wake();
        }
    }

    fn flush_open(&mut self, batch: Batch) -> bool {
        if !self.spill.is_empty() {
            self.spill.push_back(batch);
            return false;
        }
        match self.address.sender.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(batch)) => {
                self.spill_bytes = batch.iter().map(message_cost).sum();
                self.spill.push_back(batch);
                false
            }
            // The thread has ended, and with it everybody who could miss this.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// Whether something waits that the inbox had no room for.
    pub fn is_behind(&self) -> bool {
        !self.spill.is_empty() || !self.gaps.is_empty() || !self.lost.is_empty()
    }

    /// Publications that became gaps since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

fn message_cost(message: &Message) -> usize {
    let cost = |publication: &Arc<Publication>| publication.cost_bytes() + ENTRY_OVERHEAD_BYTES;
    match message {
        Message::Live { publications, .. } | Message::Read { publications, .. } => {
            publications.iter().map(cost).sum()
        }
        _ => 0,
    }
}

/// All lanes of a thread, by the number of their target.
#[derive(Debug)]
pub struct Outbound {
    lanes: Vec<Lane>,
}

impl Outbound {
    /// The lanes in `lanes`.
    pub fn new(lanes: Vec<Lane>) -> Outbound {
        Outbound { lanes }
    }

    /// The lane to the thread with number `target`.
    pub fn lane(&mut self, target: usize) -> &mut Lane {
        &mut self.lanes[target]
    }

    /// Hands over everything, as far as inboxes have room. Answers how many publications became
    /// gaps since the last call.
    pub fn flush(&mut self) -> u64 {
        let mut dropped = 0;
        for lane in &mut self.lanes {
            lane.flush();
            dropped += lane.take_dropped();
        }
        dropped
    }

    /// Whether some inbox had no room: the thread must come again.
    pub fn is_behind(&self) -> bool {
        self.lanes.iter().any(Lane::is_behind)
    }
}

#[cfg(test)]
mod tests;
