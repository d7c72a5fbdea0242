//! Publications that one session received in one channel. Their offsets have no holes, except for
//! announced gaps.

use std::collections::BTreeMap;

use super::setup::Setup;
use super::truth::{Place, Publisher, Truth};

#[derive(Default)]
pub struct Follow {
    pub epoch: Option<u64>,
    /// The last offset that the client received, or the one it started from.
    pub last: Option<u64>,
    /// Whether holes must be announced.
    pub strict: bool,
    /// Announced gaps: after, next.
    gaps: Vec<(u64, u64)>,
    /// The last publication of each publisher.
    last_of: BTreeMap<Publisher, usize>,
}

impl Follow {
    pub fn new(place: Option<Place>, strict: bool) -> Follow {
        let (epoch, last) = (place.map(|place| place.epoch), place.map(|place| place.offset));
        Follow { epoch, last, strict, ..Follow::default() }
    }

    /// Records a received publication. `offset` is 0 if the client gets none.
    pub fn see(
        &mut self,
        (truth, setup): (&mut Truth, &Setup),
        channel: usize,
        (data, offset, epoch): (&[u8], u64, Option<u64>),
    ) {
        let epoch = epoch.or(self.epoch);
        let place = epoch.filter(|_| offset > 0).map(|epoch| Place { epoch, offset });
        let name = &setup.channels[channel].name;
        let number = truth.received(channel, data, place);
        let publisher = truth.publisher(number);
        let before = self.last_of.insert(publisher, number);
        assert!(before < Some(number), "{name}: {number} came after {before:?}");
        if offset == 0 {
            return;
        }
        if let (Some(mine), Some(epoch)) = (self.epoch, epoch) {
            assert_eq!(mine, epoch, "{name}: a new epoch was not announced");
        }
        self.epoch = epoch;
        if let Some(last) = self.last {
            assert!(offset > last, "{name}: {offset} came after {last}");
            if self.strict {
                self.check_holes(name, last, offset);
            }
        }
        self.last = Some(offset);
        self.gaps.clear();
    }

    fn check_holes(&self, name: &str, last: u64, offset: u64) {
        let mut reached = last;
        while reached + 1 < offset {
            let cover = self.gaps.iter().filter(|(after, _)| *after <= reached);
            let next = cover.map(|(_, next)| *next - 1).max().unwrap_or(0);
            assert!(next > reached, "{name}: {offset} came after {last}, told of {:?}", self.gaps);
            reached = next;
        }
    }

    /// Records the announcement that publications between `after` and `next` are missing.
    pub fn announce(&mut self, after: u64, next: u64) {
        assert!(after < next, "a gap that ends before it begins: after {after}, next {next}");
        let reached = self.reached();
        assert!(
            reached.is_none_or(|reached| after <= reached),
            "after {after}, it has {reached:?}"
        );
        self.gaps.push((after, next));
    }

    /// Returns the last offset that the client received or that an announced gap covers.
    pub fn reached(&self) -> Option<u64> {
        let told = self.gaps.iter().map(|(_, next)| next - 1).max();
        self.last.max(told)
    }

    /// Returns the last received publication of `publisher`.
    pub fn last_of(&self, publisher: Publisher) -> Option<usize> {
        self.last_of.get(&publisher).copied()
    }
}
