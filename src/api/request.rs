//! The shapes of requests and results. Names and meanings are Centrifugo's; fields that are null
//! count as absent, and unknown ones are ignored, as its clients rely on.

use std::collections::BTreeMap;

use serde::{Deserialize as Read, Serialize};
use serde_json::value::RawValue;

use crate::protocol::or_default;

/// What `publish` answers. Both are absent in channels without history.
#[derive(Debug, Default, Serialize)]
pub(super) struct PublishResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<String>,
}

/// What `broadcast` answers: one entry for each channel, in order.
#[derive(Debug, Serialize)]
pub(super) struct BroadcastResult {
    pub(super) responses: Vec<Box<RawValue>>,
}

/// `history` and `history_remove`.
#[derive(Debug, Default, Read)]
#[serde(default)]
pub(super) struct HistoryRequest {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) limit: i32,
    pub(super) since: Option<StreamPosition>,
    #[serde(deserialize_with = "or_default")]
    pub(super) reverse: bool,
}

/// A position as Centrifugo writes it.
#[derive(Debug, Default, Read, Serialize)]
#[serde(default)]
pub(super) struct StreamPosition {
    #[serde(deserialize_with = "or_default")]
    pub(super) offset: u64,
    #[serde(deserialize_with = "or_default")]
    pub(super) epoch: String,
}

/// What `history` answers. `omitted` is Corecast's own; the other fields are always there.
#[derive(Debug, Serialize)]
pub(super) struct HistoryResult {
    pub(super) publications: Vec<Box<RawValue>>,
    pub(super) offset: u64,
    pub(super) epoch: String,
    /// Number of publications that were asked for and did not fit into one answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// `channels`. `limit` and `cursor` are Corecast's own.
#[derive(Debug, Default, Read, Serialize)]
#[serde(default)]
pub(super) struct ChannelsRequest {
    #[serde(deserialize_with = "or_default")]
    pub(super) pattern: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) limit: usize,
    #[serde(deserialize_with = "or_default")]
    pub(super) cursor: String,
}

/// What `channels` answers. With a `cursor`, there is more: ask again with it.
#[derive(Debug, Read, Serialize)]
pub(super) struct ChannelsResult {
    pub(super) channels: BTreeMap<String, ChannelBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// A channel in the list of channels.
#[derive(Debug, Read, Serialize)]
pub(super) struct ChannelBody {
    pub(super) num_clients: u64,
}

/// `disconnect`, `unsubscribe` and `subscribe`. Other nodes are told what is of use to them.
#[derive(Debug, Default, Read, Serialize)]
#[serde(default)]
pub(super) struct ConnectionsRequest {
    #[serde(deserialize_with = "or_default")]
    pub(super) user: String,
    /// Not of `disconnect`. Empty means all, where that is possible.
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) session: String,
    /// `disconnect` only: clients to spare.
    #[serde(deserialize_with = "or_default")]
    pub(super) whitelist: Vec<String>,
    /// `disconnect` only.
    pub(super) disconnect: Option<DisconnectBody>,
    /// `subscribe` only: deliver what was published after this position.
    pub(super) recover_since: Option<StreamPosition>,
    /// `subscribe` only. Not part of this version, and not to be ignored, as the three below.
    #[serde(skip_serializing)]
    pub(super) data: Option<Box<RawValue>>,
    #[serde(skip_serializing, deserialize_with = "or_default")]
    pub(super) b64data: String,
    #[serde(skip_serializing)]
    pub(super) info: Option<Box<RawValue>>,
    #[serde(skip_serializing, deserialize_with = "or_default")]
    pub(super) expire_at: i64,
}

/// A code and a text for the close frame.
#[derive(Debug, Default, Read, Serialize)]
#[serde(default)]
pub(super) struct DisconnectBody {
    #[serde(deserialize_with = "or_default")]
    pub(super) code: u16,
    #[serde(deserialize_with = "or_default")]
    pub(super) reason: String,
}

/// The result of methods that have nothing to say.
#[derive(Debug, Serialize)]
pub(super) struct Empty {}

/// `batch`
#[derive(Debug, Default, Read)]
#[serde(default)]
pub(super) struct BatchRequest {
    #[serde(deserialize_with = "or_default")]
    pub(super) commands: Vec<BTreeMap<String, Box<RawValue>>>,
    #[serde(deserialize_with = "or_default")]
    pub(super) parallel: bool,
}

/// A command as `POST /api` takes it.
#[derive(Debug, Read)]
pub(super) struct OldCommand {
    #[serde(default)]
    pub(super) method: String,
    #[serde(default)]
    pub(super) params: Option<Box<RawValue>>,
}
