//! The types of requests and results, with Centrifugo's names and meanings. Fields that are null
//! count as absent, and unknown fields are ignored, because its clients rely on that.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::reply::CallError;
use crate::api::error::ApiError;
use crate::api::service::{
    self, ChannelsPage, ChannelsQuery, Close, ConnectionsCommand, DeliveryInfo, NodeInfo, Selection,
};
use crate::channel::{ChannelView, Unfit};
use crate::ids::{Position, Since, SinceEpoch};
use crate::limits::API_PUBLICATION_OVERHEAD_BYTES;
use crate::protocol::{HistoryPage, or_default, read_params, write_publication};
use crate::reason::ClientError;

/// Parses the parameters of a method.
///
/// # Errors
/// `Malformed`, with the position of the error.
pub(super) fn read<T: DeserializeOwned>(params: &[u8]) -> Result<T, CallError> {
    read_params(params).map_err(CallError::Malformed)
}

/// The result of `publish`. Both fields are absent in channels without history.
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

/// The result of `broadcast`: one entry for each channel, in order.
#[derive(Debug, Serialize)]
pub(super) struct BroadcastResult {
    pub(super) responses: Vec<Box<RawValue>>,
}

/// The parameters of `history` and `history_remove`.
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
    /// Returns the requested page.
    pub(super) fn page(&self) -> HistoryPage {
        let since = self.since.as_ref().map(StreamPosition::since);
        HistoryPage { limit: self.limit, since, reverse: self.reverse }
    }
}

/// A position in Centrifugo's form.
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

/// The result of `history`. `omitted` is an extension; the other fields are always present.
#[derive(Debug, Serialize)]
pub(super) struct HistoryResult {
    publications: Vec<Box<RawValue>>,
    offset: u64,
    epoch: String,
    /// Number of requested publications that did not fit into one response.
    #[serde(skip_serializing_if = "is_zero")]
    omitted: usize,
}

impl HistoryResult {
    /// Converts the history `found` in the channel `view`.
    ///
    /// # Errors
    /// Internal, if a publication can't be serialized. That would be a bug.
    pub(super) fn new(
        view: &ChannelView<'_>,
        found: &service::FoundHistory,
    ) -> Result<HistoryResult, ApiError> {
        let mut publications = Vec::with_capacity(found.publications.len());
        for publication in &found.publications {
            let mut json =
                Vec::with_capacity(publication.data.len() + API_PUBLICATION_OVERHEAD_BYTES);
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

/// The parameters of `channels`. `limit` and `cursor` are extensions.
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
    /// Converts the parameters to a query.
    pub(super) fn into_query(self) -> ChannelsQuery {
        ChannelsQuery { pattern: self.pattern, after: self.cursor, limit: self.limit }
    }
}

/// The result of `channels`. A `cursor` means that more channels follow: repeat the request with
/// it.
#[derive(Debug, Serialize)]
pub(super) struct ChannelsResult {
    channels: BTreeMap<String, ChannelBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// An entry in the list of channels.
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

/// The result of `info`: this node, then the others.
#[derive(Debug, Serialize)]
pub(super) struct InfoResult {
    nodes: Vec<NodeBody>,
}

/// A node. `num_users` is 0, because there are no users without tokens.
#[derive(Debug, Serialize)]
struct NodeBody {
    uid: String,
    name: String,
    version: String,
    num_clients: u64,
    num_users: u64,
    num_channels: u64,
    num_subs: u64,
    /// Seconds since the start of the node.
    uptime: u64,
    process: ProcessBody,
    /// Delivery times of recent windows. Centrifugo has no such field, and its SDKs ignore it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    delivery: DeliveryInfo,
}

/// Resource usage of the process.
#[derive(Debug, Serialize)]
struct ProcessBody {
    /// CPU usage since the start, in percent of one core.
    cpu: f64,
    /// Resident memory in bytes.
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
            delivery: node.delivery,
        };
        InfoResult { nodes: nodes.into_iter().map(body).collect() }
    }
}

/// The parameters of `disconnect`, `unsubscribe` and `subscribe`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectionsParams {
    /// `Some("")` means clients without a user. `None` is an error unless a client is named,
    /// because a typo must not concern everybody.
    user: Option<String>,
    /// Not used by `disconnect`. For `unsubscribe`, an empty text means all channels.
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    client: String,
    #[serde(deserialize_with = "or_default")]
    session: String,
    /// Only for `disconnect`: clients that stay connected.
    #[serde(deserialize_with = "or_default")]
    whitelist: Vec<String>,
    /// Only for `disconnect`.
    disconnect: Option<DisconnectBody>,
    /// Only for `subscribe`: deliver the publications after this position.
    recover_since: Option<StreamPosition>,
    /// Only for `subscribe`. This field and the three below are not supported yet; they are
    /// refused, because a client relies on them.
    data: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    b64data: String,
    info: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    expire_at: i64,
}

