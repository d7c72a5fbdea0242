//! Publications, and the cost of keeping them.

use super::DataType;
use crate::ids::{ClientId, Epoch, Moment};

/// Whether the history of a channel keeps a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryUse {
    /// It does, if the namespace has a history.
    #[default]
    Keep,
    /// The publication stays out of the history.
    Skip,
}

/// The client that published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The user of the client; empty for anonymous clients.
    pub user: Box<str>,
    /// The id of the client.
    pub client: ClientId,
}

/// One message in a channel. All its receivers share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The payload, with the type of the namespace.
    pub data: Box<[u8]>,
    /// The offset in the channel; 0 until the home shard has assigned one.
    pub offset: u64,
    /// The publishing client. `None` if the application published.
    pub publisher: Option<Box<Publisher>>,
    /// Labels of the application.
    pub tags: Box<[(Box<str>, Box<str>)]>,
    /// The time at which the server accepted it.
    pub accepted: Moment,
}

/// Labels of a publication.
pub type Tags = [(Box<str>, Box<str>)];

impl Publication {
    /// Returns the approximate memory of this publication in bytes.
    pub fn cost_bytes(&self) -> usize {
        self.data.len() + overhead_bytes(&self.tags)
    }

    /// Returns the approximate size of this publication in a recovery, as JSON.
    pub fn recovery_bytes(&self, data_type: DataType) -> usize {
        recovery_bytes(data_type, &self.data, &self.tags)
    }
}

/// Returns the approximate size of a publication in a recovery, as JSON.
pub fn recovery_bytes(data_type: DataType, data: &[u8], tags: &Tags) -> usize {
    data_type.json_bytes(data) + overhead_bytes(tags)
}

fn overhead_bytes(tags: &Tags) -> usize {
    let tags: usize = tags.iter().map(|(key, value)| key.len() + value.len() + 32).sum();
    tags + size_of::<Publication>() + crate::limits::ENTRY_OVERHEAD_BYTES
}

/// The properties of a channel that a codec needs to write its publications.
#[derive(Clone, Copy, Debug)]
pub struct ChannelView<'a> {
    /// The channel's name.
    pub name: &'a str,
    /// The type of the payloads.
    pub data: DataType,
    /// Whether clients see offsets of the publications.
    pub has_history: bool,
    /// The epoch of the offsets.
    pub epoch: Epoch,
}
