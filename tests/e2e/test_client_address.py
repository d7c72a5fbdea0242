"""Addresses of clients that proxies name, and of clients that only pretend to be proxies."""

import contextlib
import json
import socket
import struct
import time

import pytest

from harness.client import Client
from harness.server import Server, eventually
from harness.wire import upgrade

# A network may have eight ninths of the channels. Clients of this host are exempt.
CHANNELS_MAX = 18
FEW_CHANNELS = f"[channel]\nchannels_max = {CHANNELS_MAX}\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def line(source):
    family = "TCP6" if ":" in source else "TCP4"
    to = "::1" if family == "TCP6" else "127.0.0.1"
    return f"PROXY {family} {source} {to} 5000 8000\r\n".encode()


def binary(source):
    addresses = socket.inet_aton(source) + bytes(4) + struct.pack(">HH", 5000, 8000)
    field = b"\x04\x00\x03abc"
    return SIGNATURE + b"\x21\x11" + struct.pack(">H", len(addresses + field)) + addresses + field


@pytest.fixture(scope="module")
def trusting(driver):
    """A server for which this host and 10.0.0.1 are proxies."""
    config = '[server]\nproxies = ["127.0.0.1", "10.0.0.1"]\n'
    with Server(driver, config=config + FEW_CHANNELS) as server:
        yield server
        assert server.alive() and "panicked at" not in server.log()


def dial(server, first=b""):
    connection = socket.create_connection(("127.0.0.1", server.client_port), timeout=10)
    connection.sendall(first)
    return connection


