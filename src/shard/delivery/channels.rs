//! The channels with subscribers on this shard, their subscribers, and the publications that these
//! have not received yet.
//!
//! Publications are gathered in an open segment. Sealing makes the segment part of the channel's
//! log, where it is encoded at most once for each wire. The cursor of a subscriber is the first
//! segment that it has not received. So its unseen publications are a run of encoded bytes,
//! independent of all other subscribers. Where publications are missing, there is a gap between two
//! segments.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::gap::Gap;
use crate::channel::{ChannelName, ChannelView, Namespace, Publication};
use crate::collections::{Named, Table};
use crate::connection::Frames;
use crate::ids::{Epoch, LocalId, Moment, Position, ShardId, Slot};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::subnets::SubnetId;
use crate::wire::Wire;

/// A subscriber: the slot of its connection, and the index of its subscription there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber(u64);

impl Subscriber {
    /// The subscription with number `index` of the connection at `slot`.
    pub const fn new(slot: Slot, index: usize) -> Subscriber {
        Subscriber((index as u64) << 32 | slot.index() as u64)
    }

    /// Slot of the connection.
    pub const fn slot(self) -> Slot {
        Slot::new(self.0 as u32 as usize)
    }

    /// Index of the subscription in its connection.
    pub const fn index(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// The subscribers of a channel, in any order, because sweeps go by slots. A single subscriber
/// needs no allocation, because most channels have only one.
#[derive(Clone, Debug)]
pub struct Subscribers(List);

#[derive(Clone, Debug)]
enum List {
    One(Subscriber),
    Many(Vec<Subscriber>),
}

impl Default for Subscribers {
    fn default() -> Subscribers {
        Subscribers(List::Many(Vec::new()))
    }
}

impl Subscribers {
    /// All subscribers as a slice.
    pub fn as_slice(&self) -> &[Subscriber] {
        match &self.0 {
            List::One(one) => std::slice::from_ref(one),
            List::Many(many) => many,
        }
    }

    /// Adds a subscriber. Returns its index.
    pub fn push(&mut self, subscriber: Subscriber) -> usize {
        match &mut self.0 {
            List::Many(many) if many.is_empty() => self.0 = List::One(subscriber),
            List::Many(many) => many.push(subscriber),
            List::One(one) => self.0 = List::Many(vec![*one, subscriber]),
        }
        self.as_slice().len() - 1
    }

    /// Replaces the subscriber at `place`.
    pub fn set(&mut self, place: usize, subscriber: Subscriber) {
        match &mut self.0 {
            List::One(one) => {
                assert_eq!(place, 0, "the channel has a single subscriber");
                *one = subscriber;
            }
            List::Many(many) => many[place] = subscriber,
        }
    }

    /// Removes the subscriber at `place`. The last one moves there.
    pub fn swap_remove(&mut self, place: usize) {
        match &mut self.0 {
            List::One(_) => {
                assert_eq!(place, 0, "the channel has a single subscriber");
                self.0 = List::Many(Vec::new());
            }
            List::Many(many) => {
                many.swap_remove(place);
                if let [one] = many[..] {
                    self.0 = List::One(one);
                } else if many.len() * 4 < many.capacity() {
                    // Half of the room stays, so that new and leaving subscribers cause no
                    // allocations.
                    many.shrink_to(many.len() * 2);
                }
            }
        }
    }
}

/// Publications that are delivered together, or a gap between two such segments.
struct Segment {
    /// Empty if this is a gap.
    publications: Vec<Arc<Publication>>,
    /// Boxed, because gaps are rare and segments are many.
    gap: Option<Box<Gap>>,
    frames: [Option<Rc<Frames>>; Wire::COUNT],
    /// The pass of the sweep that was in progress when the segment was sealed.
    pass: u64,
}

/// A channel with subscribers on this shard.
pub struct Local {
    /// The name. After the home's first answer it shares the memory of the home's name.
    pub name: ChannelName,
    /// Options of the channel.
    pub namespace: Arc<Namespace>,
    /// The subscribers.
    pub subscribers: Subscribers,
    /// The epoch that this shard follows, and the offset that comes next in it. An offset of 0,
    /// which no publication has, means that the home has not answered yet.
    next: Position,
    /// Publications that some subscribers have not received. `None` in an idle channel, to save
    /// memory.
    log: Option<Box<Log>>,
    /// Number of subscriptions that wait for the home's answer.
    pub waiting: u32,
    /// Number of the segment that will be sealed next. It wraps around.
    head: u32,
    /// The subnet of the client that made the channel local here.
    pub brought_by: SubnetId,
    /// The shard that keeps the channel's history.
    pub home: ShardId,
}

const _: () = assert!(size_of::<Option<Local>>() <= 88, "an idle channel must be small");

/// Publications that some subscribers have not received.
#[derive(Default)]
struct Log {
    open: Vec<Arc<Publication>>,
    /// Cost of the open segment in bytes.
    open_bytes: usize,
    segments: VecDeque<Segment>,
}

impl Named for Local {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Local {
    /// The properties of the channel that codecs need.
    pub fn view(&self) -> ChannelView<'_> {
        ChannelView {
            name: self.name.as_str(),
            data: self.namespace.data,
            has_history: self.namespace.has_history(),
            epoch: self.next.epoch,
        }
    }

    /// Whether there are no subscriptions here and none that wait for the home.
    pub fn is_unused(&self) -> bool {
        self.subscribers.as_slice().is_empty() && self.waiting == 0
    }

    /// Records that the home has answered one of the waiting subscriptions.
    pub fn answered(&mut self) {
        assert!(self.waiting > 0, "a home answers each request once");
        self.waiting -= 1;
    }

    /// The epoch that this shard follows, and the offset that comes next in it. `None` before the
    /// home's first answer.
    pub fn next(&self) -> Option<Position> {
        Some(self.next).filter(|next| next.offset > 0)
    }

    /// Continues at another position, in the same epoch or in a new one.
    pub fn set_next(&mut self, next: Position) {
        assert!(next.offset > 0, "offsets begin at 1");
        self.next = next;
    }

    /// The cursor of a subscriber that has received everything.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Whether the open segment holds publications.
    pub fn is_open(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.open.is_empty())
    }

    /// Adds a publication to the open segment. Returns true if the segment is full.
    pub fn append(&mut self, publication: Arc<Publication>) -> bool {
        let log = self.log.get_or_insert_default();
        assert!(log.open_bytes < SEGMENT_BYTES_MAX, "a full segment must be sealed immediately");
        log.open_bytes += publication.cost_bytes();
        log.open.push(publication);
        log.open_bytes >= SEGMENT_BYTES_MAX
    }

    /// Seals the open segment.
    pub fn seal(&mut self, pass: u64) {
        assert!(self.is_open(), "a segment holds at least one publication");
        let log = self.log.get_or_insert_default();
        let publications = std::mem::take(&mut log.open);
        log.open_bytes = 0;
        let frames = Default::default();
        log.segments.push_back(Segment { publications, gap: None, frames, pass });
        self.head = self.head.wrapping_add(1);
        assert!(!self.is_open(), "the open segment is empty after sealing");
    }

    /// Records that publications are missing here. Each subscriber is told when its cursor gets
    /// here.
    pub fn break_off(&mut self, gap: Gap, pass: u64) {
        assert!(!self.is_open(), "publications before a gap are sealed first");
        let log = self.log.get_or_insert_default();
        let (publications, frames) = (Vec::new(), Default::default());
        log.segments.push_back(Segment { publications, gap: Some(Box::new(gap)), frames, pass });
        self.head = self.head.wrapping_add(1);
    }

    /// Drops the segments that were sealed up to pass `pass`, which all subscribers have received.
    pub fn forget(&mut self, pass: u64) {
        let Some(log) = self.log.as_mut() else { return };
        while log.segments.front().is_some_and(|segment| segment.pass <= pass) {
            log.segments.pop_front();
        }
        let kept = log.segments.iter().all(|segment| segment.pass > pass);
        debug_assert!(kept, "segments must be in the order in which they were sealed");
        if log.segments.is_empty() && log.open.is_empty() {
            // An idle channel keeps no log: most channels are idle most of the time.
            self.log = None;
        }
    }

    /// Whether the log holds segments.
    pub fn holds_segments(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.segments.is_empty())
    }

