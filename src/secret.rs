//! The secret of a node, and the keyed hashes that follow from it.
//!
//! The home shard of a channel and the client id of a connection depend on the secret, and on
//! nothing else of the process: another process that is given the secret computes the same. That
//! holds from version to version, so nothing here uses `std::hash::Hash`.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use siphasher::sip::{SipHasher13, SipHasher24};

/// Bytes of a secret that nobody outside of the node may know: whoever does can choose names that
/// meet in one shard, and can make up client ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeSecret([u8; NodeSecret::BYTES]);

impl NodeSecret {
    /// Number of bytes.
    pub const BYTES: usize = 16;

    /// The secret `bytes`: from the kernel's random source, or from another process of the node.
    pub const fn new(bytes: [u8; NodeSecret::BYTES]) -> NodeSecret {
        NodeSecret(bytes)
    }

    /// What another process must be given.
    pub const fn bytes(&self) -> [u8; NodeSecret::BYTES] {
        self.0
    }

    /// A keyed hash of its own for `purpose`, which tells nothing of those for other purposes.
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

/// SipHash-1-3 with a key: whoever does not know the key can't choose inputs whose hashes meet. It
/// claims to withstand those who watch and try, as the hash of `std::collections` does.
#[derive(Clone, Copy)]
pub struct KeyedHash(SipHasher13);

impl KeyedHash {
    /// The hash with this key.
    pub fn new(first: u64, second: u64) -> KeyedHash {
        KeyedHash(SipHasher13::new_with_keys(first, second))
    }

    /// A hash with a key that only this process has, for tables that stay in it.
    pub fn random() -> KeyedHash {
        let random = RandomState::new();
        KeyedHash::new(random.hash_one(0), random.hash_one(1))
    }

    /// The hash of `bytes`.
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