/// Code and text for the close frame.
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
    ///
    /// # Errors
    /// See [`ConnectionsParams::whose`].
    pub(super) fn disconnect(mut self) -> Result<ConnectionsCommand, Unfit> {
        let DisconnectBody { code, reason } = self.disconnect.take().unwrap_or_default();
        let spared = std::mem::take(&mut self.whitelist);
        let whose = self.whose()?;
        Ok(ConnectionsCommand::Disconnect { whose, close: Close { code, reason }, spared })
    }

    /// `unsubscribe`
    ///
    /// # Errors
    /// See [`ConnectionsParams::whose`].
    pub(super) fn unsubscribe(mut self) -> Result<ConnectionsCommand, Unfit> {
        let channel = std::mem::take(&mut self.channel);
        Ok(ConnectionsCommand::Unsubscribe { channel, whose: self.whose()? })
    }

    /// `subscribe`
    ///
    /// # Errors
    /// 108 for parameters that are not supported yet; see [`ConnectionsParams::whose`].
    pub(super) fn subscribe(mut self) -> Result<ConnectionsCommand, Unfit> {
        let absent = [
            ("data", self.data.is_some() || !self.b64data.is_empty()),
            ("info", self.info.is_some()),
            ("expire_at", self.expire_at != 0),
        ];
        if let Some((name, _)) = absent.iter().find(|(_, given)| *given) {
            let detail = format!("the parameter {name} is not supported yet");
            return Err(Unfit { error: ClientError::NotAvailable, detail });
        }
        let channel = std::mem::take(&mut self.channel);
        let recover = self.recover_since.as_ref().map(StreamPosition::since);
        Ok(ConnectionsCommand::Subscribe { channel, recover, whose: self.whose()? })
    }

    /// Returns the connections that are meant.
    ///
    /// # Errors
    /// 107 if the request names none.
    fn whose(self) -> Result<Selection, Unfit> {
        let Self { user, client, session, .. } = self;
        if user.is_none() && client.is_empty() && session.is_empty() {
            let detail = "user and client are missing: name one of them; user \"\" means all \
                          clients without a user";
            return Err(Unfit::bad_request(detail));
        }
        Ok(Selection { user: user.unwrap_or_default(), client, session })
    }
}

/// An empty result.
#[derive(Debug, Serialize)]
pub(super) struct Empty {}

/// The parameters of `batch`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BatchRequest {
    #[serde(deserialize_with = "or_default")]
    pub(super) commands: Vec<BTreeMap<String, Box<RawValue>>>,
    #[serde(deserialize_with = "or_default")]
    pub(super) parallel: bool,
}

/// A command of the legacy form, `POST /api`.
#[derive(Debug, Deserialize)]
pub(super) struct LegacyCommand {
    #[serde(default)]
    pub(super) method: String,
    #[serde(default)]
    pub(super) params: Option<Box<RawValue>>,
}
