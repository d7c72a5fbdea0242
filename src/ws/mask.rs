//! Masking of client frames (RFC 6455 §5.3): the payload XOR a repeated key of four bytes.

/// Masks or unmasks `bytes` in place; both are the same operation. `offset` is the position of
/// `bytes` in the payload, which may arrive in pieces.
pub(super) fn apply(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_payload_cut_anywhere_is_masked_byte_by_byte(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            key in any::<[u8; 4]>(),
            cut in 0usize..200,
        ) {
            let cut = cut.min(bytes.len());
            let mut masked = bytes.clone();
            apply(&mut masked[..cut], key, 0);
            apply(&mut masked[cut..], key, cut);
            let expected: Vec<u8> =
                bytes.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
            prop_assert_eq!(&masked, &expected);
            apply(&mut masked, key, 0);
            prop_assert_eq!(masked, bytes);
        }
    }
}
