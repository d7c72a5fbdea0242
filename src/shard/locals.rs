//! Channels with subscribers on this shard: who they are, and what they have not been given yet.
//!
//! Publications are gathered in an open segment; sealing it makes it part of the channel's log,
//! encoded at most once for each protocol. A subscriber's cursor says which segments it has been
//! given, so what it has not seen is a run of ready bytes, whoever else has seen it.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::channel::{ChannelName, ChannelView, Namespace, Publication};
use crate::connection::Frames;
use crate::ids::{Epoch, Moment, Position, ShardId, Slot};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::protocol::Protocol;

/// A subscriber's place: its connection's slot and the number of its subscription there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber(u64);

impl Subscriber {
    /// The subscription with number `index` of the connection at `slot`.
    pub const fn new(slot: Slot, index: usize) -> Subscriber {
        Subscriber((index as u64) << 32 | slot.index() as u64)
    }

    /// The connection's slot.
    pub const fn slot(self) -> Slot {
        Slot::new(self.0 as u32 as usize)
    }

    /// The number of the subscription.
    pub const fn index(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// Publications that are delivered together.
struct Segment {
    publications: Vec<Arc<Publication>>,
    frames: [Option<Rc<Frames>>; Protocol::COUNT],
    /// The sweep that was under way when it was sealed.
    pass: u64,
}

/// A channel with subscribers here.
pub struct Local {
    /// Its name.
    pub name: ChannelName,
    /// Its options.
    pub namespace: Arc<Namespace>,
    /// The shard that orders it.
    pub home: ShardId,
    /// Who receives it. The order is of no consequence: sweeps go by slots.
    pub subscribers: Vec<Subscriber>,
    /// Subscriptions that wait for the home shard's answer.
    pub waiting: u32,
    /// The channel's life that this shard follows, and the offset that comes next in it. Absent
    /// before the first answer.
    pub next: Option<Position>,
    open: Vec<Arc<Publication>>,
    /// Cost of what is open.
    open_bytes: usize,
    segments: VecDeque<Segment>,
    /// Number of the segment that will be sealed next.
    head: u32,
}

impl Local {
    /// What codecs must know of the channel.
    pub fn view(&self) -> ChannelView<'_> {
        ChannelView {
            name: self.name.as_str(),
            data: self.namespace.data,
            has_history: self.namespace.has_history(),
            epoch: self.next.map_or(Epoch::new(0), |next| next.epoch),
        }
    }

    /// Whether nobody here has or wants a subscription.
    pub fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.waiting == 0
    }

    /// The cursor of a subscriber that has been given everything.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Whether publications have been gathered that no segment holds yet.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Gathers a publication. Answers whether enough are gathered for one segment.
    pub fn append(&mut self, publication: Arc<Publication>) -> bool {
        self.open_bytes += publication.cost_bytes();
        self.open.push(publication);
        self.open_bytes >= SEGMENT_BYTES_MAX
    }

    /// Makes a segment of what has been gathered.
    pub fn seal(&mut self, pass: u64) {
        assert!(self.is_open(), "a segment holds at least one publication");
        let publications = std::mem::take(&mut self.open);
        self.open_bytes = 0;
        self.segments.push_back(Segment { publications, frames: Default::default(), pass });
        self.head = self.head.wrapping_add(1);
    }

    /// Drops segments sealed up to sweep `pass`: everybody has been given them.
    pub fn forget(&mut self, pass: u64) {
        while self.segments.front().is_some_and(|segment| segment.pass <= pass) {
            self.segments.pop_front();
        }
    }

    /// Whether segments are kept.
    pub fn holds_segments(&self) -> bool {
        !self.segments.is_empty()
    }

    /// The segment at `cursor` as frames of `protocol`.
    pub fn frames(&mut self, cursor: u32, protocol: Protocol) -> Option<&Rc<Frames>> {
        let at = self.index_of(cursor)?;
        if self.segments[at].frames[protocol as usize].is_none() {
            let mut out = Vec::new();
            let publications = &self.segments[at].publications;
            protocol.codec().encode_publications(&self.view(), publications, &mut out);
            self.segments[at].frames[protocol as usize] = Some(Frames::new(out));
        }
        self.segments[at].frames[protocol as usize].as_ref()
    }

    /// How many publications the segment at `cursor` holds, the offset of the first one that has a
    /// place in the channel's order, and when the oldest was accepted.
    pub fn segment_facts(&self, cursor: u32) -> Option<(usize, u64, Moment)> {
        let publications = &self.segments[self.index_of(cursor)?].publications;
        let accepted = publications.first()?.accepted;
        let mut offsets = publications.iter().map(|publication| publication.offset);
        let first = offsets.find(|&offset| offset > 0);
        let first = first.or(self.next.map(|next| next.offset)).unwrap_or(0);
        Some((publications.len(), first, accepted))
    }

    fn index_of(&self, cursor: u32) -> Option<usize> {
        let behind = self.head.wrapping_sub(cursor) as usize;
        self.segments.len().checked_sub(behind).filter(|_| behind > 0)
    }
}

/// All channels with subscribers here.
#[derive(Default)]
pub struct Locals {
    names: HashMap<ChannelName, u32, foldhash::quality::RandomState>,
    places: Vec<Option<Box<Local>>>,
    free: Vec<u32>,
}

impl Locals {
    /// Channels in the table.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Places that have ever been used: every channel's place is below this.
    pub fn reached(&self) -> usize {
        self.places.len()
    }

    /// The place of the channel called `name`.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// The channel at `place`.
    pub fn at(&mut self, place: u32) -> Option<&mut Local> {
        self.places.get_mut(place as usize)?.as_deref_mut()
    }

    /// The place of the channel called `name`, which is added if it is new.
    pub fn enter(&mut self, name: &ChannelName, namespace: &Arc<Namespace>, home: ShardId) -> u32 {
        if let Some(place) = self.find(name.as_str()) {
            return place;
        }
        let local = Box::new(Local {
            name: name.clone(),
            namespace: Arc::clone(namespace),
            home,
            subscribers: Vec::new(),
            waiting: 0,
            next: None,
            open: Vec::new(),
            open_bytes: 0,
            segments: VecDeque::new(),
            head: 0,
        });
        let place = self.free.pop().unwrap_or(self.places.len() as u32);
        match self.places.get_mut(place as usize) {
            Some(free) => *free = Some(local),
            None => self.places.push(Some(local)),
        }
        self.names.insert(name.clone(), place);
        place
    }

    /// Removes the channel at `place`.
    pub fn remove(&mut self, place: u32) {
        let local = self.places[place as usize].take();
        if let Some(local) = local {
            assert!(local.is_unused(), "a channel with subscribers stays");
            self.names.remove(local.name.as_str());
            self.free.push(place);
        }
    }
}
