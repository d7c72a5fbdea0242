//! Requests between nodes: one stream that all read, and one for each node's answers. Nothing in
//! them is of use for longer than a request may take, so a node begins to read at their ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::{Link, LinkError};
use super::standing::Witness;
use super::writer::not_an_answer;
use super::{Backoff, Bridge, nodes};
use crate::bus::Reply;
use crate::limits::{
    ANSWER_TIMEOUT, BUS_BLOCK, BUS_READ_TIMEOUT, CLUSTER_CALLS_MAX, CLUSTER_ENTRIES_MAX,
    CLUSTER_ENTRIES_TTL, CLUSTER_READ_ENTRIES_MAX, CLUSTER_STREAM_BYTES, CLUSTER_TIMEOUT,
};
use crate::mesh::{Answer, ClusterAnswer, ClusterRequest, RemoteCall, Ticket, ToControl};

/// Streams that a node must read before others may count on its answers.
pub(super) const STREAMS: u8 = 2;

/// Appends an entry, and removes those that are of no use any more.
const APPEND: &str = include_str!("scripts/append.lua");

/// Requests under way.
#[derive(Default)]
pub(super) struct Cluster {
    next: Cell<u64>,
    /// This node's own, by their number.
    asked: RefCell<HashMap<u64, Rc<Asked>>>,
    /// Other nodes', by the ticket that control answers with.
    served: RefCell<HashMap<Ticket, Served>>,
}

/// A request of this node's.
struct Asked {
    /// Who has not answered.
    silent: RefCell<Vec<String>>,
    bodies: RefCell<Vec<Box<str>>>,
    /// Everybody has.
    done: Notify,
}

/// A request of another node's.
struct Served {
    from: String,
    id: String,
    since: Instant,
}

impl Cluster {
    fn fresh(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}

/// What a task reads.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    /// What any node asks of all.
    Requests,
    /// What others answer to this one.
    Answers,
}

/// Answers a question of control's about the other nodes.
pub(super) async fn answer(bridge: Rc<Bridge>, ticket: Ticket, request: ClusterRequest) {
    let answer = match request {
        ClusterRequest::Describe => nodes::describe_others(&bridge).await,
        ClusterRequest::Call(call) => ask(&bridge, &call).await,
    };
    let message = ToControl::Answer { ticket, answer: Answer::Cluster(answer) };
    bridge.with_engine(|engine, _| engine.send_to_control(message));
}

/// Has every other node carry out `call`.
async fn ask(bridge: &Bridge, call: &RemoteCall) -> ClusterAnswer {
    let away = || ClusterAnswer { away: true, ..ClusterAnswer::default() };
    let deadline = Instant::now() + CLUSTER_TIMEOUT;
    let Some(link) = bridge.nodes.linked(deadline).await else { return away() };
    let others = match tokio::time::timeout_at(deadline, nodes::others(bridge, &link)).await {
        Ok(Ok(others)) => others,
        Ok(Err(_)) | Err(_) => return away(),
    };
    if others.is_empty() {
        return ClusterAnswer::default();
    }
    let id = bridge.cluster.fresh();
    let asked = Rc::new(Asked {
        silent: RefCell::new(others),
        bodies: RefCell::default(),
        done: Notify::new(),
    });
    bridge.cluster.asked.borrow_mut().insert(id, Rc::clone(&asked));
    let fields = [
        ("id", id.to_string()),
        ("from", bridge.nodes.member.uid.clone()),
        ("method", call.method.to_string()),
        ("params", call.params.to_string()),
    ];
    let asking = async {
        append(&link, &bridge.keys.other("control"), &fields).await?;
        asked.done.notified().await;
        Ok::<(), LinkError>(())
    };
    let ended = tokio::time::timeout_at(deadline, asking).await;
    bridge.cluster.asked.borrow_mut().remove(&id);
    if let Ok(Err(error)) = ended {
        tracing::warn!(%error, "other nodes can't be asked");
        return away();
    }
    let silent = asked.silent.take().into_iter().map(String::into_boxed_str).collect();
    ClusterAnswer { away: false, bodies: asked.bodies.take(), silent }
}

