//! Causes faults as planned, and repairs them.

mod failover;
mod losses;

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::cluster::{Bus, Cluster};
use crate::faults::{Kind, Planned};
use crate::history::{Fault, Takes, now};
use crate::proxy::{Passage, Shape};
use crate::redis::Persistence;
use crate::site::End;

/// Time between two rounds of killing connections.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// Rate of the slowest link, in bytes per second. Others have up to four times as much.
const SLOW_RATE: u32 = 64 * 1024;

/// Time in which the append-only file reaches the disk.
const SYNCED: Duration = Duration::from_millis(1100);

/// Steps of Redis' clock, in seconds. The first exceeds all lifetimes of unused keys, and the
/// second exceeds those of histories and idempotency keys.
const AHEAD: i64 = 40 * 24 * 3600;
const BACK: i64 = 3600;

/// A description of the fault, and the affected channels; `None` means all of them.
type Done = (String, Option<Vec<u16>>);

impl Planned {
    /// Returns a duration between two numbers of seconds.
    fn between(&self, least: f64, most: f64) -> Duration {
        Duration::from_secs_f64(least + (most - least) * self.length)
    }
}

impl Cluster {
    /// Causes a fault, and repairs it.
    ///
    /// # Errors
    /// If it can't be caused or repaired. Then the run is inconclusive.
    pub(crate) async fn inject(&mut self, planned: &Planned) -> Result<Fault> {
        let begin = now();
        let row = planned.kind.row();
        // The end of the fault, if it precedes the end of the repair.
        let mut over = None;
        let done = match planned.kind {
            Kind::KillNode => self.kill_node(planned).await,
            Kind::StopNode => self.stop_node(planned).await,
            Kind::KillRedis => self.kill_redis(planned, Persistence::None).await,
            Kind::KillRedisAof => self.kill_redis(planned, Persistence::Everysec).await,
            Kind::StopRedis => self.stop_redis(planned).await,
            Kind::ClientKill => self.client_kill(planned).await,
            Kind::Trim => self.trim(planned).await,
            Kind::Del => self.del(planned).await,
            Kind::Flush => self.say(&["FLUSHALL"]).await,
            Kind::ScriptFlush => self.say(&["SCRIPT", "FLUSH"]).await,
            Kind::Failover => match self.bus {
                Some(Bus::Sentinel) => self.lose_primary(planned).await,
                Some(Bus::Cluster) => self.lose_master(planned).await,
                _ => self.fail_over(planned).await,
            },
            Kind::PlannedFailover => match self.bus {
                Some(Bus::Sentinel) => self.ask_sentinel().await.map(|(done, at)| {
                    over = Some(at);
                    done
                }),
                Some(Bus::Cluster) => self.ask_replica(planned).await,
                _ => self.hand_over().await,
            },
            Kind::Moved => self.move_connections(planned).await.map(|(done, at)| {
                over = Some(at);
                done
            }),
            Kind::LostPlaces => self.lose_places(planned).await,
            Kind::ClockAhead => self.step_clock(planned, AHEAD).await,
            Kind::ClockBack => self.step_clock(planned, -BACK).await,
            Kind::Cut => self.bend(planned, (1.0, 8.0), Passage::Held).await,
            Kind::HalfOpen => self.bend(planned, (1.0, 8.0), Passage::Swallowed).await,
            Kind::LostReplies => self.bend(planned, (0.3, 8.0), Passage::RepliesSwallowed).await,
            Kind::Reset => self.reset(planned).await,
            Kind::Slow => self.slow(planned).await,
            Kind::Unplug => self.unplug(planned).await,
            Kind::OneWay => self.one_way(planned).await,
            Kind::SplitBrain => self.split_brain(planned).await,
        };
        let (detail, channels) = done.with_context(|| format!("can't do {}", row.name))?;
        // Without Redis, a node that ends also ends the epochs of its channels.
        let alone = planned.kind == Kind::KillNode && self.redis.is_empty();
        let takes = if alone { Takes::Epoch } else { row.takes };
        let end = over.unwrap_or_else(now);
        Ok(Fault { kind: row.name, detail, begin, end, takes, channels })
    }

    async fn kill_node(&mut self, planned: &Planned) -> Result<Done> {
        let away = planned.between(0.2, 3.0);
        let node = &mut self.nodes[planned.node];
        node.kill().await?;
        sleep(away).await;
        let began = Instant::now();
        node.start()?;
        // A node that does not return is reported when everything must work again.
        let ready = match node.until_ready().await {
            Ok(()) => format!("ready after {:.1} s more", began.elapsed().as_secs_f64()),
            Err(error) => format!("{error:#}"),
        };
        let away = away.as_secs_f64();
        Ok((format!("node {}, away for {away:.1} s, {ready}", planned.node), None))
    }

