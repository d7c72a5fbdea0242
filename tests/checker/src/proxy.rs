//! A link between a node and Redis that can be disturbed: delayed, sliced, slowed, silent, cut.
//!
//! Received bytes wait in a queue until they are due, so that a delay does not reduce the
//! throughput. A silent link holds bytes and forwards them later, like a network that loses packets
//! for a while. A half-open link drops bytes. It is reset when it is repaired, because the streams
//! are incomplete.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Maximum number of bytes per read.
const CHUNK_BYTES: usize = 16 * 1024;

/// Maximum number of queued chunks per direction. At 4 MiB, reading stops.
const CHUNKS_MAX: usize = 256;

/// Pause between two slices.
const SLICE_PAUSE: Duration = Duration::from_micros(50);

/// Idle time of a node's connection before keep-alive probes, and their number, one second apart. A
/// site that was cut off may have dropped a connection silently. Redis does the same.
const SILENCE: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Number of bytes of a chunk that are sliced. The rest is sent at once, or a large reply would
/// take minutes.
const SLICED_BYTES_MAX: usize = 64;

/// How a link treats bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Bytes pass.
    #[default]
    Open,
    /// Bytes wait, in both directions.
    Held,
    /// Bytes are dropped, in both directions.
    Swallowed,
    /// Replies of Redis are dropped, and requests pass.
    RepliesSwallowed,
}

/// The behaviour of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) passage: Passage,
    /// Delay of every byte.
    pub(crate) delay: Duration,
    /// Whether the first bytes of every chunk are sent one by one.
    pub(crate) sliced: bool,
    /// Bytes per second in each direction; `None` means unlimited.
    pub(crate) rate: Option<u32>,
}

/// State that all connections of a link watch.
#[derive(Clone, Copy, Debug)]
struct State {
    upstream: SocketAddr,
    shape: Shape,
    /// Connections of an earlier generation are reset.
    generation: u64,
    /// The number of a single connection that is reset; 0 for none.
    ended: u64,
}

/// Open connections by number, with the server of each.
type Table = Arc<Mutex<BTreeMap<u64, SocketAddr>>>;

/// One node's link to Redis.
#[derive(Debug)]
pub(crate) struct Link {
    /// The address it listens on.
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    table: Table,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Reply,
}

impl Link {
    /// Listens at `address` and forwards to `upstream`. Port 0 means any free port.
    ///
    /// # Errors
    /// If the address is in use.
    pub(crate) async fn open(address: SocketAddr, upstream: SocketAddr) -> Result<Link> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("can't listen at {address}"))?;
        let address = listener.local_addr()?;
        let shape = Shape::default();
        let (state, _) = watch::channel(State { upstream, shape, generation: 0, ended: 0 });
        let link = Link { address, state, table: Table::default() };
        let (watched, table) = (link.state.subscribe(), Arc::clone(&link.table));
        tokio::spawn(async move {
            // A connection that was reset before it was accepted does not matter.
            for number in 1.. {
                let Ok((node, _)) = listener.accept().await else { break };
                tokio::spawn(join(node, (number, Arc::clone(&table)), watched.clone()));
            }
        });
        Ok(link)
    }

    /// Returns the number of connections to this server.
    pub(crate) fn connections(&self, server: SocketAddr) -> usize {
        lock(&self.table).values().filter(|upstream| **upstream == server).count()
    }

    /// Resets one of the connections to this server, unless it is the only one. Returns whether
    /// there was one to reset.
    pub(crate) fn end_one(&self, server: SocketAddr, choice: usize) -> bool {
        let table = lock(&self.table);
        let there = table.iter().filter(|(_, upstream)| **upstream == server);
        let numbers: Vec<u64> = there.map(|(number, _)| *number).collect();
        if numbers.len() < 2 {
            return false;
        }
        let ended = numbers[choice % numbers.len()];
        self.state.send_modify(|state| state.ended = ended);
        true
    }

    /// Changes the behaviour of the link, including its present connections.
    pub(crate) fn shape(&self, shape: Shape) {
        self.state.send_modify(|state| state.shape = shape);
    }

    /// Resets all connections.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Makes another server the target of new connections.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    /// Repairs the link. If it has dropped bytes, its connections are reset.
    pub(crate) fn heal(&self) {
        self.state.send_modify(|state| {
            let swallows =
                matches!(state.shape.passage, Passage::Swallowed | Passage::RepliesSwallowed);
            state.generation += u64::from(swallows);
            state.shape = Shape::default();
        });
    }
}

