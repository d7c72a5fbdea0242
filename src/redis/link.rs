//! A connection to Redis. A connection that has failed is never repaired: its user makes a new one.
//! So the library never repeats or reorders commands, because it can't know the consequences.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{Config, ConnectionConfig, PerformanceConfig, ServerConfig, TcpConfig};
use fred::types::{
    Builder, ClusterHash, ConnectHandle, CustomCommand, Message, RespVersion, Value,
};
use sha1::{Digest, Sha1};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::links::Membership;
use crate::bus::{Keys, Reply, RunId, Script};
use crate::limits::{BUS_CALL_TIMEOUT, BUS_GRACE, BUS_READ_TIMEOUT, REDIS_COMMANDS_MAX};

/// The host and port of a server.
pub(super) use fred::types::config::Server;

/// Schemes of Redis addresses.
const SCHEMES: [&str; 8] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+unix",
    "unix",
];

/// Reason why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// The connection failed or no reply arrived, so the command may have been carried out.
    #[error("{0}")]
    Lost(String),
    /// Redis replied with an error, so the command was not carried out.
    #[error("{0}")]
    Refused(String),
}

/// Prefixes of errors that may be temporary, or that another server may not give. They come from a
/// replica that was the primary, a server that is loading its data, or one that is cut off.
const WRONG_SERVER: [&str; 10] = [
    "MOVED",
    "ASK",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOAUTH",
    "BUSY",
];

impl LinkError {
    /// Whether the command may succeed later, or on another server.
    pub(crate) fn is_wrong_server(&self) -> bool {
        match self {
            LinkError::Lost(_) => true,
            LinkError::Refused(text) => WRONG_SERVER.iter().any(|start| text.starts_with(start)),
        }
    }

    /// Whether Redis or a script refused with an error that begins with `start`.
    pub(crate) fn is(&self, start: &str) -> bool {
        matches!(self, LinkError::Refused(text) if text.starts_with(start))
    }
}

/// A connection to Redis.
pub(crate) struct Link {
    client: Client,
    /// Task of the library, which ends with the connection.
    routing: ConnectHandle,
    patience: Duration,
    /// Ends the connection when all are given up. `None` if it leads to a Sentinel.
    membership: Option<Membership>,
    /// Hashes by which Redis knows the scripts.
    hashes: RefCell<HashMap<Script, String>>,
}

impl Link {
    /// Connects to the server or Cluster at `url`. If `url` names Sentinels and one of them has
    /// named the `primary`, connects to the primary. A command may take `patience`.
    pub(super) async fn connect(
        url: &str,
        primary: Option<Server>,
        patience: Duration,
        membership: Membership,
    ) -> Result<Link, LinkError> {
        let mut config = Config::from_url(url).map_err(|error| refused(&error))?;
        if let (ServerConfig::Sentinel { .. }, Some(server)) = (&config.server, primary) {
            config.server = ServerConfig::Centralized { server };
        }
        config.version = RespVersion::RESP2;
        Link::open(config, patience, Some(membership)).await
    }

    /// Connects to one of the Sentinels in `url`.
    pub(super) async fn connect_to_sentinel(
        url: &str,
        sentinel: &Server,
    ) -> Result<Link, LinkError> {
        let mut config = Config::from_url(url).map_err(|error| refused(&error))?;
        if let ServerConfig::Sentinel { username, password, .. } = config.server {
            (config.username, config.password) = (username, password);
        }
        config.server = ServerConfig::Centralized { server: sentinel.clone() };
        config.database = None;
        // In RESP3, other commands may follow a subscription.
        config.version = RespVersion::RESP3;
        Link::open(config, BUS_CALL_TIMEOUT, None).await
    }

    async fn open(
        mut config: Config,
        patience: Duration,
        membership: Option<Membership>,
    ) -> Result<Link, LinkError> {
        config.fail_fast = true;
        let connection = ConnectionConfig {
            connection_timeout: BUS_CALL_TIMEOUT,
            internal_command_timeout: BUS_CALL_TIMEOUT,
            // Only the caller knows which commands may be sent again.
            max_command_attempts: 1,
            max_command_buffer_len: REDIS_COMMANDS_MAX,
            tcp: TcpConfig {
                nodelay: Some(true),
                user_timeout: Some(BUS_READ_TIMEOUT),
                ..TcpConfig::default()
            },
            ..ConnectionConfig::default()
        };
        let mut builder = Builder::from_config(config);
        // The library does not time blocking commands, and does not notice if this process was
        // stopped in the meantime. So `within` is the only timeout.
        builder
            .set_connection_config(connection)
            .set_performance_config(PerformanceConfig::default());
        let client = builder.build().map_err(|error| refused(&error))?;
        let connecting = tokio::time::timeout(2 * BUS_CALL_TIMEOUT, client.init());
        let routing = connecting
            .await
            .map_err(|_| LinkError::Lost(format!("no response within {:?}", 2 * BUS_CALL_TIMEOUT)))?
            .map_err(|error| LinkError::Lost(describe(&error)))?;
        Ok(Link { client, routing, patience, membership, hashes: RefCell::default() })
    }

