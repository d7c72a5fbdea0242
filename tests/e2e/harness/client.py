"""A client of Centrifugo's protocol that hides nothing. It returns replies and pushes in the order
of their arrival, and close codes with reasons. It checks the invariants of every frame."""

import collections
import contextlib
import json
import time

import websockets.exceptions
import websockets.sync.client

from harness.server import dumps

FRAME_BYTES_MAX = 1 << 20  # Older SDKs drop the connection above this.
REPLY_SECONDS_MAX = 5  # SDKs consider a later reply lost.


class Closed(Exception):
    """The server closed the connection, with the code and reason of its close frame."""

    def __init__(self, code, reason):
        super().__init__(f"closed with {code} {reason!r}")
        self.code, self.reason = code, reason


class Plain:
    """Any WebSocket of the server: `/ws`, `/echo`, or the base of `Client`."""

    def __init__(self, server, path, *, headers=None, subprotocols=None, compression=None,
                 **options):
        connecting = websockets.sync.client.connect(
            server.ws_url + path, proxy=None, compression=compression, open_timeout=10,
            close_timeout=1, ping_interval=None, max_size=None, subprotocols=subprotocols,
            additional_headers=headers, **options,
        )
        self.socket = connecting.__enter__()

    def send(self, message):
        try:
            self.socket.send(message)
        except websockets.exceptions.ConnectionClosed as closed:
            raise _closed(closed) from None

    def receive(self, seconds=REPLY_SECONDS_MAX):
        """Returns the next message. Raises TimeoutError if none arrives, or Closed."""
        try:
            return self.socket.recv(timeout=seconds)
        except websockets.exceptions.ConnectionClosed as closed:
            raise _closed(closed) from None

    def begin(self):
        """Returns the position in the first envelope of a channel."""
        message = json.loads(self.receive())
        assert set(message) == {"channel", "epoch", "offset"}, message
        return message

    def closed(self, seconds=REPLY_SECONDS_MAX):
        """Returns code and reason of the server's close frame. Earlier messages are dropped."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.receive(max(deadline - time.monotonic(), 0.001))
        except Closed as closed:
            _check_reason(closed.code, closed.reason)
            return closed.code, closed.reason
        except TimeoutError:
            raise AssertionError(f"the server did not close within {seconds} s") from None

    def silent(self, seconds=0.3):
        """Asserts that no message arrives for a while."""
        with contextlib.suppress(TimeoutError):
            message = self.receive(seconds)
            raise AssertionError(f"nothing should have come, but: {message!r}")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client(Plain):
    """A connection to `/connection/websocket`. `connect=False` leaves the connect command out."""

    def __init__(self, server, *, connect=True, query="", answer_pings=True, **options):
        super().__init__(server, f"/connection/websocket{query}", **options)
        self.answer_pings = answer_pings
        self.pings = []  # The time of each ping.
        self.pushes = collections.deque()  # Pushes that arrived while waiting for a reply.
        self.queue = collections.deque()
        self.id = 0
        self.connected = self.call("connect") if connect else None

    # Sending

    def command(self, method, /, **params):
        """Returns a command's JSON object, with the next id."""
        self.id += 1
        return {"id": self.id, method: params}

    def send_commands(self, *commands):
        """Sends commands in one frame, joined by newlines. Returns their ids."""
        self.send("\n".join(map(dumps, commands)))
        return [command.get("id") for command in commands]

    # Receiving

    def next(self, seconds=REPLY_SECONDS_MAX):
        """Returns the next JSON object that is not a ping."""
        deadline = time.monotonic() + seconds
        while not self.queue:
            frame = self.receive(max(deadline - time.monotonic(), 0.001))
            self.read_frame(frame)
        return self.queue.popleft()

    def read_frame(self, frame):
        assert isinstance(frame, str), f"JSON goes out in text frames, this was binary: {frame!r}"
        assert len(frame.encode()) <= FRAME_BYTES_MAX, "a frame that older SDKs would refuse"
        for line in frame.split("\n"):
            assert line, f"an empty line or frame, which older SDKs fail to parse: {frame!r}"
            message = json.loads(line)
            if message == {}:
                self.pings.append(time.monotonic())
                if self.answer_pings:
                    self.send("{}")
            else:
                _check_message(message)
                self.queue.append(message)

    def reply(self, id, seconds=REPLY_SECONDS_MAX):
        """Returns the reply to this command. Pushes before it are kept."""
        deadline = time.monotonic() + seconds
        while True:
            message = self.next(max(deadline - time.monotonic(), 0.001))
            if "push" in message:
                self.pushes.append(message["push"])
                continue
            assert message.get("id") == id, f"the reply to {id} was due, not {message}"
            return message

    def push(self, seconds=REPLY_SECONDS_MAX):
        """Returns the next push."""
        if self.pushes:
            return self.pushes.popleft()
        message = self.next(seconds)
        assert "push" in message, f"a push was due, not {message}"
        return message["push"]

    def publication(self, channel, seconds=REPLY_SECONDS_MAX):
        """Returns the next push, which must be a publication in this channel."""
        push = self.push(seconds)
        assert push.get("channel") == channel and "pub" in push, f"not in {channel}: {push}"
        return push["pub"]

    def publications(self, channel, count):
        return [self.publication(channel) for _ in range(count)]

    # Requests

    def call(self, method, /, **params):
        """Returns the result of a command that must succeed."""
        message = self.ask(method, **params)
        assert "error" not in message, f"{method} {params}: {message['error']}"
        assert method in message, f"the result object must be there even if empty: {message}"
        return message[method]

    def error(self, method, /, **params):
        """Returns the error code of a command that must be refused."""
        message = self.ask(method, **params)
        assert "error" in message, f"{method} {params} was not refused: {message}"
        return message["error"]["code"]

    def ask(self, method, /, **params):
        command = self.command(method, **params)
        self.send_commands(command)
        return self.reply(command["id"])

    def subscribe(self, channel, **params):
        return self.call("subscribe", channel=channel, **params)

    def unsubscribe(self, channel):
        return self.call("unsubscribe", channel=channel)

    def publish(self, channel, data):
        return self.call("publish", channel=channel, data=data)

    def history(self, channel, **params):
        return self.call("history", channel=channel, **params)


