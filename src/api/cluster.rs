//! Methods that concern every node: carried out here, and by the bridge on the others.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::error::ApiError;
use super::methods::{self, Method, Outcome};
use super::reply::Reply;
use super::request::{ChannelsRequest, ChannelsResult, ConnectionsRequest, Empty};
use super::{channels, connections};
use crate::limits::CLUSTER_TIMEOUT;
use crate::mesh::{Addressed, Answer, ClusterAnswer, ClusterRequest, RemoteCall, ToBridge};
use crate::reason::ClientError;

/// `{"result":{..}}` or `{"error":{..}}` of another node.
#[derive(Deserialize)]
struct RemoteReply<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RemoteError>,
}

#[derive(Deserialize)]
struct RemoteError {
    code: u16,
    message: String,
}

/// Carries out `disconnect`, `unsubscribe` or `subscribe` on every node.
///
/// # Errors
/// What this node fails with, before any other is asked; what another one does; internal if one did
/// not answer: it may or may not have done it.
pub(super) async fn everywhere(
    api: &Arc<Api>,
    method: Method,
    params: &[u8],
) -> Result<Empty, ApiError> {
    let request: ConnectionsRequest = methods::read(params)?;
    let call = remote_call(method, &request)?;
    connections::call(api, method, request).await?;
    for body in complete("done on", ask(api, call).await?)? {
        read_reply::<serde::de::IgnoredAny>(&body)?;
    }
    Ok(Empty {})
}

/// A page of the list of all nodes' channels.
///
/// # Errors
/// See [`channels::channels`]; what another node fails with; internal if one did not answer: a part
/// of the numbers would look like all of them.
pub(super) async fn channels(api: &Arc<Api>, params: &[u8]) -> Result<ChannelsResult, ApiError> {
    let request: ChannelsRequest = methods::read(params)?;
    let (limit, call) = (channels::limit(&request), remote_call(Method::Channels, &request)?);
    let mut pages = vec![channels::channels(api, request).await?];
    for body in complete("known of", ask(api, call).await?)? {
        pages.push(read_reply(&body)?);
    }
    Ok(channels::pages_merge(pages, limit))
}

/// Descriptions of all other nodes that live.
///
/// # Errors
/// Internal if they can't be read.
pub(super) async fn describe_others(api: &Arc<Api>) -> Result<Vec<Box<RawValue>>, ApiError> {
    let bodies = complete("known of", ask(api, ClusterRequest::Describe).await?)?;
    let read = |body: Box<str>| RawValue::from_string(body.into_string()).ok();
    Ok(bodies.into_iter().filter_map(read).collect())
}

/// What all other nodes answer.
///
/// # Errors
/// Internal, with the names of those that are silent, as far as `what` is so without them.
fn complete(what: &str, answer: ClusterAnswer) -> Result<Vec<Box<str>>, ApiError> {
    if answer.away {
        return Err(ApiError::internal(format!(
            "{what} this node only: Redis, and with it the others, can't be reached; try again"
        )));
    }
    if !answer.silent.is_empty() {
        return Err(ApiError::internal(format!(
            "{what} all nodes but {}, which were not heard of in {CLUSTER_TIMEOUT:?}; try again",
            answer.silent.join(", ")
        )));
    }
    Ok(answer.bodies)
}

/// Carries out a request of another node on this one; answers what it is to be told.
pub async fn remote(api: &Arc<Api>, call: &RemoteCall) -> Box<str> {
    let params = call.params.as_bytes();
    let outcome: Outcome = match Method::from_name(&call.method) {
        Ok(Method::Channels) => match methods::read(params) {
            Ok(request) => channels::channels(api, request).await.and_then(|page| raw(&page)),
            Err(error) => Err(error),
        },
        Ok(method) => match methods::read(params) {
            Ok(request) => {
                connections::call(api, method, request).await.and_then(|done| raw(&done))
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let text = serde_json::to_string(&Reply::from(outcome));
    text.unwrap_or_else(|_| r#"{"error":{"code":100,"message":"internal server error"}}"#.into())
        .into_boxed_str()
}

fn raw(result: &impl Serialize) -> Outcome {
    methods::raw(result)
}

/// A request as other nodes are told of it: what this one has read, however long the text was.
fn remote_call(method: Method, request: &impl Serialize) -> Result<ClusterRequest, ApiError> {
    let params = raw(request)?.get().into();
    Ok(ClusterRequest::Call(RemoteCall { method: method.name().into(), params }))
}

async fn ask(api: &Arc<Api>, request: ClusterRequest) -> Result<ClusterAnswer, ApiError> {
    if !api.courier.has_bus() {
        return Ok(ClusterAnswer::default());
    }
    let make = |ticket| Addressed::Bridge(ToBridge::Cluster { ticket, request });
    match api.courier.request(make).await? {
        Answer::Cluster(answer) => Ok(answer),
        other => Err(ApiError::internal(format!("{other:?} to a question to other nodes"))),
    }
}

/// The result in another node's answer.
fn read_reply<'a, T: DeserializeOwned>(body: &'a str) -> Result<T, ApiError> {
    let malformed = |error| ApiError::internal(format!("another node's answer: {error}"));
    let reply: RemoteReply<'a> = serde_json::from_str(body).map_err(malformed)?;
    if let Some(error) = reply.error {
        let known = ClientError::ALL.iter().find(|known| known.row().code == error.code);
        return Err(ApiError::Refused {
            error: known.copied().unwrap_or(ClientError::Internal),
            detail: format!("another node says: {}", error.message),
        });
    }
    serde_json::from_str(reply.result.map_or("{}", RawValue::get)).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_node_says_is_read_as_its_result_or_its_error() {
        let page: ChannelsResult =
            read_reply(r#"{"result":{"channels":{"a":{"num_clients":2}},"cursor":"a"}}"#)
                .expect("a page");
        assert_eq!(page.channels["a"].num_clients, 2);
        assert_eq!(page.cursor.as_deref(), Some("a"));
        let error = read_reply::<ChannelsResult>(r#"{"error":{"code":111,"message":"busy"}}"#);
        assert!(matches!(
            error,
            Err(ApiError::Refused { error: ClientError::TooManyRequests, .. })
        ));
        assert!(read_reply::<ChannelsResult>("nonsense").is_err());
    }
}
