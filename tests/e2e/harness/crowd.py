"""Crowds of clients that do not read, and clients that ask for as much as they can."""

import contextlib
import multiprocessing
import os
import socket
import time

from harness.server import eventually
from harness.wire import TEXT, Wire, frame, upgrade

MIB = 1 << 20

# Bytes of a history that a recovery returns whole.
HISTORY_PUBLICATIONS, HISTORY_BYTES = 300, 2000


def fill(server, channel):
    commands = [{"publish": {"channel": channel, "data": "x" * HISTORY_BYTES}}
                for _ in range(HISTORY_PUBLICATIONS)]
    server.api("batch", {"commands": commands})


def dial(server):
    """Connects a socket that takes only a few bytes before it must be read."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.settimeout(10)
    one.connect(("127.0.0.1", server.client_port))
    return one


class Crowd:
    """Clients that are connected and never read."""

    def __init__(self, server, size, path, words=b""):
        self.sockets = [dial(server) for _ in range(size)]
        self.send(upgrade(path) + words)

    def send(self, data):
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self.sockets:
            one.close()


def full(server):
    return server.metrics().total("corecast_closes_total", reason="outboxes_full")


CONNECT = frame(TEXT, b'{"id":1,"connect":{}}')


PAIRS = 495


def pairs(channel, epoch):
    """One message of 52 KB: a channel is subscribed to with recovery and left, 495 times."""
    pair = ('{"id":1,"subscribe":{"channel":"%s","recover":true,"epoch":"%s"}}\n'
            '{"id":2,"unsubscribe":{"channel":"%s"}}') % (channel, epoch, channel)
    message = frame(TEXT, "\n".join([pair] * PAIRS).encode())
    assert len(message) < 64 * 1024, "longer ones are refused"
    return message


def short_publications(server, crowd):
    """One byte each, until the memory for outboxes is used up."""
    batch = {"commands": [{"publish": {"channel": "live", "data": 1}}] * 100, "parallel": True}
    for _ in range(200):
        for _ in range(10):
            server.api("batch", batch)
        if full(server) > 0:
            return


def long_publications(server, crowd):
    for _ in range(40):
        for _ in range(5):
            server.publish("live", "x" * 300_000)
        if full(server) > 0 or server.metrics().total("corecast_closes_total", reason="slow"):
            return


def recoveries(server, crowd):
    eventually(lambda: full(server) > 0, 30, "somebody is closed")


def replies(server, crowd):
    crowd.send(frame(TEXT, b'{"id":2,"history":{"channel":"kept","limit":-1}}') * 20)
    eventually(lambda: full(server) > 0, 30, "somebody is closed")


# Each kind of client that does not read: what it asks for, where, and with which first message.
ATTACKS = [
    (short_publications, "/ws?channels=live", b""),
    (long_publications, "/ws?channels=live", b""),
    (recoveries, "/ws?channels=kept&since=:0", b""),
    (replies, "/connection/websocket", CONNECT),
]


class Attacker(multiprocessing.get_context("fork").Process):
    """Sends recoveries and what undoes them, 0.5 MB a second, and reads all or nothing. It is a
    process of low priority, so that it does not slow the client that measures."""

    RATE = 500_000

    def __init__(self, server, reads):
        super().__init__(daemon=True)
        self.server, self.reads = server, reads
        self.message = pairs("kept", server.epoch)

    def run(self):
        os.nice(10)
        while True:
            with contextlib.suppress(OSError, EOFError, AssertionError):
                with Wire(self.server, receive_bytes=None if self.reads else 4096) as wire:
                    self.attack(wire.connect())

    def attack(self, wire):
        wire.socket.setblocking(False)
        began, sent, left = time.monotonic(), 0, self.message
        while True:
            time.sleep(0.005)
            if sent < (time.monotonic() - began) * self.RATE:
                with contextlib.suppress(BlockingIOError):
                    count = wire.socket.send(left)
                    sent, left = sent + count, left[count:] or self.message
            with contextlib.suppress(BlockingIOError):
                while self.reads and wire.socket.recv(1 << 20):
                    pass


@contextlib.contextmanager
def attacked(server, reads):
    """Four attackers."""
    server.epoch = server.result("history", channel="kept", limit=0)["epoch"]
    attackers = [Attacker(server, reads) for _ in range(4)]
    for one in attackers:
        one.start()
    try:
        yield
    finally:
        for one in attackers:
            one.kill()
        for one in attackers:
            one.join()


def p99(server, client, seconds):
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.monotonic()
        server.publish("other", 1)
        client.publication("other")
        took.append(time.monotonic() - started)
    return sorted(took)[len(took) * 99 // 100]
