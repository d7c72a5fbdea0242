//! A queue in pieces. Growing copies no items, and the memory of removed items is released.

use std::collections::VecDeque;

/// Maximum number of items in one piece.
const PIECE: usize = 512;

/// A first-in, first-out queue.
pub struct Queue<T> {
    pieces: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { pieces: VecDeque::new(), len: 0 }
    }
}

impl<T> Queue<T> {
    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item at the end.
    pub fn push_back(&mut self, thing: T) {
        if self.pieces.back().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push_back(VecDeque::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.push_back(thing);
            self.len += 1;
        }
    }

    /// Adds an item at the front.
    pub fn push_front(&mut self, thing: T) {
        // All pieces except the first and the last have the length `PIECE`.
        let piece = self.pieces.front_mut().filter(|piece| piece.len() < PIECE);
        match piece {
            Some(piece) => piece.push_front(thing),
            None => self.pieces.push_front(VecDeque::from([thing])),
        }
        self.len += 1;
    }

    /// Returns the first item.
    pub fn front(&self) -> Option<&T> {
        self.pieces.front()?.front()
    }

    /// Removes and returns the first item.
    pub fn pop_front(&mut self) -> Option<T> {
        let piece = self.pieces.front_mut()?;
        let thing = piece.pop_front();
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        self.len -= usize::from(thing.is_some());
        thing
    }

    /// Returns the item with index `at`, from 0 at the front.
    pub fn get(&self, at: usize) -> Option<&T> {
        let first = self.pieces.front()?.len();
        match at.checked_sub(first) {
            None => self.pieces[0].get(at),
            Some(after) => self.pieces.get(1 + after / PIECE)?.get(after % PIECE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_gives_what_it_was_given_and_keeps_no_room_for_it() {
        let mut queue = Queue::default();
        (0..5_000).for_each(|number| queue.push_back(number));
        queue.push_front(-1);
        for number in -1..5_000 {
            assert_eq!(queue.front(), Some(&number));
            let ahead = (number + 1_000).min(4_999);
            assert_eq!(queue.get((ahead - number) as usize), Some(&ahead));
            assert_eq!(queue.pop_front(), Some(number));
        }
        assert_eq!((queue.len(), queue.pop_front(), queue.get(0)), (0, None, None));
        assert!(queue.pieces.is_empty());
    }
}