def answer(server, *parts, pause=0):
    """Returns the first line of the answer to these bytes, sent one after another, the first of
    them `pause` seconds after the connection."""
    with dial(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        time.sleep(pause)
        for part in parts:
            connection.sendall(part)
        received = b""
        while b"\r\n" not in received:
            more = connection.recv(1000)
            assert more, f"the end came after {received!r}"
            received += more
        return received.split(b"\r\n")[0].decode(), received


def channels_of(server, header=b"", **headers):
    """Returns the number of channels that a client gets until it is refused."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with Client(server, sock=dial(server, header), headers=headers) as client:
        replies = [client.ask("subscribe", channel=f"channel-{n}") for n in range(CHANNELS_MAX)]
    # The next client must be charged for all of its channels.
    eventually(lambda: not server.result("channels")["channels"])
    refused = [reply["error"]["code"] for reply in replies if "error" in reply]
    assert all(code == 111 for code in refused)
    return CHANNELS_MAX - len(refused)


LIMITED, EXEMPT = CHANNELS_MAX - 1, CHANNELS_MAX


@pytest.mark.parametrize("header", [line("192.0.2.1"), line("2001:db8::1"), binary("192.0.2.1")])
def test_a_header_of_the_proxy_protocol_names_the_client(trusting, header):
    assert channels_of(trusting, header) == LIMITED
    # The address of this host, which the request does not replace.
    own = line("127.0.0.2")
    assert channels_of(trusting, own, X_Forwarded_For="192.0.2.1") == EXEMPT


def test_a_request_of_a_proxy_names_the_client(trusting):
    assert channels_of(trusting) == EXEMPT, "without any header, the proxy is the client"
    for name, value in [("X_Forwarded_For", "127.0.0.2, 192.0.2.1"),
                        ("X_Forwarded_For", "192.0.2.1, 127.0.0.1"),
                        ("Forwarded", 'for="[2001:db8::1]:80";proto=https'),
                        ("Forwarded", "for=127.0.0.2, for=192.0.2.1")]:
        assert channels_of(trusting, **{name: value}) == LIMITED, (name, value)
    for value in ["127.0.0.2", "unknown", "192.0.2.1, garbage"]:
        assert channels_of(trusting, X_Forwarded_For=value) == EXEMPT, value


def test_a_request_counts_behind_a_header_that_names_a_proxy(trusting):
    for header in (line("10.0.0.1"), LOCAL, b"PROXY UNKNOWN\r\n"):
        assert channels_of(trusting, header, X_Forwarded_For="192.0.2.1") == LIMITED
    # The proxy itself is on another host.
    assert channels_of(trusting, line("10.0.0.1")) == LIMITED
    assert channels_of(trusting, LOCAL) == EXEMPT


def test_a_header_may_come_in_parts_and_only_once(trusting):
    for header in (line("192.0.2.1"), binary("192.0.2.1"), LOCAL):
        whole = header + HEALTH
        parts = [whole[:1], whole[1:5], whole[5:len(header)], whole[len(header):]]
        assert answer(trusting, *parts)[0] == "HTTP/1.1 200 OK"
        assert answer(trusting, header + header + HEALTH)[0] == "HTTP/1.1 400 Bad Request"
    bad_headers = {"result": "refused", "reason": "bad_proxy_header"}
    refused = trusting.settled_metrics().total("corecast_handshakes_total", **bad_headers)
    for bad in (b"PROXY TCP4 nobody\r\n", b"PROXY " + b"x" * 101, SIGNATURE + b"\x11\x11\0\0",
                SIGNATURE + b"\x21\x11\xff\xff"):
        status, response = answer(trusting, bad)
        assert status == "HTTP/1.1 400 Bad Request" and b"PROXY header is invalid" in response
    counted = trusting.settled_metrics().total("corecast_handshakes_total", **bad_headers)
    assert counted == refused + 4


def test_another_peer_can_name_nobody(driver):
    proxies = '[server]\nproxies = ["127.0.0.2", "unix"]\n'
    with Server(driver, config=proxies + FEW_CHANNELS) as wary:
        check_names_nobody(wary)


def check_names_nobody(wary):
    strangers = {"result": "refused", "reason": "foreign_proxy"}
    for header in (line("192.0.2.1"), binary("192.0.2.1"), LOCAL):
        status, response = answer(wary, header + HEALTH)
        assert status == "HTTP/1.1 400 Bad Request" and b"server.proxies" in response
    assert wary.settled_metrics().total("corecast_handshakes_total", **strangers) == 3
    assert channels_of(wary, X_Forwarded_For="192.0.2.1", Forwarded="for=192.0.2.1") == EXEMPT


LOGGED = """
[server]
proxies = ["127.0.0.1"]
[log]
format = "json"
level = "debug"
"""


def lines(server, message):
    objects = [json.loads(text)["fields"] for text in server.log().splitlines()]
    return [fields for fields in objects if fields["message"] == message]


def test_the_log_has_the_addresses_of_clients_and_not_of_proxies(driver):
    with Server(driver, config=LOGGED) as server:
        with Client(server, sock=dial(server, line("192.0.2.1"))):
            pass
        eventually(lambda: lines(server, "a connection has closed"))
        for message in ("a connection has opened", "a connection has closed"):
            [fields] = lines(server, message)
            assert fields["address"] == "192.0.2.1"
        evil = ["Origin: https://evil.example"]
        for first, reason, address in [
            (line("2001:db8::1") + upgrade(lines=evil), "foreign_origin", "2001:db8::1"),
            (upgrade("/nothing", lines=["Forwarded: for=192.0.2.9"]), "unknown_path", "192.0.2.9"),
            (b"PROXY TCP4 nobody\r\n", "bad_proxy_header", "127.0.0.1"),
        ]:
            assert answer(server, first)[0].split()[1] in ("400", "403", "404")
            [fields] = eventually(lambda reason=reason: [
                fields for fields in lines(server, "a client was refused")
                if fields["reason"] == reason])
            assert fields["address"] == address
            assert fields.get("origin") == (evil[0].split()[1] if "origin" in reason else None)


def test_a_network_behind_a_proxy_keeps_no_other_network_waiting(driver):
    rate = 20
    config = LOGGED.replace("[log]", f"accept_rate = {rate}\n[log]")
    flood = 4 * rate
    with Server(driver, config=config, shards=1) as server, contextlib.ExitStack() as stack:
        for number in range(flood):
            # Some proxies send their header later than they connect.
            first = line("192.0.2.1") + upgrade() if number % 2 else b""
            stack.enter_context(dial(server, first))
        began = time.monotonic()
        # The header comes a moment after the connection, as from every proxy.
        status, _ = answer(server, line("198.51.100.1"), upgrade(), pause=0.005)
        waited = time.monotonic() - began
        assert status == "HTTP/1.1 101 Switching Protocols"
        refused = eventually(lambda: [fields for fields in lines(server, "a client was refused")
                                      if fields["reason"] == "busy"])
        # Those that nobody has named have the address of the proxy.
        assert {fields["address"] for fields in refused} <= {"192.0.2.1", "127.0.0.1"}
        busy = server.settled_metrics().total("corecast_handshakes_total", result="busy")
        assert busy > 0, "the network with the most waiting clients is refused"
        assert waited < 2.5, "its turn comes before those of the others"
