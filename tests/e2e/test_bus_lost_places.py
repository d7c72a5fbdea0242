"""Redis loses the places of channels, in every possible way. No position is used twice, every
recovering client gets everything or is told of the loss, and publishing goes on."""

import contextlib

import pytest

from harness.clock import Clock
from harness.redis import Redis
from harness.server import eventually
from harness.traffic import CONFIG

NODES = {"config": CONFIG + '\n[redis]\nstreams = 1\n'}
PREFIX = "corecast:{0}:"
MONTH = 30 * 24 * 3600
COUNT = 20


def fill(redis):
    """Grows Redis until it evicts, and is content again: nodes refuse to publish to a Redis of
    which they have learned that it evicts, and publish again when that has changed."""
    redis.client.config_set("maxmemory-policy", "allkeys-random")
    redis.client.config_set("maxmemory", "1mb")
    eventually(lambda: redis.client.info("stats")["evicted_keys"] > 0, 10, "it evicts")
    eventually(lambda: not redis.client.exists(PREFIX + "places"), 10, "it evicts the places")
    redis.client.config_set("maxmemory", "0")
    redis.client.config_set("maxmemory-policy", "noeviction")


LOSSES = {
    "one is deleted": lambda redis: redis.client.hdel(PREFIX + "places", "t:a"),
    "all are deleted": lambda redis: redis.client.delete(PREFIX + "places"),
    "all have expired": lambda redis: (
        redis.client.pexpire(PREFIX + "places", 1),
        eventually(lambda: not redis.client.exists(PREFIX + "places"))),
    "all are evicted": fill,
    "meta and all are deleted": lambda redis: redis.client.delete(
        PREFIX + "places", PREFIX + "meta"),
    "meta, stream and all are deleted": lambda redis: redis.client.delete(
        *(PREFIX + name for name in ("places", "meta", "bus", "marks"))),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_a_place_that_is_lost_is_not_given_again(join, redis, lose):
    nodes = join([redis.url] * 2)
    for n in range(1, COUNT + 1):
        before = nodes[0].publish("t:a", n)
    nodes.at("t:a", before)
    assert before["offset"] == COUNT
    client = nodes.subscribe(1, "t:a")
    lose(redis)
    # Beyond where it stood, so that a position that came again would seem to be one to go on from.
    after = [eventually(lambda: nodes[n % 2].api("publish", {
        "channel": "t:a", "data": COUNT + n}).json().get("result"), 10) for n in range(2 * COUNT)]
    assert {position["epoch"] for position in after}.isdisjoint({before["epoch"]}), after
    assert client.push(10)["unsubscribe"]["code"] == 2500
    nodes.at("t:a", after[-1])
    for server in (0, 1):
        for offset in (5, COUNT):
            result = nodes.connect(server).subscribe(
                "t:a", recover=True, offset=offset, epoch=before["epoch"])
            assert not result.get("recovered"), result
    result = client.subscribe("t:a", recover=True, **after[-2])
    assert result["recovered"] is True
    assert [one["data"] for one in result["publications"]] == [3 * COUNT - 1]


def test_a_loss_is_seen_before_anybody_is_told_where_a_channel_stands(join, redis):
    nodes = join([redis.url])
    for n in range(1, COUNT + 1):
        before = nodes[0].publish("t:a", n)
    redis.client.hdel(PREFIX + "places", "t:a")
    # It has read nothing of the channel.
    redis.client.xtrim(PREFIX + "bus", maxlen=0)
    late = nodes.add(redis.url)
    result = nodes.connect(1).subscribe("t:a")
    assert result.get("offset", 0) == 0 and result["epoch"] != before["epoch"]
    after = nodes[0].publish("t:a", "after")
    assert after == {"offset": 1, "epoch": result["epoch"]}
    assert late.result("history", channel="t:a", limit=0)["epoch"] == after["epoch"]


def test_a_channel_begins_where_its_first_subscribers_were_told(join, redis):
    nodes = join([redis.url] * 2)
    told = [nodes.connect(n).subscribe("t:first") for n in (0, 1)]
    positions = [{"epoch": one["epoch"], "offset": one.get("offset", 0)} for one in told]
    assert positions[0] == positions[1] and positions[0]["offset"] == 0
    for client in nodes.made:
        client.close()
    nodes[0].publish("t:other", 0)
    for n in (1, 2):
        assert nodes[0].publish("t:first", n) == {"offset": n, "epoch": positions[0]["epoch"]}
    nodes.add(redis.url)
    for n in range(3):
        nodes.at("t:first", {"offset": 2, "epoch": positions[0]["epoch"]})
        result = nodes.connect(n).subscribe("t:first", recover=True, **positions[0])
        assert result["recovered"] is True
        assert [one["data"] for one in result["publications"]] == [1, 2]


@contextlib.contextmanager
def wrong_clock(join, tmp_path):
    clock = Clock(tmp_path)
    with Redis(prefix=clock.prefix) as redis:
        yield join([redis.url] * 2), clock


def test_a_step_of_the_clock_takes_no_place(join, tmp_path):
    with wrong_clock(join, tmp_path) as (nodes, clock):
        told = nodes.connect(1).subscribe("t:never")
        for n in range(1, COUNT + 1):
            before = nodes[0].publish("t:a", n)
        # No more than one generation of silence passes, whichever way the clock goes.
        for days in (40, 0, 400, -400):
            clock.jump(days * 24 * 3600)
            after = nodes[0].publish("t:a", "on")
            before["offset"] += 1
            assert after == before, f"after a step to {days} days"
        assert nodes[1].publish("t:never", 1) == {"offset": 1, "epoch": told["epoch"]}
        result = nodes.connect(1).subscribe("t:a", recover=True, epoch=before["epoch"], offset=10)
        assert result["recovered"] is True and len(result["publications"]) == COUNT - 6


def test_what_was_forgotten_for_its_silence_begins_elsewhere(join, tmp_path):
    with wrong_clock(join, tmp_path) as (nodes, clock):
        for n in range(1, COUNT + 1):
            before = nodes[0].publish("t:a", n)
        other = nodes[0].publish("t:b", 1)
        client = nodes.subscribe(1, "t:a")
        for months in (1.01, 2.02, 0):
            clock.jump(int(months * MONTH))
            nodes[0].publish("t:b", months)
        after = [nodes[0].publish("t:a", n) for n in range(2 * COUNT)]
        assert [one["offset"] for one in after] == list(range(1, 2 * COUNT + 1))
        assert {one["epoch"] for one in after}.isdisjoint({before["epoch"]})
        assert client.push(10)["unsubscribe"]["code"] == 2500
        nodes.at("t:a", after[-1])
        for offset in (5, COUNT):
            result = nodes.connect(1).subscribe(
                "t:a", recover=True, offset=offset, epoch=before["epoch"])
            assert not result.get("recovered"), result
        assert nodes[0].publish("t:b", 5) == {"offset": 5, "epoch": other["epoch"]}


def test_a_place_that_somebody_wrote_ends_the_epoch_for_those_who_know_better(join, redis):
    nodes = join([redis.url] * 2)
    for n in range(1, COUNT + 1):
        before = nodes[0].publish("t:a", n)
    nodes.at("t:a", before)
    incarnation = redis.client.hget(PREFIX + "places", "t:a").split(b":")[0]
    redis.client.hset(PREFIX + "places", "t:a", incarnation + b":3")
    again = nodes[1].publish("t:a", "again")
    assert again == {"offset": 4, "epoch": before["epoch"]}, "Redis can't know"

    def ended():
        position = nodes[0].result("history", channel="t:a", limit=0)
        return position if position["epoch"] != before["epoch"] else None

    eventually(ended, 5, "the epoch ends")
    for _ in range(COUNT):
        after = nodes[1].publish("t:a", "after")
    assert after["epoch"] != before["epoch"]
    nodes.at("t:a", after)
    for server in (0, 1):
        result = nodes.connect(server).subscribe("t:a", recover=True, **before)
        assert not result.get("recovered"), result


def test_a_server_that_went_back_is_not_believed(join, redis):
    """As a primary that was the replica of one with less for a while: the same process."""
    nodes = join([redis.url] * 2)
    for n in range(1, COUNT + 1):
        before = nodes[0].publish("t:a", n)
    nodes.at("t:a", before)
    kept = {key: redis.client.dump(key) for key in redis.client.keys("corecast:*")
            if redis.client.type(key) != b"none"}
    for n in range(10):
        lost = nodes[0].publish("t:a", n)
    nodes.at("t:a", lost)
    pipe = redis.client.pipeline(transaction=True)
    pipe.flushall()
    for key, dump in kept.items():
        pipe.restore(key, 0, dump)
    pipe.execute()
    after = eventually(lambda: nodes[0].api("publish", {
        "channel": "t:a", "data": "after"}).json().get("result"), 10)
    assert after["epoch"] != lost["epoch"], "its positions have been given"
    nodes.at("t:a", after)


def test_what_another_format_writes_meanwhile_is_refused(join, redis):
    nodes = join([redis.url])
    nodes[0].publish("t:a", 1)
    redis.client.hdel(PREFIX + "meta", "f")
    error = nodes[0].api("publish", {"channel": "t:a", "data": 2}).json()["error"]
    assert error["code"] == 100, error
    eventually(lambda: "bus of format 0" in nodes[0].log(), 10, "it is said")
    redis.client.hset(PREFIX + "meta", "f", 1)
    eventually(lambda: nodes[0].api("publish", {
        "channel": "t:a", "data": 3}).json().get("result"), 10)
