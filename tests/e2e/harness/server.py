"""A `corecast serve` process on its own ports, and its state as seen from outside."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import httpx

from harness.frozen import freeze, thaw
from harness.ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = ROOT / "tests" / ".cache"
BINARY = os.environ.get("CORECAST_BIN", str(ROOT / "target" / "release" / "corecast"))

READY_SECONDS_MAX = 15

# The time for which a page of metrics is kept, and a little more.
PAGE_SECONDS_MAX = 0.11


class Server:
    """The server is started by the constructor, and stopped by `stop` or the end of a `with` block.

    `config` is the text of a TOML file. `prefix` is a command that starts the server, such as
    `["prlimit", "--nofile=600"]`. It must exec, so that the process is the server itself.
    """

    def __init__(self, driver, *, config="", dev=True, shards=2, args=(), prefix=(), env=None,
                 await_ready=True, host="127.0.0.1", api_socket=None):
        self.driver = driver
        self.client_port, self.api_port = free_port(), free_port()
        self.http_url = f"http://{host}:{self.client_port}"
        self.ws_url = f"ws://{host}:{self.client_port}"
        self.api_url = f"http://{host}:{self.api_port}"
        self.directory = tempfile.TemporaryDirectory(prefix="corecast-e2e-")
        self.log_path = pathlib.Path(self.directory.name) / "log"
        command = [*prefix, BINARY, "serve", *(["--dev"] if dev else [])]
        if config:
            config_path = pathlib.Path(self.directory.name) / "corecast.toml"
            config_path.write_text(config)
            command += ["--config", str(config_path)]
        command += [
            "--listen", f"{host}:{self.client_port}",
            "--api-listen", f"unix:{api_socket}" if api_socket else f"{host}:{self.api_port}",
            "--shards", str(shards), "--driver", driver, *args,
        ]
        self.command = command
        transport = httpx.HTTPTransport(uds=str(api_socket)) if api_socket else None
        self.http = httpx.Client(base_url=self.api_url, timeout=10, trust_env=False,
                                 transport=transport)
        self.start(env, await_ready)

    def start(self, env=None, await_ready=True):
        """Starts the process, or a new one after it has ended."""
        self.killed, self.scraped = False, 0.0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        if await_ready:
            self.wait_ready()

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if self.http.get("/ready").status_code == 200:
                    return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"{' '.join(self.command)}\nnot ready, its log:\n{self.log()}")

    # Requests

    def api(self, method, payload=None, /, **options):
        """Returns the response to one API call, whatever its status."""
        return self.http.post(f"/api/{method}", json=payload or {}, **options)

    def result(self, method, /, **payload):
        """Returns the result of one API call that must succeed."""
        response = self.api(method, payload)
        assert response.status_code == 200, f"{method}: {response.status_code} {response.text}"
        body = response.json()
        assert "error" not in body, f"{method} {payload}: {body}"
        return body["result"]

    def publish(self, channel, data, **options):
        return self.result("publish", channel=channel, data=data, **options)

    def history(self, channel, limit=-1, **options):
        """Returns the publications in a channel's history."""
        return self.result("history", channel=channel, limit=limit, **options)["publications"]

    # Observations

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        """Returns the number of descriptors of all threads. Tables may be private to a thread, or
        shared."""
        tables = [set(os.listdir(task / "fd")) for task in self.tasks()]
        return max(sum(map(len, tables)), 0)

    def tasks(self):
        return list(pathlib.Path(f"/proc/{self.pid}/task").iterdir())

    def metrics(self):
        """Returns a scrape. The server keeps a page for a while, so a scrape soon after another one
        waits for the next page."""
        time.sleep(max(0, self.scraped + PAGE_SECONDS_MAX - time.monotonic()))
        self.scraped = time.monotonic()
        return Metrics(self.http.get("/metrics").text)

    def settled_metrics(self, *names):
        """Returns a scrape that includes everything so far, because shards update their counters
        only now and then. With `names`, only these metrics must have settled."""
        last = self.metrics()
        while True:
            time.sleep(0.3)
            now = self.metrics()
            if all(now.total(name) == last.total(name) for name in names or self.COUNTED):
                return now
            last = now

    COUNTED = ("corecast_connections", "corecast_closes_total", "corecast_handshakes_total",
               "corecast_publications_total", "corecast_deliveries_total")

    def connections(self):
        return self.metrics().total("corecast_connections")

    def settled_connections(self):
        return self.settled_metrics("corecast_connections").total("corecast_connections")

    def freeze(self):
        """Stops the server, and returns once it runs no longer."""
        freeze(self.process)

    def thaw(self):
        thaw(self.process)

    # The end

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds):
        return self.process.wait(timeout=seconds)

    def kill(self):
        self.killed = True
        if self.alive():
            self.process.kill()
        self.process.wait()

    def stop(self):
        self.kill()
        self.http.close()
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Metrics:
    """One scrape of `/metrics`: samples by name and labels."""

    SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \S+)?$")
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.text, self.samples, self.types = text, [], {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name, kind = line.split()[2:4]
                self.types[name] = kind
            elif line and not line.startswith("#"):
                match = self.SAMPLE.match(line)
                assert match, f"not a line of the exposition format: {line!r}"
                labels = dict(self.LABEL.findall(match[2] or ""))
                self.samples.append((match[1], labels, float(match[3])))

    def total(self, name, **labels):
        """Returns the sum of the samples with this name and these labels, or 0 if there are
        none."""
        return sum(
            value for sample, found, value in self.samples
            if sample == name and labels.items() <= found.items()
        )

    def names(self):
        return {name for name, _, _ in self.samples}


def eventually(condition, seconds=5.0, what="the condition"):
    """Waits until `condition()` is true and returns its value. A failure reports the last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not hold within {seconds} s: {value!r}"
        time.sleep(0.02)


def dumps(value):
    """Returns JSON as SDKs write it, without spaces and unnecessary escapes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
