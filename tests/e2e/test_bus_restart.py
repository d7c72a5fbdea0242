"""A new Redis process replaces the old one, with all, some or none of its data. Clients are told of
losses, and everything resumes by itself."""

import json
import time

import pytest

from harness.clock import Clock
from harness.proxy import Proxy
from harness.redis import Redis
from harness.server import eventually
from harness.traffic import CONFIG, Traffic, resuming

NODES = {"config": CONFIG}

# A killed Redis is noticed and said so well within the time that a publisher waits.
DEGRADED_SECONDS_MAX = 4
# Whoever reads a log wants to know that Redis is away, and not each try to reach it.
LOG_LINES_MAX = 25


def wait_degraded(nodes):
    for server in nodes:
        def degraded():
            ready = server.http.get("/ready")
            assert ready.status_code == 200, "a lost bus takes no node out of the balancer"
            return "serving, degraded:" in ready.text and \
                server.metrics().total("corecast_bus_up") == 0
        eventually(degraded, DEGRADED_SECONDS_MAX, "degraded")


def check_healed(nodes):
    for server in nodes:
        eventually(lambda: "degraded" not in server.http.get("/ready").text
                   and server.metrics().total("corecast_bus_up") == 1, 5, "healed")


@pytest.mark.parametrize("aof", [False, True], ids=["nothing", "aof"])
def test_after_a_kill_everybody_is_told_whatever_redis_has_kept(join, aof):
    with Redis("--appendfsync", "everysec", aof=aof) as redis:
        nodes = join([redis.url] * 3)
        with resuming(nodes, told=True) as traffic:
            lines = [len(server.log().splitlines()) for server in nodes]
            redis.kill()
            traffic.wait_outcome("unavailable", "unknown")
            wait_degraded(nodes)
            for server, before in zip(nodes, lines):
                new = server.log().splitlines()[before:]
                assert 1 <= len(new) <= LOG_LINES_MAX, new
            assert nodes[1].result("history", channel="t:traffic", limit=0)["offset"] > 0
            redis.start()
        check_healed(nodes)
        for server in nodes:
            assert server.metrics().total("corecast_bus_epoch_changes_total") > 0


def test_after_a_restart_within_a_blink_everybody_is_told_too(join, redis):
    with resuming(join([redis.url] * 2), told=True, interval=0.01):
        redis.restart()


def test_three_restarts_in_a_row_are_survived(join, redis):
    with resuming(join([redis.url] * 2), told=True):
        for _ in range(3):
            redis.restart(pause=0.2)
            time.sleep(0.3)


def test_errors_say_that_it_is_the_bus_and_clients_get_them_too(join, redis, channel):
    nodes = join([redis.url] * 2)
    client = nodes.subscribe(0, channel)
    nodes[0].publish(channel, 1)
    client.publication(channel)
    redis.kill()
    eventually(lambda: nodes[0].metrics().total("corecast_bus_up") == 0)
    for server in nodes:
        error = server.api("publish", {"channel": channel, "data": 2}).json()["error"]
        assert error["code"] == 100 and error["message"].startswith("bus unavailable"), error
    began = time.monotonic()
    assert client.error("publish", channel=channel, data=2) == 100
    assert time.monotonic() - began < 4.5
    assert client.history(channel, limit=-1)["publications"][0]["data"] == 1
    began = time.monotonic()
    commands = [{"publish": {"channel": channel, "data": n}} for n in range(20)]
    replies = nodes[0].api("batch", {"commands": commands}, timeout=60).json()["replies"]
    assert {reply["error"]["code"] for reply in replies} == {100}
    assert time.monotonic() - began < 5, "not one deadline for each"
    refused = nodes[0].metrics().total("corecast_bus_publications_total", result="unavailable")
    assert refused >= 2
    client.silent()