    /// Subscribes to channels, and returns their messages.
    pub(super) async fn subscribe(
        &self,
        channels: &[&'static str],
    ) -> Result<broadcast::Receiver<Message>, LinkError> {
        // The receiver exists before the subscription, so that no message is missed.
        let news = self.client.message_rx();
        let subscribing = self.client.subscribe(channels.to_vec());
        match within(self.patience, subscribing).await {
            Some(Ok(())) => Ok(news),
            Some(Err(error)) => Err(classify(&error)),
            None => Err(self.no_answer()),
        }
    }

    /// Returns the server process behind the connection. In a Cluster there are several, so it must
    /// not be asked there.
    pub(super) async fn run_id(&self) -> Result<RunId, LinkError> {
        let reply = self.call("INFO", &[], vec![b"server".to_vec()]).await?;
        let lines = reply.text().unwrap_or_default().lines();
        let run = lines.filter_map(|line| line.strip_prefix("run_id:")).find_map(RunId::parse);
        run.ok_or_else(|| not_an_answer(&reply))
    }

    /// Returns the streams of the bus, numbered up to `streams`, in groups that share a master.
    pub(crate) async fn masters(
        &self,
        keys: &Keys,
        streams: usize,
    ) -> Result<Vec<Vec<usize>>, LinkError> {
        if !self.client.is_clustered() {
            return Ok(vec![(0..streams).collect()]);
        }
        let reply = self.call("CLUSTER", &keys.meta(0), vec![b"SLOTS".to_vec()]).await?;
        let ranges = reply.list().ok_or_else(|| not_an_answer(&reply))?;
        let master_of = |slot: u64| {
            let range = ranges.iter().filter_map(Reply::list).find(|range| {
                let ends = range.first().zip(range.get(1));
                let ends = ends.and_then(|(first, last)| first.number().zip(last.number()));
                ends.is_some_and(|(first, last)| (first..=last).contains(&slot))
            });
            range.and_then(|range| range.get(2)).map(|master| format!("{master:?}"))
        };
        let mut masters: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for stream in 0..streams {
            let slot = fred::util::redis_keyslot(&keys.meta(stream));
            masters.entry(master_of(u64::from(slot))).or_default().push(stream);
        }
        Ok(masters.into_values().collect())
    }

    /// Whether the connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        let given_up = self.membership.as_ref().is_some_and(Membership::is_over);
        given_up || self.routing.is_finished()
    }

    /// Waits until all connections are given up.
    pub(crate) async fn given_up(&self) {
        match &self.membership {
            Some(membership) => membership.over().await,
            None => std::future::pending().await,
        }
    }

