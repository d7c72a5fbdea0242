//! Tables of channels: found by name, kept at places that never move. The name is stored once, with
//! the channel itself, and no operation touches more than a small part of a large table, so that
//! none of them stalls a turn.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

use super::Bitmap;

/// Parts of an index. Each grows for itself, and at another moment than the others.
const PARTS: usize = 64;

/// Places of a page.
const PAGE: usize = 256;

/// Places by hash. The part of the hash that a place is found by stands beside it, so that growing
/// does not look at what the places hold.
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
    /// The hash that the part's table goes by.
    fn hash(&self) -> u64 {
        spread(self.tag)
    }
}

/// Makes all bits of a hash from a part of it: the table wants the highest and the lowest ones.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The part of an index that `hash` belongs to.
const fn part_of(hash: u64) -> usize {
    (hash >> 58) as usize
}

const _: () = assert!(PARTS == 1 << 6, "six bits of a hash choose the part");

impl Index {
    /// Most bytes that the index needs for each place: two of its entries, each with a control
    /// byte, where a part has just grown, and a bit of room for the part itself.
    pub const PLACE_BYTES: usize = 20;

    /// How many places it holds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The place under `hash` for which `is` says yes.
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash as u32;
        let same = |entry: &Entry| entry.tag == tag && is(entry.place);
        self.parts.get(part_of(hash))?.find(spread(tag), same).map(|entry| entry.place)
    }

    /// Adds a place, which must not be there.
    pub fn insert(&mut self, hash: u64, place: u32) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let entry = Entry { tag: hash as u32, place };
        self.parts[part_of(hash)].insert_unique(entry.hash(), entry, Entry::hash);
        self.count += 1;
    }

    /// Removes a place. Returns whether it was there.
    pub fn remove(&mut self, hash: u64, place: u32) -> bool {
        const CAPACITY_MIN: usize = 64;
        let Some(part) = self.parts.get_mut(part_of(hash)) else { return false };
        let found = part.find_entry(spread(hash as u32), |entry| entry.place == place);
        let Ok(found) = found else { return false };
        found.remove();
        self.count -= 1;
        if part.capacity() > CAPACITY_MIN && part.len() * 8 < part.capacity() {
            part.shrink_to(part.len() * 2, Entry::hash);
        }
        true
    }
}

/// Something that has a name.
pub trait Named {
    /// Its name, which does not change while it is in a table.
    fn name(&self) -> &str;
}

/// A table of things by their names.
pub struct Table<T> {
    /// Clients choose the names: what they do must not show them how to make names meet.
    hasher: RandomState,
    index: Index,
    pages: Vec<Page<T>>,
    /// Pages with a free place.
    roomy: Bitmap,
}

struct Page<T> {
    /// As many as have been used at once.
    places: Vec<Option<T>>,
    free: Vec<u8>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            hasher: RandomState::new(),
            index: Index::default(),
            pages: Vec::new(),
            roomy: Bitmap::default(),
        }
    }
}

impl<T: Named> Table<T> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.index.count()
    }

    /// Every place is below this.
    pub fn reached(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// The place of what is called `name`.
    pub fn find(&self, name: &str) -> Option<u32> {
        let is = |place| self.get(place).is_some_and(|found| found.name() == name);
        self.index.find(self.hasher.hash_one(name), is)
    }

    /// What is at `place`.
    pub fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        self.pages.get(place / PAGE)?.places.get(place % PAGE)?.as_ref()
    }

    /// The same, to be changed.
    pub fn at(&mut self, place: u32) -> Option<&mut T> {
        let place = place as usize;
        self.pages.get_mut(place / PAGE)?.places.get_mut(place % PAGE)?.as_mut()
    }

    /// What is called `name`, to be changed.
    pub fn find_mut(&mut self, name: &str) -> Option<&mut T> {
        self.at(self.find(name)?)
    }

    /// Adds something whose name is not there. Returns its place: low ones are used first, so that
    /// high pages become empty.
    pub fn insert(&mut self, thing: T) -> u32 {
        let hash = self.hasher.hash_one(thing.name());
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
        place
    }

    /// Removes what is at `place`, and the page if it was the last one there.
    pub fn remove(&mut self, place: u32) -> Option<T> {
        let (number, within) = (place as usize / PAGE, place as usize % PAGE);
        let page = self.pages.get_mut(number)?;
        let removed = page.places.get_mut(within)?.take()?;
        page.free.push(within as u8);
        if page.free.len() == page.places.len() {
            (page.places, page.free) = (Vec::new(), Vec::new());
        }
        self.roomy.insert(number);
        let known = self.index.remove(self.hasher.hash_one(removed.name()), place);
        assert!(known, "whatever has a place is in the index");
        Some(removed)
    }

    /// All of them with their places, in the order of places.
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
