"""A link to Redis or to a server that can be slow, cut or silent, or lose an answer."""

import socket
import struct
import threading
import time

CHUNK_BYTES = 64 * 1024
STEP_SECONDS = 0.01


class Proxy:
    """Forwards bytes between its `port` and the port `target`. With target 0 connections are
    refused. Each setting takes effect immediately:

    `latency`: delay of each piece in seconds, in both directions.
    `slice_bytes`: maximum length of a piece.
    `rewrite`: bytes in answers and their replacement, which must have the same length.
    `silent`: nothing passes, and neither side sees a reset or the end of the stream.

    Of the first `cuts` connections, number n, counted from 0, is cut after n bytes of answers: even
    ones with a reset, odd ones in order. `begun` and `ended` count connections.
    """

    def __init__(self, target, cuts=0):
        self.cuts, self.begun, self.ended = cuts, 0, 0
        self.target, self.latency, self.slice_bytes, self.silent = target, 0.0, CHUNK_BYTES, False
        self.rewrite = (b"", b"")
        self.marker, self.then_silent, self.lost = None, False, threading.Event()
        self.links, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _reset(client)
                continue
            with self.lock:
                self.links.append(Link(self, client, server, self.begun))
                self.begun += 1

    def cut(self):
        """Resets all open connections. Returns their number."""
        with self.lock:
            links, self.links = [link for link in self.links if link.open], []
        for link in links:
            link.reset()
        return len(links)

    def hush(self):
        """Silences the present connections for good. New ones work."""
        with self.lock:
            for link in self.links:
                link.silent = True

    def saying(self, *markers):
        """Returns open connections whose last request contains all of these bytes."""
        with self.lock:
            links = [link for link in self.links if link.open]
        return [link for link in links if all(marker in link.said for marker in markers)]

    def cut_saying(self, *markers):
        """Resets these connections. Returns their number."""
        links = self.saying(*markers)
        for link in links:
            link.reset()
        return len(links)

    def lose_answer_to(self, marker, silent=False):
        """The next request with these bytes reaches Redis, but its answer is lost and its
        connection is reset. Then `lost` is set. With `silent`, nothing passes from then on."""
        self.lost.clear()
        self.marker, self.then_silent = marker, silent

    def close(self):
        self.listener.close()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Link:
    """One connection through a proxy, with a thread for each direction."""

    def __init__(self, proxy, client, server, number):
        self.number = number
        self.proxy, self.client, self.server = proxy, client, server
        self.open, self.silent, self.swallowing = True, False, False
        # The last request, and the additional delay of this connection in seconds.
        self.said, self.latency = b"", 0.0
        for one in (client, server):
            one.settimeout(None)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for run in (self.requests, self.run_answers):
            threading.Thread(target=run, daemon=True).start()

    def requests(self):
        for data in self.pieces(self.client):
            marker = self.proxy.marker
            if marker and marker in data:
                self.proxy.marker, self.swallowing = None, True
            if not self.write(self.server, data):
                return

    def run_answers(self):
        self.answers()
        with self.proxy.lock:
            self.proxy.ended += 1

    def answers(self):
        left = self.number if self.number < self.proxy.cuts else None
        if left == 0:
            return self.cut()
        for data in self.pieces(self.server):
            if self.swallowing:
                self.proxy.silent = self.proxy.silent or self.proxy.then_silent
                self.reset()
                self.proxy.lost.set()
                return
            old, new = self.proxy.rewrite
            data = (data.replace(old, new) if old else data)[:left]
            if not self.write(self.client, data):
                return
            if left is not None:
                left -= len(data)
            if left == 0:
                return self.cut()

    def cut(self):
        """Ends the connection in the way that its number determines."""
        if self.number % 2 == 0:
            self.reset()
        else:
            self.end()

    def pieces(self, source):
        """Yields received data with the configured delay, until one side ends."""
        while self.open:
            try:
                data = source.recv(CHUNK_BYTES)
            except OSError:
                break
            if not data:
                break
            if source is self.client:
                self.said = data
            while self.open and (self.silent or self.proxy.silent):
                time.sleep(STEP_SECONDS)
            if late := self.proxy.latency + self.latency:
                time.sleep(late)
            if not self.open:
                break
            yield data
        self.end()

    def write(self, target, data):
        size = self.proxy.slice_bytes
        try:
            for start in range(0, len(data), size):
                target.sendall(data[start:start + size])
        except OSError:
            self.end()
            return False
        return self.open

    def end(self):
        """Closes both sides in order, once."""
        if self.open:
            self.open = False
            for one in (self.client, self.server):
                _shut(one)

    def reset(self):
        self.open = False
        for one in (self.client, self.server):
            _reset(one)


def _shut(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()


def _reset(one):
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RD)  # Wakes the thread that reads.
    except OSError:
        pass
    one.close()
