//! The channels whose home is this shard: their order, history and interested shards.
//!
//! Offsets are contiguous within an epoch and never assigned twice. Recovery returns all missed
//! publications or none.
//!
//! The memory of a channel is limited in one of two ways. The number of channels with listeners is
//! limited. Publications, and positions of channels that are kept only for their position, share
//! the bytes for histories. So requests for channels never displace histories.

mod channel;
mod deadlines;
mod epochs;
mod replica;
mod history;
mod interest;
mod keeping;
mod links;
mod losses;
mod older;
mod stored;
mod table;

use std::sync::Arc;

pub use history::PageBounds;
pub use replica::Replicated;

use crate::channel::{ChannelName, HistoryUse, Namespace, Publication};
use crate::ids::{HomeId, Moment, Position, ShardId, Since};
use crate::limits::{RECOVERY_BYTES_MAX, RECOVERY_PUBLICATIONS_MAX};
use crate::mesh::Page;
use crate::pool::{Pool, Share};
use crate::protocol::HistoryPage;
use crate::reason::{ClientError, Eviction};

use channel::Channel;
use deadlines::Deadlines;
use epochs::Epochs;
use history::Totals;
use interest::Interested;
use links::Wait;
use losses::Losses;
use stored::StoredOrder;
use table::ChannelTable;

/// A channel's name, and the namespace to which it belongs.
#[derive(Clone, Copy)]
pub struct Resolved<'a> {
    /// The name.
    pub name: &'a ChannelName,
    /// Its namespace.
    pub namespace: &'a Arc<Namespace>,
}

/// A publication with its offset and its receivers.
pub struct Ordered<'a> {
    /// The publication.
    pub publication: Arc<Publication>,
    /// The position, if the channel has positions for clients.
    pub position: Option<Position>,
    /// Shards with subscribers.
    pub interested: &'a [ShardId],
}

/// A subscription that the home has granted.
pub struct Granted {
    /// The shared name of the channel, so that the node stores it only once.
    pub name: ChannelName,
    /// The current position of the channel.
    pub top: Position,
    /// All missed publications, if recovery was requested and is possible.
    pub recovered: Option<Vec<Arc<Publication>>>,
}

/// All channels whose home is this shard.
pub struct Channels {
    channels: ChannelTable,
    /// Number of channels with listeners.
    in_use: usize,
    /// The shard's share of the limit for channels with listeners.
    share: Share,
    epochs: Epochs,
    totals: Totals,
    bytes_max: usize,
    stored: StoredOrder,
    deadlines: Deadlines,
    evictions: [u64; Eviction::ALL.len()],
    /// The last value of `Channel::life`.
    last_life: u32,
    losses: Losses,
}

impl Channels {
    /// Creates an empty set. Epochs are derived from `seed`, which must differ between processes.
    pub fn new(bytes_max: usize, seed: u64, channels: Pool) -> Channels {
        Channels {
            channels: ChannelTable::default(),
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

    /// Returns the number of channels.
    pub fn count(&self) -> usize {
        self.channels.count()
    }

    /// Returns the number of channels with listeners.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// Returns the bytes of histories and of channels that are kept only for their position.
    pub fn bytes(&self) -> usize {
        self.totals.bytes
    }

    /// Returns the number of early removals, by reason.
    pub fn evictions(&self) -> &[u64] {
        &self.evictions
    }

    /// Whether there is a channel with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.channels.find(name).is_some()
    }

    /// Whether publications of the channel are kept.
    pub fn keeps(&self, name: &str) -> bool {
        self.find(name).is_some_and(|home| home.history_len() > 0)
    }

    /// Assigns an offset to a publication, keeps it if the namespace requires it, and returns its
    /// receivers.
    pub fn publish(
        &mut self,
        now: Moment,
        channel: Resolved<'_>,
        mut publication: Publication,
        history: HistoryUse,
    ) -> Ordered<'_> {
        let Resolved { name, namespace } = channel;
        let keep = namespace.has_history() && history == HistoryUse::Keep;
        let id = match self.channels.find(name.as_str()) {
            Some(id) => id,
            None if keep => self.enter(name, namespace),
            // Without listeners and history there is no order to establish.
            None => {
                return Ordered {
                    publication: publication.into(),
                    position: None,
                    interested: &[],
                };
            }
        };
        let channel = self.channel(id);
        // A publication outside of a history has no offset; otherwise the history would have holes.
        if keep || !namespace.has_history() {
            channel.top += 1;
            publication.offset = channel.top;
        }
        let position = keep.then(|| channel.position());
        let publication = Arc::new(publication);
        if keep {
            self.keep(now, id, &publication);
        }
        Ordered { publication, position, interested: self.interested(id) }
    }

