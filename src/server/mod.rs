//! Starts the threads, waits for signals, drains and stops. Order matters here, and each step says
//! why it stands where it stands.

mod bridge;
mod common;
mod control;
mod drain;
mod exit;
mod shards;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::accept::Leases;
use crate::api::{Node, Status};
use crate::limits::{DESCRIPTORS_RESERVED, PROBE_PATIENCE};
use crate::mesh::{HomeMap, Inbox, ShardMail, ToBridge, ToControl};
use crate::metrics::{BridgeCounters, ShardCounters};
use crate::readiness::Phase;
use crate::secret::NodeSecret;
use crate::settings::Settings;
use crate::shard::{Identity, OutboxLeases, Pools};
use crate::subnets::Subnets;
use crate::sys::{self, Claim, EventFd, SysError};
use common::{Addresses, Common};

pub use common::Error;

/// What users are told when the server runs.
#[derive(Clone, Debug)]
pub struct StartupReport {
    /// How sockets are driven.
    pub driver: &'static str,
    /// Threads that serve clients.
    pub shards: usize,
    /// Descriptors that one table may hold.
    pub descriptors_max: usize,
    /// Whether each shard has a table of its own, so that the limit counts for each.
    pub private_tables: bool,
    /// Most connections that limits and settings allow.
    pub connections_max: usize,
    /// Where clients connect, with the ports that the kernel chose.
    pub listen: Vec<SocketAddr>,
    /// Where the API listens.
    pub api_listen: SocketAddr,
}

/// The receiving ends of all threads.
struct Inboxes {
    shards: Vec<Inbox<ShardMail>>,
    control: Inbox<ToControl>,
    /// Absent without a bus.
    bridge: Option<Inbox<ToBridge>>,
}

/// Inboxes for so many shards, control, and with a bus the bridge.
fn inboxes(shards: usize, bus: bool) -> (Inboxes, Addresses) {
    let (shard_inboxes, shards) = (0..shards).map(|_| Inbox::with_default_size()).unzip();
    let (control_inbox, control) = Inbox::with_default_size();
    let (bridge_inbox, bridge) = bus.then(Inbox::with_default_size).unzip();
    let inboxes = Inboxes { shards: shard_inboxes, control: control_inbox, bridge: bridge_inbox };
    (inboxes, Addresses { shards, control, bridge })
}

/// Runs the server until it is told to stop. `ready` is called when clients are served.
///
/// # Errors
/// See [`Error`]. After a signal to stop it returns `Ok`, when the last connection has ended or
/// `drain` is over.
pub fn run(settings: Settings, ready: impl FnOnce(&StartupReport)) -> Result<(), Error> {
    // Before the heaps of threads exist.
    sys::refuse_huge_pages();
    sys::return_freed_memory();
    // Before any thread: they inherit the mask, and no handler may ever run in a shard.
    sys::block_signals();
    let descriptors_max = sys::descriptors_max();
    let shards =
        if settings.server.shards == 0 { sys::cores().len() } else { settings.server.shards };
    // Before any other descriptor: every thread's table has them under the same numbers.
    let threads = shards + 1 + usize::from(settings.redis.is_on());
    let wakes: Vec<EventFd> =
        (0..threads).map(|_| EventFd::new()).collect::<Result<_, SysError>>()?;
    let (inboxes, addresses) = inboxes(shards, settings.redis.is_on());
    let addresses_wanted = settings.server.listen.iter();
    let claimed = addresses_wanted.map(|&address| claim(address)).collect::<Result<Vec<_>, _>>()?;
    let (claims, listen): (Vec<Claim>, Vec<SocketAddr>) = claimed.into_iter().unzip();
    let counters: Vec<Arc<ShardCounters>> = (0..shards).map(|_| Arc::default()).collect();
    let bridge_counters = settings.redis.is_on().then(Arc::<BridgeCounters>::default);
    let secret = NodeSecret::new(sys::random_bytes()?);
    let common = Arc::new(Common {
        home_map: HomeMap::new(&secret, shards),
        identity: Identity::new(&secret),
        leases: Leases::new(settings.server.max_connections, shards),
        outboxes: OutboxLeases::new(settings.client.outboxes_bytes_max, shards),
        pools: Pools::new(&settings, shards),
        status: Arc::new(Status::new(
            counters.clone(),
            bridge_counters.clone(),
            sys::now,
            settings.server.max_connections,
        )),
        bridge_counters,
        subnets: Arc::new(Subnets::new(settings.server.max_connections)),
        settings: Arc::new(settings),
        counters,
        addresses,
        wakes,
        node: node(listen[0]),
        stopping: common::Stopping::default(),
        listen,
        descriptors_max,
    });
    run_threads(&common, inboxes, claims, ready)
}

