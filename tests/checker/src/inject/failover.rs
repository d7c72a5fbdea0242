//! Replicas that take over: from a primary that lives, or in the shapes in which it is not for us
//! to say who does.

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

/// Time in which somebody else must have promoted the replica, or made a restarted primary one. A
/// Sentinel waits 8 s before it does the latter, and 12 s before it tries a failed failover again.
const PROMOTED_MAX: Duration = Duration::from_secs(45);

/// Time after a promotion in which nodes must have found it: what is acknowledged later is kept.
const FOUND_MAX: Duration = Duration::from_secs(2);

/// Time after which a node whose connections were at two servers must have all of them at one: it
/// notices within 2 s, tries at most once in 10 s, and needs a moment.
const TOGETHER_MAX: Duration = Duration::from_secs(16);

/// How far a replica is behind that is to take over: less than makes it count as gone.
const BEHIND: Duration = Duration::from_millis(500);

/// Time in which everybody acts on what they have found.
const SETTLED: Duration = Duration::from_secs(3);

impl Cluster {
    /// The replica takes over without any loss, and becomes the server behind every node's address.
    /// Connections to the old one stay, with a replica.
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

    /// The Sentinel is asked to promote the replica while the primary lives, which takes writes
    /// until it is told that it was replaced, some ten seconds later. With the fault comes the time
    /// at which every node must have found the new one.
    pub(super) async fn ask_sentinel(&mut self) -> Result<(Done, Micros)> {
        let (old, new) = (self.primary, 1 - self.primary);
        self.redis[new].until("replication", "master_link_status:up").await?;
        let sentinel = self.sentinel.as_ref().context("no Sentinel")?;
        let began = Instant::now();
        // Another failover may just be over; then it is too early for the next one.
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

    /// The primary is killed, and the Sentinel promotes the replica.
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

    /// Kills a server whose replica has not got the last writes, because it was stopped and cut off
    /// before they came, for less than it takes until it counts as gone. Returns their bytes.
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

    /// A master of the Cluster is killed, and its replica takes over.
    pub(super) async fn lose_master(&mut self, planned: &Planned) -> Result<Done> {
        let (old, new) = self.pair(planned).await?;
        let lost = self.kill_ahead(old, new).await?;
        self.until_promoted(new).await?;
        // From its own settings it knows where the others are, and that it was replaced.
        self.redis[old].start(Persistence::None, None).await?;
        self.redis[old].until_said(&["INFO", "replication"], "role:slave").await?;
        sleep(FOUND_MAX).await;
        self.follows(old).await?;
        let promoted = self.redis[new].address;
        Ok((format!("{promoted} takes over, {lost} bytes of replication were lost"), None))
    }

    /// A replica of the Cluster is asked to take over from its master, which lives.
    pub(super) async fn ask_replica(&mut self, planned: &Planned) -> Result<Done> {
        let (old, new) = self.pair(planned).await?;
        self.redis[new].command(&["CLUSTER", "FAILOVER"]).await?;
        self.until_promoted(new).await?;
        sleep(FOUND_MAX).await;
        self.follows(old).await?;
        Ok((format!("{} takes over", self.redis[new].address), None))
    }

    /// The replica is promoted, and every node's address leads to it, as a name does that leads
    /// elsewhere now. The old primary lives and takes writes from whoever is connected to it. Then
    /// single connections of every node end, and are made anew with the new one. With the fault
    /// comes the time at which every node must have found that it is at two servers.
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
            // Never all of them: that is the failover that every client knows.
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
        // What is acknowledged now must survive the old primary's end.
        sleep(SETTLED).await;
        let (host, port) = (promoted.ip().to_string(), promoted.port().to_string());
        self.redis[old].command(&["REPLICAOF", &host, &port]).await?;
        self.redis[old].until("replication", "master_link_status:up").await?;
        self.links.iter().for_each(crate::proxy::Link::reset);
        Ok(((format!("{} to {promoted}", moved.join(", ")), None), at))
    }

    /// A master of the Cluster and its replica, by chance.
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
        // One that changes what it is closes its connections.
        let role = || self.redis[server].info("replication", "role");
        while !role().await.is_ok_and(|role| role == "master") {
            if began.elapsed() > PROMOTED_MAX {
                bail!("{} was not promoted", self.redis[server].address);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Waits until a server that was replaced has become a replica, with everything.
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

/// Whether a server is the replica of the one at that address.
async fn follows(redis: &Redis, primary: SocketAddr) -> Result<bool> {
    if redis.info("replication", "role").await? != "slave" {
        return Ok(false);
    }
    let host = redis.info("replication", "master_host").await?;
    let port = redis.info("replication", "master_port").await?;
    Ok(host == primary.ip().to_string() && port == primary.port().to_string())
}
