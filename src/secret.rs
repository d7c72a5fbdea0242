//! The secret of a node, and keyed hashes derived from it.
//!
//! The home shard of a channel and the client id of a connection depend only on the secret, not on
//! anything else of the process. So another process with the same secret computes the same values,
//! even if its version differs. For this reason nothing here uses `std::hash::Hash`.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use siphasher::sip::{SipHasher13, SipHasher24};

/// The secret of a node. An attacker who knows it can choose channel names with the same home
/// shard, and can forge client ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeSecret([u8; NodeSecret::BYTES]);

impl NodeSecret {
    /// Number of bytes.
    pub const BYTES: usize = 16;

    /// Creates a secret from bytes of the kernel's random source, or of another process of the
    /// node.
    pub const fn new(bytes: [u8; NodeSecret::BYTES]) -> NodeSecret {
        NodeSecret(bytes)
    }

    /// Returns the bytes, for another process of the node.
    pub const fn bytes(&self) -> [u8; NodeSecret::BYTES] {
        self.0
    }

    /// Derives a keyed hash for `purpose`. It reveals nothing about the hashes for other purposes.
    pub fn keyed(&self, purpose: &str) -> KeyedHash {
        let half = |number: u8| {
            let mut hasher = SipHasher24::new_with_key(&self.0);
            hasher.write(&[number]);
            hasher.write(purpose.as_bytes());
            hasher.finish()
        };
        KeyedHash::new(half(0), half(1))
    }
}

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeSecret(hidden)")
    }
}

/// SipHash-1-3 with a key. Without the key, an attacker can't choose inputs with colliding hashes,
/// even if the effects of collisions can be observed. `std::collections` uses the same function.
#[derive(Clone, Copy)]
pub struct KeyedHash(SipHasher13);

impl KeyedHash {
    /// Creates the hash with this key.
    pub fn new(first: u64, second: u64) -> KeyedHash {
        KeyedHash(SipHasher13::new_with_keys(first, second))
    }

    /// Creates the hash with a random key, for tables that only this process uses.
    pub fn random() -> KeyedHash {
        let random = RandomState::new();
        KeyedHash::new(random.hash_one(0), random.hash_one(1))
    }

    /// Returns the hash of `bytes`.
    pub fn of(&self, bytes: &[u8]) -> u64 {
        self.0.hash(bytes)
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_follow_from_secret_and_purpose_and_stay_from_version_to_version() {
        let secret = NodeSecret::new(*b"0123456789abcdef");
        let hash = |secret: NodeSecret, purpose: &str| secret.keyed(purpose).of(b"channel");
        assert_eq!(NodeSecret::new(secret.bytes()), secret);
        assert_eq!(hash(secret, "homes"), 71_676_614_958_356_770);
        assert_ne!(hash(secret, "homes"), hash(secret, "clients"));
        assert_ne!(hash(secret, "homes"), hash(NodeSecret::new([0; 16]), "homes"));
        assert_ne!(KeyedHash::random().of(b"a"), KeyedHash::random().of(b"a"));
        assert!(
            !format!("{secret:?} {:?}", secret.keyed(""))
                .contains(|one: char| one.is_ascii_digit())
        );
    }
}
