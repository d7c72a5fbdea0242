"""Durable histories of single channels in Redis. They survive in quiet channels while others are
busy, can be read by nodes that have never seen them, and cost bounded memory."""

import json
import time

import pytest

from harness.client import Plain, data, offsets
from harness.nodes import Nodes
from harness.proxy import Proxy
from harness.redis import Cluster, Redis
from harness.server import eventually

CONFIG = """
[channel]
history_size = 50
history_ttl = "300s"
force_recovery = true

[redis]
stream_bytes_max = "64KiB"

[[channel.namespaces]]
name = "kept"
durable_history = true

[[channel.namespaces]]
name = "small"
durable_history = true
history_size = 5

[[channel.namespaces]]
name = "brief"
durable_history = true
history_ttl = "2s"
"""
NODES = {"config": CONFIG}
# More than the streams keep: it drives everything else out of all of them.
FLOOD_CHANNELS, FLOOD_ROUNDS = 64, 40
FLOOD_DATA = "x" * 500
# What asking for a history that Redis can't give may take.
READ_SECONDS_MAX = 4.5


def flood(server):
    """Publishes until the streams reach back to nothing that was there before."""
    channels = [f"flood-{n}" for n in range(FLOOD_CHANNELS)]
    for _ in range(FLOOD_ROUNDS):
        server.result("broadcast", channels=channels, data=FLOOD_DATA)


def quiet(nodes, channel, count):
    """Publishes `count` numbers to `channel`, and floods everything else."""
    for n in range(1, count + 1):
        position = nodes[0].publish(channel, n)
    flood(nodes[0])
    return position


def reads(server):
    return server.metrics().total("corecast_bus_history_reads_total")


def test_a_node_that_comes_later_recovers_what_no_stream_has_any_more(join, redis):
    nodes = join([redis.url])
    position = quiet(nodes, "kept:1", 20)
    lost = quiet(nodes, "lost", 20)
    flood(nodes[0])
    late = join([redis.url])
    result = late.connect(0).subscribe("kept:1", recover=True, offset=3, epoch=position["epoch"])
    assert result["recovered"] is True
    assert data(result["publications"]) == list(range(4, 21))
    assert offsets(result["publications"]) == list(range(4, 21))
    result = late.connect(0).subscribe("lost", recover=True, offset=3, epoch=lost["epoch"])
    assert not result.get("recovered"), "without the setting it is what the streams reach back to"
    with late.plain(0, "kept:1", "&envelope=json") as ws:
        assert ws.begin()["offset"] == 20
        nodes[0].publish("kept:1", 21)
        assert '"data":21' in ws.receive()
    assert data(late[0].history("kept:1")) == list(range(1, 22))


def test_an_envelope_continues_from_a_position_that_no_stream_has_any_more(join, redis):
    position = quiet(join([redis.url]), "kept:1", 20)
    late = join([redis.url])
    path = f"/ws?channels=kept:1&envelope=json&since={position['epoch']}:3"
    with Plain(late[0], path) as ws:
        assert ws.begin()["offset"] == 3
        late[0].publish("kept:1", 21)
        assert [json.loads(ws.receive())["offset"] for _ in range(18)] == list(range(4, 22))
    later = join([redis.url])
    with Plain(later[0], "/ws?channels=kept:1&envelope=json&last=15") as ws:
        assert ws.begin()["offset"] == 6
        assert [json.loads(ws.receive())["offset"] for _ in range(15)] == list(range(7, 22))


def sleep_through(nodes, redis, channel, numbers, lose=False):
    """Node 1 stands still while these are published and leave the stream, and the durable history
    as well if they are to be lost."""
    nodes[1].freeze()
    for n in numbers:
        nodes[0].publish(channel, n)
    stream = redis.streams()[redis.stream_of(channel)]
    redis.client.xtrim(stream, maxlen=2, approximate=False)
    if lose:
        assert redis.client.delete(stream.removesuffix("bus") + f"h:{channel}") == 1
    nodes[1].thaw()


def follow(ws, last, top):
    """Reads up to `top` what has to come after `last`: every number at its offset, once."""
    while last < top:
        message = json.loads(ws.receive(10))
        assert message.get("offset") == last + 1 == message["data"], message
        last += 1


def test_an_envelope_is_given_what_its_node_slept_through(join, redis):
    nodes = join([redis.url] * 2)
    for n in range(1, 3):
        position = nodes[0].publish("kept:1", n)
    nodes.at("kept:1", position)
    crowd = [nodes.plain(1, "kept:1", "&envelope=json") for _ in range(20)]
    sdk = nodes.subscribe(1, "kept:1")
    for ws in crowd:
        assert ws.begin()["offset"] == 2
    for round in (1, 2):
        top = 2 + 20 * round
        sleep_through(nodes, redis, "kept:1", range(top - 19, top + 1))
        for ws in crowd:
            follow(ws, top - 20, top)
    while "unsubscribe" not in (push := sdk.push(10)):
        pass
    assert push["unsubscribe"]["code"] == 2500, "there was a gap"
    assert nodes[1].publish("kept:1", 43)["offset"] == 43
    for ws in crowd:
        follow(ws, 42, 43)
    metrics = nodes[1].metrics()
    assert metrics.total("corecast_recoveries_total", result="ok") >= 20
    assert metrics.total("corecast_audit_errors_total") == 0


