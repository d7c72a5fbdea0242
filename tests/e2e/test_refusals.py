"""Requests that the client port refuses get the right status and one line with the reason."""

import base64
import select
import time

import pytest

from harness.server import eventually
from harness.wire import Wire, upgrade
from harness.witness import Witness

SERVER = {"config": """
[client]
allowed_origins = ["https://good.example", "http://localhost:3000"]
""", "shards": 1}

PATHS = ["/connection/websocket", "/ws?channels=a"]


def answer(server, request):
    with Wire(server) as wire:
        wire.send(request)
        status, headers, body = wire.response()
        assert body.strip() and b"\n" not in body.strip(), f"a line that says why, not {body!r}"
        return status, headers


def status(server, request):
    return answer(server, request)[0]


@pytest.mark.parametrize("path", [
    "/", "/nothing", "/connection", "/wss", "/ws/a", "/../ws", "/api/publish", "/metrics",
])
def test_an_unknown_path_is_404(server, path):
    assert status(server, upgrade(path)) == 404
    assert status(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) == 404


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_another_method_is_405(server, path, method):
    code, headers = answer(server, upgrade(path, method=method, lines=["Content-Length: 0"]))
    assert code == 405 and "GET" in headers.get("allow", "GET")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("version", ["8", "12", "0", "13.0", "99999999999"])
def test_another_version_is_426_and_told_which_is_right(server, path, version):
    code, headers = answer(server, upgrade(path, drop=["Sec-WebSocket-Version"],
                                           lines=[f"Sec-WebSocket-Version: {version}"]))
    assert code == 426 and headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("path", PATHS)
def test_no_version_or_no_upgrade_is_400_or_426(server, path):
    for header in ("Sec-WebSocket-Version", "Upgrade", "Connection"):
        assert status(server, upgrade(path, drop=[header])) in (400, 426)


KEY = base64.b64encode(b"0123456789abcdef").decode()


@pytest.mark.parametrize("request_bytes", [
    upgrade(drop=["Host"]),
    upgrade(lines=["Host: other"]),
    upgrade(drop=["Sec-WebSocket-Key"]),
    upgrade(lines=[f"Sec-WebSocket-Key: {KEY}"]),
    upgrade(drop=["Sec-WebSocket-Key"], lines=["Sec-WebSocket-Key: c2hvcnQ="]),
    upgrade(drop=["Sec-WebSocket-Key"], lines=["Sec-WebSocket-Key: 0123456789abcdef!!!!!!=="]),
    upgrade(drop=["Upgrade"], lines=["Upgrade: h2c"]),
    upgrade(drop=["Connection"], lines=["Connection: close"]),
    upgrade(lines=["no colon here"]),
    upgrade(lines=["bad name: x"]),
    upgrade(lines=["X: a\x00b"]),
    upgrade(lines=["X: 1", " folded: line"]),
    upgrade(path="relative"),
    upgrade(path="/ws?channels=a b"),
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
], ids=range(17))
def test_what_breaks_the_standards_rules_is_400(server, request_bytes):
    assert status(server, request_bytes) in (400, 426, 505)


def test_http_1_0_is_refused(server):
    assert status(server, upgrade(version="HTTP/1.0")) in (400, 426, 505)


@pytest.mark.parametrize("lines, drop", [
    (["connection: keep-alive, UPGRADE"], ["Connection"]),
    (["Connection: keep-alive", "Connection: Upgrade"], ["Connection"]),
    (["UPGRADE: WebSocket"], ["Upgrade"]),
    (["Origin: https://good.example"], []),
    (["Origin: http://localhost:3000"], []),
    (["Cookie: " + "a" * 1000, "User-Agent: b", "X-Empty:"], []),
    (["Cookie: " + "a" * 12_000], []),
    (["Origin: https://good.example:443", "Sec-Fetch-Site: cross-site"], []),
])
def test_what_the_standard_allows_is_accepted(server, lines, drop):
    with Wire(server) as wire:
        wire.send(upgrade(lines=lines, drop=drop))
        assert wire.response()[0] == 101


def test_the_answer_proves_that_the_key_was_read(server):
    with Wire(server) as wire:
        wire.send(upgrade(drop=["Sec-WebSocket-Key"],
                          lines=["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]))
        code, headers, _ = wire.response()
    assert code == 101 and headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert headers["upgrade"].lower() == "websocket" and headers["connection"].lower() == "upgrade"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", [
    "https://evil.example", "null", "https://good.example.evil.example", "https://not-good.example",
    "http://good.example", "https://good.example:8443", "https://sub.good.example", "good.example",
    "http://localhost:3001",
])
def test_an_origin_that_is_not_allowed_is_403(server, path, origin):
    assert status(server, upgrade(path, lines=[f"Origin: {origin}"])) == 403


def test_a_page_of_another_site_without_an_origin_is_403(server):
    for lines in (["Sec-Fetch-Site: cross-site"], ["Origin: https://good.example"] * 2):
        assert status(server, upgrade(lines=lines)) == 403, lines
    assert status(server, upgrade("/nothing", lines=["Sec-Fetch-Site: same-origin"])) == 404


def test_a_head_that_is_too_long_is_431_and_says_which_limit(server):
    with Wire(server) as wire:
        wire.send(upgrade(lines=["Cookie: " + "a" * 20_000]))
        code, _, body = wire.response()
    assert code == 431
    assert b"client.handshake_bytes_max = 16384 bytes" in body and b" bytes is longer" in body, body


def test_65_headers_are_431_and_64_are_not(server):
    own = 5
    more = [f"X-{n}: {n}" for n in range(own, 64)]
    with Wire(server) as wire:
        wire.send(upgrade(lines=more))
        assert wire.response()[0] == 101
    assert status(server, upgrade(lines=[*more, "X: 1"])) == 431


def test_a_head_beyond_64_kib_is_431(server):
    with Wire(server) as wire:
        wire.send(upgrade(lines=["X: " + "a" * 65_536]))
        assert wire.response()[0] in (400, 431)


def test_a_path_beyond_any_reason_is_refused(server):
    with Wire(server) as wire:
        wire.send(upgrade("/ws?channels=" + "a" * 30_000))
        assert wire.response()[0] in (400, 414, 431)


def test_a_refused_connection_is_ended_and_freed(server):
    before = server.descriptors()
    for _ in range(50):
        with Wire(server) as wire:
            wire.send(upgrade("/nothing"))
            assert wire.response()[0] == 404
            assert wire.ended(seconds=6) < 6
    eventually(lambda: server.descriptors() <= before + 5, 8, "descriptors are back")


def test_half_a_request_is_cut_at_the_deadline_and_harms_nobody(server):
    with Witness(server):
        wires = []
        for _ in range(200):
            wire = Wire(server)
            wire.send(b"GET /connection/websocket HTT")
            wires.append(wire)
        assert wires[0].ended(seconds=9) <= 8
        for wire in wires[1:]:
            assert wire.ended(seconds=2) < 2
            wire.close()


def test_a_request_that_drips_is_cut_at_the_same_deadline(server):
    with Wire(server) as wire:
        started = time.monotonic()
        for byte in upgrade():
            wire.send(bytes([byte]))
            if select.select([wire.socket], [], [], 0.4)[0]:
                break
        assert time.monotonic() - started < 8, "one byte at a time keeps it alive"
