//! A producer that does not use nodes: it adds publications to the ingest stream, some of which
//! can't be published, and records the answers of Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::history::{Entry, NOWHERE, Outcome, Publication, now};
use crate::load::{Load, Phase};
use crate::node::INGEST;
use crate::wire::Payload;

/// The number of this publisher in the record.
pub(crate) const PRODUCER: u16 = u16::MAX - 1;

/// Time between two entries.
const PERIOD: Duration = Duration::from_millis(50);

/// One in this number of entries can't be published.
const BAD_ONE_IN: u32 = 10;

/// Timeout of an answer of Redis.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The producer.
pub(crate) struct Producer {
    load: Arc<Load>,
    random: Rng,
    /// The address of Redis.
    at: watch::Receiver<Option<SocketAddr>>,
    connection: Option<Connection>,
    entries: Vec<Entry>,
    publications: Vec<Publication>,
}

/// The entries that it added, and the publications among them.
pub(crate) type Added = (Vec<Entry>, Vec<Publication>);

/// A connection to one server.
struct Connection {
    stream: BufStream<TcpStream>,
}

/// The answer of Redis to a command.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Error(String),
}

impl Producer {
    pub(crate) fn new(
        load: Arc<Load>,
        random: Rng,
        at: watch::Receiver<Option<SocketAddr>>,
    ) -> Producer {
        let (entries, publications) = (Vec::new(), Vec::new());
        Producer { load, random, at, connection: None, entries, publications }
    }

    /// Adds entries regularly until the load ends.
    pub(crate) async fn run(mut self) -> Added {
        let mut phase = self.load.phase.subscribe();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *phase.borrow_and_update() == Phase::Load {
            ticks.tick().await;
            if self.random.u32(..BAD_ONE_IN) == 0 {
                self.add(NOWHERE, None).await;
            } else {
                let channel = self.random.u16(..self.load.channels.len() as u16);
                let name = self.load.channels[usize::from(channel)].clone();
                self.add(&name, Some(channel)).await;
            }
        }
        (self.entries, self.publications)
    }

    /// Adds one entry, for a channel that exists or for a forbidden one.
    async fn add(&mut self, name: &str, channel: Option<u16>) {
        let pid = channel.map(|_| self.load.next_pids(1));
        let payload = Payload { pid: pid.unwrap_or(u32::MAX), of: Vec::new(), pad: String::new() };
        let data = serde_json::to_string(&payload).unwrap_or_default();
        let words = ["XADD", INGEST, "*", "channel", name, "data", &data];
        let invoked = now();
        let said = self.ask(&words).await;
        let done = now();
        let (id, outcome) = match said {
            Ok(Said::Text(id)) => (Some(id), Outcome::Info),
            Ok(Said::Error(_)) => (None, Outcome::Fail),
            Err(_) => {
                self.connection = None;
                (None, Outcome::Info)
            }
        };
        if let (Some(pid), Some(channel)) = (pid, channel) {
            // Recorded as repeated, because after a loss in Redis nodes may take it in again.
            let (publisher, attempts) = (PRODUCER, 2);
            let known = Publication { pid, publisher, channel, invoked, done, outcome, attempts };
            self.publications.push(known);
        }
        self.entries.push(Entry { pid, channel, id, invoked, done });
    }

    /// Sends a command to the server that accepts writes, or to the Cluster server that it
    /// redirects to.
    async fn ask(&mut self, words: &[&str]) -> Result<Said> {
        if self.at.has_changed().unwrap_or(false) {
            self.connection = None;
        }
        let mut moved = None;
        loop {
            if self.connection.is_none() {
                let at = moved.or(*self.at.borrow_and_update()).context("there is no Redis")?;
                self.connection = Some(timeout(ANSWER_MAX, Connection::open(at)).await??);
            }
            let connection = self.connection.as_mut().context("just made")?;
            let said = timeout(ANSWER_MAX, connection.ask(words)).await??;
            let elsewhere = match &said {
                Said::Error(error) => error
                    .strip_prefix("MOVED ")
                    .and_then(|rest| rest.split(' ').nth(1).and_then(|at| at.parse().ok())),
                Said::Text(_) => None,
            };
            if elsewhere.is_none() || moved.is_some() {
                return Ok(said);
            }
            (moved, self.connection) = (elsewhere, None);
        }
    }
}

impl Connection {
    async fn open(at: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufStream::new(stream) })
    }

    async fn ask(&mut self, words: &[&str]) -> Result<Said> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", text)) => Ok(Said::Text(text.to_owned())),
            Some(("-", text)) => Ok(Said::Error(text.to_owned())),
            Some(("$", length)) => {
                let mut bytes = vec![0; length.parse::<usize>()? + 2];
                self.stream.read_exact(&mut bytes).await?;
                Ok(Said::Text(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
            }
            _ => bail!("Redis said {line:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn answers_of_every_kind_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            for answer in ["$3\r\n1-1\r\n", "-READONLY no\r\n", "+OK\r\n", ":5\r\n", "?\r\n"] {
                let mut request = [0; 64];
                let count = server.read(&mut request).await.unwrap();
                assert_eq!(&request[..count], b"*2\r\n$1\r\nA\r\n$2\r\nBC\r\n");
                server.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut connection = Connection::open(at).await.unwrap();
        let text = |text: &str| Said::Text(text.to_owned());
        let error = Said::Error("READONLY no".to_owned());
        for said in [text("1-1"), error, text("OK"), text("5")] {
            assert_eq!(connection.ask(&["A", "BC"]).await.unwrap(), said);
        }
        assert!(connection.ask(&["A", "BC"]).await.is_err());
        serving.await.unwrap();
    }
}