@pytest.mark.parametrize("why", ["lost", "away"])
def test_an_envelope_whose_history_cant_be_read_is_told_how_much_is_missing(join, redis, why):
    with Proxy(redis.port) as proxy:
        nodes = join([redis.url, proxy.url])
        first = nodes[0].publish("kept:1", 1)
        nodes.at("kept:1", first)
        with nodes.plain(1, "kept:1", "&envelope=json") as ws:
            assert ws.begin()["offset"] == 1
            if why == "away":
                proxy.lose_answer_to(b":h:kept:1", silent=True)
            sleep_through(nodes, redis, "kept:1", range(2, 21), lose=why == "lost")
            last, message = 1, json.loads(ws.receive(10))
            while "gap" not in message:
                assert message["offset"] == last + 1, "a hole without a word"
                last, message = message["offset"], json.loads(ws.receive(10))
            assert proxy.lost.is_set() == (why == "away")
            proxy.silent = False
            assert message["gap"]["after"] == last and message["gap"]["next"] > last + 1
            top = nodes[0].publish("kept:1", 21)["offset"]
            follow(ws, message["gap"]["next"] - 1, top)


def test_pages_of_history_reach_back_as_far_as_redis_does(join, redis):
    position = quiet(join([redis.url]), "kept:1", 30)

    def asked(**params):
        """Each time of a node that has read nothing."""
        late = join([redis.url])
        return data(late[0].history("kept:1", **params))

    assert asked() == list(range(1, 31))
    assert asked(limit=3) == [1, 2, 3]
    assert asked(limit=3, reverse=True) == [30, 29, 28]
    since = {"offset": 10, "epoch": position["epoch"]}
    assert asked(limit=3, since=since) == [11, 12, 13]
    assert asked(limit=3, since=since, reverse=True) == [9, 8, 7]
    assert asked(limit=0) == []


def test_many_who_come_back_cost_redis_one_call(join, redis):
    position = quiet(join([redis.url]), "kept:1", 20)
    late = join([redis.url])
    clients = [late.connect(0) for _ in range(100)]
    for client in clients:
        client.send_commands({"id": 7, "subscribe": {
            "channel": "kept:1", "recover": True, "offset": 5, "epoch": position["epoch"]}})
    for client in clients:
        reply = client.reply(7)["subscribe"]
        assert reply["recovered"] is True and len(reply["publications"]) == 15
    assert 1 <= reads(late[0]) <= 2
    for _ in range(50):
        assert len(late[0].history("kept:1")) == 20
    assert reads(late[0]) <= 2, "what is here is not asked for again"


def test_size_and_time_bound_what_is_kept(join, redis):
    nodes = join([redis.url])
    quiet(nodes, "small:1", 20)
    quiet(nodes, "brief:1", 20)
    tag = redis.stream_of("small:1")
    assert redis.client.xlen(f"corecast:{{{tag}}}:h:small:1") == 5
    late = join([redis.url])
    assert data(late[0].history("small:1")) == [16, 17, 18, 19, 20]
    time.sleep(2)
    assert late[0].history("brief:1") == []
    assert not redis.client.exists(f"corecast:{{{redis.stream_of('brief:1')}}}:h:brief:1")
    assert nodes[0].publish("brief:1", 21)["offset"] == 21


def test_a_channel_without_the_setting_has_no_history_of_its_own(join, redis):
    nodes = join([redis.url])
    nodes[0].publish("plain", 1)
    nodes[0].publish("kept:1", 1)
    keys = [key for key in redis.client.keys("*:h:*")]
    assert len(keys) == 1 and keys[0].endswith(b":h:kept:1"), keys


def test_a_history_that_was_removed_stays_so_on_nodes_that_come_later(join, redis):
    nodes = join([redis.url] * 2)
    for n in range(1, 11):
        position = nodes[0].publish("kept:1", n)
    nodes.at("kept:1", position)
    nodes[1].result("history_remove", channel="kept:1")
    for server in nodes:
        eventually(lambda: server.history("kept:1") == [], what="it is removed")
    nodes[0].publish("kept:1", 11)
    flood(nodes[0])
    late = join([redis.url])
    assert data(late[0].history("kept:1")) == [11]
    assert offsets(late[0].history("kept:1")) == [11]
    result = late.connect(0).subscribe("kept:1", recover=True, offset=5, epoch=position["epoch"])
    assert not result.get("recovered")


