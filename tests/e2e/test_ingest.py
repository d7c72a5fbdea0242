"""Publishing with XADD: each entry is published once and in order, whichever node dies. Entries
that can't be published are set aside with the reason."""

import json
import time

import pytest

from harness.client import data, offsets
from harness.proxy import Proxy
from harness.server import eventually
from harness.traffic import CONFIG

NODES = {"config": CONFIG + """
[[channel.namespaces]]
name = "text"
data = "text"
"""}
STREAM, DEAD, GROUP = "corecast:ingest", "corecast:ingest:dead", "corecast"
# Another node takes over when the lease of one that ended has run out.
TAKEOVER_SECONDS_MAX = 25
# Less than a lease, which is 5 s.
HANDED_OVER_SECONDS_MAX = 3


def add(redis, channel, data, stream=STREAM):
    return redis.client.xadd(stream, {"channel": channel, "data": json.dumps(data)})


def active(server):
    """How many streams that node reads."""
    return server.metrics().total("corecast_ingest_active")


def pending(redis, stream=STREAM):
    return redis.client.xpending(stream, GROUP)["pending"]


def wait_taken(redis, seconds=5.0, stream=STREAM):
    """Waits until every entry has been read and acknowledged."""
    def taken():
        (group,) = redis.client.xinfo_groups(stream)
        return group["pending"] == 0 and \
            group["last-delivered-id"] == redis.client.xinfo_stream(stream)["last-generated-id"]
    eventually(taken, seconds, "every entry is acknowledged")


def parked(redis):
    return [fields for _, fields in redis.client.xrange(DEAD)]


def test_an_entry_is_published_on_every_node(nodes, channel):
    clients = [nodes.subscribe(n, channel) for n in range(3)]
    nodes.redis.client.xadd(STREAM, {"channel": channel, "data": '{"a":  1}'})
    for client in clients:
        publication = client.publication(channel)
        assert publication["data"] == {"a": 1} and publication["offset"] == 1
    wait_taken(nodes.redis)
    for server in nodes:
        assert data(server.history(channel)) == [{"a": 1}]


def test_a_method_has_its_parameters_as_json(nodes, channel):
    client = nodes.subscribe(1, channel)
    other = nodes.subscribe(2, f"{channel}-b")
    publish = {"channel": channel, "data": 1, "tags": {"a": "b"}}
    broadcast = {"channels": [channel, f"{channel}-b"], "data": 2}
    skip = {"channel": channel, "data": 3, "skip_history": True}
    for method, payload in [("publish", publish), ("broadcast", broadcast), ("publish", skip)]:
        nodes.redis.client.xadd(STREAM, {"method": method, "payload": json.dumps(payload)})
    first, second, third = (client.publication(channel) for _ in range(3))
    assert first["data"] == 1 and first["tags"] == {"a": "b"}
    assert second["data"] == 2 and third["data"] == 3 and "offset" not in third
    assert other.publication(f"{channel}-b")["data"] == 2
    assert data(nodes[1].history(channel)) == [1, 2]


def test_text_needs_no_quotes_in_a_text_namespace(nodes):
    client = nodes.subscribe(1, "text:1")
    nodes.redis.client.xadd(STREAM, {"channel": "text:1", "data": "plain {text"})
    assert client.publication("text:1")["data"] == "plain {text"


def test_entries_keep_their_order(nodes, channel):
    client = nodes.subscribe(2, channel)
    pipeline = nodes.redis.client.pipeline(transaction=False)
    for n in range(1000):
        pipeline.xadd(STREAM, {"channel": channel, "data": n})
    pipeline.execute()
    publications = client.publications(channel, 1000)
    assert [pub["data"] for pub in publications] == list(range(1000))
    assert offsets(publications) == list(range(1, 1001))
    client.silent()
    wait_taken(nodes.redis)


def test_an_idempotency_key_in_an_entry_holds_for_the_api_too(nodes, channel):
    payload = {"channel": channel, "data": 1, "idempotency_key": "k"}
    first = nodes[0].result("publish", **payload)
    for _ in range(2):
        nodes.redis.client.xadd(STREAM, {"method": "publish", "payload": json.dumps(payload)})
    wait_taken(nodes.redis)
    assert nodes[1].publish(channel, 2)["offset"] == first["offset"] + 1


@pytest.mark.parametrize("fields", [
    {"data": "1"},
    {"channel": "news"},
    {"channel": "news", "data": "{no json"},
    {"channel": "nowhere:1", "data": "1"},
    {"channel": "n" * 256, "data": "1"},
    {"method": "disconnect", "payload": '{"user":"1"}'},
    {"method": "publish", "payload": "{"},
    {"method": "publish", "payload": '{"channel":"news"}'},
    {"method": "publish"},
    {"nonsense": "1"},
    {"channel": b"\xff", "data": b"\xff"},
], ids=["no channel", "no data", "no json", "no such namespace", "long name", "other method",
        "half a payload", "payload without data", "no payload", "nonsense", "no utf-8"])
