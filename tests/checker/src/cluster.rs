//! The nodes, Redis with its replica, and the links between them: how they are started, and what a
//! rested cluster uses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::history::Usage;
use crate::node::{Node, Used};
use crate::proxy::Link;
use crate::redis::{Persistence, Redis};
use crate::site::Site;

/// Connections to Redis that may come and go while they are counted.
const REDIS_CLIENTS_SLACK: u64 = 8;

/// Time in which a server must have noticed that clients are gone.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Each node's way to Redis.
    pub(crate) links: Vec<Link>,
    /// Each node's site, from which that way leads; none if all are at one place.
    pub(crate) sites: Vec<Site>,
    /// Two servers, of which one is the primary; none without Redis.
    pub(crate) redis: Vec<Redis>,
    pub(crate) primary: usize,
    /// Bus streams with the channels that are known to be in them.
    pub(crate) streams: BTreeMap<String, Vec<u16>>,
}

/// What is to be started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Topology {
    /// How many nodes.
    pub(crate) nodes: u8,
    /// Whether there are Redis and links to it.
    pub(crate) redis: bool,
    /// Whether each node is at a site of its own.
    pub(crate) sites: bool,
}

/// What was used before the load.
#[derive(Debug)]
pub(crate) struct Baseline {
    node: Used,
    redis_clients: u64,
}

/// An address on the loopback network that belongs to this process alone, as far as ports of other
/// processes' outgoing connections go: those are on 127.0.0.1.
fn address(host: u8, port: u16) -> SocketAddr {
    let process = std::process::id();
    let (high, low) = (64 + (process / 256 % 64) as u8, (process % 256) as u8);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, high, low, host)), port)
}

impl Cluster {
    /// Starts everything, and waits until it is ready.
    ///
    /// # Errors
    /// If something does not start.
    pub(crate) async fn start(
        program: &Path,
        directory: &Path,
        topology: Topology,
        port: u16,
    ) -> Result<Cluster> {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            links: Vec::new(),
            sites: Vec::new(),
            redis: Vec::new(),
            primary: 0,
            streams: BTreeMap::new(),
        };
        if topology.redis {
            let [primary, replica] = [1, 2].map(|host| {
                Redis::new(address(host, port + 3), directory.join(format!("redis-{host}")))
            });
            cluster.redis = vec![primary, replica];
            let upstream = cluster.redis[0].address;
            cluster.redis[0].start(Persistence::None, None).await?;
            cluster.redis[1].start(Persistence::None, Some(upstream)).await?;
            cluster.redis[1].until("replication", "master_link_status:up").await?;
        }
        for number in 0..topology.nodes {
            let directory = directory.join(format!("node-{number}"));
            let here = address(number + 10, port).ip();
            let (mut listen, mut way, mut inside) = (here, here, Vec::new());
            if topology.sites {
                let site = Site::make(number, &directory).await?;
                (listen, way) = site.addresses();
                inside = site.inside();
                cluster.sites.push(site);
            }
            let mut link = None;
            if topology.redis {
                let (at, upstream) = (SocketAddr::new(way, port + 2), cluster.redis[0].address);
                let opened = Link::open(at, upstream).await?;
                link = Some(opened.address);
                cluster.links.push(opened);
            }
            let listen = (SocketAddr::new(listen, port), SocketAddr::new(listen, port + 1));
            let mut node = Node::new(number, listen, link, (program, directory), inside)?;
            node.start()?;
            cluster.nodes.push(node);
        }
        for node in &mut cluster.nodes {
            node.until_ready().await?;
        }
        Ok(cluster)
    }

    /// The server that nodes reach.
    ///
    /// # Errors
    /// If this cluster has none.
    pub(crate) fn primary(&self) -> Result<&Redis> {
        self.redis.get(self.primary).context("this fault needs Redis")
    }

    /// Learns which channel is in which stream, from what holds channels' offsets.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub(crate) async fn learn_streams(&mut self, channels: &[String]) -> Result<()> {
        let primary = self.primary()?;
        let mut streams = BTreeMap::new();
        for key in primary.keys("corecast:{*}:bus").await? {
            streams.insert(key, Vec::new());
        }
        for (stream, concerned) in &mut streams {
            let places = stream.replace(":bus", ":places");
            let known = primary.command(&["HKEYS", &places]).await?;
            let numbers = known.lines().filter_map(|known| {
                let number = channels.iter().position(|name| name == known)?;
                Some(number as u16)
            });
            concerned.extend(numbers);
        }
        self.streams = streams;
        Ok(())
    }

    /// What a rested cluster uses.
    ///
    /// # Errors
    /// If a process is gone.
    pub(crate) async fn baseline(&self) -> Result<Baseline> {
        let mut node = Used::default();
        for one in &self.nodes {
            node = node.max(one.used()?);
        }
        Ok(Baseline { node, redis_clients: self.redis_clients().await? })
    }

    /// What is used when all clients have gone, given some time to notice that.
    ///
    /// # Errors
    /// If a process is gone.
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
        if self.redis.is_empty() {
            return Ok(0);
        }
        let clients = self.primary()?.command(&["CLIENT", "LIST", "TYPE", "normal"]).await?;
        Ok(clients.lines().count() as u64)
    }
}
