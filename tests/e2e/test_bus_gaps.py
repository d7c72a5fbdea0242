"""Losses on the bus, or in one node's view of it, are reported to the clients of exactly the
affected channels."""

import json
import time

import pytest

from harness.client import offsets
from harness.traffic import CONFIG, Traffic

NODES = {"config": CONFIG}


def channels_apart(redis, server):
    """Two channels that are in different streams."""
    server.publish("t:a", {"id": "first"})
    for n in range(100):
        server.publish(f"t:b{n}", {"id": "first"})
        if redis.stream_of(f"t:b{n}") != redis.stream_of("t:a"):
            return "t:a", f"t:b{n}"
    raise AssertionError("a hundred channels in one stream")


def test_a_node_that_slept_through_a_trim_tells_its_clients(join, redis):
    nodes = join([redis.url] * 2)
    one, other = channels_apart(redis, nodes[0])
    missing = nodes.subscribe(1, one)
    complete = [nodes.subscribe(1, other), nodes.subscribe(0, one)]
    stream = redis.streams()[redis.stream_of(one)]
    before = nodes[0].publish(one, 0)
    missing.publication(one), complete[1].publication(one)
    nodes[1].freeze()
    for n in range(1, 40):
        nodes[0].publish(one, n)
    redis.client.xtrim(stream, maxlen=3, approximate=False)
    nodes[1].thaw()
    last = nodes[0].publish(one, "last")
    nodes[0].publish(other, "last")
    push = missing.push(10)
    while "pub" in push:  # What was read before the trim.
        assert push["pub"]["offset"] == before["offset"] + 1, "a hole without a word"
        before = {**before, "offset": push["pub"]["offset"]}
        push = missing.push(10)
    assert push["unsubscribe"]["code"] == 2500, push
    result = missing.subscribe(one, recover=True, **before)
    assert not result.get("recovered") and result["epoch"] == last["epoch"]
    assert complete[0].publication(other)["data"] == "last"
    complete[0].silent()
    assert [pub["data"] for pub in complete[1].publications(one, 40)] == [*range(1, 40), "last"]
    complete[1].silent()
    assert nodes[1].metrics().total("corecast_bus_gaps_total") >= 1
    assert nodes[0].metrics().total("corecast_bus_gaps_total") == 0
    after = nodes[1].publish(one, "after")
    assert after["offset"] == last["offset"] + 1 and after["epoch"] == last["epoch"]


def test_a_trim_that_nobody_slept_through_is_noticed_by_nobody(join, redis):
    nodes = join([redis.url] * 2)
    with Traffic(nodes) as traffic:
        for _ in range(10):
            for stream in redis.streams().values():
                redis.client.xtrim(stream, maxlen=100, approximate=False)
            time.sleep(0.1)
    traffic.check(told=False)


def test_plain_websockets_and_envelopes_of_a_node_that_slept_are_told(join, redis):
    nodes = join([redis.url] * 2)
    first = nodes[0].publish("t:c", 0)
    nodes.at("t:c", first)
    plain, envelope = nodes.plain(1, "t:c"), nodes.plain(1, "t:c", "&envelope=json")
    nodes[0].publish("t:c", 1)
    assert envelope.begin()["offset"] == 1
    assert plain.receive() == "1" and json.loads(envelope.receive())["offset"] == 2
    nodes[1].freeze()
    for n in range(2, 40):
        nodes[0].publish("t:c", n)
    redis.client.xtrim(redis.streams()[redis.stream_of("t:c")], maxlen=2, approximate=False)
    nodes[1].thaw()
    nodes[0].publish("t:c", 40)
    assert plain.closed(10)[0] == 3010
    message, at = json.loads(envelope.receive(10)), 2
    while "gap" not in message:
        assert message["offset"] == at + 1, "a hole without a word"
        message, at = json.loads(envelope.receive(10)), message["offset"]
    assert message["channel"] == "t:c"


@pytest.mark.parametrize("fields", [["bus"], ["bus", "meta"]], ids=["stream", "stream and meta"])
def test_a_deleted_stream_stalls_nobody(join, redis, fields):
    nodes = join([redis.url] * 2)
    with Traffic(nodes) as traffic:
        stream = redis.streams()[redis.stream_of("t:traffic")]
        redis.client.delete(*(stream.removesuffix("bus") + field for field in fields))
        traffic.flows(10)
        if "meta" in fields:
            traffic.wait_told()
    traffic.check(told=True if "meta" in fields else None)


