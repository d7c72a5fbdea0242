//! The shapes of requests and results. Names and meanings are Centrifugo's; fields that are null
//! count as absent, and unknown ones are ignored, as its clients rely on.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::reply::CallError;
use crate::api::error::ApiError;
use crate::api::service::{
    self, ChannelsPage, ChannelsQuery, Close, ConnectionsCommand, NodeInfo, Selection,
};
use crate::channel::{ChannelView, Unfit};
use crate::ids::{Position, Since, SinceEpoch};
use crate::protocol::{HistoryPage, or_default, read_params, write_publication};
use crate::reason::ClientError;

/// What a publication's JSON has beside its payload, mostly: offset and tags.
const PUBLICATION_OVERHEAD_BYTES: usize = 64;

/// Reads a method's parameters.
///
/// # Errors
/// `Malformed`, with the place.
pub(super) fn read<T: DeserializeOwned>(params: &[u8]) -> Result<T, CallError> {
    read_params(params).map_err(CallError::Malformed)
}

/// What `publish` answers. Both are absent in channels without history.
#[derive(Debug, Default, Serialize)]
pub(super) struct PublishResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

impl From<Option<Position>> for PublishResult {
    fn from(position: Option<Position>) -> PublishResult {
        PublishResult {
            offset: position.map(|position| position.offset),
            epoch: position.map(|position| position.epoch.to_string()),
        }
    }
}

/// What `broadcast` answers: one entry for each channel, in order.
#[derive(Debug, Serialize)]
pub(super) struct BroadcastResult {
    pub(super) responses: Vec<Box<RawValue>>,
}

/// `history` and `history_remove`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HistoryParams {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(deserialize_with = "or_default")]
    limit: i32,
    since: Option<StreamPosition>,
    #[serde(deserialize_with = "or_default")]
    reverse: bool,
}

impl HistoryParams {
    /// The page that is wanted.
    pub(super) fn page(&self) -> HistoryPage {
        let since = self.since.as_ref().map(StreamPosition::since);
        HistoryPage { limit: self.limit, since, reverse: self.reverse }
    }
}

/// A position as Centrifugo writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamPosition {
    #[serde(deserialize_with = "or_default")]
    offset: u64,
    #[serde(deserialize_with = "or_default")]
    epoch: String,
}

impl StreamPosition {
    fn since(&self) -> Since {
        Since { epoch: SinceEpoch::from_text(&self.epoch), offset: self.offset }
    }
}

/// What `history` answers. `omitted` is Corecast's own; the other fields are always there.
#[derive(Debug, Serialize)]
pub(super) struct HistoryResult {
    publications: Vec<Box<RawValue>>,
    offset: u64,
    epoch: String,
    /// Number of publications that were asked for and did not fit into one answer.
    #[serde(skip_serializing_if = "is_zero")]
    omitted: usize,
}

