//! Channels whose home is this shard: their order, their history, and which shards listen.
//!
//! Offsets are contiguous within an epoch and never given twice. Recovery returns all that was
//! missed or nothing.
//!
//! What a channel costs has one of two bounds. A channel with listeners counts as one that is in
//! use. The publications of all channels, and the positions of those that are kept for these alone,
//! share the bytes for histories; so whoever only asks for channels drives nobody's history out.

mod deadlines;
mod epochs;
mod replica;
mod history;
mod interest;
mod keeping;
mod losses;
mod older;
mod stored;

use std::sync::Arc;

pub use history::{History, PageBounds};
pub use replica::Followed;

use crate::channel::{ChannelName, Namespace, Publication};
use crate::collections::{Named, Table};
use crate::ids::{Epoch, Moment, Position, ShardId, Since};
use crate::limits::{CHANNEL_POSITION_BYTES, RECOVERY_BYTES_MAX, RECOVERY_PUBLICATIONS_MAX};
use crate::pool::{Pool, Share};
use crate::protocol::HistoryPage;
use crate::reason::{ClientError, Eviction};

use deadlines::{Deadlines, Links, Wait};
use epochs::Epochs;
use history::Totals;
use interest::Interested;
use losses::Losses;
use stored::StoredOrder;

/// A channel's name, and the namespace to which it belongs.
#[derive(Clone, Copy)]
pub struct Resolved<'a> {
    /// The name.
    pub name: &'a ChannelName,
    /// Its namespace.
    pub namespace: &'a Arc<Namespace>,
}

/// A channel at home: what every one has.
struct Channel {
    name: ChannelName,
    namespace: Arc<Namespace>,
    epoch: Epoch,
    /// Offset of the last publication; 0 before the first.
    top: u64,
    interested: Interested,
    /// What only a channel has that was published to.
    kept: Option<Box<Kept>>,
    /// Tells this life of the place in the table from others: another channel, or the same one
    /// before it moved.
    life: u32,
    /// Whether nothing before the top is missing. Always so where this shard gives the offsets.
    known: bool,
    /// Whether the bus has given it a place in this epoch that it has had before.
    repeats: bool,
    /// Whether its position is charged to the histories.
    charged: bool,
    /// Number of the last loss of the bus that it has heard of.
    heard: u8,
}

const _: () = assert!(size_of::<Option<Channel>>() <= 80, "a channel that is only in use is small");

/// What is kept of a channel that was published to.
struct Kept {
    history: History,
    /// Whether Redis may keep publications before those that are kept here.
    more: bool,
    /// Offset of the last publication that was to be forgotten.
    forgotten: u64,
    /// What Redis keeps is not asked for before.
    ask_from: Moment,
    /// Its place among the deadlines.
    links: Links,
}

impl Named for Channel {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Channel {
    fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// What is kept of its publications.
    fn kept(&mut self) -> &mut Kept {
        let durable = self.namespace.durable_history;
        self.kept.get_or_insert_with(|| {
            Box::new(Kept {
                history: History::default(),
                more: durable,
                forgotten: 0,
                ask_from: Moment::default(),
                links: Links::default(),
            })
        })
    }

    /// How many publications are kept.
    fn history_len(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.history.len())
    }

    /// Offset of the oldest publication kept.
    fn first_offset(&self) -> Option<u64> {
        self.kept.as_ref()?.history.first_offset()
    }

    fn is_idle(&self) -> bool {
        self.interested.is_empty() && self.history_len() == 0
    }

    /// Whether there are positions of it that clients know and that must not come again, or is one
    /// that did.
    fn has_positions(&self) -> bool {
        (self.top > 0 || self.repeats) && self.namespace.has_history()
    }
}

/// A publication that has its place, and who is to receive it.
pub struct Ordered<'a> {
    /// The publication.
    pub publication: Arc<Publication>,
    /// Its position, where the channel shows positions.
    pub position: Option<Position>,
    /// Shards with subscribers.
    pub interested: &'a [ShardId],
}

