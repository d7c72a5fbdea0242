"""Redis answers, but refuses: its disk or memory is full, it is a replica, it requires a password,
or it has lost its replicas. Publishers get errors at once, clients stay connected, and everything
resumes by itself."""

import os
import subprocess
import time

import pytest

from harness.clock import Clock
from harness.proxy import Proxy
from harness.redis import Redis, forbidden, program
from harness.server import eventually
from harness.traffic import CONFIG, Traffic

NODES = {"config": CONFIG}
CPU_SHARE_MAX = 0.5
# A log has a failure that goes on once in a while, so a new reason for it may be a little late.
TOLD_SECONDS_MAX = 10
LOG_LINES_PER_SECOND_MAX = 5


def refuses(nodes, words, certain=True, channel="t:refused"):
    """Publishing is refused for a reason that has these words, in the error or in the log."""
    for server in nodes:
        error = server.api("publish", {"channel": channel, "data": 1}).json().get("error")
        assert error, "it was not refused"
        assert error["code"] == 100, error
        assert not certain or error["message"].startswith("bus unavailable"), error
        eventually(lambda: words in error["message"] or words in server.log(), TOLD_SECONDS_MAX,
                   f"{words} is told, and not only {error}")


def idle(nodes, seconds=2.0):
    """Nodes wait rather than spin, and do not log each try."""
    before = [(server.cpu_seconds(), len(server.log().splitlines())) for server in nodes]
    time.sleep(seconds)
    for server, (used, lines) in zip(nodes, before):
        assert (server.cpu_seconds() - used) / seconds < CPU_SHARE_MAX, "it spins"
        new = server.log().splitlines()[lines:]
        assert len(new) <= seconds * LOG_LINES_PER_SECOND_MAX, new[-5:]


def test_a_full_memory_is_told_and_left(join, redis):
    nodes = join([redis.url] * 2)
    with Traffic(nodes) as traffic:
        redis.client.config_set("maxmemory", "1mb")
        traffic.wait_outcome("unavailable")
        refuses(nodes, "OOM")
        idle(nodes)
        assert nodes[0].result("history", channel="t:traffic", limit=0)["offset"] > 0
        redis.client.config_set("maxmemory", "0")
        traffic.flows(10)
    traffic.check(told=False)


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a file system of 8 MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path],
                             capture_output=True, text=True)
    assert mounted.returncode == 0, f"root is needed: {mounted.stderr}"
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_full_disk_is_told_and_left(join, small_disk):
    with Redis("--appendfsync", "everysec", aof=True, directory=small_disk) as redis:
        nodes = join([redis.url] * 2)
        with Traffic(nodes) as traffic:
            filler = small_disk / "filler"
            with open(filler, "wb") as file, pytest.raises(OSError):
                while True:
                    os.write(file.fileno(), bytes(4096))
            traffic.wait_outcome("unavailable", seconds=15)
            refuses(nodes, "MISCONF")
            assert nodes[0].result("history", channel="t:traffic", limit=0)["offset"] > 0
            filler.unlink()
            traffic.flows(15)
        traffic.check(told=False)


def test_a_primary_that_became_a_replica_is_told_and_left(join, redis):
    with Redis() as other:
        nodes = join([redis.url] * 2)
        with Traffic(nodes) as traffic:
            redis.follow(other)
            traffic.wait_outcome("unavailable", "unknown")
            refuses(nodes, "READONLY")
            idle(nodes)
            redis.promote()
            traffic.flows(10)
        traffic.check(told=True)


def test_a_password_that_was_set_meanwhile_is_told_and_left(join, redis):
    nodes = join([redis.url] * 2)
    with Traffic(nodes) as traffic:
        redis.client.config_set("requirepass", "new")
        redis.kill_clients()
        traffic.wait_outcome("unavailable", "unknown")
        refuses(nodes, "NOAUTH")
        idle(nodes)
        redis.client.config_set("requirepass", "")
        traffic.flows(10)
    traffic.check(told=False)


def test_a_user_that_may_not_write_is_told_and_left(join, redis):
    acl = ["ACL", "SETUSER", "bus", "on", ">open"]
    redis.client.execute_command(*acl, "~*", "+@all")
    nodes = join([f"redis://bus:open@127.0.0.1:{redis.port}"])
    with Traffic(nodes) as traffic:
        redis.client.execute_command(*acl, "-@write")
        traffic.wait_outcome("unavailable", "unknown")
        refuses(nodes, forbidden(), certain=False)
        idle(nodes)
        redis.client.execute_command(*acl, "+@write")
        traffic.flows(10)
    traffic.check(told=False)


def test_the_side_that_lost_its_replica_accepts_nothing(join):
    """A split: node 0 stays with the old primary, node 1 goes with the promoted replica."""
    guard = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
    with Redis(*guard) as old, Redis() as new, Proxy(old.port) as replication, \
            Proxy(old.port) as left, Proxy(old.port) as right:
        new.client.replicaof("127.0.0.1", replication.port)
        eventually(lambda: old.client.info("replication")["connected_slaves"] == 1
                   and old.client.info("replication").get("min_slaves_good_slaves") == 1, 15)
        nodes = join([left.url, right.url])
        with Traffic(nodes) as traffic:
            replication.silent = True
            new.promote()
            right.target = new.port
            right.cut()
            eventually(lambda: traffic.publishers[0].attempts[-1].outcome == "unavailable", 10,
                       "the old side refuses")
            refuses([nodes[0]], "NOREPLICAS")
            eventually(lambda: traffic.publishers[1].attempts[-1].outcome == "ok", 10,
                       "the new side accepts")
            fenced = len(traffic.publishers[0].outcomes("ok"))
            time.sleep(1.5)
            assert len(traffic.publishers[0].outcomes("ok")) == fenced
            left.target = new.port
            left.cut()
            traffic.flows(10)
        traffic.check(told=True)


