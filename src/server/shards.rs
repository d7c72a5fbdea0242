//! The threads of the shards. Each is pinned to a core, and has its own descriptor table, runtime
//! and driver for sockets.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crossbeam_channel::{Sender, bounded};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::common::{Common, Error};
use crate::accept::{self, Acceptor};
use crate::ids::{ShardId, Slot};
use crate::limits::{
    DESCRIPTORS_RESERVED, RUNTIME_RING_ENTRIES, SHARD_STACK_BYTES, TURNS_PER_PAUSE,
};
use crate::mesh::{Inbox, Outbound, ShardMail};
use crate::settings::{Driver as Choice, ListenAddress};
use crate::shard::{Options, Parts, Shard};
use crate::sys::{self, Driver, Epoll, ListenerOptions, Ring, SysError};

/// The result of the start, which is the same for all shards.
pub(super) struct Started {
    pub(super) driver: &'static str,
    pub(super) private_tables: bool,
}

/// Starts all shards, and waits until they listen.
pub(super) fn start(
    common: &Arc<Common>,
    inboxes: Vec<Inbox<ShardMail>>,
) -> Result<Started, Error> {
    let (sender, receiver) = bounded(inboxes.len());
    let affinity = &common.settings.server.cpu_affinity;
    let cores = if affinity.is_empty() { sys::cores() } else { affinity.clone() };
    let count = inboxes.len();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (common, sender) = (Arc::clone(common), sender.clone());
        let core = cores[index % cores.len()];
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .stack_size(SHARD_STACK_BYTES);
        let private = common.settings.server.private_fd_tables;
        // The table keeps the descriptors that main created: stdio, the wakes, and Unix sockets to
        // listen on. Later ones belong to other threads.
        let (wakes, listeners) = (common.wakes.clone(), common.unix.clone());
        let run = move |table: Result<bool, SysError>| {
            let private = table.as_ref().is_ok_and(|private| *private);
            let start = ShardStart { common: &common, index, inbox, private, report: &sender };
            run(start, core, table);
        };
        let started = if private {
            let run = |table: Result<(), SysError>| run(table.map(|()| true));
            sys::spawn_with_own_descriptors(thread, &wakes, &listeners, run)
        } else {
            thread.spawn(|| run(Ok(false)))
        };
        started.map_err(Error::Thread)?;
    }
    // Otherwise `recv` would wait forever if all shards ended without a report.
    drop(sender);
    let mut started = Started { driver: "", private_tables: true };
    for _ in 0..count {
        let one: Started = receiver
            .recv()
            .map_err(|_| Error::Shard("its thread ended".to_owned()))?
            .map_err(Error::Shard)?;
        started.driver = one.driver;
        started.private_tables &= one.private_tables;
    }
    Ok(started)
}

type Report = Sender<Result<Started, String>>;

/// Runs a shard on `core`. `table` says whether the thread has its own descriptor table.
fn run(member: ShardStart<'_>, core: usize, table: Result<bool, SysError>) {
    let common = member.common;
    // A panic while parsing costs only one connection. Any other panic may leave inconsistent
    // state, which must not send anything more.
    sys::abort_on_panic(crate::shard::is_parsing);
    #[cfg(feature = "sabotage")]
    crate::sabotage::switch_on(crate::sabotage::Fault::from_environment());
    if let Err(error) = sys::pin_to_core(core) {
        tracing::warn!(%error, core, "could not pin a shard to its core");
    }
    if let Err(error) = table {
        tracing::warn!(%error, "shards share one descriptor table: the limit on open files applies \
            to the whole process");
    }
    let wake = common.wakes[member.index];
    match common.settings.server.driver {
        Choice::Epoll => run_epoll(member),
        Choice::IoUring => match Ring::new(wake) {
            Ok(ring) => run_ring(member, ring),
            Err(error) => member.fail(&error),
        },
        Choice::Auto => match Ring::new(wake) {
            Ok(ring) => run_ring(member, ring),
            Err(error) => {
                tracing::warn!(%error, "the kernel refused io_uring; using epoll");
                run_epoll(member);
            }
        },
    }
}

/// The values for the start of one shard, in its own thread.
struct ShardStart<'a> {
    common: &'a Common,
    index: usize,
    inbox: Inbox<ShardMail>,
    private: bool,
    report: &'a Report,
}

impl ShardStart<'_> {
    /// Connections that the shard's descriptor table holds.
    fn connections_max(&self) -> usize {
        let table = self.common.descriptors_max.saturating_sub(DESCRIPTORS_RESERVED);
        let share = if self.private { table } else { table / self.common.shards() };
        share.min(Slot::COUNT_MAX)
    }

    fn fail(&self, error: &dyn std::error::Error) {
        // Sending fails only if another shard has failed before, and then main has stopped
        // listening.
        self.report.send(Err(error.to_string())).ok();
    }
}

fn run_ring(member: ShardStart<'_>, ring: Ring) {
    let runtime =
        || RuntimeBuilder::<IoUringDriver>::new().with_entries(RUNTIME_RING_ENTRIES).build();
    match sys::once_there_is_memory(runtime) {
        Ok(mut runtime) => runtime.block_on(serve(member, ring, Pause::Ring)),
        Err(error) => member.fail(&error),
    }
}

