//! The commands of clients, the order that they must keep, and their effects. These are the same
//! for all protocols; codecs only translate.

use std::sync::Arc;

use super::clients::Clients;
use super::homes::Homes;
use super::publishing::{self, Message};
use super::replying::{self, Flow};
use super::{heartbeat, reporting, resuming, subscribing, subscriptions};
use crate::auth::Permissions;
use crate::channel::{ChannelName, DataType, check_payload};
use crate::connection::{Flags, PendingRequest, State};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::{HISTORY_PAGE_MAX, RECOVERY_BYTES_MAX};
use crate::mesh::{EventKind, History, Reader, ToHome};
use crate::protocol::{Command, Connect, HistoryQuery, Reply, Request};
use crate::reason::{ClientError, CloseReason};
use crate::shard::delivery::Pace;

/// Whether a command must wait for the results of publications on their way to the bus. Only
/// further publications and pongs do not depend on them. But a publication to a name that may be
/// new also waits, if earlier ones may have used up its client's allowance.
pub fn relies_on_publications<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &Homes,
    key: ConnectionKey,
    request: &Request<'_>,
) -> bool {
    clients.slots.connection(key).is_publishing()
        && match &request.command {
            Command::Publish { channel, .. } => {
                homes.creating.may_have_later(clients, key, channel)
            }
            Command::Pong => false,
            _ => !crate::sabotage!(OvertakingCommand),
        }
}

/// Whether a command must wait until everything in the outbox is sent: publications may have to
/// wait there until the reply to `connect` is put in front of them.
pub fn needs_empty_outbox<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    request: &Request<'_>,
) -> bool {
    matches!(&request.command, Command::Connect(connect) if !connect.resumed.is_empty())
        && clients.slots.connection(key).outbox_cost_bytes() > 0
}

/// Handles one request of a client.
pub fn on_request<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    request: Request<'_>,
) -> Flow {
    let connection = clients.slots.connection(key);
    let connected = connection.state == State::Connected;
    if connected == matches!(request.command, Command::Connect(_)) {
        // A command before connect, or a second connect.
        return replying::stop(clients, key, CloseReason::BadRequest);
    }
    let id = request.id;
    match request.command {
        Command::Connect(connect) => on_connect(clients, homes, key, id, &connect),
        Command::Subscribe(subscribe) => {
            subscribing::on_subscribe(clients, homes, key, id, &subscribe)
        }
        Command::Unsubscribe { channel } => {
            match subscriptions::unsubscribe(clients, key, &channel) {
                Pace::KeepsUp => replying::reply(clients, key, id, &Reply::Unsubscribed),
                Pace::TooSlow(reason) => replying::stop(clients, key, reason),
            }
        }
        Command::Publish { channel, data } => {
            let message = Message { channel: &channel, data };
            publishing::on_publish(clients, homes, key, id, message)
        }
        Command::History(query) => on_history(clients, homes, key, id, &query),
        Command::Pong => {
            // Any byte counts as a sign of life, so a client that is slow but alive may answer
            // several pings together. Closing it with 3501 would stop it from reconnecting.
            let flags = &mut connection.flags;
            if flags.clear(Flags::PINGED) || flags.has(Flags::OVERDUE) {
                Flow::Continue
            } else {
                replying::stop(clients, key, CloseReason::BadRequest)
            }
        }
        Command::Unavailable => replying::fail(clients, key, id, ClientError::NotAvailable),
        Command::Send { data } => on_send(clients, key, data),
        Command::Echo { kind, data } => {
            replying::reply(clients, key, id, &Reply::Echo { kind, data })
        }
    }
}

fn on_connect<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    request: &Connect<'_>,
) -> Flow {
    if request.has_token {
        // No token can be checked. A client with a wrong one must not become an anonymous client.
        return replying::stop(clients, key, CloseReason::InvalidToken);
    }
    let permissions = Permissions::without_token(&clients.options.settings.auth);
    if !permissions.may_connect() {
        return replying::stop(clients, key, CloseReason::BadRequest);
    }
    clients.slots.connection(key).permissions = permissions;
    let mut resumed = request.resumed.iter().collect::<Vec<_>>();
    resumed.retain(|resumed| resuming::is_allowed(clients, key, resumed));
    if !resumed.is_empty() {
        return resuming::begin(clients, homes, key, id, &resumed);
    }
    clients.slots.connection(key).state = State::Connected;
    heartbeat::begin(clients, key);
    reporting::connected(clients, key);
    let connected = replying::connected(clients, key);
    replying::reply(clients, key, id, &Reply::Connected(connected))
}

fn on_history<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    id: u32,
    query: &HistoryQuery<'_>,
) -> Flow {
    if clients.slots.connection(key).flags.has(Flags::DEAF) {
        // The client can't read the page, because its socket accepts no more data.
        return Flow::Continue;
    }
    let channel = query.channel.as_ref();
    let namespace = match clients.options.namespaces().resolve(channel) {
        Ok(namespace) => Arc::clone(namespace),
        Err(error) => return replying::fail(clients, key, id, error),
    };
    if !namespace.has_history() {
        return replying::fail(clients, key, id, ClientError::NotAvailable);
    }
    let connection = clients.slots.connection(key);
    let permissions = connection.permissions;
    if !permissions.may_read_history(&namespace, subscriptions::role(clients, key, channel)) {
        return replying::fail(clients, key, id, ClientError::PermissionDenied);
    }
    if let Err(error) = homes.creating.check_name(clients, key, channel, 0) {
        return replying::fail(clients, key, id, error);
    }
    // The client is charged only now, because a request that is refused above creates no channel.
    let charge = homes.creating.ask_name(clients, key, channel);
    let published = clients.slots.connection(key).flags.has(Flags::PUBLISHED);
    let history = History {
        channel: ChannelName::new(channel),
        page: query.page,
        publications_max: HISTORY_PAGE_MAX,
        bytes_max: RECOVERY_BYTES_MAX,
        // A client expects its own publication in the history, so the home first asks the bus.
        confirmed: !published || crate::sabotage!(OvertakingCommand),
        unserved: clients.slots.connection(key).unserved(),
        reader: Reader::Connection { connection: clients.connection_id(key), request: id },
    };
    let home = homes.map.home(channel);
    clients.post.to_shard(home, ToHome::History(Box::new(history)));
    replying::wait(clients, key, PendingRequest::Answer(charge))
}

/// Passes a message to the application.
fn on_send<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, data: &[u8]) -> Flow {
    if !clients.options.settings.events.message {
        return replying::stop(clients, key, CloseReason::NotAvailable);
    }
    let data = match data {
        [] => Ok(Box::default()),
        data => check_payload(DataType::Json, data),
    };
    let Ok(data) = data else { return replying::stop(clients, key, CloseReason::BadRequest) };
    reporting::report(clients, key, EventKind::Message, |event| event.data = data);
    Flow::Continue
}
