"""A WebSocket client on a raw socket, which can send what no library would send."""

import base64
import os
import socket
import struct
import time

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode, payload=b"", *, fin=True, mask=True, rsv=0, announced=None):
    """Returns the bytes of one frame. `announced` is the length in its header, if it is wrong."""
    length = len(payload) if announced is None else announced
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    masked = 0x80 if mask else 0
    if length < 126:
        head.append(masked | length)
    elif length < 1 << 16:
        head += bytes([masked | 126]) + struct.pack(">H", length)
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", length)
    if mask:
        head += b"\0\0\0\0"  # A key of zeros is valid, and leaves the payload readable.
    return bytes(head) + payload


def close_frame(code, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def upgrade(path="/connection/websocket", host="127.0.0.1", *, lines=(), drop=(), method="GET",
            version="HTTP/1.1"):
    """Returns an upgrade request. `drop` names headers to leave out, and `lines` adds some."""
    headers = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ("Sec-WebSocket-Version", "13"),
    ]
    kept = [f"{name}: {value}" for name, value in headers if name not in drop]
    return "\r\n".join([f"{method} {path} {version}", *kept, *lines, "", ""]).encode()


class Wire:
    """A connection whose bytes the test determines. It reads only on request."""

    def __init__(self, server, *, receive_bytes=None, source=None):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if source:
            self.socket.bind((source, 0))
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", server.client_port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def open(self, path="/connection/websocket", **options):
        """Upgrades, and asserts success."""
        self.send(upgrade(path, **options))
        status, headers, _ = self.response()
        assert status == 101, f"{path}: {status} {headers}"
        self.headers = headers
        return self

    def connect(self, **options):
        """Upgrades, and sends the connect command of Centrifugo's protocol."""
        self.open(**options)
        self.send(frame(TEXT, b'{"id":1,"connect":{}}'))
        opcode, payload = self.frame()
        assert opcode == TEXT and b'"connect"' in payload, payload
        return self

    def text(self, payload):
        self.send(frame(TEXT, payload if isinstance(payload, bytes) else payload.encode()))

    def response(self):
        """Returns status, headers (lower-case names) and body of an HTTP response. The body ends
        after Content-Length, or at the end of the stream if that is missing and nothing was
        upgraded."""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (l.split(":", 1) for l in lines)}
        status = int(first.split()[1])
        if status == 101:
            return status, headers, b""
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            self.more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, headers, body

    def frame(self):
        """Returns opcode and payload of the next frame, which must be unfragmented and unmasked."""
        first, second = self.take(2)
        assert second & 0x80 == 0, "a server's frame must not be masked"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.take(8))
        assert first & 0x70 == 0, "a reserved bit without an extension"
        return first & 0x0F, self.take(length)

    def closed(self, seconds=10):
        """Returns the server's close code, or None if it ended the connection without a close
        frame. Earlier frames are dropped."""
        self.socket.settimeout(seconds)
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == CLOSE:
                    return struct.unpack(">H", payload[:2])[0] if payload else 1005
        except (ConnectionError, EOFError):
            return None

    def ended(self, seconds=10):
        """Returns the seconds until the server ended the connection. Its other data is dropped."""
        started = time.monotonic()
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return time.monotonic() - started

    def take(self, count):
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the server ended the connection after {self.buffer!r}")
        self.buffer += data

    def reset(self):
        """Ends the connection with a reset instead of a regular close."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
