"""Another program has written to the keys of the bus, or the link is slow. No node spins,
acknowledged publications are delivered, and everything resumes by itself."""

import time

import pytest
from redis.exceptions import ResponseError

from harness.proxy import Proxy
from harness.server import ROOT, eventually
from harness.traffic import CONFIG, Traffic

NODES = {"config": CONFIG}
CHANNEL = "t:traffic"
CPU_SHARE_MAX = 0.6
KEY = "an-idempotency-key"


def stray(client, key, *id):
    """An entry that no node wrote."""
    client.execute_command("XADD", key, *(id or ("*",)), "x", "y")


def replace(client, key, write):
    client.delete(key)
    write(key)


# What is done to Redis, given the client and what the names of the stream's keys begin with.
HARM = {
    "a stray entry": lambda client, prefix: stray(client, prefix + "bus"),
    "an entry above all others": lambda client, prefix: stray(
        client, prefix + "bus", "18446744073709551615-1"),
    "a place that is none": lambda client, prefix: client.hset(
        prefix + "places", CHANNEL, "garbage"),
    "a generation that is none": lambda client, prefix: client.hset(prefix + "places", "", "x"),
    "places of another type": lambda client, prefix: replace(
        client, prefix + "places", lambda key: client.rpush(key, "x")),
    "silent ones of another type": lambda client, prefix: replace(
        client, prefix + "silent", lambda key: client.set(key, "x")),
    "marks of another type": lambda client, prefix: replace(
        client, prefix + "marks", lambda key: client.set(key, "x")),
    "marks that are none": lambda client, prefix: client.lpush(prefix + "marks", "garbage"),
    "numbers that are none": lambda client, prefix: client.hset(
        prefix + "meta", mapping={"n": "x", "b": "", "cut": "y", "p": "z", "t": ""}),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_what_others_write_stops_nobody(join, redis, harm):
    nodes = join([redis.url] * 2, config=CONFIG + '\n[redis]\nstream_bytes_max = "64KiB"\n')
    with Traffic(nodes) as traffic:
        traffic.flows(5)
        harm(redis.client, redis.streams()[redis.stream_of(CHANNEL)].removesuffix("bus"))
        time.sleep(1)
        used = [server.cpu_seconds() for server in nodes]
        time.sleep(2)
        for server, before in zip(nodes, used):
            assert (server.cpu_seconds() - before) / 2 < CPU_SHARE_MAX, "it spins"
        traffic.flows(10)
    traffic.check()


def test_a_publication_that_could_not_be_appended_is_not_answered_for_later(join, redis):
    nodes = join([redis.url])
    before = nodes[0].publish(CHANNEL, 1)
    client = nodes.subscribe(0, CHANNEL)
    stray(redis.client, redis.streams()[redis.stream_of(CHANNEL)])
    # Its key is not taken by a try that failed.
    results = [nodes[0].api("publish", {"channel": CHANNEL, "data": 2, "idempotency_key": KEY})
               for _ in range(5)]
    answers = [result.json().get("result") for result in results]
    position = eventually(lambda: nodes[0].api("publish", {
        "channel": CHANNEL, "data": 2, "idempotency_key": KEY}).json().get("result"), 10)
    assert all(answer in (None, position) for answer in answers), (answers, position)
    client.close()
    kept = eventually(lambda: [one for one in nodes[0].result(
        "history", channel=CHANNEL, limit=-1)["publications"]
        if one["offset"] == position["offset"]])
    assert [one["data"] for one in kept] == [2]
    assert position["epoch"] != before["epoch"]


def test_a_window_is_loaded_over_a_slow_link(join, redis):
    nodes = join([redis.url], config=CONFIG + '\n[redis]\nstream_bytes_max = "4MiB"\n')
    channels = [f"wide-{n}" for n in range(60)]
    for _ in range(8):
        nodes[0].result("broadcast", channels=channels, data="x" * 60_000)
    position = nodes[0].publish(CHANNEL, "last")
    with Proxy(redis.port) as link:
        # 64 KiB each time: 8 MB a second, for a window of over 20 MB.
        link.latency = 0.008
        late = nodes.add(link.url)
        assert late.result("history", channel=CHANNEL, limit=0)["epoch"] == position["epoch"]
        assert late.metrics().total("corecast_bus_connects_total") <= 3, "in one go"


def test_a_batch_of_an_epoch_that_is_over_is_not_taken(join, redis):
    """Its first sending may have been taken in that epoch, and lost with it."""
    nodes = join([redis.url])
    nodes[0].publish(CHANNEL, 1)
    prefix = redis.streams()[redis.stream_of(CHANNEL)].removesuffix("bus")
    epoch = int(redis.client.hget(prefix + "meta", "e"))

    def append(number, epoch):
        return redis.client.eval(
            (ROOT / "src" / "bus" / "scripts" / "append.lua").read_text(),
            6, *(prefix + name for name in (
                "bus", "meta", "marks", "p:a-publisher", "places", "silent")),
            number, 1_000_000, 60_000, 60_000, 60_000, 0, "", "", epoch, 0, "", 0, 0, "record")

    assert append(1, epoch)[0] == b"ok"
    assert append(1, epoch - 1)[0] == b"dup", "what is known to be in is in"
    with pytest.raises(ResponseError, match="FENCED"):
        append(2, epoch - 1)
    assert append(2, epoch)[0] == b"ok"
