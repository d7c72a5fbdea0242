"""Clients of other networks are accepted in time while one network connects very fast."""

import contextlib
import json
import pathlib
import resource
import subprocess
import sys

import pytest

from harness.netns import Guests
from harness.server import Server, eventually

KNOCK = str(pathlib.Path(__file__).parent / "harness" / "knock.py")

ACCEPT_RATE = 1_000
# As fast as one process can, and clients that come calmly beside it.
FLOOD_RATE, VISIT_RATE = 20 * ACCEPT_RATE, 250
VISITS = 1_000
# Of the processor time of a client that is let in.
GONE_COST_MAX = 0.5

CONFIG = f"""
[server]
accept_rate = {ACCEPT_RATE}
[auth]
anonymous = true
[api]
keys = ["of-this-test-alone"]
"""


@pytest.fixture
def guests():
    with Guests() as guests:
        yield guests


@pytest.fixture
def host(driver, guests):
    """A server that clients of two networks reach."""
    with Server(driver, host=guests.HOST, config=CONFIG, dev=False) as server:
        yield server
        assert server.alive() and "panicked" not in server.log()


def knock(guests, guest, kind, server, *numbers):
    command = [sys.executable, KNOCK, kind, guests.HOST, server.client_port, *numbers]
    return subprocess.Popen([*guests.enter(guest), *map(str, command)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def flood(guests, guest, server, *, kept):
    """While the block runs, somebody connects as fast as it may. The list gets the rate."""
    rates = []
    with knock(guests, guest, "flood", server, FLOOD_RATE, kept) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            yield rates
            process.stdin.close()
            rates.append(float(process.stdout.readline()))
        finally:
            process.kill()


def visit(guests, guest, server):
    """How long clients waited that came one after another, in order of length."""
    with knock(guests, guest, "visit", server, VISITS, VISIT_RATE) as process:
        times = json.loads(process.stdout.readline())
    assert None not in times, f"{times.count(None)} of {VISITS} were not let in"
    return sorted(times)


def handshakes(server):
    metrics = server.metrics()
    return {result: metrics.total("corecast_handshakes_total", result=result)
            for result in ("ok", "gone", "busy", "full")}


@pytest.mark.heavy
@pytest.mark.parametrize(("kept", "turned_away"), [(0, "gone"), (4_000, "busy")],
                         ids=["reset at once", "held for a while"])
def test_a_flood_of_connections_from_one_network_does_not_keep_others_out(
        host, guests, kept, turned_away):
    with flood(guests, "one", host, kept=kept) as rates:
        eventually(lambda: handshakes(host)[turned_away] > 0, 20, "the flood is over the rate")
        times = visit(guests, "two", host)
        # Sockets that are gone are no refused clients.
        shows = lambda: "busy" in host.http.get("/ready").text
        if turned_away == "busy":
            eventually(shows, 5, "it is said while it lasts")
        else:
            assert not shows()
        results = handshakes(host)
    p99 = times[VISITS * 99 // 100]
    print(f"p50 {times[VISITS // 2]:.3f} s, p99 {p99:.3f} s, {results}, "
          f"{rates[0]:.0f} connects a second")
    assert p99 < 1
    assert results["full"] == 0


@pytest.mark.heavy
def test_a_socket_that_was_reset_costs_a_fraction_of_a_client(host, guests):
    def costs(act):
        """The processor time of the server, and what happened to sockets."""
        used, before = host.cpu_seconds(), handshakes(host)
        act()
        after = handshakes(host)
        return host.cpu_seconds() - used, {key: after[key] - before[key] for key in after}

    def be_flooded():
        with flood(guests, "one", host, kept=0):
            eventually(lambda: handshakes(host)["gone"] > gone + 10 * VISITS, 60, "they are gone")

    used, results = costs(lambda: visit(guests, "two", host))
    client = used / results["ok"]
    gone = handshakes(host)["gone"]
    used, results = costs(be_flooded)
    stranger = used / results["gone"]
    print(f"{client * 1e6:.0f} us a client, {stranger * 1e6:.0f} us a socket, {results}")
    assert stranger < GONE_COST_MAX * client


def test_a_lone_network_is_let_in_as_fast_as_the_rate_allows(driver, guests):
    """Nobody of a crowd that comes faster than the rate for a moment is refused."""
    rate = 400
    config = CONFIG.replace(str(ACCEPT_RATE), str(rate))
    with Server(driver, host=guests.HOST, config=config, dev=False) as server:
        with knock(guests, "one", "visit", server, 3 * rate // 2, 10 * rate) as process:
            times = json.loads(process.stdout.readline())
        assert None not in times, f"{times.count(None)} were not let in"
        assert server.metrics().total("corecast_handshakes_total", result="busy") == 0


def test_clients_of_this_host_are_never_refused_for_the_rate(driver):
    resource_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(1_000, resource_limit // 2)
    with Server(driver, config="[server]\naccept_rate = 400\n") as server:
        command = [sys.executable, KNOCK, "visit", "127.0.0.1", server.client_port, count, 100_000]
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as process:
            times = json.loads(process.stdout.readline())
        assert None not in times, f"{times.count(None)} of {count} were not let in"
        assert max(times) > 0.5, "they came faster than the rate allows"
