//! The publications that one channel keeps, with contiguous offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::channel::Publication;
use crate::ids::Moment;
use crate::protocol::HistoryPage;

/// The publications, oldest first. Who changes it says which totals to keep true: the bytes and
/// the number of all publications that the shard keeps.
#[derive(Default)]
pub struct History {
    publications: VecDeque<(Moment, Arc<Publication>)>,
}

impl History {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// Offset of the oldest publication kept.
    pub fn first_offset(&self) -> Option<u64> {
        self.publications.front().map(|(_, publication)| publication.offset)
    }

    /// Keeps one more publication until `expiry`.
    pub fn push(&mut self, publication: Arc<Publication>, expiry: Moment) {
        let last = self.publications.back().map(|(_, last)| last.offset);
        let follows = last.is_none_or(|last| publication.offset == last + 1);
        assert!(follows, "a history has no holes");
        self.publications.push_back((expiry, publication));
    }

    /// Keeps an earlier one than all others until `expiry`.
    pub fn push_front(&mut self, publication: Arc<Publication>, expiry: Moment) {
        let precedes = self.first_offset().is_none_or(|first| publication.offset + 1 == first);
        assert!(precedes, "a history has no holes");
        self.publications.push_front((expiry, publication));
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.publications.len()
    }

    /// Drops what has expired.
    pub fn expire(&mut self, now: Moment, bytes: &mut usize, count: &mut usize) {
        while self.publications.front().is_some_and(|(expiry, _)| *expiry <= now) {
            self.drop_first(bytes, count);
        }
    }

    /// Drops the oldest until at most `size` are left.
    pub fn trim(&mut self, size: usize, bytes: &mut usize, count: &mut usize) {
        while self.publications.len() > size {
            self.drop_first(bytes, count);
        }
    }

    /// Drops everything up to `offset`.
    pub fn drop_until(&mut self, offset: u64, bytes: &mut usize, count: &mut usize) {
        while self.first_offset().is_some_and(|first| first <= offset) {
            self.drop_first(bytes, count);
        }
    }

    fn drop_first(&mut self, bytes: &mut usize, count: &mut usize) {
        if let Some((_, publication)) = self.publications.pop_front() {
            *bytes -= publication.cost_bytes();
            *count -= 1;
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
    /// would never get past it.
    pub fn page(&self, page: HistoryPage, most: (usize, usize)) -> (Vec<Arc<Publication>>, usize) {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let first = self.first_offset().unwrap_or(0);
        // The place of the first publication with at least that offset.
        let place = |offset: u64| {
            usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX).min(self.len())
        };
        if page.reverse {
            let end = page.since.map_or(self.len(), |since| place(since.offset));
            take_fitting(self.publications.range(..end).rev(), limit, most)
        } else {
            let begin = page.since.map_or(0, |since| place(since.offset.saturating_add(1)));
            take_fitting(self.publications.range(begin..), limit, most)
        }
    }
}

/// Takes publications until one does not fit; answers how many of the first `limit` are left.
fn take_fitting<'h>(
    wanted: impl ExactSizeIterator<Item = &'h (Moment, Arc<Publication>)>,
    limit: usize,
    (publications_max, bytes_max): (usize, usize),
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