/// Serves one connection of a node until either side ends it, or it is reset.
async fn join(node: TcpStream, (number, table): (u64, Table), mut state: watch::Receiver<State>) {
    let generation = state.borrow().generation;
    // A silent link blocks handshakes, too.
    if open(&mut state).await.is_none() {
        return;
    }
    let upstream = state.borrow().upstream;
    let Ok(redis) = TcpStream::connect(upstream).await else {
        return reset(&node);
    };
    lock(&table).insert(number, upstream);
    serve((node, redis), (generation, number), state).await;
    lock(&table).remove(&number);
}

async fn serve(
    (node, redis): (TcpStream, TcpStream),
    (generation, number): (u64, u64),
    mut state: watch::Receiver<State>,
) {
    if node.set_nodelay(true).and(redis.set_nodelay(true)).is_err() || keep_alive(&node).is_err() {
        return;
    }
    let (node_reads, node_writes) = node.into_split();
    let (redis_reads, redis_writes) = redis.into_split();
    let request = pump((node_reads, redis_writes), Direction::Request, state.clone());
    let reply = pump((redis_reads, node_writes), Direction::Reply, state.clone());
    let is_over = |state: &State| state.generation != generation || state.ended == number;
    let over = state.wait_for(is_over);
    tokio::select! {
        (reads, writes) = request => { finish(reads.as_ref(), &writes) }
        (reads, writes) = reply => { finish(reads.as_ref(), &writes) }
        _ = over => {}
    }
}

fn lock(table: &Table) -> MutexGuard<'_, BTreeMap<u64, SocketAddr>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_alive(node: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(node, true)?;
    sockopt::set_tcp_keepidle(node, SILENCE)?;
    sockopt::set_tcp_keepintvl(node, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(node, PROBES)
}

fn finish(reads: Option<&OwnedReadHalf>, writes: &OwnedWriteHalf) {
    if let Some(reads) = reads {
        reset(reads.as_ref());
    }
    reset(writes.as_ref());
}

/// Makes the socket end with a reset when it is dropped.
fn reset(socket: &TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        eprintln!("can't have a connection reset: {error}");
    }
}

/// Forwards bytes in one direction until one side ends. Returns the halves of the sockets.
async fn pump(
    (mut from, to): (OwnedReadHalf, OwnedWriteHalf),
    direction: Direction,
    state: watch::Receiver<State>,
) -> (Option<OwnedReadHalf>, OwnedWriteHalf) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let watched = state.clone();
    let reading = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            let due = Instant::now() + watched.borrow().shape.delay;
            if sender.send((due, chunk[..count].to_vec())).await.is_err() {
                break;
            }
        }
        drop(sender);
        from
    };
    let (from, to) = tokio::join!(reading, write(to, receiver, direction, state));
    (Some(from), to)
}

/// Writes chunks when they are due, with the link's behaviour.
async fn write(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    direction: Direction,
    mut state: watch::Receiver<State>,
) -> OwnedWriteHalf {
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        let Some(shape) = open(&mut state).await else { break };
        let swallowed = match shape.passage {
            Passage::Swallowed => true,
            Passage::RepliesSwallowed => direction == Direction::Reply,
            Passage::Open | Passage::Held => false,
        };
        if !swallowed && write_shaped(&mut to, &chunk, shape).await.is_err() {
            break;
        }
    }
    to
}

async fn write_shaped(to: &mut OwnedWriteHalf, chunk: &[u8], shape: Shape) -> std::io::Result<()> {
    let (slices, rest) =
        chunk.split_at(if shape.sliced { chunk.len().min(SLICED_BYTES_MAX) } else { 0 });
    for byte in slices.chunks(1) {
        to.write_all(byte).await?;
        sleep(SLICE_PAUSE).await;
    }
    to.write_all(rest).await?;
    if let Some(rate) = shape.rate {
        sleep(Duration::from_secs_f64(chunk.len() as f64 / f64::from(rate))).await;
    }
    Ok(())
}

/// Waits while bytes are held. Returns the behaviour that releases them.
async fn open(state: &mut watch::Receiver<State>) -> Option<Shape> {
    let open = state.wait_for(|state| state.shape.passage != Passage::Held).await;
    open.ok().map(|state| state.shape)
}

#[cfg(test)]
mod tests;