def test_plain_websockets_are_closed_and_envelopes_say_gap(join, redis, channel):
    nodes = join([redis.url] * 2)
    plain, envelope = nodes.plain(0, channel), nodes.plain(1, channel, "&envelope=json")
    client = nodes.subscribe(0, channel)
    nodes[0].publish(channel, 1)
    assert plain.receive() == "1" and client.publication(channel)["offset"] == 1
    assert envelope.begin()["offset"] == 0
    before = json.loads(envelope.receive())
    redis.restart()
    assert plain.closed(10)[0] == 3010
    told = json.loads(envelope.receive(10))
    assert told["channel"] == channel and "gap" in told, told
    after = eventually(lambda: nodes[0].api("publish", {"channel": channel, "data": 2})
                       .json().get("result"), 10)
    received = json.loads(envelope.receive())
    assert received == {"channel": channel, "data": 2, **after}
    assert received["epoch"] != before["epoch"]
    push = client.push()
    assert push["channel"] == channel and push["unsubscribe"]["code"] == 2500, push
    result = client.subscribe(channel, recover=True, offset=1, epoch=before["epoch"])
    assert not result.get("recovered") and result["epoch"] == after["epoch"]


def test_a_promoted_replica_that_lacks_the_tail_is_a_new_epoch(join):
    with Redis() as primary, Redis() as replica, Proxy(primary.port) as link:
        replica.follow(primary)
        nodes = join([link.url] * 3)
        with resuming(nodes, told=True, lost=True) as traffic:
            replica.freeze()
            primary.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            traffic.flows()  # The replica will never have these.
            link.target = replica.port
            primary.kill()
            replica.thaw()
            replica.promote()


def test_a_promoted_replica_that_has_all_is_a_new_epoch_too(join):
    with Redis() as primary, Redis() as replica, Proxy(primary.port) as link:
        replica.follow(primary)
        with resuming(join([link.url] * 2), told=True):
            link.target = replica.port
            primary.kill()
            replica.promote()


def test_a_redis_that_is_loading_is_waited_for(join):
    with Redis() as redis:
        nodes = join([redis.url] * 2)
        redis.client.mset({f"fill:{n}": n for n in range(6000)})
        with Traffic(nodes) as traffic:
            redis.client.save()
            redis.kill()
            used = [server.cpu_seconds() for server in nodes]
            redis.start("--key-load-delay", "1000", "--loading-process-events-interval-bytes",
                        "1024", wait=False)
            traffic.wait_outcome("unavailable", "unknown")
            traffic.flows(15)
            for server, before in zip(nodes, used):
                assert server.cpu_seconds() - before < 2, "it waits, and does not spin"
        traffic.check(told=True)


def test_a_clock_that_went_back_with_redis_stalls_nobody(join, tmp_path):
    with Redis() as redis, resuming(join([redis.url] * 2), told=True):
        redis.kill()
        redis.prefix = Clock(tmp_path, -3600).prefix
        redis.start()
        assert time.time() - redis.client.time()[0] > 3000


def test_flushall_is_a_new_epoch(join, redis):
    with resuming(join([redis.url] * 2), told=True):
        redis.client.flushall()


def test_flushed_scripts_are_loaded_again_and_nobody_notices(join, redis):
    nodes = join([redis.url] * 2)
    with Traffic(nodes) as traffic:
        for _ in range(3):
            redis.client.script_flush()
            traffic.flows()
    traffic.check(told=False)
    assert traffic.outcomes().keys() == {"ok"}


def test_who_recovers_while_redis_is_away_gets_what_its_node_remembers(join, redis, channel):
    nodes = join([redis.url] * 2)
    for n in range(1, 6):
        position = nodes[0].publish(channel, n)
    nodes.at(channel, position)
    redis.kill()
    eventually(lambda: nodes[1].metrics().total("corecast_bus_up") == 0)
    result = nodes.connect(1).subscribe(channel, recover=True, offset=2, epoch=position["epoch"])
    assert result["recovered"] is True
    assert [pub["data"] for pub in result["publications"]] == [3, 4, 5]
