"""Tasks that one node does for all are taken over, and done exactly once, when that node is cut
off: reading an ingest stream, and reporting lost connections."""

import json
import time

import pytest

from harness.events import LOST_SECONDS_MAX, events
from harness.netns import AWAY, HOME
from harness.redis import Redis
from harness.server import eventually
from harness.traffic import CONFIG

INGEST, GROUP = "corecast:ingest", "corecast"
CONFIG = """
[events]
connect = true
disconnect = true

[client]
ping_interval = "5m"
""" + CONFIG
# After a lease of 5 s.
TAKEN_OVER_SECONDS_MAX = 15

# What a node says that has begun to take entries.
TAKES = "this node now reads the ingest stream"


@pytest.fixture
def redis(sites):
    with Redis(host=HOME) as redis:
        yield redis


@pytest.fixture
def nodes(sites, redis, join):
    """One away, which was there first, and one at home."""
    nodes = join([], config=CONFIG)
    nodes.add_away(sites, redis.url)
    nodes.add(redis.url)
    return nodes


@pytest.mark.parametrize("cut", [
    lambda sites: sites.pull(AWAY),
    lambda sites: sites.deafen(AWAY),
    lambda sites: sites.deafen(HOME),
], ids=["no way", "answers vanish", "requests vanish"])
def test_entries_of_a_node_that_is_cut_off_are_published_once_in_order(nodes, sites, redis, cut):
    client, total = nodes.subscribe(1, "t:in"), 0

    def add(count):
        nonlocal total
        for _ in range(count):
            redis.client.xadd(INGEST, {"channel": "t:in", "data": json.dumps(total)})
            total += 1
            time.sleep(0.005)

    add(20)
    seen = [client.publication("t:in")["data"] for _ in range(20)]
    assert TAKES in nodes[0].log() and TAKES not in nodes[1].log()
    add(100)
    cut(sites)
    add(200)
    while len(seen) < total:
        seen.append(client.publication("t:in", TAKEN_OVER_SECONDS_MAX)["data"])
    # A thread of its own writes the log.
    eventually(lambda: TAKES in nodes[1].log(), 5, "the one at home has taken over")
    add(50)
    sites.heal()
    add(200)
    while len(seen) < total:
        seen.append(client.publication("t:in", TAKEN_OVER_SECONDS_MAX)["data"])
    assert seen == list(range(total))
    client.silent(2)
    eventually(lambda: redis.client.xpending(INGEST, GROUP)["pending"] == 0, 15, "acknowledged")
    eventually(lambda: nodes[0].result("history", channel="t:in", limit=0)["offset"] == total, 5,
               "the one that was cut off has it as well")


def test_a_node_that_is_cut_off_is_lost_and_goes_on_as_who_it_was(nodes, sites, redis):
    before = nodes.connect(0)
    client = before.connected["client"]
    eventually(lambda: events(redis, event="connect", client=client), 5, "connected")
    (connect,) = events(redis, event="connect", client=client)
    sites.deafen(HOME, AWAY)
    eventually(lambda: events(redis, event="node_lost"), LOST_SECONDS_MAX, "it is missed")
    (lost,) = events(redis, event="node_lost")
    assert (lost["node"], lost["boot"]) == (connect["node"], connect["boot"])
    meanwhile = nodes.connect(0).connected["client"]
    before.silent()
    before.close()
    sites.heal()
    for event, whose in [("connect", meanwhile), ("disconnect", client)]:
        eventually(lambda: events(redis, event=event, client=whose), 10, f"{event} of {whose}")
        assert events(redis, event=event, client=whose)[0]["boot"] == connect["boot"]
    eventually(lambda: len(nodes[1].result("info")["nodes"]) == 2, 10, "it is there again")
    assert len(events(redis, event="node_lost")) == 1
