"""SIGTERM: everybody is sent away in good order, at a pace, and told to come back."""

import signal
import socket
import threading
import time

import httpx
import pytest

from harness.client import Client, Closed
from harness.server import Server, eventually
from harness.swarm import Swarm
from harness.wire import Wire

CROWD = 10_000
DRAIN_SECONDS = 5


def config(seconds):
    return f'[server]\ndrain = "{seconds}s"\n'


@pytest.mark.heavy
@pytest.mark.timeout(150)
def test_10_000_clients_are_closed_at_a_pace_with_3001_and_the_exit_code_is_0(driver):
    with Server(driver, config=config(DRAIN_SECONDS)) as server, \
            Swarm(server, CROWD, channel="all") as swarm:
        server.terminate()
        started = time.monotonic()
        swarm.run(0.5)
        assert server.http.get("/ready").status_code == 503
        assert not _accepts(server), "no new client while it drains"
        swarm.run(DRAIN_SECONDS + 10, lambda: swarm.open_count() == 0)
        assert swarm.open_count() == 0, f"{swarm.open_count()} are left"
        assert server.wait(DRAIN_SECONDS + 10) == 0
        assert {member.code for member in swarm.members} == {3001}
        assert all(member.reason for member in swarm.members), "an SDK needs a reason"
        times = sorted(member.closed_at - started for member in swarm.members)
        assert times[-1] <= DRAIN_SECONDS + 3
        fair = CROWD / DRAIN_SECONDS
        busiest = max(_in_window(times, 1.0))
        assert busiest <= 1.6 * fair, f"{busiest} closes in one second, {fair:.0f} would be even"
        assert times[-1] - times[0] >= DRAIN_SECONDS / 2, "spread over the time it was given"


def _in_window(times, width):
    """For each close, how many there were in the time after it."""
    end = 0
    for start, time_ in enumerate(times):
        while end < len(times) and times[end] < time_ + width:
            end += 1
        yield end - start


def _accepts(server):
    try:
        with Wire(server) as wire:
            wire.socket.settimeout(1)
            wire.open()
            return True
    except (OSError, EOFError, AssertionError):
        return False


def test_a_server_without_clients_ends_at_once_with_0(driver):
    with Server(driver, config=config(20)) as server:
        server.terminate()
        assert server.wait(5) == 0


def test_a_second_sigterm_ends_at_once(driver):
    with Server(driver, config=config(60)) as server:
        clients = [Client(server) for _ in range(50)]
        server.terminate()
        time.sleep(0.5)
        assert server.alive(), "it drains"
        server.terminate()
        server.wait(2)
        for client in clients:
            client.socket.close_socket()


def test_readiness_and_health_say_that_it_drains_but_it_lives(driver):
    with Server(driver, config=config(8)) as server:
        clients = [Client(server) for _ in range(20)]
        with socket.create_connection(("127.0.0.1", server.client_port)) as early:
            time.sleep(0.2)
            server.terminate()
            eventually(lambda: server.http.get("/ready").status_code == 503, 2, "not ready")
            assert server.http.get("/live").status_code == 200
            early.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            early.settimeout(2)
            answer = early.recv(100)
            assert not answer or answer.startswith(b"HTTP/1.1 503"), answer
        for client in clients:
            client.close()
        assert server.wait(10) == 0


def test_publications_in_flight_are_acknowledged_or_refused_but_not_lost(driver):
    with Server(driver, config=config(3)) as server:
        listeners = [Client(server) for _ in range(30)]
        for listener in listeners:
            listener.subscribe("flight")
        acknowledged, refused = [], []

        def publish():
            for n in range(100_000):
                try:
                    response = server.api("publish", {"channel": "flight", "data": n})
                    (acknowledged if "result" in response.json() else refused).append(n)
                except httpx.HTTPError:
                    return

        publisher = threading.Thread(target=publish)
        publisher.start()
        time.sleep(0.5)
        server.terminate()
        longest = []
        for listener in listeners:
            seen = []
            try:
                while True:
                    seen.append(listener.publication("flight")["data"])
            except Closed as closed:
                assert closed.code == 3001
            assert seen == list(range(len(seen))), "no hole before the close"
            longest = max(longest, seen, key=len)
        assert server.wait(10) == 0
        publisher.join()
        assert len(longest) > 10


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGHUP])
def test_other_signals_do_not_end_it(driver, number):
    with Server(driver) as server, Client(server) as client:
        client.subscribe("signals")
        server.process.send_signal(number)
        time.sleep(0.3)
        assert server.alive(), f"{number!r} ended it with {server.process.poll()}"
        server.publish("signals", 1)
        assert client.publication("signals")["data"] == 1


def test_sigint_drains_too(driver):
    with Server(driver, config=config(2)) as server, Client(server) as client:
        server.process.send_signal(signal.SIGINT)
        assert client.closed()[0] == 3001
        assert server.wait(6) == 0
