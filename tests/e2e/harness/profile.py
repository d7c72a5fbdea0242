"""A client that is described by a profile of the load generator: bench/profiles."""

import copy
import itertools
import re
import socket
import tomllib
import urllib.parse

import websockets.exceptions
import websockets.sync.client

ANSWER_SECONDS_MAX = 5
FRAME_IDS_FROM = 10


class Refused(Exception):
    """The server refused, with this text."""


class Profile:
    """A profile for one channel. `addresses` replace those in its URLs."""

    def __init__(self, path, channel, addresses=None):
        text = path.read_text()
        for old, new in (addresses or {}).items():
            assert old in text, f"{path} has no {old}"
            text = text.replace(old, new)
        self.keys, self.channel = tomllib.loads(text), channel
        self.ways = list(self.keys.get("publish", {}))

    def elsewhere(self, channel):
        """Returns the same profile for another channel."""
        other = copy.copy(self)
        other.channel = channel
        return other

    def reaches_any_channel(self, way):
        """Whether one connection of a publisher can publish in several channels."""
        return way == "http" or "{channel}" in self.keys["publish"]["frame"]["send"]

    def fill(self, text, **values):
        """Fills in the placeholders of `text`. Braces of JSON are not placeholders."""
        values = {"channel": self.channel, **values}
        return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]])
                      if match[1] in values else match[0], text)

    def subscriber(self, position=None, compression=None):
        """Returns a subscribed client. With an epoch and an offset, it recovers from there."""
        steps = self.keys.get("open", [])
        if position:
            epoch, offset = position
            send = self.fill(self.keys["recover"]["send"], epoch=epoch, offset=offset)
            steps = [{**steps[0], "send": send}, *steps[1:]]
        return Client(self, self.keys["url"], steps, compression)

    def publisher(self, way):
        return {"http": HttpPublisher, "frame": FramePublisher}[way](self)


class Client:
    """A WebSocket that keeps the lines of all messages except pings."""

    def __init__(self, profile, url, steps, compression=None):
        self.profile, self.lines, self.pings = profile, [], 0
        headers = profile.keys.get("headers")
        self.socket = websockets.sync.client.connect(
            profile.fill(url), additional_headers=headers, proxy=None, compression=compression,
            ping_interval=None, close_timeout=1).__enter__()
        self.opening = []
        for step in steps:
            if "wait" in step:
                self.opening.append(self.until(step["wait"], profile.keys.get("refuse")))
            if "send" in step:
                self.socket.send(profile.fill(step["send"]))

    def until(self, wanted, refuse=None):
        """Returns the first line that contains `wanted`."""
        while True:
            for line in self.receive():
                if refuse and refuse in line:
                    raise Refused(line)
                if wanted in line:
                    return line

    def receive(self, seconds=ANSWER_SECONDS_MAX):
        """Returns the lines of one frame without pings, which are answered."""
        frame = self.socket.recv(timeout=seconds)
        lines = (frame if isinstance(frame, str) else frame.decode()).split("\n")
        ping = self.profile.keys.get("ping", {})
        for line in lines:
            if line == ping.get("message"):
                self.pings += 1
                if "answer" in ping:
                    self.socket.send(ping["answer"])
        lines = [line for line in lines if line != ping.get("message")]
        self.lines += lines
        return lines

    def collect(self, count, pattern, seconds=ANSWER_SECONDS_MAX):
        """Returns the matches of `pattern` in all lines, once there are `count` of them."""
        while len(found := re.findall(pattern, "\n".join(self.lines))) < count:
            self.receive(seconds)
        return found

    def drain(self, seconds):
        """Reads until nothing has arrived for this time."""
        try:
            while True:
                self.receive(seconds)
        except TimeoutError:
            return

    def alive(self):
        """Whether the server answers a WebSocket ping."""
        return self.socket.ping().wait(ANSWER_SECONDS_MAX)

    def close(self):
        self.socket.close()


class FramePublisher:
    """Publishes by frames on its own WebSocket."""

    def __init__(self, profile):
        self.profile, self.keys = profile, profile.keys["publish"]["frame"]
        steps = self.keys.get("open", profile.keys.get("open", []))
        self.client = Client(profile, self.keys.get("url", profile.keys["url"]), steps)
        self.ids = itertools.count(FRAME_IDS_FROM)

    def publish(self, payloads, profile=None):
        """Publishes in the channel of `profile`, or in its own."""
        profile = profile or self.profile
        numbered = [(next(self.ids), data) for data in payloads]
        for id, data in numbered:
            self.client.socket.send(profile.fill(self.keys["send"], id=id, data=data))
        for id, _ in numbered:
            if "confirm" in self.keys:
                self.confirm(profile.fill(self.keys["confirm"], id=id))

    def confirm(self, wanted):
        while not any(wanted in line for line in self.client.lines):
            self.client.receive()
        at = next(at for at, line in enumerate(self.client.lines) if wanted in line)
        del self.client.lines[at]

    def close(self):
        self.client.close()


class HttpPublisher:
    """Publishes by POST on one connection, with all requests in one write: pipelined keep-alive."""

    def __init__(self, profile):
        self.profile, self.keys = profile, profile.keys["publish"]["http"]
        url = urllib.parse.urlsplit(self.keys["url"])
        self.socket = socket.create_connection((url.hostname, url.port),
                                               timeout=ANSWER_SECONDS_MAX)
        self.answers = self.socket.makefile("rb")

    def publish(self, payloads, profile=None):
        """Publishes in the channel of `profile`, or in its own."""
        profile = profile or self.profile
        self.socket.sendall(b"".join(self.request(profile, data) for data in payloads))
        for _ in payloads:
            status, body = self.answer()
            refuse = self.keys.get("refuse")
            if not status.startswith(b"HTTP/1.1 2") or (refuse and refuse in body.decode()):
                raise Refused(status + body)

    def request(self, profile, data):
        body = profile.fill(self.keys["body"], data=data).encode()
        url = urllib.parse.urlsplit(profile.fill(self.keys["url"]))
        target = f"{url.path}?{url.query}" if url.query else url.path
        headers = {"Host": url.netloc, **self.keys.get("headers", {}),
                   "Content-Length": len(body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body

    def answer(self):
        """Returns status line and body. The body needs a length, as in the generator."""
        status, length = self.answers.readline(), None
        assert status, "the server closed the connection"
        while (line := self.answers.readline().rstrip()):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length is not None, f"an answer without a content length: {status!r}"
        return status, self.answers.read(length)

    def close(self):
        self.answers.close()
        self.socket.close()
