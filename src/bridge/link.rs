//! A connection to Redis: made once, never mended. Whoever uses it makes another when it fails, so
//! that nothing is sent again, or in another order, by a library that can't know what that means.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig,
};
use fred::types::{Builder, ClusterHash, ConnectHandle, CustomCommand, RespVersion, Value};
use sha1::{Digest, Sha1};

use crate::bus::{Reply, Script};
use crate::limits::{BUS_CALL_TIMEOUT, BUS_READ_TIMEOUT};

/// Commands that wait in the library for one connection: we have a few under way at most.
const COMMANDS_MAX: usize = 1024;

/// What an address of Redis begins with.
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

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// The connection failed, or no answer came: the command may have been carried out.
    #[error("{0}")]
    Lost(String),
    /// Redis answered with an error: the command was not carried out.
    #[error("{0}")]
    Refused(String),
}

/// What errors begin with that another server may not have: a replica that was a primary, a server
/// that loads its data, one that was cut off from the others.
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
    /// Whether Redis refused for a reason that passes, or that another server may not have.
    pub(super) fn is_wrong_server(&self) -> bool {
        match self {
            LinkError::Lost(_) => true,
            LinkError::Refused(text) => WRONG_SERVER.iter().any(|start| text.starts_with(start)),
        }
    }

    /// Whether the error is one that Redis' or our script's text begins so.
    pub(super) fn is(&self, start: &str) -> bool {
        matches!(self, LinkError::Refused(text) if text.starts_with(start))
    }
}

/// A connection.
pub(super) struct Link {
    client: Client,
    /// Ends with the connection.
    routing: ConnectHandle,
    patience: Duration,
}

impl Link {
    /// Connects to the server, Sentinel or Cluster at `url`. Commands may take `patience`.
    pub(super) async fn connect(url: &str, patience: Duration) -> Result<Link, LinkError> {
        let mut config = Config::from_url(url).map_err(|error| refused(&error))?;
        config.version = RespVersion::RESP2;
        config.fail_fast = true;
        let connection = ConnectionConfig {
            connection_timeout: BUS_CALL_TIMEOUT,
            internal_command_timeout: BUS_CALL_TIMEOUT,
            // Only we know what may be sent again.
            max_command_attempts: 1,
            max_command_buffer_len: COMMANDS_MAX,
            tcp: TcpConfig {
                nodelay: Some(true),
                user_timeout: Some(BUS_READ_TIMEOUT),
                ..TcpConfig::default()
            },
            ..ConnectionConfig::default()
        };
        let mut builder = Builder::from_config(config);
        builder.set_connection_config(connection).set_performance_config(PerformanceConfig {
            default_command_timeout: patience,
            ..PerformanceConfig::default()
        });
        let client = builder.build().map_err(|error| refused(&error))?;
        let connecting = tokio::time::timeout(2 * BUS_CALL_TIMEOUT, client.init());
        let routing = connecting
            .await
            .map_err(|_| LinkError::Lost(format!("no answer in {:?}", 2 * BUS_CALL_TIMEOUT)))?
            .map_err(|error| LinkError::Lost(describe(&error)))?;
        Ok(Link { client, routing, patience })
    }

    /// Whether the connection has ended.
    pub(super) fn is_over(&self) -> bool {
        self.routing.is_finished()
    }

    /// Carries out a command, on the server that has `key`.
    pub(super) async fn call(
        &self,
        command: &'static str,
        key: &[u8],
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, LinkError> {
        self.run(CustomCommand::new_static(command, slot(key), false), args).await
    }

    /// The same for a command that waits in Redis for what is to come.
    pub(super) async fn call_blocking(
        &self,
        command: &'static str,
        key: &[u8],
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, LinkError> {
        self.run(CustomCommand::new_static(command, slot(key), true), args).await
    }

    /// Runs a script. Redis is given its text only if it has forgotten it.
    pub(super) async fn script(
        &self,
        script: Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Reply, LinkError> {
        let key = keys.first().cloned().unwrap_or_default();
        let mut all = vec![sha(script).into_bytes(), keys.len().to_string().into_bytes()];
        all.extend(keys);
        all.extend(args);
        let answer = self.call("EVALSHA", &key, all.clone()).await;
        match answer {
            Err(error) if error.is("NOSCRIPT") => {
                all[0] = script.text().as_bytes().to_vec();
                self.call("EVAL", &key, all).await
            }
            answer => answer,
        }
    }

    async fn run(&self, command: CustomCommand, args: Vec<Vec<u8>>) -> Result<Reply, LinkError> {
        let args: Vec<Value> = args.into_iter().map(|arg| Value::Bytes(arg.into())).collect();
        let running = self.client.custom::<Value, Value>(command, args);
        // Our own clock as well: the library's does not run for commands that block.
        match tokio::time::timeout(self.patience, running).await {
            Ok(Ok(value)) => Ok(reply(value)),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(LinkError::Lost(format!("no answer in {:?}", self.patience))),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Ends the library's tasks and its sockets with them; nothing more is to be sent.
        self.routing.abort();
        let client = self.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.quit().await {
                tracing::trace!(%error, "a connection to Redis had ended");
            }
        });
    }
}

/// Whether `url` names a Cluster, in which each stream has a server of its own.
pub(super) fn is_cluster(url: &str) -> bool {
    let config = Config::from_url(url);
    config.is_ok_and(|config| matches!(config.server, ServerConfig::Clustered { .. }))
}

/// Where `url` leads, without its password, for people.
pub(super) fn place(url: &str) -> String {
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

/// Says what is wrong with `url`, if it is no address of Redis.
///
/// # Errors
/// What is wrong.
pub fn check_url(url: &str) -> Result<(), String> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if !SCHEMES.contains(&scheme) {
        return Err(format!("{scheme:?} is no scheme of Redis'"));
    }
    Config::from_url(url).map(drop).map_err(|error| error.details().to_owned())
}

fn slot(key: &[u8]) -> ClusterHash {
    ClusterHash::Custom(fred::util::redis_keyslot(key))
}

fn sha(script: Script) -> String {
    use std::fmt::Write as _;
    let digest = Sha1::digest(script.text().as_bytes());
    digest.iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing to a String does not fail.
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
    // What the kernel says comes in the form of a debugger.
    let message = text.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    message.map_or(text, |(message, _)| message).to_owned()
}

fn refused(error: &fred::error::Error) -> LinkError {
    LinkError::Refused(describe(error))
}

/// Whether the server has answered, or the connection failed: Redis' errors begin with a word in
/// capitals, the library's own do not.
fn classify(error: &fred::error::Error) -> LinkError {
    let text = describe(error);
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    if word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        LinkError::Refused(text)
    } else {
        LinkError::Lost(text)
    }
}