def test_a_clock_that_jumps_on_a_node_changes_nothing(join, redis, tmp_path):
    clock = Clock(tmp_path)
    nodes = join([redis.url] * 2, prefix=clock.prefix)
    with Traffic(nodes) as traffic:
        for seconds in (3600, -3600, 0):
            clock.jump(seconds)
            traffic.flows()
    traffic.check(told=False)
    assert traffic.outcomes().keys() == {"ok"}
    for server in nodes:
        assert server.metrics().total("corecast_bus_up") == 1


def _full(redis):
    redis.client.config_set("maxmemory", "1mb")
    return lambda: redis.client.config_set("maxmemory", "0")


def _no_snapshots(redis):
    redis.client.config_set("save", "900 1")
    redis.client.config_set("dir", "/proc")
    redis.client.bgsave()
    eventually(lambda: redis.client.info("persistence")["rdb_last_bgsave_status"] == "err")
    return lambda: redis.client.config_set("stop-writes-on-bgsave-error", "no")


def _no_permission(redis):
    redis.client.execute_command("ACL", "SETUSER", "default", "-xadd")
    return lambda: redis.client.execute_command("ACL", "SETUSER", "default", "+xadd")


def _no_generations(redis):
    # An append needs it once in 30 days.
    redis.client.execute_command("ACL", "SETUSER", "default", "-rename")
    return lambda: redis.client.execute_command("ACL", "SETUSER", "default", "+rename")


def _demoted(redis):
    redis.client.replicaof("127.0.0.1", 1)
    return redis.promote


def _without_replicas(redis):
    redis.client.config_set("min-replicas-to-write", 1)
    return lambda: redis.client.config_set("min-replicas-to-write", 0)


def _evicting(redis):
    redis.client.config_set("maxmemory-policy", "allkeys-lru")
    return lambda: redis.client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize("harm, word", [
    (_full, "OOM"), (_no_snapshots, "MISCONF"), (_no_permission, forbidden()),
    (_no_generations, forbidden()), (_demoted, "READONLY"),
    (_without_replicas, "NOREPLICAS"), (_evicting, "allkeys-lru"),
], ids=["memory", "disk", "permission", "generations", "replica", "replicas", "eviction"])
def test_a_refusal_is_found_though_nobody_publishes_and_publishers_do_not_wait(join, harm, word):
    # Redis 6.2 lets a test change every setting.
    options = ["--enable-protected-configs", "yes"] if program() >= ("Redis", (7,)) else []
    with Redis(*options) as redis:
        (server,) = join([redis.url])
        server.publish("t:a", 1)
        calls = probes(redis)
        time.sleep(2)
        assert 1 <= probes(redis) - calls <= 3, "once a second"
        undo = harm(redis)
        def is_found():
            text = server.http.get("/ready").text
            return "accepts no publications" in text and word in text

        eventually(is_found, 5, "it is found")
        assert "degraded" in server.http.get("/ready").text
        assert server.metrics().total("corecast_bus_up") == 0
        for _ in range(5):
            began = time.monotonic()
            error = server.api("publish", {"channel": "t:a", "data": 1}).json()["error"]
            assert error["message"].startswith("bus unavailable"), error
            assert time.monotonic() - began < 0.5, "it waited"
        undo()
        eventually(lambda: "degraded" not in server.http.get("/ready").text, 5, "it is over")
        assert server.metrics().total("corecast_bus_up") == 1
        server.publish("t:a", 2)


def test_a_redis_that_takes_no_stream_over_is_told_and_publishers_do_not_wait(join):
    with Redis(aof=True) as redis:
        (server,) = join([redis.url])
        server.publish("t:a", 1)
        redis.kill()
        redis.start("--min-replicas-to-write", "1")
        eventually(lambda: "NOREPLICAS" in server.http.get("/ready").text, 10, "it is found")

        def seconds():
            began = time.monotonic()
            error = server.api("publish", {"channel": "t:a", "data": 1}).json()["error"]
            assert error["message"].startswith("bus unavailable"), error
            return time.monotonic() - began

        # Few come while a connection is tried, and wait for it.
        assert sorted(seconds() for _ in range(9))[4] < 0.5, "it waited"
        redis.client.config_set("min-replicas-to-write", 0)
        eventually(lambda: "degraded" not in server.http.get("/ready").text, 5, "it is over")
        server.publish("t:a", 2)


def probes(redis):
    """How often XADD was tried by a script, and refused: nobody publishes."""
    stats = redis.client.info("commandstats").get("cmdstat_xadd", {})
    return sum(stats.get(kind, 0) for kind in ("calls", "rejected_calls"))


def test_a_stream_that_can_not_be_ingested_is_a_node_that_is_degraded(join, redis):
    (server,) = join([redis.url])
    eventually(lambda: redis.client.exists("corecast:ingest"))
    redis.client.set("corecast:ingest", "no stream")
    eventually(lambda: "ingest stream" in server.http.get("/ready").text, 5, "it is degraded")
    assert server.metrics().total("corecast_bus_up") == 1, "publishing works"
    server.publish("t:a", 1)
    redis.client.delete("corecast:ingest")
    eventually(lambda: "degraded" not in server.http.get("/ready").text, 5, "and well again")
