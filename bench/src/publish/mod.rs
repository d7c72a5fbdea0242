//! Ways to publish: through the HTTP API, by a frame on a WebSocket, or by a byte to a server that
//! sends canned frames. All block, with the scenario's timeout: publications are few, deliveries
//! many.

mod api;
mod socket;

use crate::target::{Endpoint, Target};
use crate::wire::mark::Mark;
use api::ApiPublisher;
use socket::SocketPublisher;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where publications go in.
#[derive(Clone, Debug)]
pub(crate) enum Entrance {
    /// POST to `endpoint`/publish.
    Api { endpoint: Endpoint, key: Option<String> },
    /// A connection of its own to the subscribers' server.
    Socket,
    /// One byte per publication.
    Trigger(SocketAddr),
}

/// Why a publication did not go in.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// The connection failed, ended or took too long.
    Io(io::Error),
    /// The server said no, in these words.
    Refused(String),
}

impl From<io::Error> for PublishError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                f.write_str("no answer in time")
            }
            Self::Io(error) => error.fmt(f),
            Self::Refused(words) => f.write_str(words),
        }
    }
}

/// An open way to publish into one channel.
pub(crate) enum Publisher {
    Api(ApiPublisher),
    Socket(SocketPublisher),
    Trigger(TcpStream),
}

impl Publisher {
    /// Opens the way in. No call on it blocks longer than `timeout`.
    pub(crate) fn open(
        entrance: &Entrance,
        target: &Target,
        timeout: Duration,
    ) -> Result<Self, PublishError> {
        Ok(match entrance {
            Entrance::Api { endpoint, key } => {
                let line = Line::open(endpoint.address, timeout)?;
                Self::Api(ApiPublisher::new(line, endpoint, key.as_deref(), &target.channel))
            }
            Entrance::Socket => Self::Socket(SocketPublisher::open(target, timeout)?),
            Entrance::Trigger(address) => Self::Trigger(Line::open(*address, timeout)?.stream),
        })
    }

    /// Sends a publication with `mark`, padded to `bytes`.
    pub(crate) fn send(&mut self, mark: Mark, bytes: usize) -> Result<(), PublishError> {
        match self {
            Self::Api(api) => api.send(&mark.payload(bytes)),
            Self::Socket(socket) => socket.send(&mark.payload(bytes)),
            Self::Trigger(stream) => Ok(stream.write_all(&[0])?),
        }
    }

    /// Takes the server's answer to the oldest publication that was sent.
    pub(crate) fn confirm(&mut self) -> Result<(), PublishError> {
        match self {
            Self::Api(api) => api.confirm(),
            Self::Socket(socket) => socket.confirm(),
            Self::Trigger(_) => Ok(()),
        }
    }
}

/// A blocking connection with what was read and not used.
struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Line {
    fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, bytes: Vec::new() })
    }

    /// Reads until `parse` finds a value in what is there, and removes the bytes it used.
    fn read_until<T>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, PublishError>,
    ) -> Result<T, PublishError> {
        loop {
            if let Some((value, used)) = parse(&self.bytes)? {
                self.bytes.drain(..used);
                return Ok(value);
            }
            if self.bytes.len() > ANSWER_BYTES_MAX {
                return Err(PublishError::Refused("an answer without an end".to_owned()));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let held = self.bytes.len();
        self.bytes.resize(held + READ_BYTES, 0);
        let result = self.stream.read(&mut self.bytes[held..]);
        self.bytes.truncate(held + result.as_ref().copied().unwrap_or(0));
        match result? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
