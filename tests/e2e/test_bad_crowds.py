"""Thousands of clients with bad input. Their cost per client is only visible in such a crowd."""

import resource
import socket
import time

import pytest

from harness.cage import Cage
from harness.server import Server, eventually
from harness.swarm import Swarm
from harness.wire import TEXT, close_frame, frame
from harness.witness import Witness

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(150)]

CROWD = 10_000


@pytest.fixture
def server(driver):
    """A server of its own for each test: figures of memory bear no history."""
    with Server(driver, shards=1 if _descriptors() > CROWD + 1000 else 2) as server:
        yield server
        assert server.alive() and "panicked at" not in server.log()
        assert server.metrics().total("corecast_audit_errors_total") == 0


def _descriptors():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def settle(server):
    """RSS once it has stopped moving."""
    last = server.rss_bytes()
    for _ in range(20):
        time.sleep(0.25)
        now = server.rss_bytes()
        if abs(now - last) < 64 * 1024:
            return now
        last = now
    return last


def test_10_000_announced_messages_that_never_come_cost_less_than_a_kib_each(server):
    with Swarm(server, CROWD, channel="crowd") as swarm, Witness(server):
        before = settle(server)
        swarm.send_all(frame(TEXT, announced=65_536))
        swarm.run(1)
        grown = (settle(server) - before) / CROWD
        assert grown < 1024, f"{grown:.0f} B for each that announced 64 KiB"
        assert swarm.open_count() == CROWD
        swarm.send_all(b'{"id":3,"hist')  # And a few bytes of it.
        swarm.run(1)
        grown = (settle(server) - before) / CROWD
        assert grown < 1024, f"{grown:.0f} B for each that sent 13 bytes of 64 KiB"


def test_10_000_idle_subscribed_connections_cost_little(server):
    with Swarm(server, CROWD // 2, channel="idle") as first:
        half = settle(server)
        with Swarm(server, CROWD // 2, channel="idle") as second:
            each = (settle(server) - half) / (CROWD // 2)
            assert each <= 512, f"{each:.0f} B for each idle connection"  # 256 B at 50,000.
            server.publish("idle", "all of you")
            counts = []
            for swarm in (first, second):
                swarm.run(10, lambda: _heard(swarm) == CROWD // 2)
                counts.append(_heard(swarm))
            assert counts == [CROWD // 2] * 2


def _heard(swarm):
    return sum(member.last.find(b"all of you") >= 0 for member in swarm.members)


def test_10_000_closes_at_once_free_everything(server):
    descriptors = server.descriptors()
    with Witness(server):
        witness = server.settled_connections()
        with Swarm(server, CROWD, channel="storm") as swarm:
            swarm.answers_close = False
            swarm.send_all(close_frame(1000, b"storm"))
            swarm.run(20, lambda: all(member.ended for member in swarm.members))
            assert {member.code for member in swarm.members} == {1000}
            assert swarm.open_count() == 0, "every one of them sees the end"
        eventually(lambda: server.connections() <= witness, 10, "connections are back")
    eventually(lambda: server.descriptors() <= descriptors + 5, 10, "descriptors are back")


def test_10_000_resets_at_once_free_everything(server):
    descriptors = server.descriptors()
    with Witness(server):
        witness = server.settled_connections()
        with Swarm(server, CROWD, channel="resets") as swarm:
            linger = b"\1\0\0\0\0\0\0\0"
            for member in swarm.members:
                member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        eventually(lambda: server.connections() <= witness, 15, "connections are back")
    eventually(lambda: server.descriptors() <= descriptors + 5, 10, "descriptors are back")


def test_10_000_half_handshakes_are_cut_and_accepted_clients_do_not_notice(server):
    descriptors = server.descriptors()
    sockets = []
    with Witness(server):
        started = time.monotonic()
        for _ in range(CROWD):
            half = socket.create_connection(("127.0.0.1", server.client_port), timeout=10)
            half.send(b"GET / HT")
            sockets.append(half)
        eventually(lambda: server.descriptors() <= descriptors + 10, 20,
                   "the deadline of a handshake")
        assert time.monotonic() - started < 35
    for half in sockets:
        half.settimeout(1)
        while half.recv(1000):  # Each of them is told, and sees the end.
            pass
        half.close()


def test_unfinished_messages_have_so_much_memory_all_together_and_no_more(driver):
    inbound, crowd = 32 << 20, 3000
    config = f'[client]\ninbound_bytes_max = "{inbound}B"\n'
    with Cage() as cage, Server(driver, config=config, prefix=cage.enter) as server, \
            Swarm(server, crowd) as swarm, Witness(server):
        cage.allow(server, 1.2 * inbound + (16 << 20))
        swarm.send_all(frame(TEXT, announced=65_536))
        for _ in range(6):  # 180 MB, of messages of which the end never comes.
            swarm.send_all(b"x" * 10_000)
            swarm.run(0.3)
        assert server.metrics().total("corecast_inbound_bytes") <= inbound
        codes = {member.code for member in swarm.members if member.ended}
        assert codes == {1013}, codes
        cage.check()
