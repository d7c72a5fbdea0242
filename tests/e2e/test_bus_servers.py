"""The address of Redis leads to another server than before: for only some connections, for none
although it should, or on purpose. Publications that nobody reads are not acknowledged for long, and
a node renews its connections only if that helps."""

import contextlib
import threading
import time

import pytest

from harness.proxy import Proxy
from harness.redis import Redis
from harness.server import eventually
from harness.traffic import CONFIG, Traffic

NODES = {"config": CONFIG}
TOGETHER_SECONDS_MAX = 10
# Each way, of which there are five from an entry to its arrival at worst.
TOLERATED_SECONDS = 0.2
# By what the last request of a connection is known: a read of the streams, an append or a probe, a
# read of requests between nodes, a lease or a read of what is ingested.
READER, WRITER = (b"XREAD", b"}:bus"), (b"}:p",)
REQUESTS, INGEST = (b"corecast:control",), (b"corecast:ingest",)


@pytest.fixture
def pair():
    """A primary, a replica that has all of it, and a way to the first."""
    with Redis() as old, Redis() as new, Proxy(old.port) as link:
        new.follow(old)
        yield old, new, link


def reconnects(server, **labels):
    return server.metrics().total("corecast_bus_reconnects_total", **labels)


def connects(server):
    return server.metrics().total("corecast_bus_connects_total")


def connects_at_start(server):
    """A node that is ready may still open its last connections."""
    return server.settled_metrics("corecast_bus_connects_total").total(
        "corecast_bus_connects_total")


def is_degraded(server):
    return "degraded" in server.http.get("/ready").text


def promote(pair):
    """Promotes the replica, to which new connections lead; those that there are stay."""
    _, new, link = pair
    new.promote()
    link.target = new.port


def test_a_reader_that_comes_to_another_server_takes_all_with_it(join, pair):
    nodes = join([pair[2].url])
    check_together(nodes, pair, READER)
    assert reconnects(nodes[0], reason="apart") == 1, "once is enough"


def test_a_writer_that_comes_to_another_server_takes_all_with_it(join, pair):
    # A reader that is behind what the writer's server says finds the way by itself.
    nodes = join([pair[2].url])
    check_together(nodes, pair, WRITER)
    assert reconnects(nodes[0], reason="apart") <= 1, "once is enough"


def check_together(nodes, pair, moved):
    """Nothing is acknowledged for long that nobody reads, though a connection alone was cut."""
    old, _, link = pair
    with Traffic(nodes) as traffic:
        promote(pair)
        eventually(lambda: link.cut_saying(*moved), what="the connection is there")
        eventually(lambda: len(old.client.client_list()) == 1, TOGETHER_SECONDS_MAX,
                   "the test alone is there")
        traffic.flows(TOGETHER_SECONDS_MAX)
        eventually(lambda: not is_degraded(nodes[0]), 5, "and it is well")
    traffic.check(told=True)


@pytest.mark.parametrize("moved", [REQUESTS, INGEST], ids=["requests", "ingest"])
def test_a_connection_that_comes_to_another_server_alone_takes_all_with_it(join, pair, moved):
    _, new, link = pair
    nodes = join([link.url], config=CONFIG + '[redis]\ningest = ["corecast:ingest"]\n')
    with Traffic(nodes) as traffic:
        promote(pair)
        eventually(lambda: link.cut_saying(*moved), what="the connection is there")
        eventually(lambda: reconnects(nodes[0], reason="apart") == 1, TOGETHER_SECONDS_MAX,
                   "all are made anew")
        traffic.flows(TOGETHER_SECONDS_MAX)
        added = new.client.xadd("corecast:ingest", {"channel": "t:ingested", "data": "1"})
        eventually(lambda: len(nodes[0].history("t:ingested")) == 1, 10, f"{added} is published")
    traffic.check(told=True)