    /// The segment at `cursor` as frames of `wire`.
    ///
    /// # Panics
    /// If the log does not hold the segment: see [`Local::segment_facts`].
    #[expect(clippy::expect_used, reason = "callers have checked that the segment exists")]
    pub fn frames(&mut self, cursor: u32, wire: Wire) -> &Rc<Frames> {
        let segment = self.segment(cursor).expect("a segment stays until all subscribers have it");
        let encoded = match &segment.frames[wire.index()] {
            Some(_) => None,
            None => {
                let mut out = Vec::new();
                let publications = &segment.publications;
                wire.encode_publications(&self.view(), publications, &mut out);
                Some(Frames::new(out))
            }
        };
        let head = self.head;
        let log = self.log.as_mut().expect("a segment was found, so there is a log");
        let at = index_of(&log.segments, head, cursor).expect("the segment was found in this log");
        let frames = &mut log.segments[at].frames[wire.index()];
        if encoded.is_some() {
            *frames = encoded;
        }
        frames.as_ref().expect("the segment was encoded above")
    }

    /// The last segment as frames of `wire`, its number of publications, and the time at which the
    /// oldest was accepted. Almost all deliveries use this path, so it reads nothing else.
    pub fn last_segment(&mut self, wire: Wire) -> Option<(&Rc<Frames>, usize, Moment)> {
        let segment = self.log.as_ref()?.segments.back()?;
        let facts = (segment.publications.len(), segment.publications.first()?.accepted);
        if segment.frames[wire.index()].is_none() {
            self.frames(self.head.wrapping_sub(1), wire);
        }
        let segment = self.log.as_ref()?.segments.back()?;
        segment.frames[wire.index()].as_ref().map(|frames| (frames, facts.0, facts.1))
    }

