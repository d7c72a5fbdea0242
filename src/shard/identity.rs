//! Client ids: minted from a connection's place, verified without a table.

use std::hash::{BuildHasher, RandomState};

use crate::ids::{ClientId, ConnectionId, Generation, ShardId, Slot};

/// What mints and verifies the client ids of one node.
#[derive(Clone, Debug)]
pub struct Identity {
    node: u16,
    key: RandomState,
}

/// Bits of the hash in a client id: node 16, shard 12, slot 24 and generation 32 leave 38 of 122.
const HASH_BITS: u32 = 38;

impl Identity {
    /// An identity of this process alone: ids of its last life are not its own.
    pub fn new() -> Identity {
        let key = RandomState::new();
        Identity { node: key.hash_one("node") as u16, key }
    }

    /// The public id of `connection`.
    pub fn mint(&self, connection: ConnectionId) -> ClientId {
        let place = u128::from(self.node) << 68
            | (connection.shard.index() as u128) << 56
            | (connection.slot.index() as u128) << 32
            | u128::from(connection.generation.value());
        let hash = self.key.hash_one(place) & ((1 << HASH_BITS) - 1);
        let bits = place << HASH_BITS | u128::from(hash);
        // The 122 free bits of a UUID stand around its 4 version and 2 variant bits.
        let (high, middle, low) = (bits >> 74, bits >> 62 & 0xFFF, bits & ((1 << 62) - 1));
        ClientId::from_raw(high << 80 | middle << 64 | low)
    }

    /// The connection that `client` names, if this node minted it. It may be gone by now.
    pub fn verify(&self, client: ClientId) -> Option<ConnectionId> {
        let raw = client.raw();
        let bits = (raw >> 80) << 74 | (raw >> 64 & 0xFFF) << 62 | raw & ((1 << 62) - 1);
        let place = bits >> HASH_BITS;
        let connection = ConnectionId {
            shard: ShardId::new((place >> 56) as usize & (ShardId::COUNT_MAX - 1)),
            slot: Slot::new((place >> 32) as usize & (Slot::COUNT_MAX - 1)),
            generation: Generation::new(place as u32),
        };
        (self.mint(connection) == client).then_some(connection)
    }
}

impl Default for Identity {
    fn default() -> Identity {
        Identity::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_verified_by_the_node_that_minted_it_and_by_no_other() {
        let identity = Identity::new();
        let connection = ConnectionId {
            shard: ShardId::new(4095),
            slot: Slot::new(Slot::COUNT_MAX - 1),
            generation: Generation::new(u32::MAX),
        };
        let client = identity.mint(connection);
        assert_eq!(client.to_string().parse(), Ok(client));
        assert_eq!(identity.verify(client), Some(connection));
        assert_eq!(identity.verify(ClientId::from_raw(client.raw() ^ 1)), None);
        assert_eq!(Identity::new().verify(client), None);
    }
}