/// A page of history, and where the channel stands.
pub struct Page {
    /// The publications.
    pub publications: Vec<Arc<Publication>>,
    /// Number of publications that were asked for and did not fit.
    pub omitted: usize,
    /// The channel's position.
    pub top: Position,
}

/// A subscription that the home has granted.
pub struct Granted {
    /// The channel's name as it stands here, so that the node keeps it once.
    pub name: ChannelName,
    /// Where the channel stands.
    pub top: Position,
    /// What was missed, complete, where recovery was asked for and is possible.
    pub recovered: Option<Vec<Arc<Publication>>>,
}

/// All channels at home here.
pub struct Channels {
    channels: Table<Channel>,
    /// Channels with listeners.
    in_use: usize,
    /// What of the node's bound on these the shard has.
    share: Share,
    epochs: Epochs,
    totals: Totals,
    bytes_max: usize,
    stored: StoredOrder,
    deadlines: Deadlines,
    evictions: [u64; Eviction::ALL.len()],
    /// Number of the last life of a place.
    last_life: u32,
    losses: Losses,
}

impl Channels {
    /// No channels yet. Epochs are derived from `seed`, which must differ between processes.
    pub fn new(bytes_max: usize, seed: u64, channels: Pool) -> Channels {
        Channels {
            channels: Table::default(),
            in_use: 0,
            share: Share::new(channels),
            epochs: Epochs::new(seed),
            totals: Totals::default(),
            bytes_max,
            stored: StoredOrder::default(),
            deadlines: Deadlines::default(),
            evictions: [0; Eviction::ALL.len()],
            last_life: 0,
            losses: Losses::default(),
        }
    }

    /// Channels at home here.
    pub fn count(&self) -> usize {
        self.channels.count()
    }

    /// Channels with listeners.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// Bytes that histories cost, with the positions that are kept for themselves.
    pub fn bytes(&self) -> usize {
        self.totals.bytes
    }

    /// How often something was dropped before its time, by reason.
    pub fn evictions(&self) -> &[u64] {
        &self.evictions
    }

