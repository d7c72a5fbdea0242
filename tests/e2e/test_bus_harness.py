"""Tests of the Redis harness: its faults have the promised effect, and its checks can fail."""

import contextlib
import os
import time

import pytest
import redis.exceptions as redis_py

from harness.clock import Clock
from harness.netns import AWAY, DOOR, HOME, SHARED, Sites
from harness.proxy import Proxy
from harness.redis import Certificates, Cluster, Redis, Sentinel
from harness.server import eventually
from harness.traffic import Attempt, Follower, Publisher, Traffic


def test_redis_starts_keeps_and_loses():
    for aof, kept in [(False, None), (True, b"1")]:
        with Redis("--appendfsync", "always", aof=aof) as redis:
            redis.client.set("a", 1)
            run = redis.client.info("server")["run_id"]
            redis.restart()
            assert redis.client.get("a") == kept
            assert redis.client.info("server")["run_id"] != run


def test_redis_listens_in_every_way(tmp_path):
    certificates = Certificates(tmp_path)
    for options in ({"unix": True}, {"tls": certificates}, {"password": "p"}):
        with Redis(**options) as redis:
            assert redis.client.ping()


def test_redis_and_whoever_else_has_a_wrong_clock(tmp_path):
    clock = Clock(tmp_path, -3600)
    with Redis(prefix=clock.prefix) as redis:
        assert -3605 < redis.client.time()[0] - time.time() < -3595
        clock.jump(3600)
        assert 3595 < redis.client.time()[0] - time.time() < 3605
        redis.kill()
        assert redis.process.poll() is not None


def test_a_sentinel_promotes_a_replica():
    with Redis() as primary, Redis() as replica:
        replica.follow(primary)
        with Sentinel(primary) as sentinel:
            sentinel.wait_replica()
            primary.kill()
            eventually(lambda: sentinel.primary() == replica.port, 15, "the replica is promoted")


def test_a_cluster_is_whole_again_after_a_restart():
    with Cluster() as cluster:
        assert cluster.whole()
        cluster.nodes[2].kill()
        eventually(lambda: not cluster.nodes[0].cluster_ok(), 10)
        cluster.nodes[2].start()
        eventually(cluster.whole, 15)


def test_a_link_is_slow_silent_cut_and_loses_answers():
    with Redis() as redis, Proxy(redis.port) as link:
        direct, port, redis.port = redis.client, redis.port, link.port
        client = redis.connect(socket_timeout=1)
        assert client.ping()
        link.latency, began = 0.1, time.monotonic()
        assert client.ping() and time.monotonic() - began >= 0.2
        link.latency, link.slice_bytes = 0.0, 1
        assert client.set("a", "b" * 1000) and client.get("a") == b"b" * 1000
        link.lose_answer_to(b"marked")
        with pytest.raises(Exception):
            client.set("marked", 1)
        assert link.lost.wait(1) and direct.get("marked") == b"1"
        assert client.ping()
        link.hush()
        with pytest.raises(Exception):
            client.ping()
        assert client.ping(), "a new connection works"
        assert link.cut() >= 1
        redis.port = port


def test_sites_are_cut_apart_in_either_direction_and_leave_nothing_behind():
    outside = os.readlink("/proc/thread-self/ns/net")
    with Sites() as sites:
        assert os.readlink("/proc/thread-self/ns/net") != outside
        with Redis("--bind", "*", host=AWAY, door=DOOR, prefix=sites.away) as redis:
            door = redis.client
            redis.door = AWAY

            def connect():
                return redis.connect(socket_timeout=0.5, socket_connect_timeout=0.5)

            def passes():
                with contextlib.suppress(redis_py.RedisError):
                    return connect().ping()

            cuts = {"no way": lambda: sites.pull(AWAY), "silence": lambda: sites.pull(HOME),
                    "away is deaf": lambda: sites.deafen(AWAY),
                    "home is deaf": lambda: sites.deafen(HOME)}
            for key, cut in cuts.items():
                client = connect()
                assert client.ping()
                cut()
                with pytest.raises(redis_py.RedisError):
                    client.set(key, 1)
                assert bool(door.exists(key)) == (key == "home is deaf")
                assert not passes()
                sites.heal()
                eventually(passes, 5, "the same link, good again")
            sites.narrow(64)
            began = time.monotonic()
            redis.connect().set("large", "x" * 16_000)
            assert 1.0 < time.monotonic() - began < 6.0, "8 KB/s"
            sites.heal()
            redis.door = SHARED
            assert not passes(), "nobody holds the address"
            sites.hold(AWAY)
            assert passes()
            sites.release(AWAY)
            assert not passes()
        holder = sites.holder
    assert os.readlink("/proc/thread-self/ns/net") == outside
    assert not os.path.exists(f"/proc/{holder}"), "what held the network is gone, so the network is"


