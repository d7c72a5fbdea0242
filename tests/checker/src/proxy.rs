//! A link between a node and Redis that can be made bad: late, sliced, narrow, silent, cut.
//!
//! What is read waits in a queue with the time at which it is due, so that a delay does not narrow
//! the link. A silent link holds bytes back and passes them on later, as a network does that lost
//! them for a while; a half-open one swallows them, and is reset when it is healed, because nothing
//! sensible can follow.

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

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Chunks that wait in one direction of a connection: 4 MiB, then reading stops.
const CHUNKS_MAX: usize = 256;

/// Time between two slices.
const SLICE_PAUSE: Duration = Duration::from_micros(50);

/// Silence of a node after which it is asked whether it is there, and how often, a second apart: a
/// site that was cut off may have given up a connection without a word. Redis does the same.
const SILENCE: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Bytes of a chunk that are sliced; the rest goes as it is, or a large reply would take minutes.
const SLICED_BYTES_MAX: usize = 64;

/// What happens to bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passage {
    /// They pass.
    #[default]
    Open,
    /// They wait, in both directions.
    Held,
    /// They vanish, in both directions.
    Swallowed,
    /// Redis' replies vanish, requests pass.
    RepliesSwallowed,
}

/// How a link behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) passage: Passage,
    /// How late every byte is.
    pub(crate) delay: Duration,
    /// Whether the first bytes of every chunk come one by one.
    pub(crate) sliced: bool,
    /// Bytes a second in each direction; none means no bound.
    pub(crate) rate: Option<u32>,
}

/// What all connections of a link are told.
#[derive(Clone, Copy, Debug)]
struct State {
    upstream: SocketAddr,
    shape: Shape,
    /// Connections of an earlier generation are reset.
    generation: u64,
    /// The connection that is reset alone, by its number; 0 for none.
    ended: u64,
}

/// Connections that there are, by their numbers, and the server that each leads to.
type Table = Arc<Mutex<BTreeMap<u64, SocketAddr>>>;

/// One node's way to Redis.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where it listens.
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
    /// Listens at `address` and passes on to `upstream`. Port 0 is one that is free.
    ///
    /// # Errors
    /// If the address is taken.
    pub(crate) async fn open(address: SocketAddr, upstream: SocketAddr) -> Result<Link> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("can't listen at {address}"))?;
        let address = listener.local_addr()?;
        let shape = Shape::default();
        let (state, _) = watch::channel(State { upstream, shape, generation: 0, ended: 0 });
        let link = Link { address, state, table: Table::default() };
        let (watched, table) = (link.state.subscribe(), Arc::clone(&link.table));
        tokio::spawn(async move {
            // A connection that was reset before it was accepted is nobody's loss.
            for number in 1.. {
                let Ok((node, _)) = listener.accept().await else { break };
                tokio::spawn(join(node, (number, Arc::clone(&table)), watched.clone()));
            }
        });
        Ok(link)
    }

    /// How many connections lead to that server.
    pub(crate) fn connections(&self, server: SocketAddr) -> usize {
        lock(&self.table).values().filter(|upstream| **upstream == server).count()
    }

    /// Resets one of the connections that lead to that server, unless it is the only one; whether
    /// there was one.
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

    /// Makes the link behave so from now on, its present connections included.
    pub(crate) fn shape(&self, shape: Shape) {
        self.state.send_modify(|state| state.shape = shape);
    }

    /// Resets all connections.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Makes another server the one behind this address, for connections to come.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    /// Makes the link good again. What it has swallowed is lost, so its connections are, too.
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
    // A silent link lets no handshake through either.
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

/// Lets the socket end with a reset when it is dropped.
fn reset(socket: &TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        eprintln!("can't have a connection reset: {error}");
    }
}

/// Passes bytes on in one direction until one side ends; answers with its halves.
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

/// Writes what comes, when it is due and as the link's shape says.
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

/// Waits while bytes are held; answers with the shape that lets them go.
async fn open(state: &mut watch::Receiver<State>) -> Option<Shape> {
    let open = state.wait_for(|state| state.shape.passage != Passage::Held).await;
    open.ok().map(|state| state.shape)
}

#[cfg(test)]
mod tests;
