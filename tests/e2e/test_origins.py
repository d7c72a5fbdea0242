"""The web pages that may connect, and the names by which a server may be addressed: with real pages
in a browser, and with the requests that pages would send."""

import contextlib
import functools
import http.server
import json
import subprocess
import threading

import pytest

from harness.client import Client, Plain
from harness.server import ROOT, Server
from harness.wire import Wire, upgrade

VISITS = ["node", str(ROOT / "tests" / "e2e" / "sdk" / "visits.mjs")]

OPEN = """
[auth]
anonymous = true
[channel]
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
[api]
keys = ["of-this-test"]
"""


def visit(*visits):
    """Opens each page in one browser, and a WebSocket from there. Returns the subprotocol of each
    that opened, and None for those that did not."""
    done = subprocess.run([*VISITS, json.dumps(visits)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An empty page: its port on this host, and its path. `/frame.html` has it in a frame without
    an origin."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "index.html").write_text("<!DOCTYPE html><title>page</title>")
    frame = '<!DOCTYPE html><iframe sandbox="allow-scripts" src="index.html"></iframe>'
    (directory / "frame.html").write_text(frame)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    serving = functools.partial(Handler, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serving) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield pages.server_port, directory / "index.html"
        pages.shutdown()


@pytest.mark.timeout(120)
def test_pages_in_a_browser(server, driver, site):
    port, file = site
    evil, local = f"http://evil.example:{port}", f"http://localhost:{port}"
    null = f"{local}/frame.html"
    path = "/ws?channels=pages"
    config = OPEN + '[client]\nallowed_origins = ["null", "file://"]\n'
    with Server(driver, config=config, dev=False, shards=1) as listing:
        of_dev, of_listing = server.ws_url + path, listing.ws_url + path
        rebound = f"ws://evil.example:{server.client_port}{path}"
        assert visit(
            [local, of_dev, []], [f"http://127.0.0.1:{port}", of_dev, []],
            [local, of_dev, ["chat", "other"]],
            # A page of another site, and the same with its name pointed at this host.
            [evil, of_dev, []], [evil, rebound, []],
            [file.as_uri(), of_dev, []], [null, of_dev, []],
            [file.as_uri(), of_listing, []], [null, of_listing, []],
            [local, of_listing, []],
        ) == ["", "", "chat", None, None, None, None, "", "", None]


def answer(server, request):
    with Wire(server) as wire:
        wire.send(request)
        status, _, body = wire.response()
        return status, body.decode()


@pytest.mark.parametrize("host, origin, expected", [
    ("localhost:8000", "http://localhost:3000", 101),
    ("127.0.0.9:8000", "https://127.0.0.2", 101),
    ("[::1]:8000", "http://[::1]:1", 101),
    ("localhost", None, 101),
    ("localhost", "https://evil.example", 403),
    ("localhost", "http://localhost.evil.example", 403),
    ("localhost", "http://192.168.0.2", 403),
    ("evil.example:8000", "http://evil.example:8000", 403),
    ("evil.example:8000", None, 403),
    ("box", None, 403),
])
def test_dev_is_for_this_host(server, host, origin, expected):
    lines = [f"Origin: {origin}"] if origin else []
    status, body = answer(server, upgrade("/ws?channels=a", host, lines=lines))
    assert status == expected, body
    if expected == 403:
        setting = "client.allowed_origins" if "evil" not in host and origin else "server.hosts"
        assert "--dev trusts localhost" in body and setting in body, body


def test_the_api_of_dev_is_for_this_host(server):
    port = server.api_port
    for path in ("/", "/metrics", "/ready", "/dev/numbers.json"):
        assert server.http.get(path).status_code == 200
        refused = server.http.get(path, headers={"Host": f"evil.example:{port}"})
        assert refused.status_code == 403 and "server.hosts" in refused.text, path
    publish = {"channel": "a", "data": 1}
    for headers, status in [
        ({"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": f"http://127.0.0.1:{port}"}, 200),
        ({}, 200),
    ]:
        assert server.api("publish", publish, headers=headers).status_code == status, headers


def test_expose_is_for_hosts_nearby(driver):
    with Server(driver, host="0.0.0.0", args=["--expose"], shards=1) as server:
        assert "--dev --expose: anyone who can reach this host may" in server.log()
        for host, origin, expected in [
            ("corecast:8000", None, 101),
            ("192.168.1.5:8000", "http://192.168.1.5:3000", 101),
            ("203.0.113.5:8000", "http://203.0.113.5:3000", 101),
            ("phone.local", "http://localhost", 101),
            ("evil.example", None, 403),
            ("192.168.1.5:8000", "https://evil.example", 403),
        ]:
            lines = [f"Origin: {origin}"] if origin else []
            request = upgrade("/ws?channels=a", host, lines=lines)
            assert answer(server, request)[0] == expected, (host, origin)
        for host, status in [("corecast:9000", 200), ("evil.example", 403)]:
            assert server.api("info", headers={"Host": host}).status_code == status
    with pytest.raises(RuntimeError, match="or use --dev --expose"):
        Server(driver, host="0.0.0.0")
    with pytest.raises(RuntimeError, match="--expose needs --dev"):
        Server(driver, dev=False, args=["--expose"], config=OPEN)


def test_hosts_and_the_prefix_of_a_proxy(driver):
    config = OPEN + '[server]\nhosts = ["example.com", "127.0.0.1"]\npath_prefix = "/realtime"\n'
    with Server(driver, config=config, dev=False, shards=1) as server:
        for host, path, expected in [
            ("example.com", "/realtime/ws?channels=a", 101),
            ("example.com:8000", "/realtime/ws/?channels=a", 101),
            ("example.com", "/realtime/connection/websocket", 101),
            ("example.com", "/ws/?channels=a", 101),
            ("example.com", "/realtime/realtime/ws?channels=a", 404),
            ("evil.example", "/realtime/ws?channels=a", 403),
            ("10.0.0.1", "/realtime/ws?channels=a", 403),
        ]:
            assert answer(server, upgrade(path, host))[0] == expected, (host, path)
        for host, status in [("example.com", 200), ("10.0.0.1:8000", 200), ("evil.example", 403)]:
            for path in ("/health", "/realtime/health"):
                request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
                assert answer(server, request)[0] == status, (host, path)
            assert server.http.get("/metrics", headers={"Host": host}).status_code == status
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(Client(server))
            plain = stack.enter_context(Plain(server, "/realtime/ws?channels=a"))
            client.subscribe("a")
            key = {"X-API-Key": "of-this-test"}
            response = server.api("publish", {"channel": "a", "data": 1}, headers=key)
            assert response.status_code == 200
            assert plain.receive() == "1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_health_is_asked_by_each_method_of_probes(server, method):
    before = server.settled_metrics()
    paths = ["/health"] + (["/", "*"] if method == "OPTIONS" else [])
    for path in paths:
        for rest in ("HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n", "HTTP/1.0\r\n\r\n"):
            with Wire(server) as wire:
                wire.send(f"{method} {path} {rest}".encode())
                head = b"".join(iter(lambda: wire.socket.recv(4096), b""))
            assert head.startswith(b"HTTP/1.1 200 OK\r\n"), (path, head)
            assert head.endswith(b"\r\n\r\n" if method == "HEAD" else b"\r\n\r\nok\n"), head
    for path in ("/live", "/ready"):
        assert server.http.request(method, path).status_code == 200, path
    after = server.settled_metrics()
    name = "corecast_handshakes_total"
    assert after.total(name) == before.total(name), "a health check is no handshake"


def test_the_api_says_how_long_it_keeps_a_connection(server):
    assert server.http.get("/ready").headers["keep-alive"] == "timeout=75"
