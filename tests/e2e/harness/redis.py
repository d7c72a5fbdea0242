"""A redis-server in every form that Corecast supports: alone, with a replica, with a Sentinel, as a
Cluster; over TCP, a Unix socket or TLS. It can be made to fail in several ways."""

import contextlib
import functools
import os
import pathlib
import re
import subprocess
import tempfile
import time

import pytest
import redis.backoff
import redis.exceptions
import redis.retry

from harness.frozen import freeze, thaw
from harness.ports import free_port
from harness.server import eventually

# The program, which is Debian's unless the variable names another one, such as a valkey-server.
REDIS_SERVER = os.environ.get("REDIS_SERVER", "redis-server")
ANSWER_SECONDS_MAX = 15
SLOTS = 16_384


@functools.cache
def program():
    """Returns the kind and the version of the program, such as `("Valkey", (9, 1, 2))`."""
    shown = subprocess.run([REDIS_SERVER, "--version"], capture_output=True, text=True).stdout
    kind, version = re.match(r"(\w+) server v=([\d.]+)", shown).groups()
    return kind, tuple(map(int, version.split(".")))


def forbidden():
    """Words of the error of a script that calls what its user may not."""
    return "can't run this command" if program()[0] == "Redis" else "no permissions to run"


@functools.cache
def knows_tls():
    """Whether the program complains that it gets no certificate. Without TLS, it complains about
    something else."""
    tried = subprocess.run([REDIS_SERVER, "--port", "0", "--tls-port", "1", "--save", ""],
                           capture_output=True, text=True, timeout=ANSWER_SECONDS_MAX)
    return "tls-cert-file" in tried.stdout


class Process:
    """A process in its own directory that speaks Redis' protocol on `port`."""

    def __init__(self, command, *, prefix=(), port=None):
        self.port = port or free_port()
        self.directory = tempfile.TemporaryDirectory(prefix="corecast-redis-")
        self.path = pathlib.Path(self.directory.name)
        self.command, self.prefix, self.process = command, list(prefix), None

    def start(self, *more, wait=True):
        """Starts the process, or a new one with the data of one that ended."""
        with open(self.path / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command, *more], cwd=self.path, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT)
        if wait:
            eventually(self.answers, ANSWER_SECONDS_MAX, f"Redis answers\n{self.log()}")
        return self

    def answers(self):
        assert self.process.poll() is None, f"Redis ended:\n{self.log()}"
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            return self.client.ping()

    def log(self):
        path = self.path / "log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def kill(self):
        """Kills the process like `kill -9`: nothing is saved, and connections are not closed
        first."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def freeze(self):
        freeze(self.process)

    def thaw(self):
        thaw(self.process)

    def stop(self):
        self.kill()
        self.client.close()
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Redis(Process):
    """The program, started by the constructor. `args` are its options, such as `("--maxmemory",
    "2mb")`. Without `aof` no data outlives the process. Other processes reach it at `host`, and the
    test at `door`, if that is another address."""

    def __init__(self, *args, aof=False, password=None, tls=None, unix=False, prefix=(),
                 directory=None, start=True, host="127.0.0.1", door=None, port=None):
        super().__init__([], prefix=prefix, port=port)
        self.password, self.tls, self.host, self.door = password, tls, host, door or host
        self.socket_path = self.path / "socket" if unix else None
        listen = ["--port", str(self.port)]
        if tls:
            if not knows_tls():
                pytest.skip(f"{REDIS_SERVER} was built without TLS")
            listen = ["--port", "0", "--tls-port", str(self.port)]
        if unix:
            listen = ["--port", "0", "--unixsocket", str(self.socket_path)]
        self.command = [
            REDIS_SERVER, *listen, "--bind", *dict.fromkeys([self.host, self.door]),
            "--protected-mode", "no", "--save", "", "--daemonize", "no",
            "--dir", str(directory or self.path), "--appendonly", "yes" if aof else "no",
            "--repl-diskless-sync-delay", "0",
            *(["--requirepass", password, "--masterauth", password] if password else []),
            *(tls.redis_args() if tls else []), *args,
        ]
        self.client = self.connect()
        if start:
            self.start()

    def connect(self, **options):
        """Returns a client that reports errors instead of trying again."""
        options = {"password": self.password, "socket_timeout": 10,
                   "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0), **options}
        if self.socket_path:
            return redis.Redis(unix_socket_path=str(self.socket_path), **options)
        if self.tls:
            options |= {"ssl": True, "ssl_ca_certs": str(self.tls.ca)}
        return redis.Redis(host=self.door, port=self.port, **options)

    @property
    def url(self):
        if self.socket_path:
            return f"redis+unix://{self.socket_path}"
        secret = f":{self.password}@" if self.password else ""
        return f"{'rediss' if self.tls else 'redis'}://{secret}{self.host}:{self.port}"

    def restart(self, *more, pause=0.0):
        """Kills the process like `kill -9`, and starts a new one."""
        self.kill()
        time.sleep(pause)
        return self.start(*more)

    def follow(self, primary):
        """Makes this server a replica, and waits until it has all data."""
        self.client.replicaof(primary.host, primary.port)
        eventually(lambda: self.client.info("replication").get("master_link_status") == "up", 15,
                   "the replica follows")

    def promote(self):
        self.client.replicaof("NO", "ONE")

    def cluster_ok(self, count=None):
        """Whether it serves as one of a Cluster's `count` masters."""
        info = self.client.cluster("INFO")
        return info["cluster_state"] == "ok" and count in (None, int(info["cluster_known_nodes"]))

    # Corecast's data

    def streams(self, prefix="corecast"):
        """Returns the names of the existing streams of the bus, by their number."""
        names = [key.decode() for key in self.client.scan_iter(f"{prefix}:{{*}}:bus")]
        return {int(name.split("{")[1].split("}")[0]): name for name in names}

    def stream_of(self, channel, prefix="corecast"):
        """Returns the number of the stream of this channel, which must have had a publication."""
        (found,) = [number for number, name in self.streams(prefix).items()
                    if self.client.hexists(name.removesuffix("bus") + "places", channel)]
        return found

    def kill_clients(self):
        """Closes all connections but this one. Returns their number."""
        return self.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


