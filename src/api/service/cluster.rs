//! What concerns every node: carried out here, and by the bridge on the others.

use super::channels::{self, ChannelsPage, ChannelsQuery};
use super::connections::{self, ConnectionsCommand};
use super::info::{self, NodeInfo};
use super::node_wire::{self, NodeRequest};
use super::shared::{Node, Service};
use crate::api::error::ApiError;
use crate::api::status::Status;
use crate::limits::CLUSTER_TIMEOUT;
use crate::mesh::{Addressed, Answer, ClusterAnswer, ClusterRequest, RemoteCall, ToBridge};

/// Carries out `command` on every node.
///
/// # Errors
/// What this node fails with, before any other is asked; what another one does; internal if one did
/// not answer: it may or may not have done it.
pub(in crate::api) async fn carry_out(
    service: &Service,
    command: &ConnectionsCommand,
) -> Result<(), ApiError> {
    connections::own(service, command).await?;
    let call = node_wire::request_of_command(command)?;
    for body in complete("done on", ask(service, ClusterRequest::Call(call)).await?)? {
        node_wire::read_done(&body)?;
    }
    Ok(())
}

/// A page of the list of all nodes' channels.
///
/// # Errors
/// 107 for a limit, pattern or cursor that is too large; what another node fails with; internal if
/// one did not answer: a part of the numbers would look like all of them.
pub(in crate::api) async fn channels(
    service: &Service,
    query: &ChannelsQuery,
) -> Result<ChannelsPage, ApiError> {
    let mut pages = vec![channels::own(service, query).await?];
    let call = node_wire::request_of_query(query)?;
    for body in complete("known of", ask(service, ClusterRequest::Call(call)).await?)? {
        pages.push(node_wire::read_page(&body)?);
    }
    Ok(channels::merge_nodes(pages, query))
}

/// What all living nodes are and hold: this one, then the others.
///
/// # Errors
/// Too much is under way; internal while Redis is away, and the others are not known.
pub(in crate::api) async fn info(service: &Service) -> Result<Vec<NodeInfo>, ApiError> {
    let mut nodes = vec![info::own(&service.parts.status, &service.parts.node)];
    let bodies = complete("known of", ask(service, ClusterRequest::Describe).await?)?;
    nodes.extend(bodies.iter().filter_map(|body| node_wire::read_node(body)));
    Ok(nodes)
}

/// The description of this node that others show.
pub fn describe(status: &Status, node: &Node) -> String {
    node_wire::write_node(&info::own(status, node))
}

/// Carries out a request of another node on this one. Returns the reply for it.
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

async fn ask(service: &Service, request: ClusterRequest) -> Result<ClusterAnswer, ApiError> {
    if !service.courier().has_bus() {
        return Ok(ClusterAnswer::default());
    }
    let make = |ticket| Addressed::Bridge(ToBridge::Cluster { ticket, request });
    match service.courier().request(make).await? {
        Answer::Cluster(answer) => Ok(answer),
        other => Err(ApiError::internal(format!("{other:?} to a question to other nodes"))),
    }
}
