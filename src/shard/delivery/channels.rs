//! Channels with subscribers on this shard: who they are, and what they have not been given yet.
//!
//! Publications are gathered in an open segment; sealing it makes it part of the channel's log,
//! encoded at most once for each wire. A subscriber's cursor says which segments it has been
//! given, so what it has not seen is a run of ready bytes, whoever else has seen it. Where
//! publications are missing, a gap stands between two segments.

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

/// The subscribers of a channel. The order is of no consequence: sweeps go by slots. One needs no
/// list, for most channels have one.
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
    /// All of them.
    pub fn as_slice(&self) -> &[Subscriber] {
        match &self.0 {
            List::One(one) => std::slice::from_ref(one),
            List::Many(many) => many,
        }
    }

    /// Adds one. Returns its place.
    pub fn push(&mut self, subscriber: Subscriber) -> usize {
        match &mut self.0 {
            List::Many(many) if many.is_empty() => self.0 = List::One(subscriber),
            List::Many(many) => many.push(subscriber),
            List::One(one) => self.0 = List::Many(vec![*one, subscriber]),
        }
        self.as_slice().len() - 1
    }

    /// Replaces the one at `place`.
    pub fn set(&mut self, place: usize, subscriber: Subscriber) {
        match &mut self.0 {
            List::One(one) => {
                assert_eq!(place, 0, "there is one");
                *one = subscriber;
            }
            List::Many(many) => many[place] = subscriber,
        }
    }

    /// Removes the one at `place`, which the last one takes.
    pub fn swap_remove(&mut self, place: usize) {
        match &mut self.0 {
            List::One(_) => {
                assert_eq!(place, 0, "there is one");
                self.0 = List::Many(Vec::new());
            }
            List::Many(many) => {
                many.swap_remove(place);
                if let [one] = many[..] {
                    self.0 = List::One(one);
                } else if many.len() * 4 < many.capacity() {
                    many.shrink_to(many.len() * 2);
                }
            }
        }
    }
}

/// Publications that are delivered together, or a gap between two such segments.
struct Segment {
    /// None if it is a gap.
    publications: Vec<Arc<Publication>>,
    /// Seldom there, so it is in a box.
    gap: Option<Box<Gap>>,
    frames: [Option<Rc<Frames>>; Wire::COUNT],
    /// The sweep that was under way when it was sealed.
    pass: u64,
}

/// A channel with subscribers here.
pub struct Local {
    /// Its name, as it stands at the channel's home once that has answered.
    pub name: ChannelName,
    /// Its options.
    pub namespace: Arc<Namespace>,
    /// Who receives it.
    pub subscribers: Subscribers,
    /// The channel's life that this shard follows, and the offset that comes next in it. Absent
    /// before the first answer: no offset is 0.
    next: Position,
    /// What is on its way to subscribers.
    log: Option<Box<Log>>,
    /// Subscriptions that wait for the home shard's answer.
    pub waiting: u32,
    /// Number of the segment that will be sealed next.
    head: u32,
    /// The subnet of the client that brought it here.
    pub brought_by: SubnetId,
    /// The shard that orders it.
    pub home: ShardId,
}

const _: () = assert!(size_of::<Option<Local>>() <= 88, "a channel that is silent is small");

/// Publications that not everybody has been given.
#[derive(Default)]
struct Log {
    open: Vec<Arc<Publication>>,
    /// Cost of what is open.
    open_bytes: usize,
    segments: VecDeque<Segment>,
}

impl Named for Local {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Local {
    /// What codecs must know of the channel.
    pub fn view(&self) -> ChannelView<'_> {
        ChannelView {
            name: self.name.as_str(),
            data: self.namespace.data,
            has_history: self.namespace.has_history(),
            epoch: self.next.epoch,
        }
    }

    /// Whether nobody here has or wants a subscription.
    pub fn is_unused(&self) -> bool {
        self.subscribers.as_slice().is_empty() && self.waiting == 0
    }

    /// Notes that the home shard has answered one of the subscriptions that wait.
    pub fn answered(&mut self) {
        assert!(self.waiting > 0, "a home answers no more than it is asked");
        self.waiting -= 1;
    }

    /// The channel's life that this shard follows, and the offset that comes next in it. Absent
    /// before the first answer.
    pub fn next(&self) -> Option<Position> {
        Some(self.next).filter(|next| next.offset > 0)
    }

    /// Follows another life, or goes on elsewhere in the same one.
    pub fn set_next(&mut self, next: Position) {
        assert!(next.offset > 0, "offsets begin at 1");
        self.next = next;
    }

