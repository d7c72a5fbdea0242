//! The nodes, the Redis servers, and the links between them: their start, and the resources that an
//! idle cluster uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::history::Usage;
use crate::node::{INGEST, Node, Settings, Used};
use crate::ports::Ports;
use crate::proxy::Link;
use crate::redis::{Persistence, Redis, SENTINEL_NAME};
use crate::site::Site;

/// Number of connections to Redis that may change while they are counted.
const REDIS_CLIENTS_SLACK: u64 = 8;

/// Slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// Time in which every entry must have been taken in. Entries of a lost node take longer.
const TAKEN_MAX: Duration = Duration::from_secs(15);

/// Time in which a Sentinel must discover the replica.
const KNOWN_MAX: Duration = Duration::from_secs(15);

/// Time in which a server must notice that clients have disconnected.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// Masters of a Redis Cluster, each with one replica.
const MASTERS: usize = 3;

/// Last bytes of loopback addresses. Redis has the first ones, followed by a Sentinel and the
/// nodes.
const SENTINEL_HOST: u8 = 9;
const NODES_HOST: u8 = 10;

/// Ports of a node in its own network namespace, and of its link to Redis.
const SITE_PORT: u16 = 21_000;

/// The forms of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bus {
    /// A primary with a replica, and a link from each node to the current primary.
    Links,
    /// The same without links, and with a Sentinel that nodes ask.
    Sentinel,
    /// A Cluster of three masters, each with a replica.
    Cluster,
}

/// All running processes.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) bus: Option<Bus>,
    pub(crate) nodes: Vec<Node>,
    /// Each node's link to Redis, in the form that has links.
    pub(crate) links: Vec<Link>,
    /// Each node's site, from which the link starts. Empty if all nodes share one network.
    pub(crate) sites: Vec<Site>,
    /// All servers: two, or twice the number of a Cluster's masters. Empty without Redis.
    pub(crate) redis: Vec<Redis>,
    /// The server that accepts writes, unless it is a Cluster.
    pub(crate) primary: usize,
    pub(crate) sentinel: Option<Redis>,
    /// The clock of the Redis servers, if it can be set wrong.
    pub(crate) clock: Option<Clock>,
    /// The primary's address, for writers that don't ask a node.
    pub(crate) primary_at: watch::Sender<Option<SocketAddr>>,
    /// Streams of the bus, with the channels known to be in them.
    pub(crate) streams: BTreeMap<String, Vec<u16>>,
    /// Unexpected behaviour during faults.
    pub(crate) complaints: Vec<String>,
    ports: Ports,
}

/// The processes to start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Topology {
    /// Number of nodes.
    pub(crate) nodes: u8,
    /// The form of Redis, if there is one.
    pub(crate) bus: Option<Bus>,
    /// Whether each node has its own site.
    pub(crate) sites: bool,
    /// Whether the clock of the Redis servers can be set wrong.
    pub(crate) clock: bool,
    /// The settings of nodes.
    pub(crate) settings: Settings,
}

/// Resources in use before the load.
#[derive(Debug)]
pub(crate) struct Baseline {
    node: Used,
    redis_clients: u64,
}

impl Cluster {
    /// Starts all processes, and waits until they are ready.
    ///
    /// # Errors
    /// If a process does not start.
    pub(crate) async fn start(
        program: &Path,
        directory: &Path,
        topology: Topology,
    ) -> Result<Cluster> {
        let mut cluster = Cluster {
            bus: topology.bus,
            nodes: Vec::new(),
            links: Vec::new(),
            sites: Vec::new(),
            redis: Vec::new(),
            primary: 0,
            sentinel: None,
            clock: topology.clock.then(|| Clock::build(directory)).transpose()?,
            primary_at: watch::Sender::new(None),
            streams: BTreeMap::new(),
            complaints: Vec::new(),
            ports: Ports::default(),
        };
        if let Some(bus) = topology.bus {
            cluster.start_redis(bus, directory).await?;
        }
        for number in 0..topology.nodes {
            cluster.start_node(number, topology, (program, directory)).await?;
        }
        for node in &mut cluster.nodes {
            node.until_ready().await?;
        }
        Ok(cluster)
    }

