//! The task of a fleet, and its outcome.

use crate::failure::Failures;
use crate::latency::Latencies;
use crate::sequence::Tally;
use crate::target::Target;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How a worker waits for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Waits in the kernel.
    Sleep,
    /// Polls without sleeping, so that the server never pays for a wake-up.
    Spin,
}

/// How publications are recognised in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// By the mark in its payload.
    Marked,
    /// Every data frame is the next publication, because the server sends canned frames.
    Canned,
    /// Frames are not counted.
    Ignored,
}

/// How the generator ends connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a close frame.
    Close,
    /// With a reset.
    Abort,
}

/// The task of a fleet. It is fixed before the fleet starts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) threads: usize,
    /// Processors for the threads, used in turn. If empty, the kernel chooses.
    pub(crate) cpus: Vec<usize>,
    /// Connections opened per second, in all threads together; 0 means as fast as possible.
    pub(crate) rate: u32,
    /// Connections closed and reopened per second while the fleet churns, in all threads together.
    pub(crate) churn: u32,
    /// Bytes that each connection reads per second while the fleet dawdles.
    pub(crate) dawdle_bytes: usize,
    /// Maximum duration of a handshake, and maximum time without progress.
    pub(crate) timeout: Duration,
    /// SO_RCVBUF of each connection.
    pub(crate) receive_bytes: i32,
    pub(crate) waiting: Waiting,
    pub(crate) frames: Frames,
    pub(crate) ending: Ending,
    /// Further addresses of the server.
    pub(crate) destinations: Vec<SocketAddr>,
    /// Source addresses, used in turn. If empty, the kernel chooses, or many are used on loopback.
    pub(crate) sources: Vec<Ipv4Addr>,
    /// First source address for a server on loopback, counted in threads.
    pub(crate) sources_from: usize,
}

/// The outcome of one worker, or of all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Times from connecting to the subscription that were not part of a cut.
    pub(crate) handshakes: Latencies,
    pub(crate) failures: Failures,
    pub(crate) tally: Tally,
}