    /// The cursor of a subscriber that has been given everything.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Whether publications have been gathered that no segment holds yet.
    pub fn is_open(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.open.is_empty())
    }

    /// Gathers a publication. Answers whether enough are gathered for one segment.
    pub fn append(&mut self, publication: Arc<Publication>) -> bool {
        let log = self.log.get_or_insert_default();
        assert!(log.open_bytes < SEGMENT_BYTES_MAX, "a full segment is sealed at once");
        log.open_bytes += publication.cost_bytes();
        log.open.push(publication);
        log.open_bytes >= SEGMENT_BYTES_MAX
    }

    /// Makes a segment of what has been gathered.
    pub fn seal(&mut self, pass: u64) {
        assert!(self.is_open(), "a segment holds at least one publication");
        let log = self.log.get_or_insert_default();
        let publications = std::mem::take(&mut log.open);
        log.open_bytes = 0;
        let frames = Default::default();
        log.segments.push_back(Segment { publications, gap: None, frames, pass });
        self.head = self.head.wrapping_add(1);
        assert!(!self.is_open(), "nothing is gathered after sealing");
    }

    /// Notes that publications are missing here: whoever comes to this place is told.
    pub fn break_off(&mut self, gap: Gap, pass: u64) {
        assert!(!self.is_open(), "what was gathered comes before the gap");
        let log = self.log.get_or_insert_default();
        let (publications, frames) = (Vec::new(), Default::default());
        log.segments.push_back(Segment { publications, gap: Some(Box::new(gap)), frames, pass });
        self.head = self.head.wrapping_add(1);
    }

    /// Drops segments sealed up to sweep `pass`: everybody has been given them.
    pub fn forget(&mut self, pass: u64) {
        let Some(log) = self.log.as_mut() else { return };
        while log.segments.front().is_some_and(|segment| segment.pass <= pass) {
            log.segments.pop_front();
        }
        let kept = log.segments.iter().all(|segment| segment.pass > pass);
        debug_assert!(kept, "segments stand in the order in which they were sealed");
        if log.segments.is_empty() && log.open.is_empty() {
            self.log = None;
        }
    }

    /// Whether segments are kept.
    pub fn holds_segments(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.segments.is_empty())
    }

    /// The segment at `cursor` as frames of `wire`.
    ///
    /// # Panics
    /// It is not kept: see [`Local::segment_facts`].
    #[expect(clippy::expect_used, reason = "whoever asks has found the segment there")]
    pub fn frames(&mut self, cursor: u32, wire: Wire) -> &Rc<Frames> {
        let segment = self.segment(cursor).expect("a segment stays until everybody has it");
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
        let log = self.log.as_mut().expect("the segment is in it");
        let at = index_of(&log.segments, head, cursor).expect("the segment is in the log");
        let frames = &mut log.segments[at].frames[wire.index()];
        if encoded.is_some() {
            *frames = encoded;
        }
        frames.as_ref().expect("it has been encoded")
    }

    /// The last segment as frames of `wire`, how many publications it holds, and when the
    /// oldest was accepted. The way of almost all deliveries, so it looks at nothing else.
    pub fn last_segment(&mut self, wire: Wire) -> Option<(&Rc<Frames>, usize, Moment)> {
        let segment = self.log.as_ref()?.segments.back()?;
        let facts = (segment.publications.len(), segment.publications.first()?.accepted);
        if segment.frames[wire.index()].is_none() {
            self.frames(self.head.wrapping_sub(1), wire);
        }
        let segment = self.log.as_ref()?.segments.back()?;
        segment.frames[wire.index()].as_ref().map(|frames| (frames, facts.0, facts.1))
    }

    /// How many publications the segment at `cursor` holds, the offset of the first one that has a
    /// place in the channel's order, and when the oldest was accepted. Absent for a gap.
    pub fn segment_facts(&self, cursor: u32) -> Option<(usize, u64, Moment)> {
        let publications = &self.segment(cursor)?.publications;
        let accepted = publications.first()?.accepted;
        let mut offsets = publications.iter().map(|publication| publication.offset);
        let first = offsets.find(|&offset| offset > 0);
        Some((publications.len(), first.unwrap_or(self.next.offset), accepted))
    }

    /// The gap at `cursor`, if that is one.
    pub fn gap_at(&self, cursor: u32) -> Option<Gap> {
        self.segment(cursor)?.gap.as_deref().copied()
    }

    fn segment(&self, cursor: u32) -> Option<&Segment> {
        let segments = &self.log.as_ref()?.segments;
        segments.get(index_of(segments, self.head, cursor)?)
    }
}

/// The place of the segment at `cursor` among `segments`, of which the last is the one before
/// `head`.
fn index_of(segments: &VecDeque<Segment>, head: u32, cursor: u32) -> Option<usize> {
    let behind = head.wrapping_sub(cursor) as usize;
    segments.len().checked_sub(behind).filter(|_| behind > 0)
}

/// The channel that has this place in the table.
fn id(place: u32) -> LocalId {
    LocalId::new(place as usize)
}

/// All channels with subscribers here.
#[derive(Default)]
pub struct Locals {
    channels: Table<Local>,
}

impl Locals {
    /// Channels in the table.
    pub fn count(&self) -> usize {
        self.channels.count()
    }

    /// Every channel's place is below this.
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

    /// The channel at `place`, for those who know that it is there: a subscription, or one that
    /// waits for its home, keeps it.
    ///
    /// # Panics
    /// There is none.
    #[expect(clippy::expect_used, reason = "what is subscribed or awaited stays in the table")]
    pub fn local(&mut self, place: LocalId) -> &mut Local {
        self.at(place).expect("a channel stays in its place while anybody here wants it")
    }

    /// The place of the channel called `name`, which is added if it is new, as one that nobody is
    /// charged with.
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

    /// Removes the channel at `place`. Returns who is charged with it.
    ///
    /// # Panics
    /// There is none, or somebody has or wants a subscription.
    #[expect(clippy::expect_used, reason = "the caller has found it there")]
    pub fn remove(&mut self, place: LocalId) -> SubnetId {
        assert!(self.local(place).is_unused(), "a channel with subscribers stays");
        self.channels.remove(place.index() as u32).expect("it was there a moment ago").brought_by
    }
}
