"""The proxy configurations of the repository, each in front of a server."""

import contextlib
import json
import os
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
# The program and the file of each configuration.
FILES = {
    "nginx": ("nginx", PROXIES / "nginx.conf"),
    "haproxy": ("haproxy", PROXIES / "haproxy.cfg"),
    "compose": ("nginx", ROOT / "packaging" / "compose" / "nginx.conf"),
}

# The server pings every second, and the proxies' limit of 75 s of silence is 3 s here.
SILENCE = {"75s": "3s"}
PINGING = '[client]\nping_interval = "1s"\npong_timeout = "900ms"\n'


class Behind(Server):
    """A server with a Unix socket and a port for the proxies, which may name its clients."""

    SETTINGS = '[server]\nproxies = ["unix", "127.0.0.1"]\nunix_mode = "0666"\n'

    def __init__(self, driver, *, config="", **options):
        self.sockets = tempfile.TemporaryDirectory(prefix="corecast-proxy-")
        # The workers of nginx may be another user.
        os.chmod(self.sockets.name, 0o755)
        self.socket = f"{self.sockets.name}/clients.sock"
        super().__init__(driver, args=["--listen", f"unix:{self.socket}"],
                         config=self.SETTINGS + config, **options)

    def stop(self):
        super().stop()
        self.sockets.cleanup()


class Proxy:
    """nginx or HAProxy in front of `server`, as its file says but for ports, times and sizes. That
    of compose has two servers."""

    def __init__(self, name, server, changes=(), other=None):
        program, path = FILES[name]
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
        self.port = free_port()
        self.ws_url, self.http_url = f"ws://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}"
        self.directory = tempfile.TemporaryDirectory(prefix="corecast-proxy-")
        here = pathlib.Path(self.directory.name)
        file, text = path.name, path.read_text()
        if name == "compose":
            text = f"pid {here}/pid;\n{text}"
            for number, port in ((1, server.client_port), (2, (other or server).client_port)):
                assert f"server corecast-{number}:8000" in text
                text = text.replace(f"corecast-{number}:8000", f"127.0.0.1:{port}")
        else:
            text = text.replace("/run/corecast/clients.sock", server.socket)
        for old, new in {"listen 80 ": f"listen {self.port} ",
                         "bind :80 ": f"bind :{self.port} ", "/run/nginx.pid": f"{here}/pid",
                         "worker_rlimit_nofile 120000": "worker_rlimit_nofile 1000",
                         "worker_rlimit_nofile 65536": "worker_rlimit_nofile 1000",
                         "worker_connections 110000": "worker_connections 400",
                         "worker_connections 16384": "worker_connections 400",
                         "maxconn 100000": "maxconn 200", **dict(changes)}.items():
            text = text.replace(old, new)
        (here / file).write_text(text)
        command = {
            "nginx": ["nginx", "-e", "stderr", "-p", str(here), "-c", str(here / file), "-g",
                      "daemon off;"],
            "haproxy": ["haproxy", "-db", "-f", str(here / file)],
        }[program]
        self.log = open(here / "log", "w+b")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        eventually(self.serves, seconds=10, what=f"{program} serves")

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


@pytest.fixture(params=FILES)
def name(request):
    return request.param


def test_clients_of_both_protocols_receive_through_it(name, driver):
    with Behind(driver) as server, Proxy(name, server) as proxy:
        client, plain = Client(proxy), Plain(proxy, "/ws?channels=news")
        slash = Plain(proxy, "/ws/?channels=news")
        client.subscribe("news")
        server.publish("news", {"text": "Hello"})
        assert plain.receive() == '{"text":"Hello"}'
        assert slash.receive() == '{"text":"Hello"}'
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
    for name, (program, path) in FILES.items():
        setting = {"nginx": "proxy_read_timeout", "haproxy": "timeout tunnel"}[program]
        wait = re.search(rf"{setting} (\d+)s", path.read_text())
        assert int(wait[1]) > found_after, name


def test_nginx_asks_the_other_node_if_one_refuses(driver):
    """A node that can't take a client now answers 503, and one that has ended, nothing."""
    with (Server(driver, config="[channel]\nchannels_max = 1\n") as full,
          Server(driver) as other, Proxy("compose", full, other=other) as proxy):
        with Plain(full, "/ws?channels=another"):
            others_clients(proxy, other)
            refused = full.settled_metrics().total(
                "corecast_handshakes_total", result="unavailable")
            assert refused > 0, "nginx has asked it"
        full.kill()
        others_clients(proxy, other)


def others_clients(proxy, other):
    clients = [Plain(proxy, "/ws?channels=news") for _ in range(6)]
    other.publish("news", {"n": 1})
    assert [client.receive() for client in clients] == ['{"n":1}'] * 6


# The proxy takes the address of the client from a header, in place of the client's own.
SOURCE = {
    "nginx": {"access_log off;": "access_log off;\n    set_real_ip_from 127.0.0.1;\n"
                                "    real_ip_header X-Source;"},
    "haproxy": {"acl known path_beg": "http-request set-src hdr(x-source)\n    acl known path_beg"},
}
SOURCE["compose"] = SOURCE["nginx"]
# A network may have eight ninths of the channels.
CHANNELS_MAX = 18
FEW_CHANNELS = f"[channel]\nchannels_max = {CHANNELS_MAX}\n"


@pytest.mark.parametrize("name, changes", [
    ("nginx", {}), ("compose", {}), ("haproxy", {}),
    ("haproxy", {"send-proxy-v2": "send-proxy"}),
])
def test_clients_have_the_limits_of_their_networks(name, changes, driver):
    changes = {**SOURCE[name], **changes}
    with Behind(driver, config=FEW_CHANNELS) as server, Proxy(name, server, changes) as proxy:
        first, again, other = (
            Client(proxy, headers={"X-Source": source, "X-Forwarded-For": "192.0.2.66"})
            for source in ("198.51.100.1", "198.51.100.2", "2001:db8::1"))
        for number in range(CHANNELS_MAX - 1):
            first.subscribe(f"channel-{number}")
        assert again.error("subscribe", channel="one-more") == 111, "it is of the same network"
        other.subscribe("one-more")


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