def test_what_cant_be_published_is_parked_and_nothing_waits_for_it(nodes, channel, fields):
    client = nodes.subscribe(1, channel)
    before = len(parked(nodes.redis))
    id = nodes.redis.client.xadd(STREAM, fields)
    add(nodes.redis, channel, "behind it")
    assert client.publication(channel, 15)["data"] == "behind it"
    eventually(lambda: len(parked(nodes.redis)) == before + 1, 15, "it is parked")
    entry = parked(nodes.redis)[-1]
    assert entry.pop(b"id") == id and entry.pop(b"reason")
    expected = {key.encode(): value if isinstance(value, bytes) else value.encode()
                for key, value in fields.items()}
    assert {key: entry[key] for key in expected} == expected
    wait_taken(nodes.redis)


def test_what_came_while_no_node_ran_is_published(join, redis):
    nodes = join([redis.url])
    add(redis, "t:a", 1)
    eventually(lambda: data(nodes[0].history("t:a")) == [1])
    nodes[0].kill()
    for n in range(2, 6):
        add(redis, "t:a", n)
    nodes.add(redis.url)
    eventually(lambda: data(nodes[1].history("t:a")) == [1, 2, 3, 4, 5], TAKEOVER_SECONDS_MAX)


def test_what_came_before_the_first_node_is_published(join, redis):
    for n in range(3):
        add(redis, "t:b", n)
    nodes = join([redis.url])
    eventually(lambda: data(nodes[0].history("t:b")) == [0, 1, 2], 10)


def test_each_entry_is_published_once_whichever_node_dies(join, redis):
    nodes = join([redis.url] * 3)
    client = nodes.subscribe(2, "t:c")
    total = 0
    for victim in (0, 1):
        for _ in range(100):
            add(redis, "t:c", total)
            total += 1
            time.sleep(0.002)
        nodes[victim].kill()
        for _ in range(100):
            add(redis, "t:c", total)
            total += 1
    seen = [client.publication("t:c", TAKEOVER_SECONDS_MAX)["data"] for _ in range(total)]
    assert seen == list(range(total))
    client.silent(1)
    wait_taken(redis)


def test_an_entry_that_was_appended_but_not_acknowledged_is_published_once(join, redis):
    with Proxy(redis.port) as link:
        nodes = join([link.url])
        add(redis, "t:d", "first")
        eventually(lambda: data(nodes[0].history("t:d")) == ["first"])
        client = nodes.subscribe(0, "t:d")
        link.lose_answer_to(b"marked")
        add(redis, "t:d", "marked")
        assert link.lost.wait(5), "it was appended"
        nodes[0].kill()
        client.close()
        nodes.add(redis.url)
        add(redis, "t:d", "last")
        eventually(lambda: data(nodes[1].history("t:d"))[-1:] == ["last"], TAKEOVER_SECONDS_MAX)
        assert data(nodes[1].history("t:d")) == ["first", "marked", "last"]
        wait_taken(redis)


def test_cuts_while_entries_are_published_cost_nothing(join, redis):
    nodes = join([redis.url] * 2)
    client = nodes.subscribe(1, "t:e")
    add(redis, "t:e", 0)
    client.publication("t:e")
    for n in range(1, 5):
        add(redis, "t:e", n)
        redis.kill_clients()
    assert [client.publication("t:e", TAKEOVER_SECONDS_MAX)["data"] for _ in range(4)] == \
        [1, 2, 3, 4]
    client.silent()
    assert not redis.client.exists(DEAD)


def test_an_entry_whose_epoch_ends_before_it_is_read_is_delivered(join, redis):
    with Proxy(redis.port) as link:
        nodes = join([link.url])
        eventually(lambda: active(nodes[0]))
        nodes.add(redis.url)
        nodes.at("t:l", nodes[1].publish("t:l", "first"))
        clients = [nodes.subscribe(n, "t:l") for n in (0, 1)]
        tag = redis.stream_of("t:l")

        def reader():
            return link.saying(b"XREAD", f"{{{tag}}}:bus".encode())

        (held,) = eventually(reader, 5, "the bus is read")
        held.silent = True
        # The first one is in the answer that is held, the others are still to be read.
        for n in range(3):
            add(redis, "t:l", n)
            assert clients[1].publication("t:l")["data"] == n
        # A place that is lost ends the epoch.
        redis.client.hdel(f"corecast:{{{tag}}}:places", "t:l")
        after = eventually(lambda: nodes[1].api("publish", {
            "channel": "t:l", "data": "after"}).json().get("result"), 10)
        held.silent = False
        assert [clients[0].publication("t:l", 10)["data"] for _ in range(3)] == [0, 1, 2]
        nodes.at("t:l", after, 10)
        wait_taken(redis, 10)


