"""Thousands of connections in one thread: raw sockets on one epoll."""

import errno
import select
import socket
import struct
import time

from harness.wire import CLOSE, TEXT, frame, upgrade

RECEIVE_BYTES = 65_536


class Member:
    """One connection, its last message, and the way it ended."""

    __slots__ = ("socket", "buffer", "upgraded", "greeted", "code", "reason", "closed_at", "ended",
                 "last")

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.buffer = self.last = b""
        self.upgraded = self.greeted = self.ended = False
        self.code = self.reason = self.closed_at = None


class Swarm:
    """`size` connected clients of `/connection/websocket`, subscribed to `channel` if it is
    given."""

    def __init__(self, server, size, *, channel=None, at_once=500, seconds=60):
        self.server = server
        self.epoll = select.epoll()
        self.members, self.by_fd = [], {}
        self.answers_close = True
        self.greeted = 0
        self.hello = b'{"id":1,"connect":{}}'
        if channel:
            self.hello += b'\n{"id":2,"subscribe":{"channel":"%s"}}' % channel.encode()
        self.greeting = b'"id":2' if channel else b'"id":1'
        deadline = time.monotonic() + seconds
        while len(self.members) < size:
            for _ in range(min(at_once, size - len(self.members))):
                self.join()
            while self.greeted < len(self.members):
                assert time.monotonic() < deadline, f"{self.greeted} of {size} were greeted"
                self.poll(0.2)
                refused = [member for member in self.members if member.ended]
                assert not refused, f"refused: {refused[0].reason} {refused[0].buffer!r}"

    def join(self):
        member = Member()
        error = member.socket.connect_ex(("127.0.0.1", self.server.client_port))
        assert error in (0, errno.EINPROGRESS), errno.errorcode[error]
        self.members.append(member)
        self.by_fd[member.socket.fileno()] = member
        self.epoll.register(member.socket.fileno(), select.EPOLLOUT)

    def open_count(self):
        return sum(not member.ended for member in self.members)

    def poll(self, seconds):
        """Handles ready sockets once. Returns their number."""
        events = self.epoll.poll(seconds, 4096)
        for fd, event in events:
            member = self.by_fd[fd]
            if event & select.EPOLLOUT:
                self.begin(member)
            else:
                self.receive(member)
        return len(events)

    def run(self, seconds, until=lambda: False):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until():
            self.poll(min(0.1, max(deadline - time.monotonic(), 0)))

    def begin(self, member):
        self.epoll.modify(member.socket.fileno(), select.EPOLLIN)
        try:
            member.socket.send(upgrade() + frame(TEXT, self.hello))
        except OSError:
            self.end(member)

    def receive(self, member):
        try:
            data = member.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end(member)
            return
        member.buffer += data
        if not member.upgraded:
            self.read_response(member)
        if member.upgraded:
            self.read_frames(member)

    def read_response(self, member):
        head, end, rest = member.buffer.partition(b"\r\n\r\n")
        if end:
            member.upgraded = head.startswith(b"HTTP/1.1 101")
            member.buffer = rest
            if not member.upgraded:
                member.reason = head.split(b"\r\n")[0]

    def read_frames(self, member):
        buffer, start = member.buffer, 0
        while len(buffer) - start >= 2:
            length, head = buffer[start + 1] & 0x7F, 2
            if length == 126:
                if len(buffer) - start < 4:
                    break
                (length,), head = struct.unpack_from(">H", buffer, start + 2), 4
            elif length == 127:
                if len(buffer) - start < 10:
                    break
                (length,), head = struct.unpack_from(">Q", buffer, start + 2), 10
            if len(buffer) - start < head + length:
                break
            payload = buffer[start + head:start + head + length]
            self.on_frame(member, buffer[start] & 0x0F, payload)
            start += head + length
        member.buffer = buffer[start:]

    def on_frame(self, member, opcode, payload):
        if opcode == CLOSE:
            member.code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            member.reason = payload[2:]
            member.closed_at = time.monotonic()
            if self.answers_close:
                self.send_to(member, frame(CLOSE, payload[:2]))
        elif opcode == TEXT:
            member.last = payload
            if not member.greeted and self.greeting in payload:
                member.greeted = True
                self.greeted += 1
            if payload == b"{}":
                self.send_to(member, frame(TEXT, b"{}"))

    def send_to(self, member, data):
        try:
            member.socket.send(data)
        except BlockingIOError:
            raise AssertionError("the server does not read what was sent") from None
        except OSError:
            self.end(member)

    def send_all(self, data):
        for member in self.members:
            if not member.ended:
                self.send_to(member, data)

    def end(self, member):
        if not member.ended:
            member.ended = True
            self.by_fd.pop(member.socket.fileno(), None)
            self.epoll.unregister(member.socket.fileno())
            member.socket.close()

    def close(self):
        for member in self.members:
            self.end(member)
        self.epoll.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
