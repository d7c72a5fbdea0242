"""The proxy configurations in kernel-tuning/proxies, each in front of a server."""

import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

import httpx
import pytest

from harness.client import Client, Closed, Plain
from harness.ports import free_port
from harness.server import ROOT, Server, eventually

PROXIES = ROOT / "kernel-tuning" / "proxies"

# The server pings every second, and the proxies' limit of 75 s of silence is 3 s here.
SILENCE = {"75s": "3s"}
PINGING = '[client]\nping_interval = "1s"\npong_timeout = "900ms"\n'


ADDRESSES = [f"127.0.0.{last}" for last in (1, 2, 3, 4)]


class Behind(Server):
    """A server that listens on all the addresses that the proxies spread their ports over."""

    def __init__(self, driver, **options):
        self.ports = dict.fromkeys(ADDRESSES, free_port())
        more = [part for address in ADDRESSES[1:]
                for part in ("--listen", f"{address}:{self.ports[address]}")]
        super().__init__(driver, args=more, **options)
        self.ports[ADDRESSES[0]] = self.client_port


class Proxy:
    """nginx or HAProxy in front of `server`, as its file says but for ports, times and sizes."""

    def __init__(self, name, server, changes=()):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        self.port = free_port()
        self.ws_url, self.http_url = f"ws://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}"
        self.directory = tempfile.TemporaryDirectory(prefix="corecast-proxy-")
        here = pathlib.Path(self.directory.name)
        file = "nginx.conf" if name == "nginx" else "haproxy.cfg"
        text = (PROXIES / file).read_text()
        for old, new in {**{f"{address}:8000": f"{address}:{port}"
                            for address, port in server.ports.items()},
                         "listen 80 ": f"listen {self.port} ",
                         "bind :80 ": f"bind :{self.port} ", "/run/nginx.pid": f"{here}/pid",
                         "worker_rlimit_nofile 120000": "worker_rlimit_nofile 1000",
                         "worker_connections 110000": "worker_connections 400",
                         "maxconn 100000": "maxconn 200", **dict(changes)}.items():
            text = text.replace(old, new)
        (here / file).write_text(text)
        command = {
            "nginx": ["nginx", "-e", "stderr", "-p", str(here), "-c", str(here / file), "-g",
                      "daemon off;"],
            "haproxy": ["haproxy", "-db", "-f", str(here / file)],
        }[name]
        self.log = open(here / "log", "w+b")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        eventually(self.serves, seconds=10, what=f"{name} serves")

    def serves(self):
        assert self.process.poll() is None, pathlib.Path(self.log.name).read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.http_url}/health", trust_env=False).status_code == 200
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
        self.directory.cleanup()


@pytest.fixture(params=["nginx", "haproxy"])
def name(request):
    return request.param


def test_clients_of_both_protocols_receive_through_it(name, driver):
    with Behind(driver) as server, Proxy(name, server) as proxy:
        client, plain = Client(proxy), Plain(proxy, "/ws?channels=news")
        client.subscribe("news")
        server.publish("news", {"text": "Hello"})
        assert plain.receive() == '{"text":"Hello"}'
        assert client.publication("news")["data"] == {"text": "Hello"}
        for path in ("/api/publish", "/metrics", "/"):
            assert httpx.get(proxy.http_url + path, trust_env=False).status_code == 404, path


def test_a_silent_client_stays_while_the_server_pings(name, driver):
    with Behind(driver, config=PINGING) as server, Proxy(name, server, SILENCE) as proxy:
        plain = Plain(proxy, "/ws?channels=news")
        with pytest.raises(TimeoutError):
            plain.receive(5)
        server.publish("news", {"n": 1})
        assert plain.receive() == '{"n":1}'


def test_without_pings_in_time_the_proxy_cuts_it(name, driver):
    """What the file's 75 s are for: the server's default of 25 s is too long for a proxy's 3 s."""
    with Behind(driver) as server, Proxy(name, server, SILENCE) as proxy:
        plain = Plain(proxy, "/ws?channels=news")
        started = time.monotonic()
        with pytest.raises(Closed):
            plain.receive(15)
        assert 2 < time.monotonic() - started < 12


def test_the_files_wait_longer_than_a_dead_client_takes_to_find():
    default = (ROOT / "src" / "config" / "default.toml").read_text()
    found_after = sum(int(re.search(rf'^{key} = "(\d+)s"', default, re.MULTILINE)[1])
                      for key in ("ping_interval", "pong_timeout"))
    for file, setting in [("nginx.conf", "proxy_read_timeout"), ("haproxy.cfg", "timeout tunnel")]:
        wait = re.search(rf"{setting} (\d+)s", (PROXIES / file).read_text())
        assert int(wait[1]) > found_after, file


@pytest.mark.parametrize("line", [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 8000\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xc3\x50\x1f\x40",
])
def test_the_proxy_protocol_is_refused(driver, line):
    """As the guide says: with send-proxy in front, no client gets in."""
    request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with Server(driver) as server:
        with socket.create_connection(("127.0.0.1", server.client_port), timeout=10) as one:
            one.sendall(line + request)
            assert one.recv(100).startswith(b"HTTP/1.1 400")


PLAIN_CHECK = """
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
global
    stats socket {here}/stats
frontend clients
    bind unix@{here}/clients
    default_backend corecast
backend corecast
    option httpchk
    server a 127.0.0.1:{port} check inter 50ms fall 1 rise 1
"""


def test_haproxys_check_without_a_path_sees_the_health(driver, tmp_path):
    """`option httpchk` alone sends `OPTIONS / HTTP/1.0` without a Host."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")

    def checked():
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(f"{tmp_path}/stats")
            stats.sendall(b"show stat json\n")
            rows = json.loads(b"".join(iter(lambda: stats.recv(65536), b"")))
        for row in rows:
            row = {field["field"]["name"]: field["value"]["value"] for field in row}
            if (row["pxname"], row["svname"]) == ("corecast", "a"):
                # A star stands before the result while the next check runs.
                result = row.get("check_status", "").removeprefix("* ")
                return row["status"], result, row.get("check_code")

    with Server(driver, config='[server]\ndrain_delay = "5s"\n') as server:
        (tmp_path / "cfg").write_text(PLAIN_CHECK.format(here=tmp_path, port=server.client_port))
        haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "cfg")])
        try:
            eventually((tmp_path / "stats").exists, 10, "haproxy runs")
            eventually(lambda: checked() == ("UP", "L7OK", 200), 5, "the check succeeds")
            server.terminate()
            eventually(lambda: checked() == ("DOWN", "L7STS", 503), 5, "it sees the drain")
        finally:
            haproxy.terminate()
            haproxy.wait(10)