    /// Counts `shard` as interested. Returns the position of the channel, and all publications
    /// since `recover` if they are still available.
    ///
    /// # Errors
    /// `NodeChannels` if the node already has the maximum number of channels with listeners.
    pub fn subscribe(
        &mut self,
        now: Moment,
        channel: Resolved<'_>,
        shard: ShardId,
        recover: Option<Since>,
    ) -> Result<Granted, ClientError> {
        let Resolved { name, namespace } = channel;
        let found = self.channels.find(name.as_str());
        let first = found.is_none_or(|id| self.channel(id).interested.is_empty());
        // The request is refused before the channel is entered, so that a refusal leaves nothing
        // behind.
        if first && !self.share.reach(self.in_use + 1) && !crate::sabotage!(UnboundedChannels) {
            return Err(ClientError::NodeChannels);
        }
        let id = found.unwrap_or_else(|| self.enter(name, namespace));
        self.expire_some(now, id);
        let channel = self.channel(id);
        channel.interested.add(shard);
        let recovered = recover
            .filter(|since| since.epoch.matches(channel.epoch))
            .and_then(|since| channel.recover(now, since.offset));
        let granted = Granted { name: channel.name.clone(), top: channel.position(), recovered };
        self.in_use += usize::from(first);
        assert!(self.in_use <= self.channels.count(), "a channel in use is in the table");
        self.settle_charge(id);
        self.settle_deadline(now, id);
        Ok(granted)
    }

    /// Returns the newest publications of a channel, oldest first: at most `count`, and at most as
    /// many as one recovery returns.
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

    /// Removes the interest of `shard`.
    pub fn leave(&mut self, now: Moment, name: &ChannelName, shard: ShardId) {
        let Some(id) = self.channels.find(name.as_str()) else { return };
        let channel = self.channel(id);
        if channel.interested.is_empty() {
            return;
        }
        channel.interested.remove(shard);
        let last = channel.interested.is_empty();
        assert!(self.in_use > 0, "a channel with listeners is counted as in use");
        self.in_use -= usize::from(last);
        // Return the unused share immediately, because another shard may need it.
        self.share.settle(self.in_use);
        self.settle_charge(id);
        self.retire(now, id);
        self.keep_within_bytes(now);
    }

    /// Reads a page of history, limited in publications and bytes. A channel that does not exist
    /// has the position at which it would begin; it is not created for that.
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
        let id = self.channels.find(name.as_str());
        if let Some(id) = id {
            self.expire_some(now, id);
        }
        let channel = id.and_then(|id| self.channels.get(id));
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
                Ok(Page { channel: name.clone(), publications, omitted, top })
            }
        }
    }

    /// Removes the history of a channel. Its position stays.
    pub fn history_remove(&mut self, now: Moment, name: &ChannelName) {
        let Some(id) = self.channels.find(name.as_str()) else { return };
        let (channel, totals) = self.channel_and_totals(id);
        let top = channel.top;
        if top > 0 {
            let kept = channel.kept();
            kept.history.trim(0, totals);
            (kept.redis_may_have_older, kept.forgotten) = (false, top);
        }
        self.retire(now, id);
    }

    /// Removes a bounded number of expired entries. Returns whether there are more.
    pub fn forget_some(&mut self, now: Moment, steps_max: usize) -> bool {
        let mut steps = 0;
        while steps < steps_max {
            let Some((id, wait)) = self.deadlines.due(now) else { return false };
            steps += 1;
            if wait == Wait::Idle {
                self.forget(id);
                continue;
            }
            // The deadline may have been too early, so it is removed in any case.
            self.deadlines.remove(&mut self.channels, id);
            let (channel, totals) = self.channel_and_totals(id);
            let expired = channel.kept().history.expire(now, steps_max, totals);
            steps += expired;
            self.sift(expired);
            self.retire(now, id);
        }
        true
    }

    /// Whether `shard` is counted as interested in the channel. Only for audits.
    pub fn is_interested(&self, name: &str, shard: ShardId) -> bool {
        self.find(name).is_some_and(|channel| channel.interested.as_slice().contains(&shard))
    }

    /// Whether any shard has subscribers of the channel.
    pub fn has_listeners(&self, name: &str) -> bool {
        self.find(name).is_some_and(|channel| !channel.interested.is_empty())
    }

    fn find(&self, name: &str) -> Option<&Channel> {
        self.channels.get(self.channels.find(name)?)
    }

    fn channel(&mut self, id: HomeId) -> &mut Channel {
        self.channel_and_totals(id).0
    }

    fn channel_and_totals(&mut self, id: HomeId) -> (&mut Channel, &mut Totals) {
        let Some(channel) = self.channels.at(id) else {
            unreachable!("the channel was just found or entered")
        };
        (channel, &mut self.totals)
    }

    /// The shards with subscribers of the channel `id`. A channel without any may have just
    /// been removed: it is unused, or there are no bytes left for it.
    fn interested(&self, id: HomeId) -> &[ShardId] {
        self.channels.get(id).map_or(&[], |channel| channel.interested.as_slice())
    }

    fn enter(&mut self, name: &ChannelName, namespace: &Arc<Namespace>) -> HomeId {
        let epoch = if namespace.has_history() {
            self.epochs.of(name.as_str())
        } else {
            self.epochs.fresh()
        };
        self.insert(Resolved { name, namespace }, Position { epoch, offset: 0 })
    }

    /// Adds a new channel with the position `position` and without publications.
    fn insert(&mut self, channel: Resolved<'_>, position: Position) -> HomeId {
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

    fn forget(&mut self, id: HomeId) {
        self.deadlines.remove(&mut self.channels, id);
        let Some(channel) = self.channels.remove(id) else {
            unreachable!("the channel was just found")
        };
        assert!(channel.is_idle(), "only unused channels are removed");
        if channel.charged {
            self.totals.discharge(channel.position_bytes());
        }
        if channel.has_positions() {
            // A later channel of this name must not assign the same offsets in the same epoch.
            self.epochs.raise(channel.name.as_str());
        }
    }
}

#[cfg(test)]
mod tests;
