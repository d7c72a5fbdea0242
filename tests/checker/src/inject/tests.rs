//! Whether the faults of Redis do what they say, on real servers: where `redis-server` is not
//! installed there is nothing to try.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::cluster::Topology;
use crate::proxy::Link;
use crate::redis::Redis;

/// Redis with its replica, and a link to it as nodes have one; the second is the link's other end.
async fn started(port: u16) -> Option<(Cluster, Redis, TempDir)> {
    if std::process::Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("redis-server is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let topology = Topology { redis: true, ..Topology::default() };
    let started = Cluster::start(Path::new("none"), directory.path(), topology, port).await;
    let mut cluster = started.unwrap();
    let mut address = cluster.redis[0].address;
    address.set_port(port);
    cluster.links.push(Link::open(address, cluster.redis[0].address).await.unwrap());
    Some((cluster, Redis::new(address, directory.path().join("unused")), directory))
}

fn planned(kind: Kind) -> Planned {
    Planned { at: Duration::ZERO, kind, node: 0, choice: 0.0, length: 0.2 }
}

#[tokio::test]
async fn a_failover_loses_what_came_last_and_nothing_else() {
    let Some((mut cluster, through, directory)) = started(21_110).await else { return };
    through.command(&["SET", "before", "1"]).await.unwrap();
    until_there(&cluster.redis[1], "before").await;
    // Not through the link, which may lead to the other one before a writer was refused.
    let old = Redis::new(cluster.redis[0].address, directory.path().join("unused"));
    let writing = async {
        let mut acknowledged = 0;
        while let Ok(count) = old.command(&["INCR", "count"]).await {
            acknowledged = count.parse::<u32>().unwrap();
        }
        acknowledged
    };
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
    let Some((mut cluster, alone, directory)) = started(21_150).await else { return };
    let mut address = alone.address;
    address.set_port(21_151);
    cluster.links.push(Link::open(address, cluster.redis[0].address).await.unwrap());
    let other = Redis::new(address, directory.path().join("unused"));
    alone.command(&["SET", "before", "1"]).await.unwrap();
    until_there(&cluster.redis[1], "before").await;
    let writing = async {
        until_there(&other, "before").await;
        while alone.command(&["SET", "alone", "1"]).await.is_ok() {
            // Told apart from the old primary's, if it were that one that answers.
            if other.command(&["INFO", "replication"]).await.is_ok_and(|info| is_promoted(&info)) {
                other.command(&["SET", "other", "1"]).await.unwrap();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let plan = planned(Kind::SplitBrain);
    let (fault, ()) = tokio::join!(cluster.inject(&plan), writing);
    assert_eq!(fault.unwrap().takes, Takes::Split);
    for link in [&alone, &other] {
        until_there(link, "before").await;
        until_there(link, "other").await;
        assert_eq!(link.command(&["GET", "alone"]).await.unwrap(), "");
    }
}

/// Whether that is said by a primary that was a replica.
fn is_promoted(info: &str) -> bool {
    info.contains("role:master") && !info.contains("second_repl_offset:-1")
}

/// Waits until that server has `key`: a replica that is to be promoted, or one that was and needs a
/// moment. `WAIT` can't tell: it is about writes of its own connection.
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
    let Some((mut cluster, through, _directory)) = started(21_120).await else { return };
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
    let Some((mut cluster, through, _directory)) = started(21_130).await else { return };
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
    let Some((mut cluster, through, _directory)) = started(21_140).await else { return };
    for kind in [Kind::ClientKill, Kind::Reset] {
        let plan = planned(kind);
        // A connection that waits longer than the fault lasts: it can only be cut off.
        let blocked = through.command(&["BLPOP", "nothing", "9"]);
        let (fault, blocked) = tokio::join!(cluster.inject(&plan), blocked);
        assert_eq!(fault.unwrap().takes, Takes::Nothing);
        assert!(blocked.is_err(), "{kind:?}: {blocked:?}");
    }
}