# Temporary errors, after which a client should try again.
TEMPORARY = {100, 111, 113}


def _closed(exception):
    frame = exception.rcvd
    return Closed(frame.code, frame.reason) if frame else Closed(1006, "")


def _check_reason(code, reason):
    """Checks a close reason. SDKs first parse it as JSON, and look for terminal codes only if it is
    not empty. With an empty reason they reconnect for ever."""
    assert len(reason.encode()) <= 123
    if code >= 3000:
        assert reason, f"code {code} came without a reason"
        with contextlib.suppress(ValueError):
            raise AssertionError(f"the reason of {code} is valid JSON: {json.loads(reason)!r}")


def _check_message(message):
    """Checks invariants of replies and pushes. If one is violated, an SDK disconnects for good."""
    if "push" in message:
        push = message["push"]
        if "pub" in push:
            assert "data" in push["pub"], push
            _check_info(push["pub"].get("info"))
        if "unsubscribe" in push:
            assert {"code", "reason"} <= push["unsubscribe"].keys(), push
        return
    assert message.get("id", 0) > 0, f"neither a push nor a reply: {message}"
    error = message.get("error")
    if error is not None:
        assert error["code"] and error["message"], message
        assert bool(error.get("temporary")) == (error["code"] in TEMPORARY), message
    if "connect" in message:
        assert message["connect"]["client"] and message["connect"]["version"], message
    if "history" in message:
        assert {"publications", "epoch", "offset"} <= message["history"].keys(), message
    for pub in message.get("subscribe", {}).get("publications", []):
        assert "data" in pub, message


def _check_info(info):
    if info is not None:
        assert {"user", "client"} <= info.keys(), f"user and client are always written: {info}"


def data(publications):
    return [publication["data"] for publication in publications]


def offsets(publications):
    return [publication["offset"] for publication in publications]