    async fn start_redis(&mut self, bus: Bus, directory: &Path) -> Result<()> {
        let count = if bus == Bus::Cluster { 2 * MASTERS } else { 2 };
        for number in 0..count {
            let host = number as u8 + 1;
            let address = self.ports.take(host)?;
            let mut redis = Redis::new(address, directory.join(format!("redis-{host}")));
            if let Some(clock) = &self.clock {
                redis = redis.by_clock(&clock.prefix);
            }
            if bus == Bus::Cluster {
                redis = redis.in_cluster(self.ports.take(host)?);
            }
            self.redis.push(redis);
        }
        let primary = self.redis[0].address;
        for (number, redis) in self.redis.iter_mut().enumerate() {
            let follows = bus != Bus::Cluster && number > 0;
            redis.start(Persistence::None, follows.then_some(primary)).await?;
        }
        match bus {
            Bus::Links => self.redis[1].until("replication", "master_link_status:up").await?,
            Bus::Sentinel => {
                self.redis[1].until("replication", "master_link_status:up").await?;
                let address = self.ports.take(SENTINEL_HOST)?;
                let mut sentinel = Redis::new(address, directory.join("sentinel"));
                sentinel.start_sentinel(primary).await?;
                self.sentinel = Some(sentinel);
                self.until_sentinel_knows_a_replica().await?;
            }
            Bus::Cluster => form_cluster(&self.redis).await?,
        }
        self.primary_at.send_replace(Some(primary));
        Ok(())
    }

    async fn start_node(
        &mut self,
        number: u8,
        topology: Topology,
        (program, directory): (&Path, &Path),
    ) -> Result<()> {
        let directory = directory.join(format!("node-{number}"));
        let (listen, way, inside) = if topology.sites {
            let site = Site::make(number, &directory).await?;
            let (listen, way) = site.addresses();
            let inside = site.inside();
            self.sites.push(site);
            let listen = [SITE_PORT, SITE_PORT + 1].map(|port| SocketAddr::new(listen, port));
            (listen, SocketAddr::new(way, 0), inside)
        } else {
            let host = NODES_HOST + number;
            let listen = [self.ports.take(host)?, self.ports.take(host)?];
            (listen, SocketAddr::new(listen[0].ip(), 0), Vec::new())
        };
        let url = match topology.bus {
            None => None,
            Some(Bus::Links) => {
                let link = Link::open(way, self.redis[self.primary].address).await?;
                let url = format!("redis://{}", link.address);
                self.links.push(link);
                Some(url)
            }
            Some(Bus::Sentinel) => {
                let sentinel = self.sentinel.as_ref().context("no Sentinel")?.address;
                Some(format!("redis-sentinel://{sentinel}?sentinelServiceName={SENTINEL_NAME}"))
            }
            Some(Bus::Cluster) => {
                let others = self.redis[1..].iter().map(|redis| format!("node={}", redis.address));
                let others: Vec<String> = others.collect();
                Some(format!("redis-cluster://{}?{}", self.redis[0].address, others.join("&")))
            }
        };
        let node = Node::new(number, listen, (program, directory), inside);
        let mut node = node.with_settings(&topology.settings, url.as_deref())?;
        node.start()?;
        self.nodes.push(node);
        Ok(())
    }

