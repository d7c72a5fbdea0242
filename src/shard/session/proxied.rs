//! Connections of proxies: the header of the PROXY protocol before the request, and the client that
//! a proxy names. Until the client is known, no limit for networks applies.

use core::net::IpAddr;

use super::clients::Clients;
use super::frames::{Panicked, guarded};
use crate::handshake::{self, Progress};
use crate::kernel::{ConnectionKey, Socket, Sockets};
use crate::proxies::{Header, Peer, forwarded_client, read_header};
use crate::subnets::{Subnet, SubnetId};

/// Whether the client of a new connection may be named by its peer.
pub fn is_proxy<S: Sockets>(clients: &Clients<S>, socket: Socket) -> bool {
    let proxies = &clients.options.settings.server.proxies;
    !proxies.is_empty() && clients.io.peer(socket).is_some_and(|peer| proxies.contains(peer))
}

/// Reads what `head` says: everything that a connection has sent so far. A header of the PROXY
/// protocol is removed from it. When the request is complete, the client is known.
///
/// # Errors
/// The parser has panicked.
pub fn read<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    head: &mut Vec<u8>,
) -> Result<Progress, Panicked> {
    if clients.slots.subnet(key.slot) == SubnetId::PROXY {
        match guarded(|| read_header(head))? {
            Header::Absent => clients.slots.set_subnet(key.slot, SubnetId::PROXY_REQUEST),
            Header::Incomplete => return Ok(Progress::Incomplete),
            Header::Complete { client, consumed } => {
                head.drain(..consumed);
                on_header(clients, key, client);
            }
            Header::Invalid(reason) => {
                on_client(clients, key, None);
                return Ok(Progress::Respond(handshake::bad_proxy_header(reason)));
            }
        }
    }
    let progress = guarded(|| handshake::read(head, &clients.options.rules))?;
    let names_client = clients.slots.subnet(key.slot) == SubnetId::PROXY_REQUEST;
    if names_client && progress != Progress::Incomplete {
        let proxies = &clients.options.settings.server.proxies;
        let client = guarded(|| forwarded_client(head, proxies))?;
        on_client(clients, key, client);
    }
    Ok(progress)
}

/// Handles a header of the PROXY protocol. A second one would be an error in the request.
fn on_header<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, client: Option<IpAddr>) {
    clients.slots.set_subnet(key.slot, SubnetId::PROXY_REQUEST);
    let Some(client) = client else { return };
    if clients.options.settings.server.proxies.contains(Peer::Address(client)) {
        // The request may name the client of this proxy.
        clients.slots.set_address(key.slot, client);
    } else {
        on_client(clients, key, Some(client));
    }
}

/// Counts a connection for the network of its client. If no proxy names the client, the nearest
/// known proxy counts as the client.
fn on_client<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, client: Option<IpAddr>) {
    if let Some(client) = client {
        clients.slots.set_address(key.slot, client);
    }
    let subnet = clients.address(key).map_or(Subnet::EXEMPT, Subnet::of);
    let subnet = clients.subnets.enter(subnet);
    clients.slots.set_subnet(key.slot, subnet);
}