fn run_threads(
    common: &Arc<Common>,
    inboxes: Inboxes,
    claims: Vec<Claim>,
    ready: impl FnOnce(&StartupReport),
) -> Result<(), Error> {
    let address = common.settings.server.api_listen;
    let listen = |source| Error::Listen { address, source };
    let api_listener = TcpListener::bind(address).map_err(listen)?;
    let api_listen = api_listener.local_addr().map_err(listen)?;
    // Shards before control: whoever asks the API finds them serving.
    let started = shards::start(common, inboxes.shards)?;
    drop(claims);
    let drained = control::start(common, api_listener, inboxes.control)?;
    if let Some(inbox) = inboxes.bridge
        && !bridge::start(common, inbox)?
    {
        return Ok(());
    }
    common.status.set_phase(Phase::Serving);
    let report = report(common, &started, api_listen);
    ready(&report);
    warn_of_capacity(common, &report);
    exit::wait(common, &drained);
    Ok(())
}

fn report(common: &Common, started: &shards::Started, api_listen: SocketAddr) -> StartupReport {
    let per_table = common.descriptors_max.saturating_sub(DESCRIPTORS_RESERVED);
    let tables = if started.private_tables { common.shards() } else { 1 };
    StartupReport {
        driver: started.driver,
        shards: common.shards(),
        descriptors_max: common.descriptors_max,
        private_tables: started.private_tables,
        connections_max: common.settings.server.max_connections.min(per_table * tables),
        listen: common.listen.clone(),
        api_listen,
    }
}

/// Says so if more connections are asked for than fit. For development nobody asks for so many.
fn warn_of_capacity(common: &Common, report: &StartupReport) {
    let (wanted, fit) = (common.settings.server.max_connections, report.connections_max);
    if fit < wanted && !common.settings.dev {
        let each = if report.private_tables { "each shard" } else { "the process" };
        tracing::warn!(
            "server.max_connections is {wanted}, but only {fit} connections are possible, because \
             {each} may have {} descriptors. Raise that limit (ulimit -n, LimitNOFILE=), or lower \
             server.max_connections",
            report.descriptors_max
        );
    }
}

fn node(client_address: SocketAddr) -> Node {
    use std::hash::{BuildHasher, RandomState};
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let uid = format!("{:016x}", RandomState::new().hash_one("node"));
    Node { uid, name: host.trim().to_owned(), client_address }
}

/// Claims an address until the shards listen, and finds its port if it is 0. Listeners of shards
/// share their address (SO_REUSEPORT), so another server's would not be noticed by them.
fn claim(address: SocketAddr) -> Result<(Claim, SocketAddr), Error> {
    let limit = sys::now().after(PROBE_PATIENCE);
    let error = |source| Error::Listen { address, source };
    loop {
        match Claim::new(address) {
            // A server that was killed leaves its ring to the kernel, which closes it a moment
            // after the process is gone, and its listeners with it.
            Err(SysError { source, .. })
                if source.kind() == std::io::ErrorKind::AddrInUse && sys::now() < limit =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(SysError { source, .. }) => return Err(error(source)),
            Ok(claim) => {
                let address = claim.address().map_err(error)?;
                return Ok((claim, address));
            }
        }
    }
}
