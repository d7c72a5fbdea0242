//! Channels whose home is this shard: their order, their history, and which shards listen.
//!
//! Offsets are contiguous within an epoch and never given twice. Recovery returns all that was
//! missed or nothing.

mod follow;
mod history;
mod older;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub use history::History;

use crate::channel::{ChannelName, Namespace, Publication};
use crate::ids::{Epoch, Moment, Position, ShardId, Since};
use crate::limits::{
    CHANNEL_META_TTL, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TTL, RECOVERY_BYTES_MAX,
    RECOVERY_PUBLICATIONS_MAX,
};
use crate::protocol::HistoryPage;
use crate::reason::ClientError;

/// A channel at home.
struct Home {
    name: ChannelName,
    namespace: Arc<Namespace>,
    epoch: Epoch,
    /// Offset of the last publication; 0 before the first.
    top: u64,
    /// Whether nothing before the top is missing. Always so where this shard gives the offsets.
    known: bool,
    /// Whether the bus has given it a place in this epoch that it has had before.
    repeats: bool,
    history: History,
    /// Whether Redis may keep publications before those that are kept here.
    more: bool,
    /// Offset of the last publication that was to be forgotten.
    forgotten: u64,
    /// What Redis keeps is not asked for before.
    ask_from: Moment,
    interested: Vec<ShardId>,
    /// When it was last seen to become idle.
    idle_since: Moment,
    /// Whether the queue of idle channels names it.
    queued: bool,
}

