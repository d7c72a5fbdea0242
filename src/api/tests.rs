//! Tests of the API, with shards whose answers each test defines.

mod methods;
mod transport;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::*;
use crate::channel::{DataType, Namespace, Namespaces};
use crate::ids::{ClientId, ConnectionId, Epoch, Generation, Moment, Position, ShardId, Slot};
use crate::mesh::{
    Addressed, Answer, Asker, ControlRequest, Page, Reader, ShardMail, Ticket, ToHome,
};
use crate::metrics::ShardCounters;
use crate::settings::Settings;

/// Number of simulated shards.
const SHARDS: usize = 3;

/// Returns the answer of a shard to a message, or `None` if it never answers.
type Respond = fn(ShardId, &ShardMail) -> Option<Answer>;

/// An API whose shards are a function.
struct TestNode {
    router: Router,
    api: Arc<Api>,
    seen: Arc<Mutex<Vec<(ShardId, ShardMail)>>>,
}

/// A clock that always shows 40 seconds.
fn now() -> Moment {
    Moment::default().after(Duration::from_secs(40))
}

/// Returns settings with a key, and a namespace with history for each type of data.
fn settings() -> Settings {
    let mut settings = Settings::default();
    let defaults = settings.channel.namespaces.plain().clone();
    let namespace = |name: &str, data, history_size| Namespace {
        name: name.to_owned(),
        data,
        history_size,
        history_ttl: Duration::from_secs(60),
        ..defaults.clone()
    };
    let namespaces = vec![
        namespace("", DataType::Json, 0),
        namespace("chat", DataType::Json, 10),
        namespace("text", DataType::Text, 10),
        namespace("bin", DataType::Binary, 10),
    ];
    settings.channel.namespaces = Namespaces::new(namespaces, 255);
    settings.api.keys = vec!["sesame".to_owned()];
    settings
}

/// Creates a node with these settings, whose shards answer with `respond`. It must be called in a
/// runtime.
fn node_with(settings: Settings, respond: Respond) -> TestNode {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (sender, mut receiver) = mpsc::unbounded_channel::<(ShardId, ShardMail)>();
    let send = move |message| {
        let Addressed::Shard(shard, message) = message else { return Err(Full) };
        sender.send((shard, message)).map_err(|_| Full)
    };
    let home = |channel: &str| ShardId::new(channel.len() % SHARDS);
    let courier = Courier::new(SHARDS, &settings.redis, Box::new(home), Box::new(send));
    let (inbox, log) = (Arc::clone(&courier), Arc::clone(&seen));
    tokio::spawn(async move {
        while let Some((shard, message)) = receiver.recv().await {
            let ticket = ticket(&message);
            if let Some(answer) = respond(shard, &message) {
                inbox.deliver(ticket, answer);
            }
            log.lock().expect("no test panics with it").push((shard, message));
        }
    });
    let shards = (0..SHARDS).map(|_| Arc::new(ShardCounters::default())).collect();
    let status = Arc::new(Status::new(shards, None, now, 1000));
    let node = Node {
        uid: "u1".to_owned(),
        name: "n1".to_owned(),
        client_address: Some("127.0.0.1:8000".parse().expect("an address")),
    };
    let identify = |id: &ClientId| {
        let (slot, generation) = (Slot::new(7), Generation::new(1));
        (*id == client_id()).then_some(ConnectionId { shard: ShardId::new(1), slot, generation })
    };
    let api =
        Api::new(Arc::new(settings), Parts { courier, status, identify: Box::new(identify), node });
    TestNode { router: router::router(Arc::clone(&api)), api, seen }
}

/// Returns the id of the only client of these nodes.
fn client_id() -> ClientId {
    ClientId::from_raw(0x1234)
}

fn ticket(message: &ShardMail) -> Ticket {
    match message {
        ShardMail::Home(ToHome::Publish(publish)) => match publish.asker {
            Asker::Control(ticket) => ticket,
            other => panic!("the receiver is {other:?} instead of control"),
        },
        ShardMail::Home(ToHome::History(history)) => match history.reader {
            Reader::Control(ticket) => ticket,
            other => panic!("the receiver is {other:?} instead of control"),
        },
        ShardMail::Home(ToHome::HistoryRemove { ticket: Some(ticket), .. }) => *ticket,
        ShardMail::Control { ticket, .. } => *ticket,
        other => panic!("control sends no {other:?}"),
    }
}

/// Answers of shards that carry out every request.
fn obedient(shard: ShardId, message: &ShardMail) -> Option<Answer> {
    let position = Position { epoch: Epoch::new(0xe), offset: 5 };
    Some(match message {
        ShardMail::Home(ToHome::Publish(publish)) => {
            Answer::Published(publish.channel.as_str().contains(':').then_some(position))
        }
        ShardMail::Home(ToHome::History(history)) => Answer::Page(Page {
            channel: history.channel.clone(),
            omitted: 0,
            publications: Vec::new(),
            top: position,
        }),
        ShardMail::Home(ToHome::HistoryRemove { .. }) => Answer::HistoryRemoved,
        ShardMail::Control { request: ControlRequest::Channels { .. }, .. } => {
            let name = format!("shard{}", shard.index());
            Answer::Channels(vec![(crate::channel::ChannelName::new(&name), 2)])
        }
        _ => Answer::Affected(1),
    })
}

impl TestNode {
    /// Sends a POST with the right key. Returns status and body.
    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.post_with(path, &[("x-api-key", "sesame")], body).await
    }

    async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).expect("a request")).await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    /// Returns the status of a GET from `host`.
    async fn status_at(&self, path: &str, host: &str) -> u16 {
        let request = Request::get(path).header("host", host).body(Body::empty());
        self.send(request.expect("a request")).await.0
    }

    async fn send(&self, request: Request<Body>) -> (u16, String) {
        let response = self.router.clone().oneshot(request).await.expect("it never fails");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    /// Returns the messages that shards received since the last call.
    fn seen(&self) -> Vec<(ShardId, ShardMail)> {
        std::mem::take(&mut self.seen.lock().expect("no test panics with it"))
    }
}