    /// Facts about the segment at `cursor`: its number of publications, the first offset in it, and
    /// the time at which its oldest publication was accepted. `None` for a gap.
    pub fn segment_facts(&self, cursor: u32) -> Option<(usize, u64, Moment)> {
        let publications = &self.segment(cursor)?.publications;
        let accepted = publications.first()?.accepted;
        let mut offsets = publications.iter().map(|publication| publication.offset);
        let first = offsets.find(|&offset| offset > 0);
        Some((publications.len(), first.unwrap_or(self.next.offset), accepted))
    }

    /// The gap at `cursor`, if there is one.
    pub fn gap_at(&self, cursor: u32) -> Option<Gap> {
        self.segment(cursor)?.gap.as_deref().copied()
    }

    fn segment(&self, cursor: u32) -> Option<&Segment> {
        let segments = &self.log.as_ref()?.segments;
        segments.get(index_of(segments, self.head, cursor)?)
    }
}

/// Index of the segment at `cursor` in `segments`. The last segment is the one before `head`.
fn index_of(segments: &VecDeque<Segment>, head: u32, cursor: u32) -> Option<usize> {
    let behind = head.wrapping_sub(cursor) as usize;
    segments.len().checked_sub(behind).filter(|_| behind > 0)
}

fn id(place: u32) -> LocalId {
    LocalId::new(place as usize)
}

/// All channels with subscribers on this shard.
#[derive(Default)]
pub struct Locals {
    channels: Table<Local>,
}

impl Locals {
    /// Number of channels in the table.
    pub fn count(&self) -> usize {
        self.channels.count()
    }

    /// Upper bound of the places: each channel's place is below it.
    pub fn reached(&self) -> usize {
        self.channels.reached()
    }

    /// The place of the channel called `name`.
    pub fn find(&self, name: &str) -> Option<LocalId> {
        self.channels.find(name).map(id)
    }

    /// The channel at `place`.
    pub fn at(&mut self, place: LocalId) -> Option<&mut Local> {
        self.channels.at(place.index() as u32)
    }

    /// The channel at `place`, for callers that know that it exists: a subscription, or one that
    /// waits for its home, keeps it in the table.
    ///
    /// # Panics
    /// If there is no channel at `place`.
    #[expect(clippy::expect_used, reason = "a channel with subscriptions stays in the table")]
    pub fn local(&mut self, place: LocalId) -> &mut Local {
        self.at(place).expect("a channel stays in its place while it has or awaits subscriptions")
    }

    /// The place of the channel called `name`. A new channel is added and charged to no subnet.
    pub fn enter(
        &mut self,
        name: &ChannelName,
        namespace: &Arc<Namespace>,
        home: ShardId,
    ) -> LocalId {
        if let Some(place) = self.find(name.as_str()) {
            return place;
        }
        id(self.channels.insert(Local {
            name: name.clone(),
            namespace: Arc::clone(namespace),
            home,
            brought_by: SubnetId::EXEMPT,
            subscribers: Subscribers::default(),
            waiting: 0,
            next: Position { epoch: Epoch::new(0), offset: 0 },
            log: None,
            head: 0,
        }))
    }

    /// Removes the channel at `place`. Returns the subnet that is charged with it.
    ///
    /// # Panics
    /// If there is no channel, or if it has subscriptions or waits for its home.
    #[expect(clippy::expect_used, reason = "the caller has found the channel")]
    pub fn remove(&mut self, place: LocalId) -> SubnetId {
        assert!(self.local(place).is_unused(), "a channel with subscribers must not be removed");
        self.channels.remove(place.index() as u32).expect("the channel was found above").brought_by
    }
}