def test_what_is_ingested_at_another_server_is_acknowledged_only_once_it_was_read(join, pair):
    old, new, link = pair
    nodes = join([link.url], config=CONFIG + '[redis]\ningest = ["corecast:ingest"]\n')
    client = nodes.subscribe(0, "t:ingested")
    stopping, added = threading.Event(), {}

    def add():
        while not stopping.wait(0.01):
            number = len(added)
            added[old.client.xadd("corecast:ingest", {"channel": "t:ingested",
                                                      "data": str(number)})] = number

    adding = threading.Thread(target=add)
    adding.start()
    try:
        assert client.publication("t:ingested")["data"] == 0
        promote(pair)
        for markers in (READER, WRITER):
            eventually(lambda: link.cut_saying(*markers), what=f"{markers} is there")
        eventually(lambda: new.client.exists("corecast:nodes"), TOGETHER_SECONDS_MAX)
        eventually(lambda: link.saying(*INGEST), TOGETHER_SECONDS_MAX, "it goes on elsewhere")
        time.sleep(1)
    finally:
        stopping.set()
        adding.join()
    (group,) = old.client.xinfo_groups("corecast:ingest")
    waiting = {entry["message_id"] for entry in
               old.client.xpending_range("corecast:ingest", "corecast", "-", "+", 10_000)}
    acknowledged = [number for id, number in added.items()
                    if id <= group["last-delivered-id"] and id not in waiting]
    kept = {pub["data"] for pub in nodes[0].history("t:ingested")}
    seen = set()
    while True:
        try:
            message = client.next(0.3)
        except TimeoutError:
            break
        if "pub" in message.get("push", {}):
            seen.add(message["push"]["pub"]["data"])
    assert set(acknowledged) <= kept | seen | {0}, sorted(set(acknowledged) - kept - seen)[:9]


def test_a_new_connection_takes_nothing_in_where_publications_do_not_go(join, pair):
    """It was looked at a moment before it was cut, which says nothing of the next one."""
    _, new, link = pair
    nodes = join([link.url], config=CONFIG + '[redis]\ningest = ["corecast:ingest"]\n')
    nodes[0].publish("t:ingested", -1)
    eventually(lambda: link.saying(*INGEST, b"BLOCK"), 15, "it waits for news")
    (waiting,) = link.saying(*INGEST, b"BLOCK")
    waiting.latency = 0.1
    promote(pair)
    numbers = list(range(300))
    for number in numbers:
        new.client.xadd("corecast:ingest", {"channel": "t:ingested", "data": str(number)})
    eventually(lambda: b"INFO" in waiting.said, 5, "it looks who is there")
    waiting.reset()
    eventually(lambda: reconnects(nodes[0], reason="apart") == 1, TOGETHER_SECONDS_MAX,
               "all are made anew")

    eventually(lambda: not is_degraded(nodes[0]), 5, "and it is well")
    # What was read before is of an epoch that is over.
    eventually(lambda: [pub["data"] for pub in nodes[0].history("t:ingested")] == numbers, 10,
               "each is where all connections lead to")


def test_a_node_that_stays_with_a_demoted_primary_that_is_cut_off_goes_to_the_new_one(join, pair):
    old, new, link = pair
    nodes = join([link.url])
    with Traffic(nodes) as traffic:
        promote(pair)
        # It is told whom to follow, and does not reach it: it answers, and takes nothing.
        with Proxy(new.port) as replication:
            replication.silent = True
            old.client.replicaof("127.0.0.1", replication.port)
            traffic.flows(TOGETHER_SECONDS_MAX)
            eventually(lambda: not is_degraded(nodes[0]), 5, "and it is well")
            assert len(link.saying(b"")) >= 5
    traffic.check(told=True)


def test_a_node_without_another_way_than_to_a_demoted_primary_refuses_at_once(join, pair):
    old, _, link = pair
    nodes = join([link.url])
    server = nodes[0]
    server.publish("t:a", 1)
    with Proxy(1) as replication:
        old.client.replicaof("127.0.0.1", replication.port)
        eventually(lambda: "publications: READONLY" in server.http.get("/ready").text, 5,
                   "it is degraded though nobody publishes")
        check_refused_at_once(server)
        old.promote()
    eventually(lambda: not is_degraded(server), 5, "and well again")
    server.publish("t:a", 2)