def test_nodes_of_another_prefix_share_neither_entries_nor_events(join, redis):
    told = NODES["config"] + "[events]\nconnect = true\n"
    clients = {}
    for prefix in ("staging", "production"):
        nodes = join([redis.url], config=f'{told}[redis]\nprefix = "{prefix}"\n')
        clients[prefix] = nodes.subscribe(0, "t:i")
        id = clients[prefix].connected["client"].encode()
        eventually(lambda: [fields[b"client"] for _, fields in
                            redis.client.xrange(f"{prefix}:events")] == [id])
    for n in range(5):
        for prefix in clients:
            add(redis, "t:i", f"{prefix} {n}", stream=f"{prefix}:ingest")
    for prefix, client in clients.items():
        publications = client.publications("t:i", 5)
        assert [pub["data"] for pub in publications] == [f"{prefix} {n}" for n in range(5)]
        client.silent()
        assert redis.client.xinfo_groups(f"{prefix}:ingest")[0]["name"] == prefix.encode()


def test_nodes_of_another_prefix_may_share_a_stream(join, redis):
    shared = '[redis]\ningest = ["app:one"]\n'
    nodes = [join([redis.url], config=f'{shared}prefix = "{prefix}"\n{NODES["config"]}')
             for prefix in ("staging", "production")]
    clients = [one.subscribe(0, "t:j") for one in nodes]
    for n in range(5):
        add(redis, "t:j", n, stream="app:one")
    for client in clients:
        assert [pub["data"] for pub in client.publications("t:j", 5)] == list(range(5))


def test_an_entry_with_an_old_id_is_taken_for_a_repeat(join, redis):
    nodes = join([redis.url])
    client = nodes.subscribe(0, "t:k")
    first, last = add(redis, "t:k", "first"), add(redis, "t:k", "last")
    assert [client.publication("t:k")["data"] for _ in range(2)] == ["first", "last"]
    wait_taken(redis)
    redis.client.delete(STREAM)
    for id in (first, last):
        redis.client.xadd(STREAM, {"channel": "t:k", "data": '"again"'}, id=id)
    add(redis, "t:k", "new")
    assert client.publication("t:k", 10)["data"] == "new"
    wait_taken(redis)


def test_entries_too_long_for_one_read_together_are_read_one_by_one(join, redis):
    with Proxy(redis.port) as link:
        nodes = join([link.url])
        client = nodes.subscribe(0, "t:h")
        # 640 KB a second: one entry takes half of the time that a read may.
        link.latency = 0.1
        padding = "x" * 900_000
        for n in range(8):
            payload = {"channel": "t:h", "data": n, "padding": padding}
            redis.client.xadd(STREAM, {"method": "publish", "payload": json.dumps(payload)})
        assert [client.publication("t:h", 20)["data"] for _ in range(8)] == list(range(8))
        link.latency = 0.0
        wait_taken(redis, 10)


def test_streams_of_other_names_are_taken_and_none_where_none_is_named(join, redis):
    several = '[redis]\ningest = ["app:one", "app:two"]\n' + NODES["config"]
    nodes = join([redis.url], config=several)
    client = nodes.subscribe(0, "t:f")
    for stream in ("app:one", "app:two"):
        add(redis, "t:f", stream, stream=stream)
        assert client.publication("t:f")["data"] == stream
    add(redis, "t:f", "not read")
    none = join([redis.url], config="[redis]\ningest = []\n" + NODES["config"])
    client.silent(1)
    none[0].kill()


def test_one_node_reads_for_all(join, redis):
    nodes = join([redis.url] * 2)
    add(redis, "t:g", 1)
    wait_taken(redis)
    assert len(redis.client.xinfo_consumers(STREAM, GROUP)) == 1, "one consumer"
    for server in nodes:
        eventually(lambda: data(server.history("t:g")) == [1])


def test_a_node_that_stops_hands_over_at_once(join, redis):
    nodes = join([redis.url] * 2, config='[server]\ndrain = "800ms"\n' + CONFIG)
    eventually(lambda: any(map(active, nodes)))
    first, second = sorted(nodes, key=active, reverse=True)
    add(redis, "t:h", 1)
    wait_taken(redis)
    first.terminate()
    assert first.wait(10) == 0
    first.killed = True
    began = time.monotonic()
    eventually(lambda: active(second), HANDED_OVER_SECONDS_MAX, "the other one takes over")
    add(redis, "t:h", 2)
    wait_taken(redis)
    eventually(lambda: data(second.history("t:h")) == [1, 2])
    assert time.monotonic() - began < HANDED_OVER_SECONDS_MAX
