"""SIGTERM: all clients are disconnected in order, at a limited pace, and told to reconnect."""

import concurrent.futures
import signal
import threading
import time

import httpx
import pytest

from harness.client import Client, Closed
from harness.server import Server, eventually
from harness.swarm import Swarm
from harness.wire import Wire

CROWD = 10_000
DRAIN_SECONDS = 8
# The rest is for the last ones to go.
PACE_SECONDS = DRAIN_SECONDS * 3 / 4


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
        assert times[-1] <= DRAIN_SECONDS + 1
        fair = CROWD / PACE_SECONDS
        busiest = max(_in_window(times, 1.0))
        assert busiest <= 1.6 * fair, f"{busiest} closes in one second, {fair:.0f} would be even"
        assert times[-1] - times[0] >= PACE_SECONDS / 2, "spread over the time it was given"


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


def health(server, method="GET"):
    """Status and body of `/health`, on a connection of its own; None where nobody accepts it."""
    try:
        with Wire(server) as wire:
            wire.send(f"{method} /health HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            wire.socket.settimeout(5)
            answer = b"".join(iter(lambda: wire.socket.recv(4096), b""))
            head, body = answer.split(b"\r\n\r\n", 1)
            return int(head.split()[1]), body
    except OSError:
        return None


def test_health_says_draining_from_when_readiness_does(driver):
    """Whoever has been told by the one port is never told otherwise by the other one."""
    config = '[server]\ndrain_delay = "2s"\ndrain = "2s"\n'
    with Server(driver, shards=4, config=config) as server, Client(server):
        assert health(server) == (200, b"ok\n")
        assert health(server, "HEAD") == (200, b"")
        server.terminate()
        eventually(lambda: server.http.get("/ready").status_code == 503, 2, "not ready")
        assert server.http.get("/live").status_code == 200
        for _ in range(100):
            assert health(server) == (503, b"draining\n")
        assert server.http.get("/ready").text == "draining\n"


def test_clients_are_let_in_for_drain_delay_and_then_sent_away(driver):
    config = '[server]\ndrain_delay = "3s"\ndrain = "3s"\n'
    with Server(driver, config=config) as server, Client(server) as early:
        early.subscribe("still")
        server.terminate()
        started = time.monotonic()
        eventually(lambda: server.http.get("/ready").text == "draining\n", 2, "not ready")
        with Client(server) as late:
            late.subscribe("still")
            server.publish("still", 1)
            for client in (early, late):
                assert client.publication("still")["data"] == 1
            if time.monotonic() - started > 2.5:
                pytest.skip("this machine is too slow to look at the first 3 s")
            for client in (early, late):
                assert client.closed()[0] == 3001
                assert time.monotonic() - started > 2.9, "not before the delay is over"
        assert server.wait(10) == 0


def test_a_second_sigterm_ends_at_once_while_clients_are_still_let_in(driver):
    with Server(driver, config='[server]\ndrain_delay = "60s"\n') as server:
        server.terminate()
        eventually(lambda: server.http.get("/ready").status_code == 503, 2, "not ready")
        server.terminate()
        server.wait(2)


def test_clients_that_are_gone_without_a_word_do_not_delay_the_end(driver):
    seconds = 4
    with Server(driver, config=config(seconds)) as server:
        # They never answer the close, and their kernels keep what they are sent.
        silent = [Wire(server).connect() for _ in range(20)]
        started = time.monotonic()
        server.terminate()
        assert server.wait(seconds + 5) == 0
        assert time.monotonic() - started < seconds + 0.5
        assert "still open at the end" not in server.log()
        for wire in silent:
            wire.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_for_development_ends_within_a_second(driver, number):
    with Server(driver) as server:
        silent = [Wire(server).connect() for _ in range(5)]
        started = time.monotonic()
        server.process.send_signal(number)
        assert server.wait(5) == 0
        assert time.monotonic() - started < 1.5
        for wire in silent:
            assert wire.closed() == 3001
            wire.close()


def test_ctrl_c_waits_for_no_load_balancer(driver):
    config = '[server]\ndrain_delay = "20s"\ndrain = "20s"\n'
    with Server(driver, config=config) as server, Client(server) as client:
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert client.closed()[0] == 3001
        assert server.wait(5) == 0
        assert time.monotonic() - started < 1.5


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
        with concurrent.futures.ThreadPoolExecutor(len(listeners)) as readers:
            logs = list(readers.map(_read_until_shutdown, listeners))
        for seen in logs:
            assert seen == list(range(len(seen))), "no hole before the close"
        longest = max(logs, key=len)
        assert server.wait(10) == 0
        publisher.join()
        assert len(longest) > 10


def _read_until_shutdown(listener):
    seen = []
    try:
        while True:
            seen.append(listener.publication("flight")["data"])
    except Closed as closed:
        assert closed.code == 3001
    return seen


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGHUP])
def test_other_signals_do_not_end_it(driver, number):
    with Server(driver) as server, Client(server) as client:
        client.subscribe("signals")
        server.process.send_signal(number)
        time.sleep(0.3)
        assert server.alive(), f"{number!r} ended it with {server.process.poll()}"
        server.publish("signals", 1)
        assert client.publication("signals")["data"] == 1