def test_a_history_outlives_the_server_that_kept_it(join):
    with Redis(aof=True) as redis:
        nodes = join([redis.url])
        before = quiet(nodes, "kept:1", 10)
        client = nodes.subscribe(0, "kept:1")
        redis.kill()
        redis.start()
        assert client.push(15)["unsubscribe"]["code"] == 2500
        result = client.subscribe("kept:1", recover=True, **before)
        assert not result.get("recovered") and result["epoch"] != before["epoch"]
        eventually(lambda: data(nodes[0].history("kept:1")) == list(range(1, 11)), 10)
        after = eventually(lambda: nodes[0].publish("kept:1", 11), 10)
        assert after["offset"] == 11
        late = join([redis.url])
        assert data(late[0].history("kept:1")) == list(range(1, 12))


def test_who_asks_while_redis_is_away_is_answered_with_what_there_is(join, redis):
    position = quiet(join([redis.url]), "kept:1", 10)
    late = join([redis.url])
    # The node knows where the channel stands, and has none of it.
    assert late[0].history("kept:1", limit=0) == []
    redis.freeze()
    try:
        began = time.monotonic()
        client = late.connect(0)
        client.send_commands({"id": 7, "subscribe": {
            "channel": "kept:1", "recover": True, "offset": 5, "epoch": position["epoch"]}})
        reply = client.reply(7, READ_SECONDS_MAX)["subscribe"]
        assert not reply.get("recovered"), "it is told that something is missing"
        assert time.monotonic() - began < READ_SECONDS_MAX
    finally:
        redis.thaw()
    again = eventually(lambda: _recovered(late, position), 15, "and later it can be had")
    assert data(again) == [6, 7, 8, 9, 10]


def _recovered(nodes, position):
    client = nodes.connect(0)
    result = client.subscribe("kept:1", recover=True, offset=5, epoch=position["epoch"])
    return result["publications"] if result.get("recovered") else None


def unlike(client, name, incarnation):
    """In the last one's place there is something else."""
    client.delete(name)
    client.xadd(name, {"t": int(time.time() * 1000), "d": b"\xff\x00"}, id=f"{incarnation}-10")


def bare(client, name, incarnation):
    client.delete(name)
    client.xadd(name, {"x": ""}, id=f"{incarnation}-10")


def above(client, name, incarnation):
    client.xadd(name, {"t": "nonsense", "d": b"\xff\x00"}, id=f"{incarnation}-999")


def typed(client, name, incarnation):
    client.delete(name)
    client.set(name, incarnation)


@pytest.mark.parametrize("harm, recovered", [
    (unlike, False), (bare, False), (above, True), (typed, False),
], ids=["unlike", "bare", "above", "typed"])
def test_a_history_that_others_have_written_to_harms_nobody(join, redis, harm, recovered):
    nodes = join([redis.url])
    position = quiet(nodes, "kept:1", 10)
    name = f"corecast:{{{redis.stream_of('kept:1')}}}:h:kept:1"
    last = redis.client.xrevrange(name, count=1)[0][0].decode()
    incarnation = last.split("-")[0]
    harm(redis.client, name, incarnation)
    late = join([redis.url])
    late[0].history("kept:1")
    result = late.connect(0).subscribe("kept:1", recover=True, offset=5, epoch=position["epoch"])
    assert bool(result.get("recovered")) == recovered
    # It stands in the way of the next one, and is done away with.
    assert nodes[0].publish("kept:1", 11)["offset"] == 11
    assert late[0].publish("kept:1", 12)["offset"] == 12
    late.at("kept:1", {**position, "offset": 12})
    kept = data(join([redis.url])[0].history("kept:1"))
    assert kept[-2:] == [11, 12]
    assert kept == list(range(kept[0], 13)), "a history has no hole"


def test_a_node_without_room_answers_with_what_it_can_hold(join, redis):
    quiet(join([redis.url]), "kept:1", 50)
    late = join([redis.url], config=CONFIG.replace(
        "[channel]", '[channel]\nhistory_bytes_max = "4KiB"', 1))
    kept = data(late[0].history("kept:1"))
    assert kept == list(range(51 - len(kept), 51)) and len(kept) < 50, "the newest"
    before = reads(late[0])
    for _ in range(20):
        late[0].history("kept:1")
    assert reads(late[0]) - before <= 20


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster


def test_a_cluster_keeps_them_too(cluster, driver):
    nodes = Nodes(driver, [cluster.url], config=CONFIG)
    try:
        channels = [f"kept:{driver}:{n}" for n in range(4)]
        positions = {channel: quiet(nodes, channel, 5) for channel in channels}
        late = Nodes(driver, [cluster.url], config=CONFIG)
        try:
            for channel, position in positions.items():
                result = late.connect(0).subscribe(channel, recover=True, offset=1,
                                                   epoch=position["epoch"])
                assert result["recovered"] is True
                assert data(result["publications"]) == [2, 3, 4, 5]
        finally:
            late.stop()
    finally:
        nodes.stop()