impl HistoryResult {
    /// What was `found` in the channel `view`.
    ///
    /// # Errors
    /// Internal: our own types can be written, so this is our mistake.
    pub(super) fn new(
        view: &ChannelView<'_>,
        found: &service::HistoryResult,
    ) -> Result<HistoryResult, ApiError> {
        let mut publications = Vec::with_capacity(found.publications.len());
        for publication in &found.publications {
            let mut json = Vec::with_capacity(publication.data.len() + PUBLICATION_OVERHEAD_BYTES);
            write_publication(view, publication, &mut json);
            let body = serde_json::from_slice::<Box<RawValue>>(&json);
            publications.push(body.map_err(|error| ApiError::internal(error.to_string()))?);
        }
        Ok(HistoryResult {
            publications,
            offset: found.top.offset,
            epoch: found.top.epoch.to_string(),
            omitted: found.omitted,
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// `channels`. `limit` and `cursor` are Corecast's own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChannelsParams {
    #[serde(deserialize_with = "or_default")]
    pattern: String,
    #[serde(deserialize_with = "or_default")]
    limit: usize,
    #[serde(deserialize_with = "or_default")]
    cursor: String,
}

impl ChannelsParams {
    /// The page that is wanted.
    pub(super) fn into_query(self) -> ChannelsQuery {
        ChannelsQuery { pattern: self.pattern, after: self.cursor, limit: self.limit }
    }
}

/// What `channels` answers. With a `cursor`, there is more: ask again with it.
#[derive(Debug, Serialize)]
pub(super) struct ChannelsResult {
    channels: BTreeMap<String, ChannelBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// A channel in the list of channels.
#[derive(Debug, Serialize)]
struct ChannelBody {
    num_clients: u64,
}

impl From<ChannelsPage> for ChannelsResult {
    fn from(page: ChannelsPage) -> ChannelsResult {
        let body = |(name, num_clients)| (name, ChannelBody { num_clients });
        let channels = page.channels.into_iter().map(body).collect();
        ChannelsResult { channels, cursor: page.cursor }
    }
}

/// What `info` answers: this node, then the others.
#[derive(Debug, Serialize)]
pub(super) struct InfoResult {
    nodes: Vec<NodeBody>,
}

/// A node. Users are not counted: without tokens nobody has one.
#[derive(Debug, Serialize)]
struct NodeBody {
    uid: String,
    name: String,
    version: String,
    num_clients: u64,
    num_users: u64,
    num_channels: u64,
    num_subs: u64,
    /// Seconds since the start.
    uptime: u64,
    process: ProcessBody,
}

/// What the process costs.
#[derive(Debug, Serialize)]
struct ProcessBody {
    /// Percent of one core since the start.
    cpu: f64,
    /// Bytes.
    rss: u64,
}

impl From<Vec<NodeInfo>> for InfoResult {
    fn from(nodes: Vec<NodeInfo>) -> InfoResult {
        let body = |node: NodeInfo| NodeBody {
            uid: node.uid,
            name: node.name,
            version: node.version,
            num_clients: node.connections,
            num_users: 0,
            num_channels: node.channels,
            num_subs: node.subscriptions,
            uptime: node.uptime.as_secs(),
            process: ProcessBody { cpu: node.cpu_percent, rss: node.resident_bytes },
        };
        InfoResult { nodes: nodes.into_iter().map(body).collect() }
    }
}

/// `disconnect`, `unsubscribe` and `subscribe`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectionsParams {
    #[serde(deserialize_with = "or_default")]
    user: String,
    /// Not of `disconnect`. Empty means all, where that is possible.
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    client: String,
    #[serde(deserialize_with = "or_default")]
    session: String,
    /// `disconnect` only: clients to spare.
    #[serde(deserialize_with = "or_default")]
    whitelist: Vec<String>,
    /// `disconnect` only.
    disconnect: Option<DisconnectBody>,
    /// `subscribe` only: deliver what was published after this position.
    recover_since: Option<StreamPosition>,
    /// `subscribe` only. Not part of this version, and not to be ignored, as the three below.
    data: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    b64data: String,
    info: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    expire_at: i64,
}

/// A code and a text for the close frame.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DisconnectBody {
    #[serde(deserialize_with = "or_default")]
    code: u16,
    #[serde(deserialize_with = "or_default")]
    reason: String,
}

impl ConnectionsParams {
    /// `disconnect`
    #[expect(clippy::unnecessary_wraps, reason = "as the other two are")]
    pub(super) fn disconnect(mut self) -> Result<ConnectionsCommand, Unfit> {
        let DisconnectBody { code, reason } = self.disconnect.take().unwrap_or_default();
        let spared = std::mem::take(&mut self.whitelist);
        let whose = self.whose();
        Ok(ConnectionsCommand::Disconnect { whose, close: Close { code, reason }, spared })
    }

    /// `unsubscribe`
    #[expect(clippy::unnecessary_wraps, reason = "as the other two are")]
    pub(super) fn unsubscribe(mut self) -> Result<ConnectionsCommand, Unfit> {
        let channel = std::mem::take(&mut self.channel);
        Ok(ConnectionsCommand::Unsubscribe { channel, whose: self.whose() })
    }

    /// `subscribe`
    ///
    /// # Errors
    /// 108 for what is not part of this version.
    pub(super) fn subscribe(mut self) -> Result<ConnectionsCommand, Unfit> {
        let absent = [
            ("data", self.data.is_some() || !self.b64data.is_empty()),
            ("info", self.info.is_some()),
            ("expire_at", self.expire_at != 0),
        ];
        if let Some((name, _)) = absent.iter().find(|(_, given)| *given) {
            let detail = format!("subscribe.{name} is not part of this version");
            return Err(Unfit { error: ClientError::NotAvailable, detail });
        }
        let channel = std::mem::take(&mut self.channel);
        let recover = self.recover_since.as_ref().map(StreamPosition::since);
        Ok(ConnectionsCommand::Subscribe { channel, recover, whose: self.whose() })
    }

    fn whose(self) -> Selection {
        Selection { user: self.user, client: self.client, session: self.session }
    }
}

/// The result of methods that have nothing to say.
#[derive(Debug, Serialize)]
pub(super) struct Empty {}

/// `batch`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BatchRequest {
    #[serde(deserialize_with = "or_default")]
    pub(super) commands: Vec<BTreeMap<String, Box<RawValue>>>,
    #[serde(deserialize_with = "or_default")]
    pub(super) parallel: bool,
}

/// A command as `POST /api` takes it.
#[derive(Debug, Deserialize)]
pub(super) struct OldCommand {
    #[serde(default)]
    pub(super) method: String,
    #[serde(default)]
    pub(super) params: Option<Box<RawValue>>,
}
