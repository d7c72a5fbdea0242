//! Failovers from a live primary, and failovers that a Sentinel or a Cluster decides.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::Done;
use crate::cluster::Cluster;
use crate::faults::Planned;
use crate::history::{Micros, now};
use crate::redis::{Persistence, Redis, SENTINEL_NAME};

/// Time in which a Sentinel or Cluster must have promoted the replica, or made a restarted primary
/// a replica. A Sentinel waits 8 s before the latter, and 12 s before it repeats a failed failover.
const PROMOTED_MAX: Duration = Duration::from_secs(45);

/// Time after a promotion in which nodes must have found it. Later acknowledgements must survive.
const FOUND_MAX: Duration = Duration::from_secs(2);

/// Time after which a node with connections to two servers must have all of them at one. It notices
/// within 2 s, renews at most once in 10 s, and needs some time for that.
const TOGETHER_MAX: Duration = Duration::from_secs(16);

/// Time by which the replica is behind before a failover. It is short enough for the replica to
/// count as alive.
const BEHIND: Duration = Duration::from_millis(500);

/// Time in which all nodes react to the new primary.
const SETTLED: Duration = Duration::from_secs(3);

impl Cluster {
    /// Moves the primary to the replica without any loss, and changes every node's address.
    /// Connections to the old primary stay, which is now a replica.
    pub(super) async fn hand_over(&mut self) -> Result<Done> {
        let (old, new) = (self.primary, 1 - self.primary);
        self.redis[new].until("replication", "master_link_status:up").await?;
        let promoted = self.redis[new].address;
        let (host, port) = (promoted.ip().to_string(), promoted.port().to_string());
        let words = ["FAILOVER", "TO", &host, &port, "TIMEOUT", "5000", "FORCE"];
        self.redis[old].command(&words).await?;
        self.redis[new].until("replication", "role:master").await?;
        self.links.iter().for_each(|link| link.lead_to(promoted));
        self.promoted(new);
        sleep(FOUND_MAX).await;
        self.redis[old].until("replication", "master_link_status:up").await?;
        Ok((format!("to {promoted}"), None))
    }

