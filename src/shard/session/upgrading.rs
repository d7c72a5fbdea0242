//! Plain WebSocket connections open when all channels of their URL are subscribed, so a client that
//! sees the upgrade receives every later publication. All channels are requested at the same time.
//! Until the last answer, the response and everything after it wait in the outbox.
//!
//! A page can read neither the status nor the body of a refused upgrade. So if the client must
//! change its request, it is upgraded and closed with a code and a reason. If the cause is
//! temporary, the answer is a 503, which clients and proxies know how to retry.

use super::clients::Clients;
use super::ending::{Farewell, text_of_refusal};
use super::homes::{Homes, Start};
use super::replying::Flow;
use super::{closing, heartbeat, reporting, subscriptions};
use crate::auth::{Permissions, Role, Wish};
use crate::channel::{ChannelName, Unfit};
use crate::connection::{Flags, Plain, Recovery, State, WaitingSubscribe};
use crate::handshake::{Acceptance, PlainRequest};
use crate::kernel::{ConnectionKey, Sockets};
use crate::limits::UPGRADE_TIMEOUT;
use crate::mesh::Subscribed;
use crate::protocol::Reply;
use crate::reason::{ClientError, CloseReason};

/// Requests the channels of a URL. `acceptance` is the response when all are subscribed.
pub fn begin<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    request: Result<PlainRequest, &'static str>,
    acceptance: Acceptance,
) -> Flow {
    let deadline = clients.clock.tick().after(UPGRADE_TIMEOUT);
    clients.slots.set_deadline(key.slot, deadline);
    let connection = clients.slots.connection(key);
    connection.state = State::Upgrading;
    connection.flags.set(Flags::WAITING);
    connection.permissions = Permissions::without_token(&clients.options.settings.auth);
    let permissions = connection.permissions;
    if request.as_ref().is_ok_and(|request| request.heartbeat) {
        connection.flags.set(Flags::HEARTBEATS);
    }
    let acceptance = Some(acceptance);
    connection.busy().plain = Some(Box::new(Plain { acceptance, ..Plain::default() }));
    let checked = request.map_err(Unfit::bad_request).and_then(|request| {
        check_plain(clients, homes, key, permissions, &request).map(|()| request)
    });
    match checked {
        Ok(request) => ask_for_channels(clients, homes, key, request),
        Err(Unfit { error, detail }) => {
            refuse(clients, key, error, &detail);
            Flow::Stop
        }
    }
}

/// Checks a request against the permissions and limits of the client.
fn check_plain<S: Sockets>(
    clients: &Clients<S>,
    homes: &Homes,
    key: ConnectionKey,
    permissions: Permissions,
    request: &PlainRequest,
) -> Result<(), Unfit> {
    if !permissions.may_connect() {
        let detail = "no anonymous clients".to_owned();
        return Err(Unfit { error: ClientError::PermissionDenied, detail });
    }
    let (count, most) = (request.channels.len(), clients.options.client().channels_max);
    if count > most {
        let detail = format!("{count} channels, but client.channels_max = {most}");
        return Err(Unfit { error: ClientError::LimitExceeded, detail });
    }
    for ((channel, _), ahead) in request.channels.iter().zip(0..) {
        // Nothing is charged before all channels are checked, so each check counts those before it.
        let checked = subscriptions::check(clients.options.namespaces(), permissions, channel);
        let checked =
            checked.and_then(|()| homes.creating.check_name(clients, key, channel, ahead));
        checked.map_err(|error| Unfit { error, detail: channel.clone() })?;
    }
    let Some(publish) = &request.publish else { return Ok(()) };
    let refused = |error| Unfit { error, detail: format!("publish={publish}") };
    let namespace = clients.options.namespaces().resolve(publish).map_err(refused)?;
    let subscribed = request.channels.iter().any(|(channel, _)| channel == publish);
    let role = if subscribed { Role::Subscriber } else { Role::Client };
    if permissions.may_publish(namespace, role) {
        Ok(())
    } else {
        Err(refused(ClientError::PermissionDenied))
    }
}

