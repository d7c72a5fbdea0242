//! The kept publications of one channel, with contiguous offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::channel::Publication;
use crate::ids::Moment;
use crate::protocol::HistoryPage;

/// Sums over all channels of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Bytes of publications, and of channels that are kept only for their position.
    pub(super) bytes: usize,
    pub(super) publications: usize,
}

impl Totals {
    /// Subtracts bytes that were added before.
    pub(super) fn discharge(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "no more bytes are discharged than were charged");
        self.bytes -= bytes;
    }
}

/// The limits of a page.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    /// Maximum number of publications.
    pub publications_max: usize,
    /// Maximum number of bytes, unless a single publication has more.
    pub bytes_max: usize,
}

/// The publications, oldest first. Methods that change them also update the given totals.
#[derive(Default)]
pub struct History {
    publications: VecDeque<(Moment, Arc<Publication>)>,
}

impl History {
    /// Returns the offset of the oldest publication.
    pub fn first_offset(&self) -> Option<u64> {
        self.publications.front().map(|(_, publication)| publication.offset)
    }

    /// Returns the offset of the oldest publication that has not expired.
    pub fn first_offset_at(&self, now: Moment) -> Option<u64> {
        let expired = self.publications.partition_point(|(expiry, _)| *expiry <= now);
        self.publications.get(expired).map(|(_, publication)| publication.offset)
    }

    /// Returns the expiry of the oldest publication.
    pub fn first_expiry(&self) -> Option<Moment> {
        self.publications.front().map(|(expiry, _)| *expiry)
    }

    /// Counts the bytes of all publications. Only for audits.
    pub fn cost_bytes(&self) -> usize {
        self.publications.iter().map(|(_, publication)| publication.cost_bytes()).sum()
    }

    /// Adds a publication that is kept until `expiry`.
    pub(super) fn push(
        &mut self,
        publication: Arc<Publication>,
        expiry: Moment,
        totals: &mut Totals,
    ) {
        let last = self.publications.back().map(|(_, last)| last.offset);
        let follows = last.is_none_or(|last| publication.offset == last + 1);
        assert!(follows, "a history has no holes");
        totals.bytes += publication.cost_bytes();
        totals.publications += 1;
        self.publications.push_back((expiry, publication));
    }

    /// Adds a publication before all others, which is kept until `expiry`.
    pub(super) fn push_front(
        &mut self,
        publication: Arc<Publication>,
        expiry: Moment,
        totals: &mut Totals,
    ) {
        let precedes = self.first_offset().is_none_or(|first| publication.offset + 1 == first);
        assert!(precedes, "a history has no holes");
        totals.bytes += publication.cost_bytes();
        totals.publications += 1;
        self.publications.push_front((expiry, publication));
    }

    /// Returns the number of publications.
    pub fn len(&self) -> usize {
        self.publications.len()
    }

    /// Removes expired publications, at most `steps_max`. Returns their number.
    pub(super) fn expire(&mut self, now: Moment, steps_max: usize, totals: &mut Totals) -> usize {
        let expired = |(expiry, _): &(Moment, _)| *expiry <= now;
        let mut dropped = 0;
        while dropped < steps_max && self.publications.front().is_some_and(expired) {
            self.drop_first(totals);
            dropped += 1;
        }
        dropped
    }

    /// Removes the oldest publications until at most `size` are left. Returns the number of removed
    /// ones.
    pub(super) fn trim(&mut self, size: usize, totals: &mut Totals) -> usize {
        let over = self.publications.len().saturating_sub(size);
        (0..over).for_each(|_| self.drop_first(totals));
        over
    }

    /// Removes all publications up to `offset`. Returns their number.
    pub(super) fn drop_until(&mut self, offset: u64, totals: &mut Totals) -> usize {
        let mut dropped = 0;
        while self.first_offset().is_some_and(|first| first <= offset) {
            self.drop_first(totals);
            dropped += 1;
        }
        dropped
    }

    fn drop_first(&mut self, totals: &mut Totals) {
        let Some((_, publication)) = self.publications.pop_front() else {
            unreachable!("callers have counted or found a publication")
        };
        if !crate::sabotage!(ForgottenCharge) {
            totals.discharge(publication.cost_bytes());
        }
        assert!(totals.publications > 0, "each kept publication is counted");
        totals.publications -= 1;
        if self.publications.is_empty() {
            self.publications = VecDeque::new();
        }
    }

    /// Iterates over all publications after `offset`.
    pub fn after(&self, offset: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let first = self.first_offset().unwrap_or(0);
        let skip = offset.saturating_add(1).saturating_sub(first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.publications.iter().skip(skip).map(|(_, publication)| publication)
    }

    /// Returns a page, limited in publications and bytes, and the number of requested publications
    /// that did not fit. A single publication may exceed the limit of bytes; otherwise readers
    /// would never get past it. Expired publications are left out.
    pub fn page(
        &self,
        now: Moment,
        page: HistoryPage,
        bounds: PageBounds,
    ) -> (Vec<Arc<Publication>>, usize) {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let expired = self.publications.partition_point(|(expiry, _)| *expiry <= now);
        let first = self.first_offset().unwrap_or(0);
        // The index of the first publication with at least that offset.
        let index = |offset: u64| {
            let index = usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX);
            index.clamp(expired, self.len())
        };
        if page.reverse {
            let end = page.since.map_or(self.len(), |since| index(since.offset));
            take_fitting(self.publications.range(expired..end).rev(), limit, bounds)
        } else {
            let begin = page.since.map_or(expired, |since| index(since.offset.saturating_add(1)));
            take_fitting(self.publications.range(begin..), limit, bounds)
        }
    }
}

/// Takes publications until one does not fit. Returns how many of the first `limit` are left.
fn take_fitting<'h>(
    wanted: impl ExactSizeIterator<Item = &'h (Moment, Arc<Publication>)>,
    limit: usize,
    PageBounds { publications_max, bytes_max }: PageBounds,
) -> (Vec<Arc<Publication>>, usize) {
    let count = wanted.len().min(limit);
    let mut bytes = 0;
    let fits = |publication: &&Arc<Publication>| {
        let first = bytes == 0;
        bytes += publication.cost_bytes();
        first || bytes <= bytes_max
    };
    let all = wanted.map(|(_, publication)| publication).take(count.min(publications_max));
    let taken: Vec<_> = all.take_while(fits).cloned().collect();
    let omitted = count - taken.len();
    (taken, omitted)
}
