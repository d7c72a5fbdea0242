//! Errors that prevent a scenario from running. Errors of single connections are a `Failure`.

use std::fmt;
use std::io;

/// An error that ends the program with exit code 2.
#[derive(Debug)]
pub(crate) enum Error {
    /// An address on the command line can't be used.
    Address(AddressError),
    /// Flags that can't be combined, or a value that is out of bounds.
    Usage(String),
    /// More connections than fit into the descriptor tables of the threads.
    Descriptors { connections: usize, threads: usize, per_thread: usize },
    /// A system call failed that every scenario needs.
    System { what: &'static str, error: io::Error },
    /// The first publication failed.
    Publish(PublishError),
    /// A bug in this program. The panic message is on standard error.
    ThreadPanicked,
}

impl Error {
    pub(crate) fn system(what: &'static str, error: io::Error) -> Self {
        Self::System { what, error }
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        Self::Publish(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Usage(text) => f.write_str(text),
            Self::Descriptors { connections, threads, per_thread } => write!(
                f,
                "{connections} connections need more than {threads} threads of {per_thread} \
                 connections each; raise --threads or the descriptor limit (ulimit -n)"
            ),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
            Self::Publish(error) => write!(f, "cannot publish: {error}"),
            Self::ThreadPanicked => f.write_str("a thread panicked"),
        }
    }
}

impl std::error::Error for Error {}

/// The reason why an address can't be used.
#[derive(Debug)]
pub(crate) enum AddressError {
    /// The scheme of the URL is not `wanted`.
    Scheme { url: String, wanted: &'static str },
    /// The port is not a 16-bit number.
    Port(String),
    /// The name does not resolve.
    Host { authority: String, error: io::Error },
}

impl std::error::Error for AddressError {}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { url, wanted } => write!(f, "{url:?} does not begin with {wanted}"),
            Self::Port(text) => write!(f, "{text:?} is not a port"),
            Self::Host { authority, error } => write!(f, "cannot resolve {authority:?}: {error}"),
        }
    }
}

/// The reason why a publication failed.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// The connection failed, ended or took too long.
    Io(io::Error),
    /// The server refused it with this text.
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
