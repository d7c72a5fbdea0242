//! Tests the faults of Redis on real servers. The tests do nothing if `redis-server` is not
//! installed.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::cluster::{Bus, Topology};
use crate::proxy::Link;
use crate::redis::Redis;

/// Starts Redis with a replica and a link like those of nodes. Also returns the server as seen
/// through the link.
async fn started() -> Option<(Cluster, Redis, TempDir)> {
    if std::process::Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("redis-server is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let clock = true;
    let topology = Topology { bus: Some(Bus::Links), clock, ..Topology::default() };
    let started = Cluster::start(Path::new("none"), directory.path(), topology).await;
    let mut cluster = started.unwrap();
    let through = linked(&mut cluster, &directory).await;
    Some((cluster, through, directory))
}

/// Adds a link, and returns the server as seen through it.
async fn linked(cluster: &mut Cluster, directory: &TempDir) -> Redis {
    let mut address = cluster.redis[0].address;
    address.set_port(0);
    cluster.links.push(Link::open(address, cluster.redis[0].address).await.unwrap());
    let address = cluster.links.last().unwrap().address;
    Redis::new(address, directory.path().join("unused"))
}

/// Counts up at the primary until it refuses. Returns the last acknowledged count. It does not use
/// a link, which may lead to the other server before a write was refused.
fn count_up(cluster: &Cluster, directory: &TempDir) -> impl Future<Output = u32> + use<> {
    let primary = Redis::new(cluster.redis[0].address, directory.path().join("unused"));
    async move {
        let mut acknowledged = 0;
        while let Ok(count) = primary.command(&["INCR", "count"]).await {
            acknowledged = count.parse::<u32>().unwrap();
        }
        acknowledged
    }
}

fn planned(kind: Kind) -> Planned {
    Planned { at: Duration::ZERO, kind, node: 0, choice: 0.0, length: 0.2 }
}

#[tokio::test]
async fn a_failover_loses_what_came_last_and_nothing_else() {
    let Some((mut cluster, through, directory)) = started().await else { return };
    through.command(&["SET", "before", "1"]).await.unwrap();
    until_there(&cluster.redis[1], "before").await;
    let writing = count_up(&cluster, &directory);
    let plan = planned(Kind::Failover);
    let (fault, acknowledged) = tokio::join!(cluster.inject(&plan), writing);
    assert_eq!(fault.unwrap().takes, Takes::Epoch);
    until_there(&through, "before").await;
    let kept = through.command(&["GET", "count"]).await.unwrap();
    let kept = kept.parse::<u32>().unwrap_or(0);
    assert!(acknowledged > kept, "{acknowledged} were acknowledged, and {kept} are there");
    // And back again.
    cluster.inject(&plan).await.unwrap();
    until_there(&through, "before").await;
}

#[tokio::test]
async fn two_primaries_both_take_writes_until_one_of_them_loses_its_own() {
    let Some((mut cluster, alone, directory)) = started().await else { return };
    let other = linked(&mut cluster, &directory).await;
    alone.command(&["SET", "before", "1"]).await.unwrap();
    until_there(&cluster.redis[1], "before").await;
    let mut noted = 0;
    let writing = async {
        until_there(&other, "before").await;
        loop {
            // Write only after the promotion, because an earlier value would reach the replica and
            // stay. The role distinguishes this server from the old primary.
            if other.command(&["INFO", "replication"]).await.is_ok_and(|info| is_promoted(&info)) {
                other.command(&["SET", "other", "1"]).await.unwrap();
                // The server writes its own run id, because the link may have led to the other
                // server meanwhile.
                if alone.command(&["EVAL", NOTE_RUN, "1", "alone"]).await.is_err() {
                    return;
                }
                noted += 1;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let left = alone.info("server", "run_id").await.unwrap();
    let plan = planned(Kind::SplitBrain);
    let (fault, ()) = tokio::join!(cluster.inject(&plan), writing);
    assert_eq!(fault.unwrap().takes, Takes::Split);
    assert!(noted > 0, "the old primary took no writes after the promotion");
    for link in [&alone, &other] {
        until_there(link, "before").await;
        until_there(link, "other").await;
        assert_ne!(link.command(&["GET", "alone"]).await.unwrap(), left);
    }
}

/// Sets a key to the server's run id.
const NOTE_RUN: &str = "local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
    return redis.call('SET', KEYS[1], run)";

/// Whether this text is from a primary that was a replica before.
fn is_promoted(info: &str) -> bool {
    info.contains("role:master") && !info.contains("second_repl_offset:-1")
}

/// Waits until this server has `key`. It may be a replica before or shortly after its promotion.
/// `WAIT` is no alternative, because it only covers writes of its own connection.
async fn until_there(server: &Redis, key: &str) {
    for _ in 0..50 {
        if server.command(&["EXISTS", key]).await.is_ok_and(|found| found == "1") {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the replica never gets {key}");
}

#[tokio::test]
async fn a_killed_redis_has_what_its_log_has() {
    let Some((mut cluster, through, _directory)) = started().await else { return };
    for (kind, kept) in [(Kind::KillRedis, ""), (Kind::KillRedisAof, "1"), (Kind::KillRedis, "")] {
        through.command(&["SET", "key", "1"]).await.unwrap();
        let before = through.command(&["INFO", "server"]).await.unwrap();
        cluster.inject(&planned(kind)).await.unwrap();
        assert_eq!(through.command(&["GET", "key"]).await.unwrap(), kept, "{kind:?}");
        let after = through.command(&["INFO", "server"]).await.unwrap();
        let run =
            |info: &str| info.lines().find(|line| line.starts_with("run_id")).map(str::to_owned);
        assert_ne!(run(&before), run(&after), "{kind:?}");
    }
}

#[tokio::test]
async fn streams_are_found_and_deleted_with_the_channels_that_they_concern() {
    let Some((mut cluster, through, _directory)) = started().await else { return };
    through.command(&["XADD", "corecast:{3}:bus", "1-1", "a", "b"]).await.unwrap();
    through.command(&["HSET", "corecast:{3}:places", "check:1", "1:7"]).await.unwrap();
    let names = ["check:0".to_owned(), "check:1".to_owned()];
    cluster.learn_streams(&names).await.unwrap();
    let fault = cluster.inject(&planned(Kind::Del)).await.unwrap();
    assert_eq!((&*fault.detail, fault.channels), ("corecast:{3}:bus", Some(vec![1])));
    assert_eq!(through.command(&["EXISTS", "corecast:{3}:bus"]).await.unwrap(), "0");
    assert_eq!(cluster.inject(&planned(Kind::Flush)).await.unwrap().channels, None);
    assert_eq!(through.command(&["DBSIZE"]).await.unwrap(), "0");
}

#[tokio::test]
async fn connections_are_killed_and_reset() {
    let Some((mut cluster, through, _directory)) = started().await else { return };
    for kind in [Kind::ClientKill, Kind::Reset] {
        let plan = planned(kind);
        // This command blocks for longer than the fault, so only a disconnect ends it.
        let blocked = through.command(&["BLPOP", "nothing", "9"]);
        let (fault, blocked) = tokio::join!(cluster.inject(&plan), blocked);
        assert_eq!(fault.unwrap().takes, Takes::Nothing);
        assert!(blocked.is_err(), "{kind:?}: {blocked:?}");
    }
}

#[tokio::test]
async fn a_primary_that_is_asked_hands_over_without_a_loss() {
    let Some((mut cluster, through, directory)) = started().await else { return };
    let writing = count_up(&cluster, &directory);
    let plan = planned(Kind::PlannedFailover);
    let inject = async {
        until_there(&through, "count").await;
        cluster.inject(&plan).await
    };
    let (fault, acknowledged) = tokio::join!(inject, writing);
    assert_eq!(fault.unwrap().takes, Takes::Split);
    cluster.links[0].reset();
    let kept = through.command(&["GET", "count"]).await.unwrap();
    assert_eq!(kept, acknowledged.to_string());
    assert_eq!(*cluster.primary_at.borrow(), Some(cluster.redis[1].address));
}

#[tokio::test]
async fn places_are_lost_and_the_stream_stays() {
    let Some((mut cluster, through, _directory)) = started().await else { return };
    through.command(&["XADD", "corecast:{3}:bus", "1-1", "a", "b"]).await.unwrap();
    let places = ["HSET", "corecast:{3}:places", "check:1", "1:7", "check:0", "1:4"];
    through.command(&places).await.unwrap();
    cluster.learn_streams(&["check:0".to_owned(), "check:1".to_owned()]).await.unwrap();
    let fault = cluster.inject(&planned(Kind::LostPlaces)).await.unwrap();
    let mut concerned = fault.channels.unwrap();
    concerned.sort_unstable();
    assert_eq!((fault.takes, concerned), (Takes::Epoch, vec![0, 1]));
    assert_eq!(through.keys("*").await.unwrap(), ["corecast:{3}:bus"]);
}

#[tokio::test]
async fn what_expires_is_gone_when_the_clock_is_ahead_only() {
    let Some((mut cluster, through, _directory)) = started().await else { return };
    for (kind, kept) in [(Kind::ClockBack, "1"), (Kind::ClockAhead, "0")] {
        through.command(&["SET", "key", "1", "EX", "3000000"]).await.unwrap();
        let before = through.command(&["TIME"]).await.unwrap();
        cluster.inject(&planned(kind)).await.unwrap();
        assert_eq!(through.command(&["EXISTS", "key"]).await.unwrap(), kept, "{kind:?}");
        let after = through.command(&["TIME"]).await.unwrap();
        let second = |time: &str| time.lines().next().unwrap().parse::<i64>().unwrap();
        let passed = second(&after) - second(&before);
        assert!((0..60).contains(&passed), "the clock is right again: {passed} s");
    }
}

/// Sentinels and Clusters decide themselves which server takes over.
#[tokio::test]
async fn a_server_that_is_killed_is_replaced_by_its_replica() {
    if started().await.is_none() {
        return;
    }
    for bus in [Bus::Sentinel, Bus::Cluster] {
        let directory = tempfile::tempdir().unwrap();
        let topology = Topology { bus: Some(bus), ..Topology::default() };
        let started = Cluster::start(Path::new("none"), directory.path(), topology).await;
        let mut cluster = started.unwrap();
        let before = cluster.masters().await.unwrap();
        let fault = cluster.inject(&planned(Kind::Failover)).await.unwrap();
        assert_eq!(fault.takes, Takes::Epoch);
        let after = cluster.masters().await.unwrap();
        assert_eq!(before.len(), after.len(), "{bus:?}");
        assert_eq!(after.iter().filter(|server| !before.contains(server)).count(), 1, "{bus:?}");
    }
}