class Sentinel(Process):
    """A Sentinel that watches `primary` as `mymaster`, and promotes within about two seconds. It
    needs ten seconds to discover a replica that was added after its own start."""

    def __init__(self, primary, password=None, *, host="127.0.0.1"):
        super().__init__([])
        self.password, self.host = password, host
        config = self.path / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind {host}\ndir {self.path}\n"
            f"sentinel monitor mymaster {primary.host} {primary.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 3000\n"
            + (f"requirepass {password}\n" if password else "")
            + (f"sentinel auth-pass mymaster {primary.password}\n" if primary.password else ""))
        self.command = [REDIS_SERVER, str(config), "--sentinel"]
        self.client = redis.Redis(host=host, port=self.port, password=password, socket_timeout=5)
        self.start()
        eventually(lambda: self.primary() == primary.port, what="the sentinel knows the primary")

    def primary(self):
        """Returns the port of the primary according to the Sentinel."""
        answer = self.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return int(answer[1])

    def wait_replica(self, count=1):
        """Waits until it knows `count` replicas, so that it could promote one."""
        def known():
            found = self.client.execute_command("SENTINEL", "REPLICAS", "mymaster")
            return sum(replica[b"master-link-status"] == b"ok" for replica in found) >= count
        eventually(known, 15, "the sentinel knows a replica")

    def wait_others(self, count):
        """Waits until it knows this number of other Sentinels."""
        def known():
            found = self.client.execute_command("SENTINEL", "SENTINELS", "mymaster")
            return len(found) >= count
        eventually(known, 15, "the Sentinels have found each other")

    def listeners(self):
        """Returns the number of connections that subscribe to it."""
        return sum(int(client["sub"]) > 0 for client in self.client.client_list())

    def fail_over(self):
        """Makes it promote a replica although the primary works."""
        self.client.execute_command("SENTINEL", "FAILOVER", "mymaster")

    @property
    def url(self):
        secret = f"&sentinelPassword={self.password}" if self.password else ""
        return f"redis-sentinel://{self.host}:{self.port}?sentinelServiceName=mymaster{secret}"


class Cluster:
    """Masters that share all slots."""

    def __init__(self, count=3):
        if program() < ("Redis", (7,)):
            pytest.skip("a Redis Cluster is tried with Redis 7, which can be told its second port")
        self.nodes = []
        self.bus_ports = [free_port() for _ in range(count)]
        for bus_port in self.bus_ports:
            self.nodes.append(Redis(
                "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
                "--cluster-port", str(bus_port), "--cluster-config-file", "nodes.conf"))
        share = -(-SLOTS // count)
        for n, node in enumerate(self.nodes):
            last = min(SLOTS, (n + 1) * share) - 1
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", n * share, last)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            self.nodes[0].client.execute_command(
                "CLUSTER", "MEET", "127.0.0.1", node.port, self.bus_ports[n])
        eventually(self.whole, 15, "the cluster is whole")

    def whole(self):
        return all(node.cluster_ok(len(self.nodes)) for node in self.nodes)

    def move_slot(self, slot, source, target):
        """Moves a slot with its keys, like `redis-cli --cluster reshard`."""
        ids = {node: node.client.execute_command("CLUSTER", "MYID") for node in self.nodes}
        setslot = ("CLUSTER", "SETSLOT", slot)
        target.client.execute_command(*setslot, "IMPORTING", ids[source])
        source.client.execute_command(*setslot, "MIGRATING", ids[target])
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.client.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *self.nodes):
            node.client.execute_command(*setslot, "NODE", ids[target])

    @property
    def url(self):
        return f"redis-cluster://127.0.0.1:{self.nodes[0].port}"

    def stop(self):
        for node in self.nodes:
            node.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Certificates:
    """A certificate authority and a certificate for 127.0.0.1, created for this run."""

    def __init__(self, path):
        self.ca, self.certificate, self.key = path / "ca.pem", path / "tls.pem", path / "tls.key"
        request, extensions, ca_key = path / "tls.csr", path / "tls.ext", path / "ca.key"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n"
                              "basicConstraints=critical,CA:FALSE\n")
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", self.ca, "-days", "2",
                 "-subj", "/CN=Test authority")
        _openssl("req", *new_key, "-keyout", self.key, "-out", request, "-subj", "/CN=localhost")
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key,
                 "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out",
                 self.certificate)

    def redis_args(self):
        return ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key),
                "--tls-ca-cert-file", str(self.ca), "--tls-auth-clients", "no"]


def _openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)