impl Home {
    fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    fn is_idle(&self) -> bool {
        self.interested.is_empty() && self.history.is_empty()
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

/// All channels at home here.
pub struct Homes {
    channels: HashMap<ChannelName, Home, foldhash::quality::RandomState>,
    /// Stored publications, oldest first, by channel and position: what to drop for want of bytes.
    /// May name publications that are gone already, and lives of a channel that have ended.
    stored: VecDeque<(ChannelName, Position)>,
    /// Channels that became idle, each named once, with about the moment: what to forget. May name
    /// channels that are in use again.
    idle: VecDeque<(ChannelName, Moment)>,
    /// Answers to repeat, with their keys in the order of their age.
    answers: HashMap<(ChannelName, Box<str>), Option<Position>, foldhash::quality::RandomState>,
    answers_age: VecDeque<(Moment, ChannelName, Box<str>)>,
    bytes: usize,
    bytes_max: usize,
    stored_live: usize,
    next_epoch: u64,
}

/// What a channel's entry costs beside its history.
const CHANNEL_BYTES: usize = 256;

impl Homes {
    /// No channels yet. Epochs are derived from `seed`, which must differ between processes.
    pub fn new(bytes_max: usize, seed: u64) -> Homes {
        Homes {
            channels: HashMap::default(),
            stored: VecDeque::new(),
            idle: VecDeque::new(),
            answers: HashMap::default(),
            answers_age: VecDeque::new(),
            bytes: 0,
            bytes_max,
            stored_live: 0,
            next_epoch: seed,
        }
    }

    /// Channels at home here.
    pub fn count(&self) -> usize {
        self.channels.len()
    }

    /// Bytes that histories and channels cost.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The position that a publication with this key was answered with before. `Err` means that
    /// no more keys can be remembered now, and so no more promises made.
    ///
    /// # Errors
    /// `TooManyRequests` when [`IDEMPOTENCY_KEYS_MAX`] keys are remembered.
    pub fn repeated(
        &self,
        name: &ChannelName,
        key: &str,
    ) -> Result<Option<Option<Position>>, ClientError> {
        let known = self.answers.get(&(name.clone(), Box::from(key))).copied();
        if known.is_none() && self.answers.len() >= IDEMPOTENCY_KEYS_MAX {
            return Err(ClientError::TooManyRequests);
        }
        Ok(known)
    }

    /// Remembers the answer to a publication with a key.
    pub fn remember(
        &mut self,
        now: Moment,
        name: &ChannelName,
        key: Box<str>,
        position: Option<Position>,
    ) {
        self.answers.insert((name.clone(), key.clone()), position);
        self.answers_age.push_back((now, name.clone(), key));
    }

    /// Gives a publication its place, keeps it if the namespace says so, and names its receivers.
    pub fn publish(
        &mut self,
        now: Moment,
        (name, namespace): (&ChannelName, &Arc<Namespace>),
        mut publication: Publication,
        skip_history: bool,
    ) -> Ordered<'_> {
        let keep = namespace.has_history() && !skip_history;
        if !keep && !self.channels.contains_key(name) {
            // Nobody listens and nothing is kept: there is no order to establish.
            return Ordered { publication: publication.into(), position: None, interested: &[] };
        }
        self.enter(name, namespace);
        let Some(home) = self.channels.get_mut(name) else {
            unreachable!("the channel was just entered")
        };
        // What is outside a history that clients know has no offset, or the history had holes.
        if keep || !namespace.has_history() {
            home.top += 1;
            publication.offset = home.top;
        }
        let publication = Arc::new(publication);
        if keep {
            let expiry = now.after(home.namespace.history_ttl);
            home.history.expire(now, &mut self.bytes, &mut self.stored_live);
            home.history.push(Arc::clone(&publication), expiry);
            self.bytes += publication.cost_bytes();
            self.stored_live += 1;
            let size = home.namespace.history_size;
            home.history.trim(size, &mut self.bytes, &mut self.stored_live);
            self.stored.push_back((name.clone(), home.position()));
        }
        let position = keep.then(|| home.position());
        self.keep_within_bytes(now);
        let interested = self.channels.get(name).map_or(&[][..], |home| &home.interested);
        Ordered { publication, position, interested }
    }

    /// Counts `shard` as interested. Answers where the channel stands, and what was missed since
    /// `recover`, if that is all still known.
    pub fn subscribe(
        &mut self,
        now: Moment,
        (name, namespace): (&ChannelName, &Arc<Namespace>),
        shard: ShardId,
        recover: Option<Since>,
    ) -> (Position, Option<Vec<Arc<Publication>>>) {
        self.enter(name, namespace);
        let Some(home) = self.channels.get_mut(name) else {
            unreachable!("the channel was just entered")
        };
        if !home.interested.contains(&shard) {
            home.interested.push(shard);
        }
        home.history.expire(now, &mut self.bytes, &mut self.stored_live);
        let recovered = recover
            .filter(|since| since.epoch.matches(home.epoch))
            .and_then(|since| home.recover(since.offset));
        let position = home.position();
        self.keep_within_bytes(now);
        (position, recovered)
    }

    /// The newest publications that are kept of a channel, oldest first: at most `count`, and
    /// never more than one recovery brings.
    pub fn newest(&self, name: &ChannelName, count: usize) -> Vec<Arc<Publication>> {
        let page = HistoryPage::newest(count);
        let mut newest = self.channels.get(name).map_or_else(Vec::new, |home| {
            home.history.page(page, (RECOVERY_PUBLICATIONS_MAX, RECOVERY_BYTES_MAX)).0
        });
        newest.reverse();
        newest
    }

    /// Forgets that `shard` is interested.
    pub fn leave(&mut self, now: Moment, name: &ChannelName, shard: ShardId) {
        let Some(home) = self.channels.get_mut(name) else { return };
        home.interested.retain(|&other| other != shard);
        self.retire(now, name);
    }

    /// Reads a page of history of at most so many publications and bytes. Asking creates the
    /// position of a channel that has none yet.
    ///
    /// # Errors
    /// `UnrecoverablePosition` for another epoch, `BadRequest` for reverse from offset 0.
    pub fn history(
        &mut self,
        now: Moment,
        (name, namespace): (&ChannelName, &Arc<Namespace>),
        page: HistoryPage,
        most: (usize, usize),
    ) -> Result<Page, ClientError> {
        self.enter(name, namespace);
        let Some(home) = self.channels.get_mut(name) else {
            unreachable!("the channel was just entered")
        };
        home.history.expire(now, &mut self.bytes, &mut self.stored_live);
        let top = home.position();
        let page = match page.since {
            Some(since) if !since.epoch.matches(home.epoch) => {
                Err(ClientError::UnrecoverablePosition)
            }
            Some(since) if page.reverse && since.offset == 0 => Err(ClientError::BadRequest),
            _ => {
                let (publications, omitted) = home.history.page(page, most);
                Ok(Page { publications, omitted, top })
            }
        };
        self.retire(now, name);
        self.keep_within_bytes(now);
        page
    }

    /// Forgets a channel's history. Its position goes on.
    pub fn history_remove(&mut self, now: Moment, name: &ChannelName) {
        if let Some(home) = self.channels.get_mut(name) {
            home.history.trim(0, &mut self.bytes, &mut self.stored_live);
            (home.more, home.forgotten) = (false, home.top);
            self.retire(now, name);
        }
    }

    /// Forgets what has expired, a bounded part of it in one call.
    pub fn on_tick(&mut self, now: Moment) {
        const STEPS_MAX: usize = 256;
        for _ in 0..STEPS_MAX {
            let Some((stored, position)) = self.stored.front() else { break };
            let (name, position) = (stored.clone(), *position);
            let home = self.channels.get_mut(&name).filter(|home| home.epoch == position.epoch);
            let Some(home) = home else {
                self.stored.pop_front();
                continue;
            };
            home.history.expire(now, &mut self.bytes, &mut self.stored_live);
            let oldest = home.history.first_offset();
            if oldest.is_some_and(|oldest| oldest <= position.offset) {
                break;
            }
            self.stored.pop_front();
            self.retire(now, &name);
        }
        for _ in 0..STEPS_MAX {
            let old = self.idle.front().is_some_and(|(_, at)| now.since(*at) >= CHANNEL_META_TTL);
            if !old {
                break;
            }
            self.forget_idlest(|idle_since| now.since(idle_since) >= CHANNEL_META_TTL);
        }
        self.on_tick_answers(now);
    }

    fn on_tick_answers(&mut self, now: Moment) {
        let expired = |(at, ..): &(Moment, _, _)| now.since(*at) >= IDEMPOTENCY_TTL;
        while self.answers_age.front().is_some_and(expired) {
            if let Some((_, name, key)) = self.answers_age.pop_front() {
                self.answers.remove(&(name, key));
            }
        }
    }

    /// Whether `shard` is counted as interested in the channel: for audits.
    pub fn is_interested(&self, name: &str, shard: ShardId) -> bool {
        self.channels.get(name).is_some_and(|home| home.interested.contains(&shard))
    }

    /// Whether some shard has subscribers of the channel.
    pub fn has_listeners(&self, name: &str) -> bool {
        self.channels.get(name).is_some_and(|home| !home.interested.is_empty())
    }

    fn enter(&mut self, name: &ChannelName, namespace: &Arc<Namespace>) {
        if self.channels.contains_key(name) {
            return;
        }
        // Splitmix64's increment visits every value once, so no epoch comes twice.
        self.next_epoch = self.next_epoch.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let epoch = Epoch::new(self.next_epoch >> 16);
        self.insert((name, namespace), Position { epoch, offset: 0 });
    }

    /// Adds a channel that is not there, of which nothing is kept and which stands at `position`.
    fn insert(&mut self, (name, namespace): (&ChannelName, &Arc<Namespace>), position: Position) {
        let home = Home {
            name: name.clone(),
            namespace: Arc::clone(namespace),
            epoch: position.epoch,
            top: position.offset,
            known: true,
            repeats: false,
            history: History::default(),
            more: namespace.durable_history,
            forgotten: 0,
            ask_from: Moment::default(),
            interested: Vec::new(),
            idle_since: Moment::default(),
            queued: false,
        };
        self.bytes += CHANNEL_BYTES + name.as_str().len();
        self.channels.insert(name.clone(), home);
    }

    /// Notes the moment at which a channel became idle; its position is kept for a while. Where
    /// no position is shown, the channel is forgotten at once.
    pub(super) fn retire(&mut self, now: Moment, name: &ChannelName) {
        let Some(home) = self.channels.get_mut(name).filter(|home| home.is_idle()) else { return };
        if !home.namespace.has_history() {
            return self.forget(name);
        }
        home.idle_since = now;
        if !std::mem::replace(&mut home.queued, true) {
            self.idle.push_back((name.clone(), now));
        }
    }

    /// Forgets the channel at the front of the queue of idle ones, if it is idle since long
    /// enough; answers whether there was one.
    fn forget_idlest(&mut self, is_long: impl Fn(Moment) -> bool) -> bool {
        let Some((name, _)) = self.idle.pop_front() else { return false };
        let Some(home) = self.channels.get_mut(&name) else { return true };
        if home.is_idle() && !is_long(home.idle_since) {
            // It was used since it came into the queue.
            self.idle.push_back((name, home.idle_since));
            return true;
        }
        home.queued = false;
        if home.is_idle() {
            self.forget(&name);
        }
        true
    }

    fn forget(&mut self, name: &ChannelName) {
        if let Some(home) = self.channels.remove(name) {
            assert!(home.is_idle(), "a channel in use stays");
            self.bytes -= CHANNEL_BYTES + home.name.as_str().len();
        }
    }

    /// Drops the oldest publications, and channels that nobody uses: these first if they are many,
    /// for whoever names channels that do not exist must not drive out what others are to recover.
    fn keep_within_bytes(&mut self, now: Moment) {
        while self.bytes > self.bytes_max {
            let many_idle = self.idle.len() * CHANNEL_BYTES > self.bytes_max / 4;
            if many_idle && self.forget_idlest(|_| true) {
                continue;
            }
            if let Some((name, position)) = self.stored.pop_front() {
                let home = self.channels.get_mut(&name);
                if let Some(home) = home.filter(|home| home.epoch == position.epoch) {
                    home.history.drop_until(
                        position.offset,
                        &mut self.bytes,
                        &mut self.stored_live,
                    );
                    home.more = home.namespace.durable_history;
                    self.retire(now, &name);
                }
            } else if !self.forget_idlest(|_| true) {
                return;
            }
        }
        if self.stored.len() > 2 * self.stored_live + 1024 {
            let channels = &self.channels;
            self.stored.retain(|(name, position)| {
                let home = channels.get(name).filter(|home| home.epoch == position.epoch);
                let first = home.and_then(|home| home.history.first_offset());
                first.is_some_and(|first| first <= position.offset)
            });
        }
    }
}

impl Home {
    /// All publications after `offset`, or nothing if one of them is gone or there are too many.
    fn recover(&self, offset: u64) -> Option<Vec<Arc<Publication>>> {
        let missed = self.top.checked_sub(offset)?;
        if missed == 0 {
            return Some(Vec::new());
        }
        if missed > RECOVERY_PUBLICATIONS_MAX as u64 || self.history.first_offset()? > offset + 1 {
            return None;
        }
        let begin = if crate::sabotage!(OffsetOffByOne) { offset + 1 } else { offset };
        let publications: Vec<_> = self.history.after(begin).cloned().collect();
        let json_bytes = |one: &Arc<Publication>| {
            one.cost_bytes() - one.data.len() + self.namespace.data.json_bytes(&one.data)
        };
        let bytes: usize = publications.iter().map(json_bytes).sum();
        (bytes <= RECOVERY_BYTES_MAX).then_some(publications)
    }
}

#[cfg(test)]
mod tests;
