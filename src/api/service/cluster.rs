//! Requests that concern all nodes. This node carries them out itself, and asks the others through
//! the bridge.

use super::channels::{self, ChannelsPage, ChannelsQuery};
use super::connections::{self, ConnectionsCommand};
use super::info::{self, NodeInfo};
use super::node_wire::{self, NodeRequest};
use super::shared::{Node, Service};
use crate::api::error::ApiError;
use crate::api::status::Status;
use crate::limits::CLUSTER_TIMEOUT;
use crate::mesh::{Addressed, Answer, ClusterAnswer, ClusterRequest, RemoteCall, ToBridge};

/// Carries out `command` on all nodes.
///
/// # Errors
/// The error of this node, before it asks any other; the error of another node; internal if a node
/// did not reply. That node may have carried out the command.
pub(in crate::api) async fn carry_out(
    service: &Service,
    command: &ConnectionsCommand,
) -> Result<(), ApiError> {
    connections::own(service, command).await?;
    let call = node_wire::request_of_command(command)?;
    for body in complete("carried out on", ask(service, ClusterRequest::Call(call)).await?)? {
        node_wire::read_done(&body)?;
    }
    Ok(())
}

/// Returns a page of the channels on all nodes.
///
/// # Errors
/// 107 if limit, pattern or cursor is too large, or if the pattern is invalid; the error of another
/// node; internal if a node did not reply, because partial numbers would look like complete ones.
pub(in crate::api) async fn channels(
    service: &Service,
    query: &ChannelsQuery,
) -> Result<ChannelsPage, ApiError> {
    let mut pages = vec![channels::own(service, query).await?];
    let call = node_wire::request_of_query(query)?;
    for body in complete("known for", ask(service, ClusterRequest::Call(call)).await?)? {
        pages.push(node_wire::read_page(&body)?);
    }
    Ok(channels::merge(pages, query))
}

/// Describes all living nodes: this one, then the others.
///
/// # Errors
/// `Busy`, or internal while Redis is unreachable, because then the other nodes are unknown.
pub(in crate::api) async fn info(service: &Service) -> Result<Vec<NodeInfo>, ApiError> {
    let mut nodes = vec![info::own(&service.parts.status, &service.parts.node)];
    let bodies = complete("known for", ask(service, ClusterRequest::Describe).await?)?;
    nodes.extend(bodies.iter().filter_map(|body| node_wire::read_node(body)));
    Ok(nodes)
}

/// Returns the description of this node for the others.
pub fn describe(status: &Status, node: &Node) -> String {
    node_wire::write_node(&info::own(status, node))
}

/// Carries out a request of another node on this one, and returns the reply.
pub async fn remote(service: &Service, call: &RemoteCall) -> Box<str> {
    match node_wire::read_request(call) {
        Ok(NodeRequest::Channels(query)) => {
            node_wire::write_page(channels::own(service, &query).await)
        }
        Ok(NodeRequest::Connections(command)) => {
            node_wire::write_done(connections::own(service, &command).await)
        }
        Err(error) => node_wire::write_done(Err(error)),
    }
}

/// Returns the replies of all other nodes.
///
/// # Errors
/// Internal, with the names of silent nodes. The message begins with `result`, the state without
/// them.
fn complete(result: &str, answer: ClusterAnswer) -> Result<Vec<Box<str>>, ApiError> {
    if answer.away {
        return Err(ApiError::internal(format!(
            "{result} this node only, because Redis can't be reached; retry"
        )));
    }
    if !answer.silent.is_empty() {
        return Err(ApiError::internal(format!(
            "{result} all nodes except {}, which did not reply within {CLUSTER_TIMEOUT:?} or have \
             no description in Redis; retry",
            answer.silent.join(", ")
        )));
    }
    Ok(answer.bodies)
}

async fn ask(service: &Service, request: ClusterRequest) -> Result<ClusterAnswer, ApiError> {
    if !service.courier().has_bus() {
        return Ok(ClusterAnswer::default());
    }
    let make = |ticket| Addressed::Bridge(ToBridge::Cluster { ticket, request });
    match service.courier().request(make).await? {
        Answer::Cluster(answer) => Ok(answer),
        other => Err(ApiError::internal(format!(
            "unexpected answer to a request to other nodes: {other:?}"
        ))),
    }
}
