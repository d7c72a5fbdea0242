"""Failovers of Redis itself: a Sentinel promotes a replica, or a Cluster loses a master. One master
of a Cluster may also refuse to write, while the others work."""

import time

import pytest

from harness.redis import Cluster, Redis, Sentinel
from harness.server import eventually
from harness.traffic import CONFIG, Traffic

NODES = {"config": CONFIG}


def test_a_sentinels_failover_is_followed(join):
    with Redis() as primary, Redis() as replica:
        replica.follow(primary)
        with Sentinel(primary) as sentinel:
            sentinel.wait_replica()
            nodes = join([sentinel.url] * 2)
            with Traffic(nodes) as traffic:
                primary.kill()
                eventually(lambda: sentinel.primary() == replica.port, 15, "promoted")
                traffic.flows(15)
            traffic.check(told=True)


@pytest.fixture
def cluster():
    with Cluster() as cluster:
        yield cluster


def homes(cluster):
    """For each stream the number of the master that has it."""
    found = {}
    for n, master in enumerate(cluster.nodes):
        for name in master.client.scan_iter("corecast:{*}:bus"):
            found[int(name.decode().split("{")[1].split("}")[0])] = n
    return found


def fill(cluster, server):
    """Publishes until every stream is there; a channel for each master."""
    for n in range(200):
        server.publish(f"t:{n}", {"id": "first"})
    found, channels = homes(cluster), {}
    for n in range(200):
        for at, master in enumerate(cluster.nodes):
            for stream, home in found.items():
                if home == at and master.client.hexists(f"corecast:{{{stream}}}:places", f"t:{n}"):
                    channels.setdefault(at, f"t:{n}")
    return channels


def test_a_cluster_that_lost_a_masters_data_tells_only_that_masters_channels(join, cluster):
    nodes = join([cluster.url] * 2)
    channels = fill(cluster, nodes[0])
    assert len(channels) == len(cluster.nodes), channels
    with Traffic(nodes, channels.values()) as traffic:
        cluster.nodes[2].kill()
        eventually(lambda: not cluster.nodes[0].cluster_ok(), 10, "the cluster is down")
        traffic.wait_outcome("unavailable", "unknown")
        cluster.nodes[2].start()
        eventually(cluster.whole, 15, "the cluster is whole")
        traffic.flows(15)
    traffic.check()
    for follower in traffic.followers:
        assert bool(follower.told()) == (follower.channel == channels[2]), \
            f"{channels}: {follower.channel} {follower.log[-9:]}"


def test_a_slot_that_moves_takes_its_stream_with_it(join, cluster):
    nodes = join([cluster.url] * 2)
    channels = fill(cluster, nodes[0])
    with Traffic(nodes, [channels[0]]) as traffic:
        source, target = cluster.nodes[0], cluster.nodes[1]
        key = next(name for name in source.client.scan_iter("corecast:{*}:bus")
                   if source.client.hexists(name.replace(b":bus", b":places"), channels[0]))
        cluster.move_slot(source.client.execute_command("CLUSTER", "KEYSLOT", key), source, target)
        traffic.flows(15)
    traffic.check()


def test_a_master_that_refuses_stops_only_the_channels_of_its_own_streams(join, cluster):
    nodes = join([cluster.url])
    server, full = nodes[0], 1
    channels = fill(cluster, server)
    assert len(channels) == len(cluster.nodes), channels
    readers = {at: nodes.subscribe(0, channel) for at, channel in channels.items()}
    ready = lambda: server.http.get("/ready").text
    up = lambda: server.metrics().total("corecast_bus_up")
    assert "degraded" not in ready() and up() == 1
    cluster.nodes[full].client.config_set("maxmemory", "1mb")
    eventually(lambda: "degraded" in ready() and "OOM" in ready(), 5, "it is found")
    assert up() == 0
    for n in range(5):
        for at, channel in channels.items():
            began = time.monotonic()
            answer = server.api("publish", {"channel": channel, "data": {"id": n}}).json()
            if at == full:
                assert time.monotonic() - began < 0.5, f"{channel} waited"
                assert answer["error"]["message"].startswith("bus unavailable"), answer
            else:
                assert "error" not in answer, answer
                assert readers[at].publication(channel)["data"] == {"id": n}
    cluster.nodes[full].client.config_set("maxmemory", "0")
    eventually(lambda: "degraded" not in ready(), 5, "it is over")
    assert up() == 1
    for at, channel in channels.items():
        server.publish(channel, {"id": "last"})
        assert readers[at].publication(channel)["data"] == {"id": "last"}
