//! Reads publications that this node does not have from durable histories in Redis. A call reads
//! many channels, up to a number of bytes. Only one call is in progress at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::{PlacesKeys, argument, named_arguments};
use super::record::{self, Offset, Record};
use super::{Keys, Reply, channel_epoch, entry};
use crate::channel::{ChannelName, Namespace, Publication};
use crate::ids::Moment;
use crate::limits::{BUS_OLDER_BYTES_MAX, BUS_OLDER_CHANNELS_MAX, BUS_OLDER_WANTED_MAX};
use crate::mesh::Found;

/// A read of the histories of channels of one stream.
#[derive(Clone, Debug)]
pub struct Older {
    /// Index of the stream.
    pub stream: usize,
    /// The channels, their namespaces, and the offsets before which to read.
    pub channels: Vec<(ChannelName, Arc<Namespace>, u64)>,
}

named_arguments! {
    /// Arguments of every call.
    ARGV: struct OlderHead {
        /// Bytes after which the call reads no more.
        bytes_max,
    }
}

impl Older {
    /// Returns the keys and arguments of the script.
    pub fn keys_and_args(&self, keys: &Keys) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut names = PlacesKeys::new(keys, self.stream).into_list();
        let mut args = OlderHead { bytes_max: argument(BUS_OLDER_BYTES_MAX) }.into_list();
        for (channel, namespace, before) in &self.channels {
            names.push(keys.history(self.stream, channel.as_str()));
            let (size, ttl) = (namespace.history_size, namespace.history_ttl.as_millis());
            args.extend([argument(channel.as_str()), argument(before)]);
            args.extend([argument(size), argument(ttl)]);
        }
        (names, args)
    }

    /// Parses the script's reply. Returns `None` if it has another form.
    pub fn answer(&self, now: Moment, reply: &Reply) -> Option<Vec<Found>> {
        let [epoch, found @ ..] = reply.list()? else { return None };
        let epoch = epoch.number()?;
        let found = self.channels.iter().zip(found).map(|((channel, namespace, _), found)| {
            let [incarnation, complete, publications @ ..] = found.list()? else { return None };
            let epoch = channel_epoch(epoch, incarnation.number()?);
            let complete = complete.number()? == 1;
            let mut read = Vec::new();
            if crate::sabotage!(SkippedOlder) {
                return Some(Found { epoch, publications: read, complete: true });
            }
            for one in publications.chunks_exact(3) {
                let (offset, age) = one[0].number().zip(one[1].number())?;
                let left = namespace.history_ttl.saturating_sub(Duration::from_millis(age));
                let found = publication(&one[2], channel, namespace, offset, now);
                let Some(publication) = found else {
                    // The entry is invalid. Publications before it can't be joined to later ones.
                    return Some(Found { epoch, publications: read, complete: true });
                };
                read.push((left, Arc::new(publication)));
            }
            Some(Found { epoch, publications: read, complete })
        });
        let found: Option<Vec<Found>> = found.collect();
        found.filter(|found| found.len() == self.channels.len())
    }
}

/// Parses the publication that a history has at `offset`.
fn publication(
    record: &Reply,
    channel: &ChannelName,
    namespace: &Namespace,
    offset: u64,
    now: Moment,
) -> Option<Publication> {
    let mut bytes = record.bytes()?;
    let record = record::decode(&mut bytes)?;
    let wanted = matches!(record, Record::Publication { channel: named, offset: Offset::Next, .. }
        if bytes.is_empty() && named == channel.as_str());
    if !wanted {
        return None;
    }
    entry::publication(namespace, &record, offset, now).ok()
}

/// A request for the history of one channel.
#[derive(Debug)]
pub(super) struct OlderRequest {
    /// When it was made.
    pub(super) since: Moment,
    pub(super) channel: ChannelName,
    pub(super) namespace: Arc<Namespace>,
    /// Publications before this offset are wanted.
    pub(super) before: u64,
}

/// The reads of histories in one stream.
#[derive(Debug, Default)]
pub(super) struct Reads {
    wanted: VecDeque<OlderRequest>,
    /// Requests of the call in progress.
    asked: Vec<OlderRequest>,
}

impl Reads {
    /// Queues a request. Returns false if too many wait.
    pub(super) fn want(&mut self, wanted: OlderRequest) -> bool {
        if self.wanted.len() >= BUS_OLDER_WANTED_MAX {
            return false;
        }
        self.wanted.push_back(wanted);
        true
    }

    /// Whether requests wait and no call is in progress.
    pub(super) fn is_ready(&self) -> bool {
        self.asked.is_empty() && !self.wanted.is_empty()
    }

    /// Returns the next call.
    pub(super) fn ask(&mut self, stream: usize) -> Older {
        let count = self.wanted.len().min(BUS_OLDER_CHANNELS_MAX);
        self.asked = self.wanted.drain(..count).collect();
        let asked = self.asked.iter();
        let channels =
            asked.map(|one| (one.channel.clone(), Arc::clone(&one.namespace), one.before));
        Older { stream, channels: channels.collect() }
    }

    /// Handles the reply to the call. Returns each channel, the offset before which it was read,
    /// and the publications. If there will be no reply, the requests are queued again.
    pub(super) fn on_answer(
        &mut self,
        found: Option<Vec<Found>>,
    ) -> Vec<(ChannelName, u64, Found)> {
        let asked = std::mem::take(&mut self.asked).into_iter();
        let Some(found) = found else {
            // They stay at the front of the queue, because they have waited longest.
            asked.rev().for_each(|one| self.wanted.push_front(one));
            return Vec::new();
        };
        asked.zip(found).map(|(one, found)| (one.channel, one.before, found)).collect()
    }

    /// Removes and returns requests that have waited too long.
    pub(super) fn expire(&mut self, is_over: impl Fn(Moment) -> bool) -> Vec<(ChannelName, u64)> {
        let mut over = Vec::new();
        while let Some(one) = self.wanted.pop_front_if(|one| is_over(one.since)) {
            over.push((one.channel, one.before));
        }
        over
    }
}
