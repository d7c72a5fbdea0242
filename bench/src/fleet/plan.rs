//! What a fleet is to do, and what it saw.

use crate::failure::Failures;
use crate::latency::Latencies;
use crate::sequence::Tally;
use crate::target::Target;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How a worker waits for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// In the kernel.
    Sleep,
    /// Asking again and again: the server never pays for waking it.
    Spin,
}

/// How a publication is told in the frames that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// By the mark in its payload.
    Marked,
    /// Every data frame is the next publication: a server that sends canned frames.
    Canned,
    /// Nobody counts these.
    Ignored,
}

/// How connections end when the generator ends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a close frame.
    Close,
    /// With a reset.
    Abort,
}

/// What a fleet is to do. Fixed before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) threads: usize,
    /// Processors for the threads, in turn. Empty: wherever the kernel likes.
    pub(crate) cpus: Vec<usize>,
    /// Connections opened per second, all threads together; 0 is as fast as they go.
    pub(crate) rate: u32,
    /// Connections closed and opened again per second while the fleet churns, all threads together.
    pub(crate) churn: u32,
    /// What each connection reads in a second while the fleet dawdles, in bytes.
    pub(crate) dawdle_bytes: usize,
    /// Longest handshake, and longest time without any progress.
    pub(crate) timeout: Duration,
    /// SO_RCVBUF of each connection.
    pub(crate) receive_bytes: i32,
    pub(crate) waiting: Waiting,
    pub(crate) frames: Frames,
    pub(crate) ending: Ending,
    /// Addresses of the server beside the target's.
    pub(crate) destinations: Vec<SocketAddr>,
    /// Addresses to connect from, in turn. Empty: the kernel's choice, or many towards loopback.
    pub(crate) sources: Vec<Ipv4Addr>,
    /// First of the source addresses towards a server on loopback, counted in threads.
    pub(crate) sources_from: usize,
}

/// What one worker, or all of them, saw from beginning to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// From connecting to the subscription, of those that were in no cut.
    pub(crate) handshakes: Latencies,
    pub(crate) failures: Failures,
    pub(crate) tally: Tally,
}
