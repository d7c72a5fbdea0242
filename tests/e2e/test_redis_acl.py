"""A user of Redis that may run only the commands in docs/nodes.md: everything works with it, and
each command is needed."""

import pytest

from harness.client import data, offsets
from harness.events import EVENTS, wait_events
from harness.server import eventually
from harness.snippets import Desk, snippets

CONFIG = EVENTS + """
roster = true

[channel]
history_size = 10
history_ttl = "300s"
force_recovery = true

[[channel.namespaces]]
name = "kept"
durable_history = true
history_size = 10
history_ttl = "300s"
force_recovery = true
"""
NODES = {"config": CONFIG}
# Commands for nodes that have died, which takes a minute to be sure of.
RARE = {"hrandfield", "zscore"}
LISTED = snippets("docs/nodes.md")["docs/nodes.md sh 2"]


@pytest.fixture
def limited(redis, tmp_path):
    """A Redis with the user of the guide."""
    assert "OK" in Desk(tmp_path, redis).shell(LISTED)
    redis.client.config_resetstat()
    return redis


def test_everything_works_with_the_listed_commands_and_needs_them(limited, join):
    url = f"redis://corecast:PASSWORD@127.0.0.1:{limited.port}"
    nodes = join([url] * 2)
    eventually(lambda: len(nodes[0].result("info")["nodes"]) == 2, 10, "both hold their leases")
    for channel in ("news", "kept:1"):
        client = nodes.subscribe(1, channel)
        first = nodes[0].publish(channel, 1, idempotency_key="once")
        assert data(client.publications(channel, 1)) == [1]
        client.close()
        last = nodes[0].publish(channel, 2)
        nodes.at(channel, last)
        back = nodes.connect(1)
        found = back.subscribe(channel, recover=True, offset=first["offset"], epoch=first["epoch"])
        assert found["recovered"] and offsets(found["publications"]) == [last["offset"]]
    limited.client.xadd("corecast:ingest", {"channel": "news", "data": "3"})
    eventually(lambda: data(nodes[1].history("news")) == [1, 2, 3], 10, "the entry is published")
    limited.client.xadd("corecast:ingest", {"wrong": "entry"})
    eventually(lambda: limited.client.xlen("corecast:ingest:dead") == 1, 10, "it is set aside")
    nodes[0].result("history_remove", channel="kept:1")
    assert nodes[0].result("channels")["channels"]["news"] == {"num_clients": 1}
    assert len(nodes[0].result("info")["nodes"]) == 2
    client = nodes.subscribe(0, "news")
    client.close()
    wait_events(limited, 1, client=client.connected["client"], event="disconnect")
    nodes[1].process.terminate()
    assert nodes[1].process.wait(15) == 0, "a node leaves"
    nodes[1].killed = True

    assert limited.client.acl_log() == [], "every command was allowed"
    statistics = limited.client.info("commandstats")
    used = {name.removeprefix("cmdstat_").split("|")[0] for name in statistics}
    listed = {word[1:] for word in LISTED.split() if word.startswith("+")}
    assert listed <= used | RARE, f"not needed: {listed - used - RARE}"
    assert RARE <= listed, f"not listed: {RARE - listed}"
