//! Starts the threads, waits for signals, drains and stops. The order of the steps matters, and
//! comments give the reasons.

mod bridge;
mod common;
mod control;
mod drain;
mod exit;
mod listen;
mod shards;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::accept::Leases;
use crate::api::{HostLimits, Node, Status};
use crate::limits::DESCRIPTORS_RESERVED;
use crate::mesh::{HomeMap, Inbox, ShardMail, ToBridge, ToControl};
use crate::metrics::{BridgeCounters, Descriptors, ShardCounters};
use crate::readiness::Phase;
use crate::secret::NodeSecret;
use crate::settings::{ListenAddress, Redis, Settings};
use crate::shard::{Identity, OutboxLeases, Pools};
use crate::subnets::Subnets;
use crate::sys::{self, Claim, EventFd, SysError};
use common::{Addresses, Common};
use listen::{ApiListening, Listening};

pub use common::Error;

/// The facts that users see when the server has started.
#[derive(Clone, Debug)]
pub struct StartupReport {
    /// The name of the driver for sockets.
    pub driver: &'static str,
    /// Number of threads that serve clients.
    pub shards: usize,
    /// Number of descriptors that one table may hold.
    pub descriptors_max: usize,
    /// Whether each shard has its own descriptor table, so that the limit applies to each of them.
    pub private_tables: bool,
    /// Maximum number of connections that limits and settings allow.
    pub connections_max: usize,
    /// The addresses for clients. A port of 0 is replaced with the port that the kernel chose.
    pub listen: Vec<ListenAddress>,
    /// The address of the API.
    pub api_listen: ListenAddress,
}

/// The inboxes of all threads.
struct Inboxes {
    shards: Vec<Inbox<ShardMail>>,
    control: Inbox<ToControl>,
    /// The inbox of the bridge, or `None` without a bus.
    bridge: Option<Inbox<ToBridge>>,
}

/// Creates the inboxes of `shards` shards, control and, if there is a bus, the bridge.
fn inboxes(shards: usize, redis: &Redis) -> (Inboxes, Addresses) {
    let (shard_inboxes, shards) = (0..shards).map(|_| Inbox::with_default_size()).unzip();
    let (control_inbox, control) = Inbox::with_default_size();
    let (bridge_inbox, bridge) = redis.is_on().then(Inbox::with_default_size).unzip();
    let inboxes = Inboxes { shards: shard_inboxes, control: control_inbox, bridge: bridge_inbox };
    (inboxes, Addresses { shards, control, bridge })
}

/// Runs the server until a signal stops it. `ready` is called when it serves clients.
///
/// # Errors
/// See [`Error`]. After a signal to stop it returns `Ok` as soon as the last connection has ended
/// or `server.drain` has passed.
pub fn run(settings: Settings, ready: impl FnOnce(&StartupReport)) -> Result<(), Error> {
    // The allocator is configured before other threads allocate memory.
    sys::refuse_huge_pages();
    sys::return_freed_memory();
    // This happens before any thread starts, because threads inherit the mask, and no handler may
    // run in a shard.
    sys::block_signals();
    let descriptors_max = sys::descriptors_max();
    let shards =
        if settings.server.shards == 0 { sys::cores().len() } else { settings.server.shards };
    // The wakes are created before any other descriptor. So they have low numbers, which every
    // thread's own table keeps.
    let threads = shards + 1 + usize::from(settings.redis.is_on());
    let wakes: Vec<EventFd> =
        (0..threads).map(|_| EventFd::new()).collect::<Result<_, SysError>>()?;
    let Listening { addresses: listen, unix, claims, files } = Listening::new(&settings.server)?;
    let (inboxes, addresses) = inboxes(shards, &settings.redis);
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
        node: node(&settings.server.name, listen.iter().find_map(ListenAddress::tcp)),
        settings: Arc::new(settings),
        counters,
        addresses,
        wakes,
        stopping: common::Stopping::default(),
        listen,
        unix,
        descriptors_max,
    });
    let result = run_threads(&common, inboxes, claims, ready);
    // Another server may listen there from here on.
    drop(files);
    result
}

fn run_threads(
    common: &Arc<Common>,
    inboxes: Inboxes,
    claims: Vec<Claim>,
    ready: impl FnOnce(&StartupReport),
) -> Result<(), Error> {
    // This happens before any thread starts, because the address may be in use.
    let api = ApiListening::new(&common.settings.server)?;
    // Shards start before control, so that requests to the API find them serving.
    let started = shards::start(common, inboxes.shards)?;
    let report = report(common, &started, api.address);
    common.status.set_host(HostLimits {
        connections_max: report.connections_max,
        descriptors: Descriptors {
            private_tables: if started.private_tables { common.shards() } else { 0 },
            table_max: common.descriptors_max,
        },
    });
    // The listeners of the shards hold the addresses from here on.
    drop(claims);
    let drained = control::start(common, api.listener, inboxes.control)?;
    if let Some(inbox) = inboxes.bridge
        && !bridge::start(common, inbox)?
    {
        return Ok(());
    }
    common.status.set_phase(Phase::Serving);
    log_start(&report);
    ready(&report);
    warn_of_capacity(common, &report);
    exit::wait(common, &drained);
    drop(api.file);
    tracing::info!("stopped");
    Ok(())
}

fn report(common: &Common, started: &shards::Started, api_listen: ListenAddress) -> StartupReport {
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

fn log_start(report: &StartupReport) {
    let StartupReport { driver, shards, connections_max, listen, api_listen, .. } = report;
    let addresses: Vec<String> = listen.iter().map(ToString::to_string).collect();
    tracing::info!(
        listen = addresses.join(" "),
        %api_listen,
        shards,
        driver,
        connections_max,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
}

/// Warns if the limit on descriptors is too low for `server.max_connections`. It does not in
/// development mode, which needs few connections.
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

/// Describes this node. Its id is new at each start, so that other nodes can distinguish a
/// restarted node from its last run.
fn node(name: &str, client_address: Option<SocketAddr>) -> Node {
    use std::hash::{BuildHasher, RandomState};
    let host = match name {
        "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        name => name.to_owned(),
    };
    let uid = format!("{:016x}", RandomState::new().hash_one("node"));
    Node { uid, name: host.trim().to_owned(), client_address }
}