    async fn stop_node(&mut self, planned: &Planned) -> Result<Done> {
        let length = planned.between(1.0, 6.0);
        let node = self.nodes[planned.node].process()?;
        node.signal(Signal::STOP);
        sleep(length).await;
        node.signal(Signal::CONT);
        Ok((format!("node {} for {:.1} s", planned.node, length.as_secs_f64()), None))
    }

    async fn kill_redis(&mut self, planned: &Planned, persistence: Persistence) -> Result<Done> {
        if persistence == Persistence::Everysec {
            let primary = self.primary()?;
            primary.command(&["CONFIG", "SET", "appendonly", "yes"]).await?;
            primary.until("persistence", "aof_rewrite_in_progress:0").await?;
            primary.until("persistence", "aof_rewrite_scheduled:0").await?;
            sleep(SYNCED).await;
        }
        let away = planned.between(0.2, 3.0);
        let primary = &mut self.redis[self.primary];
        primary.kill().await?;
        sleep(away).await;
        primary.start(persistence, None).await?;
        if persistence == Persistence::Everysec {
            primary.command(&["CONFIG", "SET", "appendonly", "no"]).await?;
        }
        Ok((format!("away for {:.1} s", away.as_secs_f64()), None))
    }

    async fn stop_redis(&mut self, planned: &Planned) -> Result<Done> {
        let length = planned.between(1.0, 8.0);
        let redis = self.primary()?.process()?;
        redis.signal(Signal::STOP);
        sleep(length).await;
        redis.signal(Signal::CONT);
        Ok((format!("for {:.1} s", length.as_secs_f64()), None))
    }

    async fn client_kill(&mut self, planned: &Planned) -> Result<Done> {
        let (began, length) = (Instant::now(), planned.between(1.0, 4.0));
        let mut killed = 0;
        let masters = self.masters().await?;
        while began.elapsed() < length {
            for &master in &masters {
                let kill = ["CLIENT", "KILL", "TYPE", "normal"];
                let count = self.redis[master].command(&kill).await?;
                killed += count.parse::<u32>().unwrap_or(0);
            }
            sleep(ROUND_PAUSE).await;
        }
        Ok((format!("{killed} connections in {:.1} s", length.as_secs_f64()), None))
    }

    /// Returns a stream of the bus, with its channels.
    fn stream(&self, planned: &Planned) -> Result<(String, Option<Vec<u16>>)> {
        let at = (planned.choice * self.streams.len() as f64) as usize;
        let (key, channels) =
            self.streams.iter().nth(at).context("no bus stream was found in Redis")?;
        Ok((key.clone(), (!channels.is_empty()).then(|| channels.clone())))
    }

    async fn trim(&mut self, planned: &Planned) -> Result<Done> {
        let (key, channels) = self.stream(planned)?;
        let length = planned.between(1.5, 5.0);
        let node = self.nodes[planned.node].process()?;
        node.signal(Signal::STOP);
        sleep(length).await;
        let trimmed = self.primary()?.command(&["XTRIM", &key, "MAXLEN", "1"]).await;
        node.signal(Signal::CONT);
        let detail = format!(
            "{key} of {} entries while node {} was stopped for {:.1} s",
            trimmed?,
            planned.node,
            length.as_secs_f64()
        );
        Ok((detail, channels))
    }

    async fn del(&mut self, planned: &Planned) -> Result<Done> {
        let (key, channels) = self.stream(planned)?;
        self.primary()?.command(&["DEL", &key]).await?;
        Ok((key, channels))
    }

    async fn say(&mut self, words: &[&str]) -> Result<Done> {
        self.primary()?.command(words).await?;
        Ok((String::new(), None))
    }

    /// Promotes the replica behind every node's address, without the last writes. To lose them, the
    /// replica is stopped and disconnected before them, and continues after the primary was killed.
    async fn fail_over(&mut self, planned: &Planned) -> Result<Done> {
        let (old, new) = (self.primary, 1 - self.primary);
        self.redis[new].until("replication", "master_link_status:up").await?;
        let before = self.writes(old).await?;
        self.redis[new].process()?.signal(Signal::STOP);
        self.redis[old].command(&["CLIENT", "KILL", "TYPE", "replica"]).await?;
        sleep(planned.between(0.3, 1.5)).await;
        let lost = self.writes(old).await?.saturating_sub(before);
        self.redis[old].kill().await?;
        self.redis[new].process()?.signal(Signal::CONT);
        self.redis[new].command(&["REPLICAOF", "NO", "ONE"]).await?;
        let promoted = self.redis[new].address;
        self.links.iter().for_each(|link| link.lead_to(promoted));
        self.promoted(new);
        sleep(SYNCED).await;
        self.redis[old].start(Persistence::None, Some(promoted)).await?;
        Ok((format!("{lost} bytes of replication were lost"), None))
    }

