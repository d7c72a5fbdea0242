//! Requests between nodes. All nodes read one stream of requests, and each node has a stream for
//! the answers to its own requests. Entries are useful only for the time of a request, so a node
//! starts to read at the ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::nodes::Nodes;
use crate::bridge::Bus;
use crate::bus::{Keys, Reply};
use crate::limits::{
    ANSWER_TIMEOUT, BUS_BLOCK, BUS_READ_TIMEOUT, CLUSTER_CALLS_MAX, CLUSTER_ENTRIES_MAX,
    CLUSTER_ENTRIES_TTL, CLUSTER_READ_ENTRIES_MAX, CLUSTER_STREAM_BYTES, CLUSTER_TIMEOUT,
};
use crate::mesh::{Answer, ClusterAnswer, ClusterRequest, RemoteCall, Ticket, ToControl};
use crate::redis::{self, Backoff, Link, LinkError, Witness, not_an_answer};

/// Appends an entry, and removes entries that are too old to be useful.
const APPEND: &str = include_str!("scripts/append.lua");

/// Requests in progress.
pub(crate) struct Requests {
    bus: Rc<Bus>,
    redis: Rc<redis::Handle>,
    nodes: Rc<Nodes>,
    /// Number of the last request, of this node or others.
    last: Cell<u64>,
    /// Requests of this node, by number.
    own: RefCell<HashMap<u64, Rc<OwnRequest>>>,
    /// Requests of other nodes, by the ticket of control's answer.
    foreign: RefCell<HashMap<Ticket, ForeignRequest>>,
}

struct OwnRequest {
    /// Nodes that have not answered yet.
    silent: RefCell<Vec<String>>,
    bodies: RefCell<Vec<Box<str>>>,
    /// Notified when all nodes have answered.
    done: Notify,
}

struct ForeignRequest {
    from: String,
    id: String,
    since: Instant,
}

/// The streams that a node reads.
#[derive(Clone, Copy)]
enum Stream {
    /// Requests of any node to all others.
    Requests,
    /// Answers of other nodes to this one.
    Answers,
}

impl Stream {
    fn key(self, keys: &Keys, own_uid: &str) -> Vec<u8> {
        match self {
            Stream::Requests => keys.other("control"),
            Stream::Answers => keys.other(&format!("answers:{own_uid}")),
        }
    }
}

impl Requests {
    /// Creates the state without requests.
    pub(crate) fn new(bus: &Rc<Bus>, redis: &Rc<redis::Handle>, nodes: &Rc<Nodes>) -> Requests {
        Requests {
            bus: Rc::clone(bus),
            redis: Rc::clone(redis),
            nodes: Rc::clone(nodes),
            last: Cell::new(0),
            own: RefCell::default(),
            foreign: RefCell::default(),
        }
    }

    /// Starts to read requests and answers.
    pub(crate) fn start(requests: &Rc<Requests>) {
        for stream in [Stream::Requests, Stream::Answers] {
            tokio::task::spawn_local(run(Rc::clone(requests), stream));
        }
    }

    /// Answers a request of control about the other nodes.
    pub(crate) async fn answer(self: Rc<Requests>, ticket: Ticket, request: ClusterRequest) {
        let answer = match request {
            ClusterRequest::Describe => self.nodes.describe_others().await,
            ClusterRequest::Call(call) => self.ask(&call).await,
        };
        self.send_to_control(ToControl::Answer { ticket, answer: Answer::Cluster(answer) });
    }

    /// Sends control's answer to the node that has asked.
    pub(crate) async fn send_answer(self: Rc<Requests>, ticket: Ticket, body: Box<str>) {
        let request = self.foreign.borrow_mut().remove(&ticket);
        let Some((request, link)) = request.zip(self.nodes.link()) else { return };
        let key = Stream::Answers.key(self.redis.keys(), &request.from);
        let fields = [
            ("id", request.id),
            ("from", self.nodes.lease().uid.clone()),
            ("body", body.into_string()),
        ];
        if let Err(error) = append(&link, &key, &fields).await {
            tracing::warn!(%error, node = %request.from, "could not send a reply to another node");
        }
    }

