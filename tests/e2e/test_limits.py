"""Limits of the whole node: the number of connections, and exhausted descriptors."""

import pathlib
import subprocess
import sys
import time

import pytest

from harness.client import Client
from harness.server import Server, eventually
from harness.wire import Wire, upgrade
from harness.witness import Witness

MAX_CONNECTIONS = 200
CONFIG = f"[server]\nmax_connections = {MAX_CONNECTIONS}\n"


def knock(server):
    """The status of one upgrade, and the connection if it was granted; None where the server does
    not answer at all."""
    wire = None
    try:
        wire = Wire(server)
        wire.socket.settimeout(2)
        wire.send(upgrade())
        status, headers, body = wire.response()
    except (OSError, EOFError):
        if wire:
            wire.close()
        return None, None, None
    if status != 101:
        wire.close()
        return status, headers, None
    return status, headers, wire


def test_beyond_max_connections_a_client_is_answered_503_and_told_when_to_come_back(driver):
    with Server(driver, config=CONFIG) as server:
        inside, refusals = [], []
        for _ in range(MAX_CONNECTIONS + 60):
            status, headers, wire = knock(server)
            if status == 101:
                inside.append(wire)
            else:
                refusals.append((status, headers))
        assert len(inside) <= MAX_CONNECTIONS
        # Leases in blocks may leave some places unused, but not most of them.
        assert len(inside) >= MAX_CONNECTIONS // 2
        answered = [headers for status, headers in refusals if status == 503]
        assert answered, f"nobody was answered 503: {refusals[:3]}"
        assert all(int(headers["retry-after"]) > 0 for headers in answered)
        eventually(lambda: server.http.get("/ready").status_code == 503, 3, "full is not ready")
        assert server.http.get("/live").status_code == 200
        for wire in inside:
            wire.close()
        eventually(lambda: server.http.get("/ready").status_code == 200, 8, "it is ready again")
        eventually(lambda: knock(server)[0] == 101, 8, "it accepts again")


def test_a_table_of_600_descriptors_that_fills_up_stops_nothing_but_newcomers(driver):
    with Server(driver, prefix=["prlimit", "--nofile=600:600"]) as server, Witness(server):
        inside = []
        refused = 0
        for _ in range(1500):
            status, _, wire = knock(server)
            if status == 101:
                inside.append(wire)
                refused = 0
            else:
                refused += 1
                if refused > 40:
                    break
        assert len(inside) >= 100
        eventually(lambda: server.http.get("/ready").text == "full\n", 3, "full is not ready")
        _assert_calm(server)
        for wire in inside:
            wire.close()
        eventually(lambda: knock(server)[0] == 101, 8, "it accepts again")
        eventually(lambda: server.http.get("/ready").status_code == 200, 8, "it is ready again")


def test_a_server_that_nobody_could_connect_to_does_not_start(driver):
    with pytest.raises(RuntimeError, match="limit on open files is 200.*no client could connect"):
        Server(driver, prefix=["prlimit", "--nofile=200:200"])


def test_more_connections_than_fit_are_told_in_the_log(driver):
    config = '[server]\nmax_connections = {}\n[api]\nkeys = ["of-this-test-alone"]\n'
    few = {"prefix": ["prlimit", "--nofile=600:600"], "dev": False}
    with Server(driver, config=config.format(5000), **few) as server:
        line = "server.max_connections is 5000, but only 688 connections are possible"
        eventually(lambda: line in server.log(), 3, "it is told")
    with Server(driver, config=config.format(500), **few) as server:
        assert "connections are possible" not in server.log()


@pytest.fixture
def no_entering():
    """A command before which io_uring can be set up and not be entered, as under some filters of
    system calls."""
    return [sys.executable, str(pathlib.Path(__file__).parent / "harness" / "deny.py"), "426"]


def test_an_io_uring_that_may_not_be_entered_is_epoll(no_entering):
    with Server("auto", prefix=no_entering) as server, Client(server) as client:
        assert "io_uring_enter failed: Operation not permitted" in server.log(), server.log()
        client.subscribe("entered")
        server.publish("entered", 1)
        assert client.publication("entered")["data"] == 1
    with pytest.raises(RuntimeError, match="io_uring_enter failed: Operation not permitted"):
        Server("io_uring", prefix=no_entering)


def test_descriptors_that_run_out_under_it_are_survived_calmly(driver):
    with Server(driver) as server:
        inside = [Client(server) for _ in range(20)]
        with Witness(server):
            highest = max(int(fd.name) for task in server.tasks() for fd in (task / "fd").iterdir())
            _limit(server, highest + 1)
            log_lines = len(server.log().splitlines())
            knocking = [Wire(server) for _ in range(30)]
            eventually(lambda: server.http.get("/ready").text == "full\n", 3, "full is not ready")
            _assert_calm(server)
            assert server.http.get("/ready").text == "full\n", "not while it can accept nobody"
            assert len(server.log().splitlines()) - log_lines < 40, server.log()[-2000:]
            for wire in knocking:
                wire.close()
            _limit(server, 20_000)
            eventually(lambda: knock(server)[0] == 101, 8, "it accepts again")
            eventually(lambda: server.http.get("/ready").status_code == 200, 8, "ready again")
            for client in inside:
                assert client.history("still")["offset"] == 0
                client.close()


def _limit(server, count):
    subprocess.run(["prlimit", f"--pid={server.pid}", f"--nofile={count}:20000"], check=True)


def _assert_calm(server):
    """Accepting that fails must not spin: two seconds may cost a third of a core."""
    before = server.cpu_seconds()
    time.sleep(2)
    used = server.cpu_seconds() - before
    assert used < 0.7, f"{used:.2f} s of CPU in 2 s of waiting for a descriptor"


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_any_number_of_shards_serves(driver, shards):
    with Server(driver, shards=shards) as server:
        clients = [Client(server) for _ in range(3 * shards)]
        for client in clients:
            client.subscribe("everybody")
        for n in range(20):
            server.publish("everybody", n)
        for client in clients:
            assert [pub["data"] for pub in client.publications("everybody", 20)] == list(range(20))
            client.close()


def test_handshakes_in_a_rush_are_all_served_or_told_to_come_back(driver):
    config = "[server]\naccept_rate = 200\n"
    with Server(driver, config=config) as server:
        statuses = []
        wires = []
        for _ in range(600):
            status, headers, wire = knock(server)
            statuses.append(status)
            if wire:
                wires.append(wire)
            elif status == 503:
                assert int(headers["retry-after"]) > 0
        assert set(statuses) <= {101, 503}, set(statuses)
        for wire in wires:
            wire.close()