fn ask_for_channels<S: Sockets>(
    clients: &mut Clients<S>,
    homes: &mut Homes,
    key: ConnectionKey,
    request: PlainRequest,
) -> Flow {
    let connection = clients.slots.connection(key);
    let permissions = connection.permissions;
    let mut waiting = Vec::with_capacity(request.channels.len());
    for (channel, since) in request.channels {
        let name = ChannelName::new(&channel);
        let Ok(namespace) = clients.options.namespaces().resolve(&channel) else {
            unreachable!("the check of the request resolved the name")
        };
        let grant = permissions.grant(namespace, Wish::Path);
        let start = match since {
            _ if !grant.recoverable => Start::Live,
            Some(since) => Start::After(since),
            None => Start::Newest(request.last),
        };
        let charge = homes.creating.ask_name(clients, key, &channel);
        homes.request_subscription(clients, key, &name, start);
        let recovery = if since.is_some() { Recovery::Asked } else { Recovery::Unasked };
        waiting.push(WaitingSubscribe { request: 0, channel: name, grant, recovery, charge });
    }
    let plain = clients.slots.connection(key).busy().plain.get_or_insert_default();
    plain.waiting = waiting;
    plain.publish = request.publish.map(|name| ChannelName::new(&name));
    if crate::sabotage!(EarlyUpgrade) {
        closing::send_response(clients, key);
    }
    if end(clients, key) { Flow::Continue } else { Flow::Wait }
}

/// Removes the recovered publications from an answer, if those of other channels already fill the
/// outbox. Nothing is sent before the upgrade, so this bounds the missed publications of all
/// channels together.
pub fn limit_replay<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    answer: &mut Subscribed,
) {
    if clients.slots.connection(key).outbox_cost_bytes() > clients.options.client().outbox_bytes_max
    {
        answer.recovered.take_if(|publications| !publications.is_empty());
    }
}

/// Begins the session if all channels have been answered. Returns true if it does.
pub fn end<S: Sockets>(clients: &mut Clients<S>, key: ConnectionKey) -> bool {
    let connection = clients.slots.connection(key);
    let plain = connection.busy.as_mut().and_then(|busy| busy.plain.as_mut());
    let ready = plain.as_ref().is_some_and(|plain| plain.waiting.is_empty());
    if connection.state != State::Upgrading || !ready {
        return false;
    }
    let mute = plain.is_some_and(|plain| plain.publish.is_none());
    closing::send_response(clients, key);
    let connection = clients.slots.connection(key);
    if mute {
        connection.busy().plain = None;
    }
    connection.state = State::Connected;
    connection.flags.clear(Flags::WAITING);
    let (wire, heartbeats) = (connection.wire, connection.flags.has(Flags::HEARTBEATS));
    let protocol = wire.protocol;
    clients.counters.handshaking.subtract(1);
    clients.counters.handshakes_ok.add(1);
    clients.counters.connections[protocol as usize].add(1);
    reporting::opened(clients, key);
    heartbeat::begin(clients, key);
    if heartbeats {
        // The heartbeat says how long the client has to wait for the next one.
        let mut frame = Vec::new();
        wire.encode_heartbeat(clients.options.client().ping_interval, &mut frame);
        clients.send_own(key, &frame);
    }
    reporting::connected(clients, key);
    reporting::all_subscribed(clients, key);
    clients.delivery.mark_dirty(key.slot);
    true
}

/// Refuses a plain WebSocket because of `detail`. A permanent refusal is a close frame after the
/// upgrade. A temporary one is a 503, and `detail` is a channel.
pub fn refuse<S: Sockets>(
    clients: &mut Clients<S>,
    key: ConnectionKey,
    error: ClientError,
    detail: &str,
) {
    let details = error.details();
    if details.reconnect {
        return closing::refuse_upgrade(clients, key, &text_of_refusal(error, detail));
    }
    let connection = clients.slots.connection(key);
    let encoded = connection.wire.encode_reply(0, &Reply::Error(error), &mut Vec::new());
    let reason = encoded.err().unwrap_or(CloseReason::BadRequest);
    let text = match detail {
        "" => details.text.to_owned(),
        detail => format!("{}: {detail}", details.text),
    };
    let farewell = Farewell { code: reason.details().code, text: &text };
    closing::close_with(clients, key, reason, farewell);
}
