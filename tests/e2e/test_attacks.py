"""Attacks in full size: 10,000 clients that do not read, all on one shard, and a minute of clients
that request as much as they can. `./test long` runs them, because they take minutes and judge
figures of time."""

import contextlib
import logging
import os
import pathlib
import time

import pytest

from harness.cage import peak
from harness.client import Client
from harness.crowd import ATTACKS, CONNECT, MIB, Crowd, attacked, dial, fill, full, p99, pairs
from harness.server import Server, eventually
from harness.wire import upgrade

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

# A state in /proc/net/tcp.
ESTABLISHED = "01"

CROWD = 10_000
OUTBOXES = 256 * MIB
# Requests that wait until the client reads have a bound of their own.
INPUT = 32 * MIB

CONFIG = f"""
[server]
accept_rate = 20000

[client]
outboxes_bytes_max = "{OUTBOXES // MIB}MiB"
inbound_bytes_max = "{INPUT // MIB}MiB"
frames_per_second_max = 100000
handshake_timeout = "60s"

[channel]
history_size = 300
history_ttl = "600s"
force_recovery = true
"""


def recoveries_in_pairs(server, crowd):
    epoch = server.result("history", channel="kept", limit=0)["epoch"]
    crowd.send(pairs("kept", epoch))
    time.sleep(30)


def shards_of_ports(server):
    """Returns the shard of each connection, by the client's port. The descriptor table of a shard's
    thread names its sockets."""
    ports = {}
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == server.client_port and fields[3] == ESTABLISHED:
            ports[f"socket:[{fields[9]}]"] = int(fields[2].split(":")[1], 16)
    shards = {}
    for task in pathlib.Path(f"/proc/{server.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("shard-"):
            for descriptor in os.scandir(task / "fd"):
                with contextlib.suppress(FileNotFoundError):  # It is closed by now.
                    if (port := ports.get(os.readlink(descriptor.path))) is not None:
                        shards[port] = name
    return shards


class CrowdOfOneShard(Crowd):
    """A crowd whose connections are all on one of the shards."""

    def __init__(self, server, size, path, words=b""):
        self.sockets = []
        while len(self.sockets) < size:
            fresh = [dial(server) for _ in range(8000)]
            wanted = {one.getsockname()[1] for one in fresh}
            eventually(lambda: wanted <= shards_of_ports(server).keys(), 30, "all are accepted")
            shards = shards_of_ports(server)
            for one in fresh:
                if shards[one.getsockname()[1]] == "shard-0" and len(self.sockets) < size:
                    one.sendall(upgrade(path) + words)
                    self.sockets.append(one)
                else:
                    one.close()


@pytest.mark.parametrize(("shards", "gather"), [(8, CrowdOfOneShard), (54, Crowd)],
                         ids=["one_of_8_shards", "54_shards"])
@pytest.mark.parametrize(("attack", "path", "words"),
                         [*ATTACKS, (recoveries_in_pairs, "/connection/websocket", CONNECT)])
def test_the_memory_of_ten_thousand_clients_that_do_not_read(
        driver, shards, gather, attack, path, words):
    with Server(driver, shards=shards, config=CONFIG) as server:
        fill(server, "kept")
        before = server.rss_bytes()
        with peak(server) as most, gather(server, CROWD, path, words) as crowd:
            attack(server, crowd)
            time.sleep(10)
            times = (most[0] - before) / (OUTBOXES + INPUT)
            logging.info("%s: %.2f x the bounds; %d closed", attack.__name__, times, full(server))
            with Client(server) as other:
                other.subscribe("other")
                server.publish("other", "still there")
                assert other.publication("other")["data"] == "still there"
        assert times < 1.2
        eventually(lambda: server.metrics().total("corecast_outbox_bytes") < MIB, 30,
                   "memory is given back")
        assert server.metrics().total("corecast_audit_errors_total") == 0


@pytest.mark.parametrize("reads", [True, False], ids=["they_read", "they_do_not_read"])
def test_a_minute_of_four_attackers_at_most_doubles_the_latency_of_others(driver, reads):
    # The server has a core of its own, so that only its own work is measured.
    cores = sorted(os.sched_getaffinity(0))
    pinned = ["taskset", "-c", str(cores[0])]
    os.sched_setaffinity(0, cores[1:])
    try:
        with Server(driver, shards=1, config=CONFIG, prefix=pinned) as server, \
                Client(server) as other:
            fill(server, "kept")
            other.subscribe("other")
            quiet = p99(server, other, 60)
            with attacked(server, reads):
                slowed = p99(server, other, 60)
            logging.info("p99 %.2f ms, attacked %.2f ms", quiet * 1000, slowed * 1000)
            assert slowed <= 2 * quiet
    finally:
        os.sched_setaffinity(0, cores)