def judged(log, attempts):
    """What Traffic says of one follower's log and one publisher's attempts."""
    traffic = Traffic.__new__(Traffic)
    follower, publisher = Follower([], "c", 0), Publisher(None, ["c"], 0)
    follower.log, publisher.attempts = log, attempts
    traffic.followers, traffic.publishers = [follower], [publisher]
    traffic.check()


def ok(n, offset, epoch="e"):
    return Attempt(f"p-{n}", "ok", "", 0.0, 0.0, ("c", epoch, offset))


FIRST = ("subscribed", "e", 0, False, False)
GOOD = [FIRST, ("pub", 1, "p-1"), ("pub", 2, "p-2"), ("pub", 3, "p-3")]
OKS = [ok(1, 1), ok(2, 2), ok(3, 3)]
REFUSED = Attempt("p-3", "unavailable", "", 0.0, 0.0)
LOST = ("subscribed", "f", 1, True, False)


@pytest.mark.parametrize("log, attempts", [
    (GOOD, OKS),
    (GOOD[:3], [*OKS[:2], REFUSED]),
    ([*GOOD[:2], ("told", 2500), ("subscribed", "e", 1, True, True), *GOOD[2:]], OKS),
    ([*GOOD[:3], ("told", 2500), LOST, ("pub", 2, "p-5")],
     [*OKS, ok(4, 1, "f"), ok(5, 2, "f")]),
    (GOOD, [*OKS[:2], Attempt("p-3", "unknown", "", 0.0, 0.0)]),
], ids=["all", "refused", "recovered", "told", "unknown"])
def test_what_is_promised_passes(log, attempts):
    judged(log, attempts)


@pytest.mark.parametrize("log, attempts", [
    ([*GOOD[:2], GOOD[3]], OKS),
    (GOOD[:3], OKS),
    ([*GOOD, ("pub", 4, "p-3")], OKS),
    ([*GOOD, ("pub", 4, "p-4")], OKS),
    ([FIRST, ("pub", 1, "p-2"), ("pub", 2, "p-1"), GOOD[3]], OKS),
    (GOOD, [*OKS[:2], REFUSED]),
    ([*GOOD[:2], ("told", 2500), ("subscribed", "e", 2, True, True), GOOD[3]], OKS),
    ([*GOOD[:3], LOST, ("pub", 3, "p-5")], [*OKS, ok(4, 1, "f"), ok(5, 3, "f")]),
    ([*GOOD[:3], LOST], [*OKS, ok(4, 1, "f"), ok(5, 2, "f")]),
    (GOOD, [OKS[0], OKS[1], Attempt("p-3", "ok", "", 0.0, 9.0, ("c", "e", 3))]),
    ([FIRST, ("pub", 1, "p-2"), ("pub", 2, "p-1")], [ok(1, 2), ok(2, 1)]),
], ids=["hole", "missed", "twice", "made up", "swapped", "refused but seen", "skipped by recovery",
        "hole after told", "missed after told", "late", "order of one publisher"])
def test_what_is_not_promised_is_found(log, attempts):
    with pytest.raises(AssertionError):
        judged(log, attempts)
