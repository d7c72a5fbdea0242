//! The commands of clients, the order that they must keep, and their effects. These are the same
//! for all protocols; codecs only translate.

use std::sync::Arc;

use super::clients::Clients;
use super::homes::Homes;
use super::publishing::{self, Message};
use super::replying::{self, Flow};
use super::{heartbeat, reporting, subscribing, subscriptions};
use crate::auth::Permissions;
use crate::channel::{ChannelName, DataType, check_payload};
use crate::connection::{Flags, PendingRequest, State};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::{HISTORY_PAGE_MAX, RECOVERY_BYTES_MAX};
use crate::mesh::{EventKind, History, Reader, ToHome};
use crate::protocol::{Command, Connected, HistoryQuery, Reply, Request};
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

/// Handles one request of a client.
pub fn on_request<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    request: Request<'_>,
) -> Flow {
    let connection = clients.slots.connection(key);
    let connected = connection.state == State::Connected;
    if connected == matches!(request.command, Command::Connect) {
        // A command before connect, or a second connect.
        return replying::stop(clients, key, CloseReason::BadRequest);
    }
    let id = request.id;
    match request.command {
        Command::Connect => on_connect(clients, key, id),
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

fn on_connect<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey, id: u32) -> Flow {
    let permissions = Permissions::without_token(&clients.options.settings.auth);
    if !permissions.may_connect() {
        return replying::stop(clients, key, CloseReason::BadRequest);
    }
    let client = clients.client_id(key);
    let connection = clients.slots.connection(key);
    connection.state = State::Connected;
    connection.permissions = permissions;
    let own_pings = !connection.flags.has(Flags::FRAME_PINGS);
    let ping = own_pings.then_some(clients.options.client().ping_interval);
    heartbeat::begin(clients, key);
    reporting::connected(clients, key);
    replying::reply(
        clients,
        key,
        id,
        &Reply::Connected(Connected { client, ping, pong: own_pings }),
    )
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
