//! Tables of channels. Entries are found by name and have places that never move. The name is
//! stored once, in the entry itself. No operation touches more than a small part of a large table,
//! so none stalls a turn.

use std::cell::Cell;

use hashbrown::HashTable;

use super::Bitmap;
use crate::secret::KeyedHash;

/// Number of parts of an index. Each part grows separately, so they grow at different moments.
const PARTS: usize = 64;

/// Number of places in a page.
const PAGE: usize = 256;

/// An index from hashes to places. A part of the hash is stored beside each place, so growing does
/// not read the entries.
#[derive(Default)]
pub struct Index {
    parts: Vec<HashTable<Entry>>,
    count: usize,
}

struct Entry {
    tag: u32,
    place: u32,
}

impl Entry {
    /// Returns the hash for the table of the part.
    fn hash(&self) -> u64 {
        spread(self.tag)
    }
}

/// Derives all bits of a hash from a part of it, because the table uses the highest and lowest
/// bits.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Returns the part of an index to which `hash` belongs.
const fn part_of(hash: u64) -> usize {
    (hash >> 58) as usize
}

const _: () = assert!(PARTS == 1 << 6, "six bits of a hash choose the part");

impl Index {
    /// Maximum number of bytes that the index needs per place: two entries with a control byte
    /// each, right after a part has grown, and some room for the part itself.
    pub const PLACE_BYTES: usize = 20;

    /// Returns the number of places.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the place with this `hash` for which `is` returns true.
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash as u32;
        let same = |entry: &Entry| entry.tag == tag && is(entry.place);
        self.parts.get(part_of(hash))?.find(spread(tag), same).map(|entry| entry.place)
    }

    /// Adds a place, which must not be present.
    pub fn insert(&mut self, hash: u64, place: u32) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let entry = Entry { tag: hash as u32, place };
        self.parts[part_of(hash)].insert_unique(entry.hash(), entry, Entry::hash);
        self.count += 1;
    }

    /// Removes a place. Returns whether it was present.
    pub fn remove(&mut self, hash: u64, place: u32) -> bool {
        const CAPACITY_MIN: usize = 64;
        let Some(part) = self.parts.get_mut(part_of(hash)) else { return false };
        let found = part.find_entry(spread(hash as u32), |entry| entry.place == place);
        let Ok(found) = found else { return false };
        found.remove();
        self.count -= 1;
        // The table shrinks late and keeps some room, so that alternating inserts and removals do
        // not resize it each time.
        if part.capacity() > CAPACITY_MIN && part.len() * 8 < part.capacity() {
            part.shrink_to(part.len() * 2, Entry::hash);
        }
        true
    }
}

/// An entry with a name.
pub trait Named {
    /// Returns the name, which must not change while the entry is in a table.
    fn name(&self) -> &str;
}

/// A table of entries by name.
pub struct Table<T> {
    /// Resistant to attacks, because clients choose the names and must not find collisions.
    hash: KeyedHash,
    /// The place that was found last. Most names are looked up several times in a row, and a check
    /// of this place costs less than a hash.
    last: Cell<u32>,
    index: Index,
    pages: Vec<Page<T>>,
    /// The pages that have a free place.
    roomy: Bitmap,
}

struct Page<T> {
    /// The places of the page, up to the highest one used so far.
    places: Vec<Option<T>>,
    free: Vec<u8>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            hash: KeyedHash::random(),
            last: Cell::new(0),
            index: Index::default(),
            pages: Vec::new(),
            roomy: Bitmap::default(),
        }
    }
}

impl<T: Named> Table<T> {
    /// Returns the number of entries.
    pub fn count(&self) -> usize {
        self.index.count()
    }

    /// Returns an upper bound of all places.
    pub fn reached(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Returns the place of the entry called `name`.
    pub fn find(&self, name: &str) -> Option<u32> {
        let is = |place| self.get(place).is_some_and(|found| found.name() == name);
        if is(self.last.get()) {
            return Some(self.last.get());
        }
        let found = self.index.find(self.hash.of(name.as_bytes()), is)?;
        self.last.set(found);
        Some(found)
    }

    /// Returns the entry at `place`.
    pub fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        self.pages.get(place / PAGE)?.places.get(place % PAGE)?.as_ref()
    }

    /// Returns the entry at `place`, mutably.
    pub fn at(&mut self, place: u32) -> Option<&mut T> {
        let place = place as usize;
        self.pages.get_mut(place / PAGE)?.places.get_mut(place % PAGE)?.as_mut()
    }