fn run_epoll(member: ShardStart<'_>) {
    let epoll = match Epoll::new(member.common.wakes[member.index]) {
        Ok(epoll) => epoll,
        Err(error) => return member.fail(&error),
    };
    match RuntimeBuilder::<LegacyDriver>::new().build() {
        Ok(mut runtime) => runtime.block_on(serve(member, epoll, Pause::Epoll)),
        Err(error) => member.fail(&error),
    }
}

async fn serve<D: Driver + 'static>(member: ShardStart<'_>, driver: D, pause: Pause) {
    match begin(member, driver) {
        Some(running) => {
            // The loop needs its own task, because monoio polls its main future again without a
            // check for I/O.
            monoio::spawn(turn_loop(running, pause)).await;
        }
        None => tracing::debug!("a shard did not start"),
    }
}

/// A shard with its listeners.
struct Running<D> {
    shard: Shard<D>,
    acceptor: Acceptor,
}

fn begin<D: Driver>(member: ShardStart<'_>, mut driver: D) -> Option<Running<D>> {
    let (common, index) = (member.common, member.index);
    let connections_max = member.connections_max();
    if connections_max == 0 {
        member.fail(&NoDescriptors(common.descriptors_max));
        return None;
    }
    let counters = Arc::clone(&common.counters[index]);
    let name = driver.name();
    let options = accept::Options {
        addresses: common.listen.iter().filter_map(ListenAddress::tcp).collect(),
        shared: common.unix.clone(),
        proxies: common.settings.server.proxies.clone(),
        listener: ListenerOptions {
            user_timeout: common.settings.client.ping_interval
                + common.settings.client.pong_timeout,
        },
        // The kernel spreads clients evenly over the listeners, so each shard has an equal part.
        rate: (common.settings.server.accept_rate / common.shards() as u32).max(1),
        leases: common.leases.clone(),
    };
    let acceptor = match Acceptor::new(options, Arc::clone(&counters), &mut driver) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            member.fail(&error);
            return None;
        }
    };
    let mut options = Options::new(&common.settings, common.shards());
    // A connection needs a descriptor, so the shard's table limits it as well as `max_connections`.
    options.connections_max = connections_max;
    let shard = Shard::new(
        member.inbox,
        Parts {
            id: ShardId::new(index),
            options,
            sockets: driver,
            outbound: Outbound::new(
                common.shard_lanes(),
                common.control_lane(),
                common.bridge_lane(),
            ),
            pools: common.pools.clone(),
            home_map: common.home_map.clone(),
            identity: common.identity.clone(),
            counters,
            subnets: Arc::clone(&common.subnets),
            readiness: Arc::clone(common.status.readiness()),
            outboxes: common.outboxes.clone(),
            seed: seed(),
        },
    );
    // The receiver is gone only if another shard has failed, and then the process ends.
    member.report.send(Ok(Started { driver: name, private_tables: member.private })).ok();
    Some(Running { shard, acceptor })
}

/// The limit on open files leaves no room for clients.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit on open files is {0}, and the server itself needs {DESCRIPTORS_RESERVED}: no client \
     could connect. Raise it with ulimit -n, or LimitNOFILE= of systemd"
)]
struct NoDescriptors(usize);

/// Returns a random number, which differs between shards and processes.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("seed")
}

/// The turn loop, the only task of a shard's runtime. It runs turns while there is work, and
/// otherwise sleeps in the driver until the kernel or another thread has news. Sleeping in the
/// driver instead of the runtime saves a descriptor between the two, and three system calls per
/// wake.
async fn turn_loop<D: Driver>(mut running: Running<D>, pause: Pause) {
    let Ok(busy) = sys::always_readable() else {
        panic!("a shard's runtime can't watch its descriptors");
    };
    let mut turns = 0;
    loop {
        assert!(!crate::sabotage!(PanicInTurn), "sabotage: a turn panics");
        let more = running.shard.turn();
        let more = running.acceptor.turn(&mut running.shard) || more;
        if !more && running.shard.inbox().prepare_sleep() {
            running.shard.sockets().wait();
            running.shard.inbox().woke();
        }
        turns += 1;
        if turns == TURNS_PER_PAUSE {
            turns = 0;
            pause.pause(&busy).await;
        }
    }
}

/// The way in which the turn loop lets its runtime run.
#[derive(Clone, Copy)]
enum Pause {
    /// monoio's ring looks for completions only if no task is ready to run, so the loop waits for a
    /// descriptor that is always readable.
    Ring,
    /// monoio's epoll looks for events each time a task wakes itself.
    Epoll,
}

impl Pause {
    async fn pause(self, busy: &monoio::net::TcpStream) {
        match self {
            Pause::Ring => {
                if let Err(error) = busy.readable(false).await {
                    tracing::debug!(%error, "could not wait for the runtime's descriptor");
                }
            }
            Pause::Epoll => Yield(false).await,
        }
    }
}

struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
