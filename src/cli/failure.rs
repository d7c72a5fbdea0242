//! The error with which every command ends if it fails.

use std::io;

/// The error of a failed command, for the terminal.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The settings are invalid.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The server did not start, or did not stop as it should.
    #[error(transparent)]
    Server(#[from] crate::server::Error),
    /// The reader of the output has closed the pipe. Like every filter, a command does not treat
    /// this as a failure.
    #[error("the output is closed")]
    OutputClosed,
    /// Any other failure, with its message.
    #[error("{0}")]
    Words(String),
}

impl From<io::Error> for Failure {
    /// Converts an error of standard output. All other errors get their message where they occur.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Words(format!("can't write the output: {error}")),
        }
    }
}
