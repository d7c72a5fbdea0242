"""A well-behaved client that other clients of the server must not affect."""

import itertools
import threading
import time

from harness.client import Client

_numbers = itertools.count()


class Witness:
    """While the block runs, publishes ten times a second through the API. A client of the same
    server must receive each publication in order, without loss or delay."""

    def __init__(self, server, *, late_seconds=3.0, interval=0.1):
        self.server, self.late_seconds, self.interval = server, late_seconds, interval
        self.channel = f"witness-{next(_numbers)}"
        self.stopping = threading.Event()
        self.failure = None
        self.worst = 0.0
        self.count = 0

    def __enter__(self):
        self.client = Client(self.server)
        self.client.subscribe(self.channel)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        try:
            while not self.stopping.is_set():
                started = time.monotonic()
                self.server.publish(self.channel, {"n": self.count})
                data = self.client.publication(self.channel, self.late_seconds)["data"]
                assert data == {"n": self.count}, f"publication {self.count} was due, not {data}"
                self.worst = max(self.worst, time.monotonic() - started)
                self.count += 1
                self.stopping.wait(self.interval)
        except BaseException as failure:  # noqa: B902: told to the test's own thread
            self.failure = failure

    def __exit__(self, kind, *_):
        self.stopping.set()
        self.thread.join(self.late_seconds + 12)
        self.client.close()
        if kind is None:
            assert self.failure is None, f"a healthy client suffered: {self.failure!r}"
            assert self.count > 0, "the witness saw nothing at all"
            assert self.worst < self.late_seconds, f"a healthy client waited {self.worst:.1f} s"