def test_only_the_channels_of_a_deleted_stream_are_told(join, redis):
    nodes = join([redis.url] * 2)
    one, other = channels_apart(redis, nodes[0])
    with Traffic(nodes, [one, other]) as traffic:
        stream = redis.streams()[redis.stream_of(one)]
        redis.client.delete(stream, stream.removesuffix("bus") + "meta")
        traffic.wait_told(10, [one])
        traffic.flows(10)
    traffic.check()
    for follower in traffic.followers:
        assert bool(follower.told()) == (follower.channel == one), follower.log[-9:]


def test_deleted_entries_that_everybody_has_are_missed_by_who_comes_later(join, redis):
    nodes = join([redis.url])
    for n in range(1, 21):
        position = nodes[0].publish("t:d", n)
    stream = redis.streams()[redis.stream_of("t:d")]
    ids = [id for id, _ in redis.client.xrange(stream)]
    redis.client.xdel(stream, *ids[len(ids) // 2:len(ids) // 2 + 1])
    late = nodes.add(redis.url)
    client = nodes.connect(1)
    result = client.subscribe("t:d", recover=True, offset=2, epoch=position["epoch"])
    assert not result.get("recovered"), "in part is not recovered"
    assert result["offset"] == 20 and result["epoch"] == position["epoch"]
    kept = late.history("t:d")
    assert offsets(kept) == list(range(offsets(kept)[0], 21)), "a history has no hole"
    assert nodes.connect(0).subscribe("t:d", recover=True, offset=2,
                                      epoch=position["epoch"])["recovered"] is True


def test_a_node_that_slept_longer_than_anybody_waits_catches_up(join, redis):
    nodes = join([redis.url] * 2)
    with Traffic(nodes, publish_on=[0]) as traffic:
        nodes[1].freeze()
        time.sleep(4)
        nodes[1].thaw()
        traffic.flows(10)
    traffic.check(told=False)


def test_a_stream_is_bounded_and_the_epoch_stays(join, redis):
    config = '[redis]\nstream_bytes_max = "64KiB"\nstreams = 1\n' + CONFIG
    nodes = join([redis.url], config=config)
    first = nodes[0].publish("t:e", "x" * 1000)
    for _ in range(9):
        for reply in nodes[0].api("batch", {"commands": [
                {"publish": {"channel": "t:e", "data": "x" * 1000}}] * 50}).json()["replies"]:
            assert "error" not in reply, reply
    (stream,) = redis.streams().values()
    assert redis.client.memory_usage(stream, samples=0) < 3 * 64 * 1024
    last = nodes[0].publish("t:e", "last")
    assert last == {"offset": 452, "epoch": first["epoch"]}
    nodes.add(redis.url)
    nodes.at("t:e", last)
    for server in nodes:
        kept = server.history("t:e")
        assert offsets(kept) == list(range(453 - len(kept), 453)) and kept
    late = offsets(nodes[1].history("t:e"))
    assert len(late) < 200, "what the stream has lost is not there"
    result = nodes.connect(1).subscribe("t:e", recover=True, **first)
    assert not result.get("recovered") and result["offset"] == 452
    result = nodes.connect(1).subscribe("t:e", recover=True, offset=late[0], epoch=last["epoch"])
    assert result["recovered"] is True and offsets(result["publications"]) == late[1:]


def test_nodes_that_are_killed_under_load_leave_no_hole(join, redis):
    nodes = join([redis.url] * 3)
    with Traffic(nodes) as traffic:
        nodes[0].kill()
        traffic.flows()
        nodes[1].kill()
        traffic.flows()
        nodes[0].start()
        traffic.flows()
        nodes[2].kill()
        traffic.flows()
    traffic.check(told=False, lost=False)


def test_a_node_that_drains_leaves_no_hole(join, redis):
    nodes = join([redis.url] * 2, config='[server]\ndrain = "500ms"\n' + CONFIG)
    with Traffic(nodes, publish_on=[1]) as traffic:
        nodes[0].terminate()
        assert nodes[0].wait(10) == 0
        nodes[0].killed = True
        traffic.flows()
    traffic.check(told=False, lost=False)
