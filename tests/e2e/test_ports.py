"""Reserved ports stay free until their server listens, both those of the tests and those of the
server, even if outgoing connections use every port they can get."""

import collections
import contextlib
import errno
import pathlib
import socket
import struct
import subprocess
import threading

import pytest

from harness.ports import free_port
from harness.redis import Cluster, Redis
from harness.server import BINARY, Server

# Few enough that somebody who takes one after the other comes by each in a moment.
FIRST, LAST = 40_000, 40_063
TAKEN_MAX = 60
RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")


class Crowd:
    """Takes many of the ports that outgoing connections can get, and others all the time."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 5000), backlog=1000)
        self.pairs = collections.deque()
        self.over, self.full = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.take, daemon=True)

    def take(self):
        while not self.over.is_set():
            try:
                client = socket.create_connection(("127.0.0.1", 5000))
                self.pairs.append((client, self.listener.accept()[0]))
                full = len(self.pairs) == TAKEN_MAX
            except OSError as error:
                assert error.errno == errno.EADDRNOTAVAIL, error
                # Even of those that were left a process that is just being started has copies.
                full = True
            if full and self.pairs:
                self.full.set()
                self.leave(self.pairs.popleft())

    @staticmethod
    def leave(pair):
        for one in pair:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()

    def __enter__(self):
        # In the namespace of the thread that starts it.
        self.thread.start()
        assert self.full.wait(10)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        for pair in self.pairs:
            self.leave(pair)
        self.listener.close()


@pytest.fixture
def few_ports(sites):
    RANGE.write_text(f"{FIRST} {LAST}")


def test_a_port_that_was_free_stays_free(few_ports):
    ports = [free_port() for _ in range(16)]
    with Crowd():
        assert all(FIRST <= port <= LAST for port in ports) and len(set(ports)) == 16
        for port in ports:
            with Redis(port=port) as redis:
                redis.restart()


def test_a_cluster_and_its_second_ports_are_there(few_ports):
    ports = iter([free_port() for _ in range(6)])
    with Crowd(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.redis.free_port", lambda: next(ports))
        with Cluster() as cluster:
            assert cluster.whole()


def test_a_server_begins_on_a_port_that_was_free(few_ports, driver):
    with contextlib.ExitStack() as servers:
        # Drawn before the crowd comes.
        made = [Server(driver, await_ready=False) for _ in range(4)]
        with Crowd():
            for server in made:
                servers.enter_context(server).wait_ready()


def test_the_port_that_the_server_chose_itself_is_its_shards(few_ports, driver):
    """Asked for any port, it finds one before its shards listen there."""
    with Crowd():
        for _ in range(20):
            command = [BINARY, "serve", "--dev", "--driver", driver, "--shards", "4",
                       "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:9000"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True) as process:
                said = []
                for line in process.stdout:
                    said.append(line)
                    if "http://" in line:
                        break
                process.kill()
            assert any("http://" in line for line in said), "".join(said)