    /// One node stays alone with the primary. For all other nodes the primary is cut off, and the
    /// replica is promoted behind their addresses. Later, the old primary becomes a replica of the
    /// new one, and loses the appends of its node. That node is moved at once, or stays for a while
    /// with a server that is no longer a primary.
    async fn split_brain(&mut self, planned: &Planned) -> Result<Done> {
        let (old, new, alone) = (self.primary, 1 - self.primary, planned.node);
        self.redis[new].until("replication", "master_link_status:up").await?;
        let others = || self.links.iter().enumerate().filter(|(node, _)| *node != alone);
        others().for_each(|(_, link)| {
            link.shape(Shape { passage: Passage::Held, ..Shape::default() });
        });
        sleep(planned.between(0.5, 2.0)).await;
        self.redis[new].command(&["REPLICAOF", "NO", "ONE"]).await?;
        let promoted = self.redis[new].address;
        others().for_each(|(_, link)| {
            link.lead_to(promoted);
            link.reset();
            link.heal();
        });
        let (before, apart) = (self.writes(old).await?, planned.between(1.0, 6.0));
        sleep(apart).await;
        let lost = self.writes(old).await?.saturating_sub(before);
        self.promoted(new);
        let (host, port) = (promoted.ip().to_string(), promoted.port().to_string());
        self.redis[old].command(&["REPLICAOF", &host, &port]).await?;
        self.redis[old].until("replication", "master_link_status:up").await?;
        let stays = planned.choice < 0.5;
        if stays {
            sleep(planned.between(0.5, 3.0)).await;
        }
        let link = self.links.get(alone).context("no link")?;
        link.lead_to(promoted);
        link.reset();
        let detail = format!(
            "node {alone} alone with a primary for {:.1} s, {lost} bytes of replication lost{}",
            apart.as_secs_f64(),
            if stays { "; then with a replica" } else { "" }
        );
        Ok((detail, None))
    }

    /// Returns the number of bytes that a primary has written for its replicas.
    async fn writes(&self, server: usize) -> Result<u64> {
        let info = self.redis[server].command(&["INFO", "replication"]).await?;
        let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
        Ok(offset.and_then(|offset| offset.trim().parse().ok()).unwrap_or(0))
    }

    async fn bend(
        &mut self,
        planned: &Planned,
        (least, most): (f64, f64),
        passage: Passage,
    ) -> Result<Done> {
        let length = planned.between(least, most);
        let link = self.links.get(planned.node).context("no link")?;
        link.shape(Shape { passage, ..Shape::default() });
        sleep(length).await;
        link.heal();
        Ok((format!("node {} for {:.1} s", planned.node, length.as_secs_f64()), None))
    }

    async fn unplug(&mut self, planned: &Planned) -> Result<Done> {
        let length = planned.between(1.0, 8.0);
        let site = self.sites.get(planned.node).context("no site")?;
        let (end, place) = if planned.choice < 0.5 {
            (End::Node, "at the node")
        } else {
            (End::Redis, "at the other end")
        };
        site.pull(end).await?;
        sleep(length).await;
        site.heal().await?;
        Ok((format!("node {} for {:.1} s, {place}", planned.node, length.as_secs_f64()), None))
    }

    async fn one_way(&mut self, planned: &Planned) -> Result<Done> {
        let length = planned.between(1.0, 8.0);
        let site = self.sites.get(planned.node).context("no site")?;
        let (end, what) =
            if planned.choice < 0.5 { (End::Node, "replies") } else { (End::Redis, "requests") };
        site.deafen(end).await?;
        sleep(length).await;
        site.heal().await?;
        let detail = format!("{what} of node {} for {:.1} s", planned.node, length.as_secs_f64());
        Ok((detail, None))
    }

    async fn reset(&mut self, planned: &Planned) -> Result<Done> {
        let (began, length) = (Instant::now(), planned.between(0.3, 3.0));
        let link = self.links.get(planned.node).context("no link")?;
        while began.elapsed() < length {
            link.reset();
            sleep(ROUND_PAUSE).await;
        }
        Ok((format!("node {} for {:.1} s", planned.node, length.as_secs_f64()), None))
    }

    async fn slow(&mut self, planned: &Planned) -> Result<Done> {
        let length = planned.between(3.0, 6.0);
        let rate = SLOW_RATE + (planned.choice * 3.0 * f64::from(SLOW_RATE)) as u32;
        let delay = Duration::from_millis(20 + (planned.choice * 180.0) as u64);
        let link = self.links.get(planned.node).context("no link")?;
        link.shape(Shape { delay, sliced: true, rate: Some(rate), ..Shape::default() });
        sleep(length).await;
        link.heal();
        let detail = format!(
            "node {} for {:.1} s: {} ms late, {rate} B/s, in slices",
            planned.node,
            length.as_secs_f64(),
            delay.as_millis()
        );
        Ok((detail, None))
    }
}

#[cfg(test)]
mod tests;