async fn append(link: &Link, key: &[u8], fields: &[(&str, String)]) -> Result<(), LinkError> {
    let bytes = fields.iter().map(|(_, value)| value.len()).sum();
    let millis = CLUSTER_ENTRIES_TTL.as_millis();
    let limits = [entries_max(bytes).to_string(), millis.to_string()];
    let mut args = vec![APPEND.as_bytes().to_vec(), b"1".to_vec(), key.to_vec()];
    args.extend(limits.map(String::into_bytes));
    for (name, value) in fields {
        args.extend([name.as_bytes().to_vec(), value.as_bytes().to_vec()]);
    }
    link.call("EVAL", key, args).await.map(drop)
}

/// How many entries a stream may have after one of so many bytes: few where they are long.
fn entries_max(bytes: usize) -> usize {
    (CLUSTER_STREAM_BYTES / bytes.max(1)).clamp(1, CLUSTER_ENTRIES_MAX)
}

/// Sends what control has to say to another node.
pub(super) async fn send_answer(bridge: Rc<Bridge>, ticket: Ticket, body: Box<str>) {
    let served = bridge.cluster.served.borrow_mut().remove(&ticket);
    let Some((served, link)) = served.zip(bridge.nodes.link()) else { return };
    let key = bridge.keys.other(&format!("answers:{}", served.from));
    let fields = [
        ("id", served.id),
        ("from", bridge.nodes.member.uid.clone()),
        ("body", body.into_string()),
    ];
    if let Err(error) = append(&link, &key, &fields).await {
        tracing::warn!(%error, node = %served.from, "another node is not answered");
    }
}

/// Follows a stream, on a connection of its own: for ever.
pub(super) async fn run(bridge: Rc<Bridge>, stream: Stream) {
    let (mut backoff, witness) = (Backoff::new(), Witness::default());
    let name = match stream {
        Stream::Requests => "control".to_owned(),
        Stream::Answers => format!("answers:{}", bridge.nodes.member.uid),
    };
    let key = bridge.keys.other(&name);
    loop {
        if let Ok(link) = Link::connect(&bridge, BUS_READ_TIMEOUT).await
            && witness.verify(&bridge, &link).await.is_ok()
            && let Ok(at) = end(&link, &key).await
        {
            backoff.reset();
            let listening = &bridge.nodes.listening;
            listening.set(listening.get() + 1);
            let error = follow(&bridge, (&link, &witness), (stream, &key), at).await;
            listening.set(listening.get() - 1);
            tracing::warn!(%error, "other nodes can't be heard");
        }
        backoff.pause().await;
    }
}

/// The id of the last entry.
async fn end(link: &Link, key: &[u8]) -> Result<String, LinkError> {
    let args = ["+", "-", "COUNT", "1"].map(|arg| arg.as_bytes().to_vec());
    let args = std::iter::once(key.to_vec()).chain(args).collect();
    let reply = link.call("XREVRANGE", key, args).await?;
    let last = reply.list().and_then(|list| list.first()?.list()?.first()?.text());
    Ok(last.unwrap_or("0-0").to_owned())
}