    /// Runs a command on the server that has `key`.
    pub(crate) async fn call(
        &self,
        command: &'static str,
        key: &[u8],
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, LinkError> {
        self.run(CustomCommand::new_static(command, slot(key), false), args).await
    }

    /// Runs a command that may block in Redis until there is something to return.
    pub(crate) async fn call_blocking(
        &self,
        command: &'static str,
        key: &[u8],
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, LinkError> {
        self.run(CustomCommand::new_static(command, slot(key), true), args).await
    }

    /// Runs a script. The text is sent only if Redis does not have the script.
    pub(crate) async fn script(
        &self,
        script: Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, LinkError> {
        let key = keys.first().cloned().unwrap_or_default();
        let mut all = vec![self.hash(script).into_bytes(), keys.len().to_string().into_bytes()];
        all.extend(keys);
        all.extend(args);
        let answer = self.call("EVALSHA", &key, all.clone()).await;
        match answer {
            Err(error) if error.is("NOSCRIPT") => {
                all[0] = script.text().into_bytes();
                self.call("EVAL", &key, all).await
            }
            answer => answer,
        }
    }

    fn hash(&self, script: Script) -> String {
        self.hashes.borrow_mut().entry(script).or_insert_with(|| sha(script)).clone()
    }

    async fn run(&self, command: CustomCommand, args: Vec<Vec<u8>>) -> Result<Reply, LinkError> {
        let args: Vec<Value> = args.into_iter().map(|arg| Value::Bytes(arg.into())).collect();
        let running = within(self.patience, self.client.custom::<Value, Value>(command, args));
        let anew = || LinkError::Lost("renewing all connections".to_owned());
        tokio::select! {
            biased;
            () = self.given_up() => Err(anew()),
            answer = running => match answer {
                Some(Ok(value)) => Ok(reply(value)),
                Some(Err(error)) => Err(classify(&error)),
                None => Err(self.no_answer()),
            }
        }
    }

    fn no_answer(&self) -> LinkError {
        LinkError::Lost(format!("no response within {:?}", self.patience))
    }
}

/// Waits for `patience`. The last part of it starts again if this process was stopped during it,
/// because the reply may have arrived in the meantime.
async fn within<T>(patience: Duration, waiting: impl Future<Output = T>) -> Option<T> {
    let mut waiting = std::pin::pin!(waiting);
    let first = tokio::time::timeout(patience.saturating_sub(BUS_GRACE), waiting.as_mut());
    if let Ok(answer) = first.await {
        return Some(answer);
    }
    loop {
        let began = Instant::now();
        if let Ok(answer) = tokio::time::timeout(BUS_GRACE, waiting.as_mut()).await {
            return Some(answer);
        }
        if began.elapsed() < 2 * BUS_GRACE {
            return None;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // This ends the library's tasks, and with them its sockets, because nothing more will be
        // sent.
        self.routing.abort();
        let client = self.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.quit().await {
                tracing::trace!(%error, "a connection to Redis has ended");
            }
        });
    }
}

/// Whether `url` names a Cluster, in which streams may be on different servers.
pub(super) fn is_cluster(url: &str) -> bool {
    let config = Config::from_url(url);
    config.is_ok_and(|config| matches!(config.server, ServerConfig::Clustered { .. }))
}

/// Returns the Sentinels that `url` names, and the name of their primary. `None` if it names none.
pub(super) fn sentinels(url: &str) -> Option<(Vec<Server>, String)> {
    match Config::from_url(url).ok()?.server {
        ServerConfig::Sentinel { hosts, service_name, .. } => Some((hosts, service_name)),
        _ => None,
    }
}

/// Returns the address in `url` for messages, without the password.
pub(super) fn address(url: &str) -> String {
    let Ok(config) = Config::from_url(url) else { return "Redis".to_owned() };
    let names = |hosts: &[Server]| {
        let hosts = hosts.iter().map(|server| format!("{}:{}", server.host, server.port));
        hosts.collect::<Vec<_>>().join(", ")
    };
    match &config.server {
        ServerConfig::Centralized { server } => names(std::slice::from_ref(server)),
        ServerConfig::Clustered { hosts, .. } => format!("the Cluster of {}", names(hosts)),
        ServerConfig::Sentinel { hosts, service_name, .. } => {
            format!("{service_name} of the Sentinels {}", names(hosts))
        }
        ServerConfig::Unix { path } => path.display().to_string(),
    }
}

/// Checks that `url` is an address of Redis.
///
/// # Errors
/// The reason why it is not one.
pub fn check_url(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://").filter(|(one, _)| SCHEMES.contains(one))
    else {
        // What stands there may be a part of a password, so it is not shown.
        return Err("it does not begin with a scheme for Redis".to_owned());
    };
    // A URL ends at a `#`, and its host at a `/` or `?`. In a password, one of these would make a
    // part of it the host.
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = path.split_once('=').map_or(path, |(path, _)| path);
    let is_split = path.contains('@') && !authority.contains('@') && !scheme.contains("unix");
    if is_split || rest.contains('#') {
        return Err(PERCENT_ENCODE.to_owned());
    }
    Config::from_url(url).map(drop).map_err(|error| match rest.contains('@') {
        true => format!("{}; {PERCENT_ENCODE}", error.details()),
        false => error.details().to_owned(),
    })
}

/// The advice for a URL whose password seems to have a character of its syntax.
const PERCENT_ENCODE: &str = "percent-encode special characters of a password: %23 for #, %2F for \
                              /, %3F for ?, %40 for @, %3A for :, %25 for %";

/// Returns the error for a reply that the command should not have.
pub(crate) fn not_an_answer(reply: &Reply) -> LinkError {
    LinkError::Lost(format!("an invalid reply: {reply:?}"))
}

fn slot(key: &[u8]) -> ClusterHash {
    ClusterHash::Custom(fred::util::redis_keyslot(key))
}

fn sha(script: Script) -> String {
    use std::fmt::Write as _;
    let digest = Sha1::digest(script.text().as_bytes());
    digest.iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing to a `String` never fails.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Null | Value::Queued => Reply::Nil,
        Value::Boolean(value) => Reply::Integer(i64::from(value)),
        Value::Integer(value) => Reply::Integer(value),
        Value::Double(value) => Reply::Bytes(value.to_string().into_bytes()),
        Value::String(text) => Reply::Bytes(text.as_bytes().to_vec()),
        Value::Bytes(bytes) => Reply::Bytes(bytes.to_vec()),
        Value::Array(values) => Reply::List(values.into_iter().map(reply).collect()),
        Value::Map(map) => {
            let pairs = map.inner().into_iter();
            Reply::List(
                pairs
                    .flat_map(|(key, value)| [Reply::Bytes(key.as_bytes().to_vec()), reply(value)])
                    .collect(),
            )
        }
    }
}

fn describe(error: &fred::error::Error) -> String {
    let text = error.details();
    // The library quotes errors of the kernel in their debug format.
    let message = text.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    message.map_or(text, |(message, _)| message).to_owned()
}

fn refused(error: &fred::error::Error) -> LinkError {
    LinkError::Refused(describe(error))
}

/// Tells apart errors from the server and failures of the connection. Errors of Redis begin with a
/// word in capitals, and errors of the library do not.
fn classify(error: &fred::error::Error) -> LinkError {
    let text = describe(error);
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    if word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        LinkError::Refused(text)
    } else {
        LinkError::Lost(text)
    }
}
