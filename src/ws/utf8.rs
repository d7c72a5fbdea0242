//! Validates UTF-8 that arrives in pieces. RFC 6455 §8.1.

use crate::reason::CloseReason;

/// Validates the text of one message, as soon as its bytes arrive. It stores only the bytes of a
/// code point that is cut at the end of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Validator {
    held: [u8; 3],
    held_bytes: u8,
}

impl Validator {
    /// Creates a validator for a new text.
    pub(super) const fn new() -> Validator {
        Validator { held: [0; 3], held_bytes: 0 }
    }

    /// Validates the next piece.
    ///
    /// # Errors
    /// `InvalidUtf8`, at the first byte after which no continuation is valid.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), CloseReason> {
        let whole = &piece[self.feed_held(piece)?..];
        let Err(error) = simdutf8::compat::from_utf8(whole) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(CloseReason::InvalidUtf8);
        }
        self.hold(&whole[error.valid_up_to()..]);
        Ok(())
    }

    /// Whether the text may end here, because no code point is cut.
    pub(super) const fn is_complete(&self) -> bool {
        self.held_bytes == 0
    }

    /// Completes the stored code point, byte by byte. Returns the number of consumed bytes.
    fn feed_held(&mut self, piece: &[u8]) -> Result<usize, CloseReason> {
        let mut taken = 0;
        while self.held_bytes > 0 && taken < piece.len() {
            let held_bytes = usize::from(self.held_bytes);
            let mut point = [0; 4];
            point[..held_bytes].copy_from_slice(&self.held[..held_bytes]);
            point[held_bytes] = piece[taken];
            taken += 1;
            let point = &point[..=held_bytes];
            match std::str::from_utf8(point) {
                Ok(_) => self.held_bytes = 0,
                Err(error) if error.error_len().is_none() => self.hold(point),
                Err(_) => return Err(CloseReason::InvalidUtf8),
            }
        }
        Ok(taken)
    }

    fn hold(&mut self, cut: &[u8]) {
        assert!(cut.len() < 4, "a code point of four bytes is complete");
        self.held[..cut.len()].copy_from_slice(cut);
        self.held_bytes = cut.len() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The result of the validator for `bytes` in pieces of `piece_bytes`: whether the text is
    /// valid, and after how many bytes it was known not to be.
    fn judge(bytes: &[u8], piece_bytes: usize) -> (bool, usize) {
        let mut validator = Validator::new();
        let mut seen = 0;
        for piece in bytes.chunks(piece_bytes) {
            seen += piece.len();
            if validator.feed(piece).is_err() {
                return (false, seen);
            }
        }
        (validator.is_complete(), seen)
    }

    #[test]
    fn an_impossible_code_point_is_seen_at_its_first_wrong_byte() {
        let cases: &[(&[u8], usize)] = &[
            (b"\xf4\x90\x80\x80", 2),     // Beyond U+10FFFF.
            (b"a\xed\xa0\x80", 3),        // A surrogate.
            (b"\xc0\xaf", 1),             // Overlong.
            (b"\xe0\x80\xaf", 2),         // Overlong.
            (b"\xce\xba\xff", 3),         // Never in UTF-8.
            (b"\xf0\x9f\x98a", 4),        // A cut code point, then another.
            (b"\xe4\xbd\xa0\xe5\xa5", 5), // Cut at the end: known only there.
        ];
        for &(bytes, seen) in cases {
            assert_eq!(judge(bytes, 1), (false, seen), "{bytes:x?}");
            assert_eq!(judge(bytes, 100), (false, bytes.len()), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole_is(
            mut bytes in "\\PC{0,40}".prop_map(String::into_bytes),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            piece_bytes in 1usize..9,
        ) {
            if let (Some((at, byte)), false) = (damage, bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let valid = std::str::from_utf8(&bytes).is_ok();
            prop_assert_eq!(judge(&bytes, piece_bytes).0, valid);
        }
    }
}