    /// Returns the entry called `name`, mutably.
    pub fn find_mut(&mut self, name: &str) -> Option<&mut T> {
        self.at(self.find(name)?)
    }

    /// Adds an entry whose name is not present. Returns its place. Low places are used first, so
    /// that high pages become empty.
    pub fn insert(&mut self, thing: T) -> u32 {
        debug_assert!(self.find(thing.name()).is_none(), "a table has one entry of a name");
        let hash = self.hash.of(thing.name().as_bytes());
        let number = self.roomy.take_from(0).unwrap_or(self.pages.len());
        if number == self.pages.len() {
            self.pages.push(Page { places: Vec::new(), free: Vec::new() });
        }
        let page = &mut self.pages[number];
        let within = match page.free.pop() {
            Some(within) => usize::from(within),
            None => {
                page.places.push(None);
                page.places.len() - 1
            }
        };
        page.places[within] = Some(thing);
        if page.has_room() {
            self.roomy.insert(number);
        }
        let place = (number * PAGE + within) as u32;
        self.index.insert(hash, place);
        self.last.set(place);
        place
    }

    /// Removes the entry at `place`, and releases the page if it is empty then.
    pub fn remove(&mut self, place: u32) -> Option<T> {
        let (number, within) = (place as usize / PAGE, place as usize % PAGE);
        let page = self.pages.get_mut(number)?;
        let removed = page.places.get_mut(within)?.take()?;
        page.free.push(within as u8);
        if page.free.len() == page.places.len() {
            (page.places, page.free) = (Vec::new(), Vec::new());
        }
        self.roomy.insert(number);
        let known = self.index.remove(self.hash.of(removed.name().as_bytes()), place);
        assert!(known, "every place is in the index");
        Some(removed)
    }

    /// Iterates over all entries and their places, in the order of places.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = self.pages.iter().enumerate();
        numbered.flat_map(|(number, page)| {
            let places = page.places.iter().enumerate();
            places.filter_map(move |(within, one)| {
                Some(((number * PAGE + within) as u32, one.as_ref()?))
            })
        })
    }
}

impl<T> Page<T> {
    fn has_room(&self) -> bool {
        self.places.len() < PAGE || !self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for String {
        fn name(&self) -> &str {
            self
        }
    }

    #[test]
    fn things_are_found_by_name_and_stay_where_they_are() {
        let mut table = Table::<String>::default();
        let places: Vec<u32> = (0..10_000).map(|n| table.insert(format!("name {n}"))).collect();
        for (n, &place) in places.iter().enumerate() {
            assert_eq!(table.find(&format!("name {n}")), Some(place));
        }
        for (n, &place) in places.iter().enumerate().filter(|(n, _)| n % 3 == 0) {
            assert_eq!(table.remove(place), Some(format!("name {n}")));
            assert_eq!(table.remove(place), None);
        }
        assert_eq!(table.count(), 6_666);
        for (n, &place) in places.iter().enumerate() {
            assert_eq!(table.find(&format!("name {n}")), (n % 3 != 0).then_some(place));
        }
        assert_eq!(table.iter().count(), table.count());
    }

    #[test]
    fn the_place_that_was_found_last_is_not_taken_for_that_of_another_name() {
        let mut table = Table::<String>::default();
        let place = table.insert("a".to_owned());
        assert_eq!((table.find("a"), table.find("b")), (Some(place), None));
        table.remove(place);
        assert_eq!(table.find("a"), None);
        assert_eq!(table.insert("b".to_owned()), place, "the place is used again");
        assert_eq!((table.find("a"), table.find("b")), (None, Some(place)));
        let other = table.insert("a".to_owned());
        assert_eq!((table.find("b"), table.find("a")), (Some(place), Some(other)));
    }

    #[test]
    fn what_is_removed_leaves_its_place_to_the_next_and_its_page_to_the_heap() {
        let mut table = Table::<String>::default();
        let reached = |table: &Table<String>| table.reached();
        for round in 0..3 {
            let places: Vec<u32> =
                (0..1000).map(|n| table.insert(format!("{round} {n}"))).collect();
            assert_eq!(reached(&table), 1024);
            places.into_iter().for_each(|place| assert!(table.remove(place).is_some()));
            assert!(table.pages.iter().all(|page| page.places.capacity() == 0));
            assert!(table.index.parts.iter().all(|part| part.capacity() <= 64));
        }
        assert_eq!(table.count(), 0);
    }
}
