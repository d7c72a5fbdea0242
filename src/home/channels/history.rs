//! The publications that one channel keeps, with contiguous offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::channel::Publication;
use crate::ids::Moment;
use crate::protocol::HistoryPage;

/// What all channels of a shard keep together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Bytes of publications, and of channels that are kept for their positions alone.
    pub(super) bytes: usize,
    /// Publications.
    pub(super) publications: usize,
}

/// The longest page that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    /// Maximum number of publications.
    pub publications_max: usize,
    /// Maximum number of bytes, unless a single publication has more.
    pub bytes_max: usize,
}

/// The publications, oldest first. Who changes it says which totals to keep true.
#[derive(Default)]
pub struct History {
    publications: VecDeque<(Moment, Arc<Publication>)>,
}

impl History {
    /// Offset of the oldest publication kept.
    pub fn first_offset(&self) -> Option<u64> {
        self.publications.front().map(|(_, publication)| publication.offset)
    }

    /// Offset of the oldest publication that has not expired.
    pub fn first_offset_at(&self, now: Moment) -> Option<u64> {
        let expired = self.publications.partition_point(|(expiry, _)| *expiry <= now);
        self.publications.get(expired).map(|(_, publication)| publication.offset)
    }

    /// When the oldest publication expires.
    pub fn first_expiry(&self) -> Option<Moment> {
        self.publications.front().map(|(expiry, _)| *expiry)
    }

    /// Bytes that the publications cost, counted one by one: for audits.
    pub fn cost_bytes(&self) -> usize {
        self.publications.iter().map(|(_, publication)| publication.cost_bytes()).sum()
    }

    /// Keeps one more publication until `expiry`.
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

    /// Keeps an earlier one than all others until `expiry`.
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

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.publications.len()
    }

    /// Drops what has expired, at most `steps_max` publications. Returns how many that was.
    pub(super) fn expire(&mut self, now: Moment, steps_max: usize, totals: &mut Totals) -> usize {
        let expired = |(expiry, _): &(Moment, _)| *expiry <= now;
        let mut dropped = 0;
        while dropped < steps_max && self.publications.front().is_some_and(expired) {
            self.drop_first(totals);
            dropped += 1;
        }
        dropped
    }

    /// Drops the oldest until at most `size` are left. Returns how many were dropped.
    pub(super) fn trim(&mut self, size: usize, totals: &mut Totals) -> usize {
        let over = self.publications.len().saturating_sub(size);
        (0..over).for_each(|_| self.drop_first(totals));
        over
    }

    /// Drops everything up to `offset`. Returns how many were dropped.
    pub(super) fn drop_until(&mut self, offset: u64, totals: &mut Totals) -> usize {
        let mut dropped = 0;
        while self.first_offset().is_some_and(|first| first <= offset) {
            self.drop_first(totals);
            dropped += 1;
        }
        dropped
    }

    fn drop_first(&mut self, totals: &mut Totals) {
        if let Some((_, publication)) = self.publications.pop_front() {
            if !crate::sabotage!(ForgottenCharge) {
                totals.bytes -= publication.cost_bytes();
            }
            totals.publications -= 1;
        }
        if self.publications.is_empty() {
            self.publications = VecDeque::new();
        }
    }

    /// Everything after `offset` that is kept.
    pub fn after(&self, offset: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let first = self.first_offset().unwrap_or(0);
        let skip = offset.saturating_add(1).saturating_sub(first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.publications.iter().skip(skip).map(|(_, publication)| publication)
    }

    /// A page of at most so many publications, which cost at most so many bytes, and the number of
    /// publications that it asks for beyond these. A single publication may cost more, or readers
    /// would never get past it. What has expired is left out.
    pub fn page(
        &self,
        now: Moment,
        page: HistoryPage,
        bounds: PageBounds,
    ) -> (Vec<Arc<Publication>>, usize) {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let expired = self.publications.partition_point(|(expiry, _)| *expiry <= now);
        let first = self.first_offset().unwrap_or(0);
        // The place of the first publication with at least that offset.
        let place = |offset: u64| {
            let place = usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX);
            place.clamp(expired, self.len())
        };
        if page.reverse {
            let end = page.since.map_or(self.len(), |since| place(since.offset));
            take_fitting(self.publications.range(expired..end).rev(), limit, bounds)
        } else {
            let begin = page.since.map_or(expired, |since| place(since.offset.saturating_add(1)));
            take_fitting(self.publications.range(begin..), limit, bounds)
        }
    }
}

/// Takes publications until one does not fit; answers how many of the first `limit` are left.
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