    /// Whether there is a channel of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.channels.find(name).is_some()
    }

    /// Whether publications of a channel are kept.
    pub fn keeps(&self, name: &str) -> bool {
        self.find(name).is_some_and(|home| home.history_len() > 0)
    }

    /// Gives a publication its place, keeps it if the namespace says so, and names its receivers.
    pub fn publish(
        &mut self,
        now: Moment,
        channel: Resolved<'_>,
        mut publication: Publication,
        skip_history: bool,
    ) -> Ordered<'_> {
        let Resolved { name, namespace } = channel;
        let keep = namespace.has_history() && !skip_history;
        let place = match self.channels.find(name.as_str()) {
            Some(place) => place,
            None if keep => self.enter(name, namespace),
            // Nobody listens and nothing is kept: there is no order to establish.
            None => {
                return Ordered {
                    publication: publication.into(),
                    position: None,
                    interested: &[],
                };
            }
        };
        let channel = self.channel(place);
        // What is outside a history that clients know has no offset, or the history had holes.
        if keep || !namespace.has_history() {
            channel.top += 1;
            publication.offset = channel.top;
        }
        let position = keep.then(|| channel.position());
        let publication = Arc::new(publication);
        if keep {
            self.keep(now, place, &publication);
        }
        Ordered { publication, position, interested: self.interested(place) }
    }

    /// Counts `shard` as interested, and says where the channel stands, and what was missed since
    /// `recover`, if that is all still known.
    ///
    /// # Errors
    /// `TooManyRequests` if the node has as many channels with listeners as it may have.
    pub fn subscribe(
        &mut self,
        now: Moment,
        channel: Resolved<'_>,
        shard: ShardId,
        recover: Option<Since>,
    ) -> Result<Granted, ClientError> {
        let Resolved { name, namespace } = channel;
        let found = self.channels.find(name.as_str());
        let first = found.is_none_or(|place| self.interested(place).is_empty());
        if first && !self.share.reach(self.in_use + 1) && !crate::sabotage!(UnboundedChannels) {
            return Err(ClientError::TooManyRequests);
        }
        let place = found.unwrap_or_else(|| self.enter(name, namespace));
        self.expire_some(now, place);
        let channel = self.channel(place);
        channel.interested.add(shard);
        let recovered = recover
            .filter(|since| since.epoch.matches(channel.epoch))
            .and_then(|since| channel.recover(now, since.offset));
        let granted = Granted { name: channel.name.clone(), top: channel.position(), recovered };
        self.in_use += usize::from(first);
        self.settle_charge(place);
        self.settle_deadline(now, place);
        Ok(granted)
    }

    /// The newest publications that are kept of a channel, oldest first: at most `count`, and
    /// never more than one recovery brings.
    pub fn newest(&self, now: Moment, name: &ChannelName, count: usize) -> Vec<Arc<Publication>> {
        let history =
            self.find(name.as_str()).and_then(|channel| Some(&channel.kept.as_ref()?.history));
        let bounds = PageBounds {
            publications_max: RECOVERY_PUBLICATIONS_MAX,
            bytes_max: RECOVERY_BYTES_MAX,
        };
        let page = history.map(|history| history.page(now, HistoryPage::newest(count), bounds));
        let mut newest = page.unwrap_or_default().0;
        newest.reverse();
        newest
    }

    /// Forgets that `shard` is interested.
    pub fn leave(&mut self, now: Moment, name: &ChannelName, shard: ShardId) {
        let Some(place) = self.channels.find(name.as_str()) else { return };
        let channel = self.channel(place);
        if channel.interested.is_empty() {
            return;
        }
        channel.interested.remove(shard);
        self.in_use -= usize::from(self.interested(place).is_empty());
        // At once: another shard may need it.
        self.share.settle(self.in_use);
        self.settle_charge(place);
        self.retire(now, place);
        self.keep_within_bytes(now);
    }

    /// Reads a page of history of at most so many publications and bytes. A channel that is not
    /// there stands at the beginning of the epoch in which it would begin, and need not be there
    /// for that.
    ///
    /// # Errors
    /// `UnrecoverablePosition` for another epoch, `BadRequest` for reverse from offset 0.
    pub fn history(
        &mut self,
        now: Moment,
        name: &ChannelName,
        page: HistoryPage,
        bounds: PageBounds,
    ) -> Result<Page, ClientError> {
        let place = self.channels.find(name.as_str());
        if let Some(place) = place {
            self.expire_some(now, place);
        }
        let channel = place.and_then(|place| self.channels.get(place));
        let beginning = || Position { epoch: self.epochs.of(name.as_str()), offset: 0 };
        let top = channel.map_or_else(beginning, Channel::position);
        match page.since {
            Some(since) if !since.epoch.matches(top.epoch) => {
                Err(ClientError::UnrecoverablePosition)
            }
            Some(since) if page.reverse && since.offset == 0 => Err(ClientError::BadRequest),
            _ => {
                let history = channel.and_then(|channel| Some(&channel.kept.as_ref()?.history));
                let page = history.map(|history| history.page(now, page, bounds));
                let (publications, omitted) = page.unwrap_or_default();
                Ok(Page { publications, omitted, top })
            }
        }
    }

    /// Forgets a channel's history. Its position goes on.
    pub fn history_remove(&mut self, now: Moment, name: &ChannelName) {
        let Some(place) = self.channels.find(name.as_str()) else { return };
        let (channel, totals) = self.channel_and_totals(place);
        let top = channel.top;
        if top > 0 {
            let kept = channel.kept();
            kept.history.trim(0, totals);
            (kept.more, kept.forgotten) = (false, top);
        }
        self.retire(now, place);
    }

    /// Forgets what is over, a bounded part of it. Returns whether there is more.
    pub fn forget_some(&mut self, now: Moment, steps_max: usize) -> bool {
        let mut steps = 0;
        while steps < steps_max {
            let Some((place, wait)) = self.deadlines.due(now) else { return false };
            steps += 1;
            if wait == Wait::Idle {
                self.forget(place);
                continue;
            }
            // It may have come too early, so it is not left where it was.
            self.deadlines.remove(&mut self.channels, place);
            let (channel, totals) = self.channel_and_totals(place);
            let expired = channel.kept().history.expire(now, steps_max, totals);
            steps += expired;
            self.sift(expired);
            self.retire(now, place);
        }
        true
    }

    /// Whether `shard` is counted as interested in the channel: for audits.
    pub fn is_interested(&self, name: &str, shard: ShardId) -> bool {
        self.find(name).is_some_and(|channel| channel.interested.as_slice().contains(&shard))
    }

    /// Whether some shard has subscribers of the channel.
    pub fn has_listeners(&self, name: &str) -> bool {
        self.find(name).is_some_and(|channel| !channel.interested.is_empty())
    }

    fn find(&self, name: &str) -> Option<&Channel> {
        self.channels.get(self.channels.find(name)?)
    }

    fn channel(&mut self, place: u32) -> &mut Channel {
        self.channel_and_totals(place).0
    }

    fn channel_and_totals(&mut self, place: u32) -> (&mut Channel, &mut Totals) {
        let Some(channel) = self.channels.at(place) else {
            unreachable!("the channel was just found or entered")
        };
        (channel, &mut self.totals)
    }

    fn interested(&self, place: u32) -> &[ShardId] {
        self.channels.get(place).map_or(&[], |channel| channel.interested.as_slice())
    }

    fn enter(&mut self, name: &ChannelName, namespace: &Arc<Namespace>) -> u32 {
        let epoch = if namespace.has_history() {
            self.epochs.of(name.as_str())
        } else {
            self.epochs.fresh()
        };
        self.insert(Resolved { name, namespace }, Position { epoch, offset: 0 })
    }

    /// Adds a channel that is not there, of which nothing is kept and which stands at `position`.
    fn insert(&mut self, channel: Resolved<'_>, position: Position) -> u32 {
        let Resolved { name, namespace } = channel;
        let (life, heard) = (self.next_life(), self.losses.last());
        self.channels.insert(Channel {
            name: name.clone(),
            namespace: Arc::clone(namespace),
            epoch: position.epoch,
            top: position.offset,
            interested: Interested::default(),
            kept: None,
            life,
            heard,
            known: true,
            repeats: false,
            charged: false,
        })
    }

    fn next_life(&mut self) -> u32 {
        self.last_life = self.last_life.wrapping_add(1);
        self.last_life
    }

    fn forget(&mut self, place: u32) {
        self.deadlines.remove(&mut self.channels, place);
        let Some(channel) = self.channels.remove(place) else { return };
        assert!(channel.is_idle(), "a channel in use stays");
        if channel.charged {
            self.totals.bytes -= channel.position_bytes();
        }
        if channel.has_positions() {
            self.epochs.raise(channel.name.as_str());
        }
    }
}

impl Channel {
    /// Bytes that are charged while it is kept for its position.
    fn position_bytes(&self) -> usize {
        CHANNEL_POSITION_BYTES + self.name.as_str().len()
    }

    /// All publications after `offset`, or nothing if one of them is gone or there are too many.
    fn recover(&self, now: Moment, offset: u64) -> Option<Vec<Arc<Publication>>> {
        let missed = self.top.checked_sub(offset)?;
        if missed == 0 {
            return Some(Vec::new());
        }
        let history = &self.kept.as_ref()?.history;
        let first = history.first_offset_at(now)?;
        if missed > RECOVERY_PUBLICATIONS_MAX as u64 || first > offset + 1 {
            return None;
        }
        let begin = if crate::sabotage!(OffsetOffByOne) { offset + 1 } else { offset };
        let publications: Vec<_> = history.after(begin).cloned().collect();
        let data_type = self.namespace.data;
        let bytes: usize =
            publications.iter().map(|publication| publication.recovery_bytes(data_type)).sum();
        (bytes <= RECOVERY_BYTES_MAX).then_some(publications)
    }
}

#[cfg(test)]
mod tests;