    /// Asks the Sentinel to promote the replica while the primary is alive. The old primary accepts
    /// writes until it is told about its replacement, about ten seconds later. Also returns the
    /// time at which every node must have found the new primary.
    pub(super) async fn ask_sentinel(&mut self) -> Result<(Done, Micros)> {
        let (old, new) = (self.primary, 1 - self.primary);
        self.redis[new].until("replication", "master_link_status:up").await?;
        let sentinel = self.sentinel.as_ref().context("no Sentinel")?;
        let began = Instant::now();
        // Right after another failover it is too early for the next one.
        while sentinel.command(&["SENTINEL", "FAILOVER", SENTINEL_NAME]).await.is_err() {
            if began.elapsed() > PROMOTED_MAX {
                bail!("the Sentinel does not begin a failover");
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.until_promoted(new).await?;
        self.promoted(new);
        let promoted = self.redis[new].address;
        sleep(FOUND_MAX).await;
        let (at, waiting) = (now(), Instant::now());
        self.follows(old).await?;
        let later = waiting.elapsed().as_secs_f64();
        Ok(((format!("to {promoted}, which the old primary knows {later:.1} s later"), None), at))
    }

    /// Kills the primary, so that the Sentinel promotes the replica.
    pub(super) async fn lose_primary(&mut self, planned: &Planned) -> Result<Done> {
        let (old, new) = (self.primary, 1 - self.primary);
        self.redis[new].until("replication", "master_link_status:up").await?;
        let lost = self.kill_ahead(old, new).await?;
        self.until_promoted(new).await?;
        self.promoted(new);
        sleep(planned.between(0.1, 1.0)).await;
        let promoted = self.redis[new].address;
        self.redis[old].start(Persistence::None, Some(promoted)).await?;
        sleep(FOUND_MAX).await;
        self.follows(old).await?;
        Ok((format!("to {promoted}, {lost} bytes of replication were lost"), None))
    }

    /// Kills a server whose replica lacks the last writes, because it was stopped and disconnected
    /// before them, but not for so long that it counts as dead. Returns the number of lost bytes.
    async fn kill_ahead(&mut self, old: usize, new: usize) -> Result<u64> {
        let before = self.writes(old).await?;
        self.redis[new].process()?.signal(Signal::STOP);
        self.redis[old].command(&["CLIENT", "KILL", "TYPE", "replica"]).await?;
        sleep(BEHIND).await;
        let lost = self.writes(old).await?.saturating_sub(before);
        self.redis[old].kill().await?;
        self.redis[new].process()?.signal(Signal::CONT);
        Ok(lost)
    }

    /// Kills a master of the Cluster, so that its replica takes over.
    pub(super) async fn lose_master(&mut self, planned: &Planned) -> Result<Done> {
        let (old, new) = self.pair(planned).await?;
        let lost = self.kill_ahead(old, new).await?;
        self.until_promoted(new).await?;
        // It finds the other servers in its own configuration, and learns that it was replaced.
        self.redis[old].start(Persistence::None, None).await?;
        self.redis[old].until_said(&["INFO", "replication"], "role:slave").await?;
        sleep(FOUND_MAX).await;
        self.follows(old).await?;
        let promoted = self.redis[new].address;
        Ok((format!("{promoted} takes over, {lost} bytes of replication were lost"), None))
    }

    /// Asks a replica of the Cluster to take over from its live master.
    pub(super) async fn ask_replica(&mut self, planned: &Planned) -> Result<Done> {
        let (old, new) = self.pair(planned).await?;
        self.redis[new].command(&["CLUSTER", "FAILOVER"]).await?;
        self.until_promoted(new).await?;
        sleep(FOUND_MAX).await;
        self.follows(old).await?;
        Ok((format!("{} takes over", self.redis[new].address), None))
    }

    /// Promotes the replica, and lets every node's address lead to it, like a changed DNS name. The
    /// old primary stays alive, and accepts writes on existing connections. Then single connections
    /// of each node end, and are renewed with the new primary. Also returns the time at which every
    /// node must have noticed that it uses two servers.
    pub(super) async fn move_connections(&mut self, planned: &Planned) -> Result<(Done, Micros)> {
        let (old, new) = (self.primary, 1 - self.primary);
        let (left, promoted) = (self.redis[old].address, self.redis[new].address);
        self.redis[new].until("replication", "master_link_status:up").await?;
        self.redis[new].command(&["REPLICAOF", "NO", "ONE"]).await?;
        self.links.iter().for_each(|link| link.lead_to(promoted));
        self.promoted(new);
        let mut moved = Vec::new();
        for (node, link) in self.links.iter().enumerate() {
            let count = link.connections(left);
            // Never all of them, because that would be an ordinary failover.
            let choice = (planned.choice * 7.0) as usize + node;
            let ended = usize::from(link.end_one(left, choice));
            moved.push(format!("{ended} of {count}"));
            sleep(planned.between(0.1, 0.4)).await;
        }
        let began = Instant::now();
        let astray = |link: &crate::proxy::Link| link.connections(left) > 0;
        while self.links.iter().any(astray) && began.elapsed() < TOGETHER_MAX {
            sleep(Duration::from_millis(50)).await;
        }
        let at = now();
        for (node, link) in self.links.iter().enumerate() {
            let (there, here) = (link.connections(left), link.connections(promoted));
            if there > 0 && here > 0 {
                self.complaints.push(format!(
                    "node {node} has had {there} connections to {left} and {here} to {promoted} \
                     for {TOGETHER_MAX:?}"
                ));
            }
        }
        // Publications acknowledged from now on must survive the end of the old primary.
        sleep(SETTLED).await;
        let (host, port) = (promoted.ip().to_string(), promoted.port().to_string());
        self.redis[old].command(&["REPLICAOF", &host, &port]).await?;
        self.redis[old].until("replication", "master_link_status:up").await?;
        self.links.iter().for_each(crate::proxy::Link::reset);
        Ok(((format!("{} to {promoted}", moved.join(", ")), None), at))
    }

    /// Returns a random master of the Cluster and its replica.
    async fn pair(&self, planned: &Planned) -> Result<(usize, usize)> {
        let masters = self.masters().await?;
        let old =
            masters[((planned.choice * masters.len() as f64) as usize).min(masters.len() - 1)];
        for (new, redis) in self.redis.iter().enumerate() {
            if new != old && follows(redis, self.redis[old].address).await? {
                redis.until("replication", "master_link_status:up").await?;
                return Ok((old, new));
            }
        }
        bail!("{} has no replica", self.redis[old].address)
    }

    async fn until_promoted(&self, server: usize) -> Result<()> {
        let began = Instant::now();
        // A server that changes its role closes its connections.
        let role = || self.redis[server].info("replication", "role");
        while !role().await.is_ok_and(|role| role == "master") {
            if began.elapsed() > PROMOTED_MAX {
                bail!("{} was not promoted", self.redis[server].address);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Waits until a replaced server has become a replica and has all data.
    async fn follows(&self, server: usize) -> Result<()> {
        let began = Instant::now();
        let role = || self.redis[server].info("replication", "role");
        while !role().await.is_ok_and(|role| role == "slave") {
            if began.elapsed() > PROMOTED_MAX {
                bail!("{} never became a replica", self.redis[server].address);
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.redis[server].until("replication", "master_link_status:up").await
    }
}

/// Whether a server is a replica of the one at this address.
async fn follows(redis: &Redis, primary: SocketAddr) -> Result<bool> {
    if redis.info("replication", "role").await? != "slave" {
        return Ok(false);
    }
    let host = redis.info("replication", "master_host").await?;
    let port = redis.info("replication", "master_port").await?;
    Ok(host == primary.ip().to_string() && port == primary.port().to_string())
}