    async fn until_sentinel_knows_a_replica(&self) -> Result<()> {
        let sentinel = self.sentinel.as_ref().context("no Sentinel")?;
        let began = Instant::now();
        while sentinel.command(&["SENTINEL", "REPLICAS", SENTINEL_NAME]).await?.is_empty() {
            if began.elapsed() > KNOWN_MAX {
                bail!("the Sentinel never found the replica");
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Returns the server that nodes reach.
    ///
    /// # Errors
    /// If this cluster has none.
    pub(crate) fn primary(&self) -> Result<&Redis> {
        self.redis.get(self.primary).context("this fault needs Redis")
    }

    /// Finds the stream of each channel from the keys with the channels' offsets.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub(crate) async fn learn_streams(&mut self, channels: &[String]) -> Result<()> {
        let mut streams: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for server in self.masters().await? {
            let redis = &self.redis[server];
            for key in redis.keys("corecast:{*}:bus").await? {
                let known = redis.command(&["HKEYS", &key.replace(":bus", ":places")]).await?;
                let numbers = known.lines().filter_map(|known| {
                    let number = channels.iter().position(|name| name == known)?;
                    Some(number as u16)
                });
                streams.entry(key).or_default().extend(numbers);
            }
        }
        self.streams = streams;
        Ok(())
    }

    /// Returns the numbers of the servers that accept writes.
    ///
    /// # Errors
    /// If one does not return its role.
    pub(crate) async fn masters(&self) -> Result<Vec<usize>> {
        if self.bus != Some(Bus::Cluster) {
            return Ok(vec![self.primary]);
        }
        let mut masters = Vec::new();
        for (number, redis) in self.redis.iter().enumerate() {
            if redis.info("replication", "role").await? == "master" {
                masters.push(number);
            }
        }
        Ok(masters)
    }

    /// Returns channel and name of each entry that was set aside, and the number of other entries
    /// that were not taken in or not acknowledged.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub(crate) async fn taken_in(&self) -> Result<(Vec<String>, u64)> {
        let (began, mut untaken) = (Instant::now(), self.untaken().await?);
        while untaken > 0 && began.elapsed() < TAKEN_MAX {
            sleep(Duration::from_millis(200)).await;
            untaken = self.untaken().await?;
        }
        let redis = self.primary()?;
        let dead = redis.command(&["XRANGE", &format!("{INGEST}:dead"), "-", "+"]).await?;
        let (lines, mut names, mut channel) = (dead.lines().collect::<Vec<_>>(), Vec::new(), "");
        for two in lines.windows(2) {
            match two[0] {
                "channel" => channel = two[1],
                "id" => names.push(format!("{channel} {}", two[1])),
                _ => {}
            }
        }
        Ok((names, untaken))
    }

    /// Returns the number of entries that were read but not acknowledged, plus one if the last
    /// entry was not read. A former replica does not know how many were not read.
    async fn untaken(&self) -> Result<u64> {
        let redis = self.primary()?;
        let groups = redis.command(&["XINFO", "GROUPS", INGEST]).await;
        let stream = redis.command(&["XINFO", "STREAM", INGEST]).await;
        // Nothing was added since Redis started empty.
        let (Ok(groups), Ok(stream)) = (groups, stream) else { return Ok(0) };
        let value = |text: &str, name: &str| {
            let lines: Vec<&str> = text.lines().collect();
            let pair = lines.windows(2).find(|two| two[0] == name)?;
            Some(pair[1].to_owned())
        };
        let pending = value(&groups, "pending").and_then(|count| count.parse().ok()).unwrap_or(0);
        let (read, last) =
            (value(&groups, "last-delivered-id"), value(&stream, "last-generated-id"));
        Ok(pending + u64::from(read != last))
    }

    /// Announces the server that accepts writes from now on.
    pub(crate) fn promoted(&mut self, server: usize) {
        self.primary = server;
        self.primary_at.send_replace(Some(self.redis[server].address));
    }

    /// Returns the resources that an idle cluster uses.
    ///
    /// # Errors
    /// If a process has ended.
    pub(crate) async fn baseline(&self) -> Result<Baseline> {
        let mut node = Used::default();
        for one in &self.nodes {
            node = node.max(one.used()?);
        }
        Ok(Baseline { node, redis_clients: self.redis_clients().await? })
    }

    /// Returns the usage after all clients have disconnected, with some time to notice that.
    ///
    /// # Errors
    /// If a process has ended.
    pub(crate) async fn usages(&self, baseline: &Baseline, history_kib: u64) -> Result<Vec<Usage>> {
        let mut waited = Duration::ZERO;
        loop {
            let mut usages = Vec::new();
            for node in &self.nodes {
                let used = node.used()?;
                usages.extend(baseline.node.compare(node.number, used, history_kib));
            }
            usages.push(Usage {
                what: "connections to Redis".to_owned(),
                before: baseline.redis_clients,
                after: self.redis_clients().await?,
                limit: baseline.redis_clients + REDIS_CLIENTS_SLACK,
            });
            let leaked = usages.iter().any(|usage| usage.after > usage.limit);
            if !leaked || waited > SETTLE_MAX {
                return Ok(usages);
            }
            let pause = Duration::from_millis(500);
            sleep(pause).await;
            waited += pause;
        }
    }

    async fn redis_clients(&self) -> Result<u64> {
        let mut count = 0;
        for redis in &self.redis {
            let clients = redis.command(&["CLIENT", "LIST", "TYPE", "normal"]).await?;
            count += clients.lines().count() as u64;
        }
        Ok(count)
    }
}

/// Divides the slots among the first servers, and makes the others their replicas.
async fn form_cluster(redis: &[Redis]) -> Result<()> {
    for (number, master) in redis.iter().take(MASTERS).enumerate() {
        let share = SLOTS.div_ceil(MASTERS);
        let first = (number * share).to_string();
        let last = ((number + 1) * share).min(SLOTS) - 1;
        master.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last.to_string()]).await?;
    }
    for (number, one) in redis.iter().enumerate() {
        one.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
        let (ip, port) = (one.address.ip().to_string(), one.address.port().to_string());
        let bus = one.cluster.map_or(0, |bus| bus.port()).to_string();
        redis[0].command(&["CLUSTER", "MEET", &ip, &port, &bus]).await?;
    }
    let known = format!("cluster_known_nodes:{}", redis.len());
    for one in redis {
        one.until_said(&["CLUSTER", "INFO"], &known).await?;
    }
    for (master, replica) in redis.iter().zip(&redis[MASTERS..]) {
        let id = master.command(&["CLUSTER", "MYID"]).await?;
        replica.command(&["CLUSTER", "REPLICATE", &id]).await?;
    }
    for one in redis {
        one.until_said(&["CLUSTER", "INFO"], "cluster_state:ok").await?;
    }
    for replica in &redis[MASTERS..] {
        replica.until("replication", "master_link_status:up").await?;
    }
    // Before that, a failover finds masters that don't know which replicas may take over.
    for one in redis {
        one.until_replicas_are_known(redis.len() - MASTERS).await?;
    }
    Ok(())
}