    /// Sends `call` to all other nodes, and collects their answers.
    async fn ask(&self, call: &RemoteCall) -> ClusterAnswer {
        let away = || ClusterAnswer { away: true, ..ClusterAnswer::default() };
        let deadline = Instant::now() + CLUSTER_TIMEOUT;
        let Some(link) = self.nodes.linked(deadline).await else { return away() };
        let others = match tokio::time::timeout_at(deadline, self.nodes.others(&link)).await {
            Ok(Ok(others)) => others,
            Ok(Err(_)) | Err(_) => return away(),
        };
        if others.is_empty() {
            return ClusterAnswer::default();
        }
        let id = self.next();
        let request = Rc::new(OwnRequest {
            silent: RefCell::new(others),
            bodies: RefCell::default(),
            done: Notify::new(),
        });
        self.own.borrow_mut().insert(id, Rc::clone(&request));
        let uid = &self.nodes.lease().uid;
        let fields = [
            ("id", id.to_string()),
            ("from", uid.clone()),
            ("method", call.method.to_string()),
            ("params", call.params.to_string()),
        ];
        let asking = async {
            append(&link, &Stream::Requests.key(self.redis.keys(), uid), &fields).await?;
            request.done.notified().await;
            Ok::<(), LinkError>(())
        };
        let ended = tokio::time::timeout_at(deadline, asking).await;
        self.own.borrow_mut().remove(&id);
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "could not send a request to other nodes");
            return away();
        }
        let silent = request.silent.take().into_iter().map(String::into_boxed_str).collect();
        ClusterAnswer { away: false, bodies: request.bodies.take(), silent }
    }

    /// Returns the number of a new request.
    fn next(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    fn send_to_control(&self, message: ToControl) {
        self.bus.with_engine(|engine, _| engine.send_to_control(message));
    }
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

/// Returns the maximum number of entries in a stream after an entry with this many bytes. A stream
/// of long entries has fewer, so that it is limited in bytes too.
fn entries_max(bytes: usize) -> usize {
    (CLUSTER_STREAM_BYTES / bytes.max(1)).clamp(1, CLUSTER_ENTRIES_MAX)
}

/// Follows a stream on its own connection. Never returns.
async fn run(requests: Rc<Requests>, stream: Stream) {
    let (mut backoff, witness) = (Backoff::new(), requests.redis.witness());
    let key = stream.key(requests.redis.keys(), &requests.nodes.lease().uid);
    loop {
        if let Ok(link) = requests.redis.connect(BUS_READ_TIMEOUT).await
            && witness.verify(&link).await.is_ok()
            && let Ok(at) = end(&link, &key).await
        {
            backoff.reset();
            let follower = Follower { requests: &requests, link, witness: &witness };
            // Requests from now on come after the entry `at`, so this node will read them.
            let listening = requests.nodes.listen();
            let error = follower.follow(stream, &key, at).await;
            drop(listening);
            tracing::warn!(%error, "could not read requests of other nodes; retrying");
        }
        backoff.pause().await;
    }
}

/// Returns the id of the last entry.
async fn end(link: &Link, key: &[u8]) -> Result<String, LinkError> {
    let args = ["+", "-", "COUNT", "1"].map(|arg| arg.as_bytes().to_vec());
    let args = std::iter::once(key.to_vec()).chain(args).collect();
    let reply = link.call("XREVRANGE", key, args).await?;
    let last = reply.list().and_then(|list| list.first()?.list()?.first()?.text());
    Ok(last.unwrap_or("0-0").to_owned())
}

/// One stream on one connection.
struct Follower<'a> {
    requests: &'a Requests,
    link: Link,
    witness: &'a Witness,
}

impl Follower<'_> {
    /// Follows the stream from the entry `at` on, until the connection fails. Returns the reason.
    async fn follow(&self, stream: Stream, key: &[u8], mut at: String) -> LinkError {
        let count = CLUSTER_READ_ENTRIES_MAX.to_string();
        let block = BUS_BLOCK.as_millis().to_string();
        loop {
            if let Err(error) = self.witness.verify_in_time(&self.link).await {
                return error;
            }
            let front =
                ["COUNT", &count, "BLOCK", &block, "STREAMS"].map(|arg| arg.as_bytes().to_vec());
            let mut args = front.to_vec();
            args.extend([key.to_vec(), at.clone().into_bytes()]);
            let reply = match self.link.call_blocking("XREAD", key, args).await {
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
                    Stream::Requests => self.requests.on_request(fields),
                    Stream::Answers => self.requests.on_answer(fields),
                }
            }
            // No other node reads these answers, and they may be long.
            if let Stream::Answers = stream
                && let Err(error) = self.link.call("XDEL", key, read).await
            {
                return error;
            }
        }
    }
}

fn field<'a>(fields: &'a [Reply], name: &str) -> &'a str {
    let mut pairs = fields.chunks_exact(2);
    let pair = pairs.find(|pair| pair[0].text() == Some(name));
    pair.and_then(|pair| pair[1].text()).unwrap_or_default()
}

/// Handling of entries.
impl Requests {
    /// Passes a request of another node to control.
    fn on_request(&self, fields: &[Reply]) {
        let from = field(fields, "from");
        if from == self.nodes.lease().uid {
            return;
        }
        let mut foreign = self.foreign.borrow_mut();
        if foreign.len() >= CLUSTER_CALLS_MAX {
            // Control answers every request that it gets. Requests that never reached it are
            // removed here.
            foreign.retain(|_, one| one.since.elapsed() < 2 * ANSWER_TIMEOUT);
        }
        if foreign.len() >= CLUSTER_CALLS_MAX {
            tracing::warn!(
                node = from,
                "ignored a request of another node: too many are in progress"
            );
            return;
        }
        let ticket = Ticket(self.next());
        let (from, id) = (from.to_owned(), field(fields, "id").to_owned());
        foreign.insert(ticket, ForeignRequest { from, id, since: Instant::now() });
        drop(foreign);
        let call = RemoteCall {
            method: field(fields, "method").into(),
            params: field(fields, "params").into(),
        };
        self.send_to_control(ToControl::Remote { ticket, call });
    }

    /// Handles an answer of another node to a request of this one.
    fn on_answer(&self, fields: &[Reply]) {
        let own = self.own.borrow();
        let Some(request) = field(fields, "id").parse().ok().and_then(|id: u64| own.get(&id))
        else {
            return; // It came too late.
        };
        let mut silent = request.silent.borrow_mut();
        let Some(at) = silent.iter().position(|uid| uid == field(fields, "from")) else { return };
        silent.swap_remove(at);
        request.bodies.borrow_mut().push(field(fields, "body").into());
        if silent.is_empty() {
            request.done.notify_one();
        }
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