async fn follow(
    bridge: &Rc<Bridge>,
    (link, witness): (&Link, &Witness),
    (stream, key): (Stream, &[u8]),
    mut at: String,
) -> LinkError {
    let count = CLUSTER_READ_ENTRIES_MAX.to_string();
    let block = BUS_BLOCK.as_millis().to_string();
    loop {
        if let Err(error) = witness.verify_in_time(bridge, link).await {
            return error;
        }
        let front =
            ["COUNT", &count, "BLOCK", &block, "STREAMS"].map(|arg| arg.as_bytes().to_vec());
        let mut args = front.to_vec();
        args.extend([key.to_vec(), at.clone().into_bytes()]);
        let reply = match link.call_blocking("XREAD", key, args).await {
            Ok(Reply::Nil) => continue,
            Ok(reply) => reply,
            Err(error) => return error,
        };
        let entries = reply.list().and_then(|list| list.first()?.list()?.get(1)?.list());
        let Some(entries) = entries else { return not_an_answer(&reply) };
        let mut read = vec![key.to_vec()];
        for entry in entries {
            let Some([id, fields]) = entry.list() else { return not_an_answer(entry) };
            id.text().unwrap_or_default().clone_into(&mut at);
            read.push(at.clone().into_bytes());
            let fields = fields.list().unwrap_or_default();
            match stream {
                Stream::Requests => on_request(bridge, fields),
                Stream::Answers => on_answer(bridge, fields),
            }
        }
        // Nobody else reads answers, and they may be long.
        if let Stream::Answers = stream
            && let Err(error) = link.call("XDEL", key, read).await
        {
            return error;
        }
    }
}

fn field<'a>(fields: &'a [Reply], name: &str) -> &'a str {
    let mut pairs = fields.chunks_exact(2);
    let pair = pairs.find(|pair| pair[0].text() == Some(name));
    pair.and_then(|pair| pair[1].text()).unwrap_or_default()
}

/// Hands another node's request to control.
fn on_request(bridge: &Rc<Bridge>, fields: &[Reply]) {
    let from = field(fields, "from");
    if from == bridge.nodes.member.uid {
        return;
    }
    let mut served = bridge.cluster.served.borrow_mut();
    if served.len() >= CLUSTER_CALLS_MAX {
        // Control answers what it gets; what it did not get is forgotten here.
        served.retain(|_, one| one.since.elapsed() < 2 * ANSWER_TIMEOUT);
    }
    if served.len() >= CLUSTER_CALLS_MAX {
        tracing::warn!(node = from, "too many requests of other nodes: one is not carried out");
        return;
    }
    let ticket = Ticket(bridge.cluster.fresh());
    let id = field(fields, "id").to_owned();
    served.insert(ticket, Served { from: from.to_owned(), id, since: Instant::now() });
    drop(served);
    let call = RemoteCall {
        method: field(fields, "method").into(),
        params: field(fields, "params").into(),
    };
    bridge.with_engine(|engine, _| engine.send_to_control(ToControl::Remote { ticket, call }));
}

/// Takes another node's answer to a request of this one's.
fn on_answer(bridge: &Rc<Bridge>, fields: &[Reply]) {
    let asked = bridge.cluster.asked.borrow();
    let Some(asked) = field(fields, "id").parse().ok().and_then(|id: u64| asked.get(&id)) else {
        return; // It came too late.
    };
    let mut silent = asked.silent.borrow_mut();
    let Some(at) = silent.iter().position(|uid| uid == field(fields, "from")) else { return };
    silent.swap_remove(at);
    asked.bodies.borrow_mut().push(field(fields, "body").into());
    if silent.is_empty() {
        asked.done.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_long_entries_has_few() {
        assert_eq!(entries_max(0), CLUSTER_ENTRIES_MAX);
        assert_eq!(entries_max(200), CLUSTER_ENTRIES_MAX);
        assert_eq!(entries_max(CLUSTER_STREAM_BYTES / 8), 8);
        assert_eq!(entries_max(2 * CLUSTER_STREAM_BYTES), 1);
    }

    #[test]
    fn fields_are_found_by_their_name_and_absent_ones_are_empty() {
        let text = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
        let fields = [text("id"), text("7"), text("from"), text("id"), text("torn")];
        assert_eq!(field(&fields, "id"), "7");
        assert_eq!(field(&fields, "from"), "id");
        assert_eq!(field(&fields, "torn"), "");
        assert_eq!(field(&[], "id"), "");
    }
}
