//! Client ids. They encode the place of a connection, so they are verified without a table.

use crate::ids::{ClientId, ConnectionId, Generation, ShardId, Slot};
use crate::secret::{KeyedHash, NodeSecret};

/// Creates and verifies the client ids of one node.
#[derive(Clone, Debug)]
pub struct Identity {
    node: u16,
    key: KeyedHash,
}

/// Bits of the hash in a client id: node 16, shard 12, slot 24 and generation 32 leave 38 of 122.
const HASH_BITS: u32 = 38;

impl Identity {
    /// Creates the identity of the node with this secret. Ids that were created with another secret
    /// are foreign.
    pub fn new(secret: &NodeSecret) -> Identity {
        Identity { node: secret.keyed("node").of(b"") as u16, key: secret.keyed("clients") }
    }

    /// The public id of `connection`.
    pub fn mint(&self, connection: ConnectionId) -> ClientId {
        let place = u128::from(self.node) << 68
            | (connection.shard.index() as u128) << 56
            | (connection.slot.index() as u128) << 32
            | u128::from(connection.generation.value());
        let hash = self.key.of(&place.to_le_bytes()) & ((1 << HASH_BITS) - 1);
        let bits = place << HASH_BITS | u128::from(hash);
        // The 122 free bits of a UUID surround its 4 version bits and 2 variant bits.
        let (high, middle, low) = (bits >> 74, bits >> 62 & 0xFFF, bits & ((1 << 62) - 1));
        ClientId::from_raw(high << 80 | middle << 64 | low)
    }

    /// The connection that `client` names, if this node created the id. The connection may have
    /// ended.
    pub fn verify(&self, client: ClientId) -> Option<ConnectionId> {
        let raw = client.raw();
        let bits = (raw >> 80) << 74 | (raw >> 64 & 0xFFF) << 62 | raw & ((1 << 62) - 1);
        let place = bits >> HASH_BITS;
        let connection = ConnectionId {
            shard: ShardId::new((place >> 56) as usize & (ShardId::COUNT_MAX - 1)),
            slot: Slot::new((place >> 32) as usize & (Slot::COUNT_MAX - 1)),
            generation: Generation::new(place as u32),
        };
        // The hash makes ids hard to guess: a client can't derive the id of its neighbour's slot.
        (self.mint(connection) == client).then_some(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_verified_by_whoever_has_the_secret_and_by_nobody_else() {
        let secret = NodeSecret::new([7; 16]);
        let identity = Identity::new(&secret);
        let connection = ConnectionId {
            shard: ShardId::new(4095),
            slot: Slot::new(Slot::COUNT_MAX - 1),
            generation: Generation::new(u32::MAX),
        };
        let client = identity.mint(connection);
        assert_eq!(client.to_string().parse(), Ok(client));
        assert_eq!(identity.verify(client), Some(connection));
        assert_eq!(identity.verify(ClientId::from_raw(client.raw() ^ 1)), None);
        let next = Identity::new(&NodeSecret::new(secret.bytes()));
        assert_eq!(next.verify(client), Some(connection), "another process of the node");
        assert_eq!(Identity::new(&NodeSecret::new([8; 16])).verify(client), None);
    }
}