def check_refused_at_once(server):
    assert server.metrics().total("corecast_bus_up") == 0
    for _ in range(5):
        began = time.monotonic()
        error = server.api("publish", {"channel": "t:a", "data": 1}).json()["error"]
        seconds = time.monotonic() - began
        assert error["message"].startswith("bus unavailable"), error
        assert seconds < 0.5, f"refused after {seconds:.1f} s"


def test_a_node_that_was_stopped_makes_nothing_anew(join, redis):
    nodes = join([redis.url] * 2)
    with Traffic(nodes, publish_on=[0], follow_on=[0]) as traffic:
        before = connects_at_start(nodes[0])
        for seconds in (2.5, 6):
            nodes[0].freeze()
            time.sleep(seconds)
            nodes[0].thaw()
            traffic.flows(10)
        eventually(lambda: not is_degraded(nodes[0]), 5, "it is well")
        assert (connects(nodes[0]), reconnects(nodes[0])) == (before, 0)
    assert not any(follower.told() for follower in traffic.followers)


def test_a_node_at_full_load_makes_nothing_anew(join, redis):
    nodes = join([redis.url])
    server, stopping = nodes[0], threading.Event()
    before = connects_at_start(server)
    channels = [f"t:load-{n}" for n in range(100)]

    def load():
        while not stopping.is_set():
            server.api("broadcast", {"channels": channels, "data": "x" * 200}, timeout=30)

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    stopping.set()
    for thread in threads:
        thread.join()
    eventually(lambda: not is_degraded(server), 5, "it is well")
    assert (connects(server), reconnects(server)) == (before, 0)
    assert server.metrics().total("corecast_bus_publications_total", result="ok") > 1000


@contextlib.contextmanager
def publishing(server):
    """Publishes all the time."""
    stopping = threading.Event()

    def publish():
        while not stopping.wait(0.02):
            server.api("publish", {"channel": "t:a", "data": 1})

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def test_a_reader_that_lags_by_less_than_two_seconds_is_not_late(join, redis):
    with Proxy(redis.port) as link:
        (server,) = join([link.url])
        for number in range(20):  # The first reads are short, until their bytes are known.
            server.publish("t:a", number)
        eventually(lambda: link.saying(*READER), what="the reader is there")
        link.saying(*READER)[0].latency = TOLERATED_SECONDS
        with publishing(server):
            until, most = time.monotonic() + 4, 0
            while time.monotonic() < until:
                most = max(most, server.metrics().total("corecast_bus_lag_seconds"))
                assert not is_degraded(server), server.http.get("/ready").text
        assert 0.7 < most < 2, f"it lagged by {most:.2f} s at most"


def test_who_subscribes_while_the_reader_is_late_waits_for_it(join, redis, channel):
    with Proxy(redis.port) as link:
        nodes = join([link.url])
        server = nodes[0]
        server.publish("t:a", 0)
        server.publish("t:b", 0)
        eventually(lambda: link.saying(*READER), what="the reader is there")
        (reader,) = link.saying(*READER)
        reader.latency = 1.3
        with publishing(server):
            eventually(lambda: "late" in server.http.get("/ready").text, 10, "it says so")
            eventually(lambda: server.metrics().total("corecast_bus_lag_seconds") > 2, 3)
            assert server.metrics().total("corecast_bus_up") == 0
            client, began = nodes.connect(0), time.monotonic()
            reply = client.ask("subscribe", channel="t:a")
            seconds = time.monotonic() - began
            assert 0.3 < seconds < 3.5, f"{reply} after {seconds:.1f} s"
            reader.latency = 0
            eventually(lambda: not is_degraded(server), 5, "it is in time again")
            began = time.monotonic()
            nodes.connect(0).ask("subscribe", channel="t:b")
            assert time.monotonic() - began < 1
        assert reconnects(server) == 0, "the reader is slow, and where it should be"
