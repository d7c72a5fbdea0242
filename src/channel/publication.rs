//! Publications: what one is, and what keeping one costs.

use super::DataType;
use crate::ids::{ClientId, Epoch, Moment};

/// Who published, where a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The client's user; empty for anonymous.
    pub user: Box<str>,
    /// The client's connection.
    pub client: ClientId,
}

/// One message in a channel, shared by everyone that delivers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The payload, of its namespace's type.
    pub data: Box<[u8]>,
    /// Its place in the channel; 0 until the home shard has ordered it.
    pub offset: u64,
    /// Who published, where a client did.
    pub publisher: Option<Box<Publisher>>,
    /// Labels that the application gave.
    pub tags: Box<[(Box<str>, Box<str>)]>,
    /// When it was accepted at its entrance.
    pub accepted: Moment,
}

/// Labels of a publication.
pub type Tags = [(Box<str>, Box<str>)];

impl Publication {
    /// Bytes that keeping this publication costs, more or less.
    pub fn cost_bytes(&self) -> usize {
        self.data.len() + overhead_bytes(&self.tags)
    }

    /// Bytes that this publication takes of a recovery, as JSON and more or less.
    pub fn recovery_bytes(&self, data_type: DataType) -> usize {
        recovery_bytes(data_type, &self.data, &self.tags)
    }
}

/// Bytes that a publication with this payload and these labels takes of a recovery.
pub fn recovery_bytes(data_type: DataType, data: &[u8], tags: &Tags) -> usize {
    data_type.json_bytes(data) + overhead_bytes(tags)
}

fn overhead_bytes(tags: &Tags) -> usize {
    let tags: usize = tags.iter().map(|(key, value)| key.len() + value.len() + 32).sum();
    tags + size_of::<Publication>() + crate::limits::ENTRY_OVERHEAD_BYTES
}

/// What a codec must know of a channel to write its publications.
#[derive(Clone, Copy, Debug)]
pub struct ChannelView<'a> {
    /// The channel's name.
    pub name: &'a str,
    /// What its payloads are.
    pub data: DataType,
    /// Whether its publications carry offsets for clients.
    pub has_history: bool,
    /// The life its offsets belong to.
    pub epoch: Epoch,
}
