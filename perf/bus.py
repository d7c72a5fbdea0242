#!/usr/bin/env python3
"""The cost of the bus: nodes on this host, connected by a Redis that is started for this.

  perf/run bus throughput [--rate N] [--seconds S]
      single publications over 8 connections on two nodes, which the other node reads
  perf/run bus latency [--seconds S]
      1,000 publications a second from one node to another, and for comparison one node without
      Redis, and a round trip to Redis
  perf/run bus nodes [--seconds S]
      CPU time of Redis for 1, 3 and 8 nodes
  perf/run bus storm [--connections N]
      many clients that return and recover, and their requests to Redis

Prints one JSON object on standard output, so `perf/run keep NAME -- perf/run bus ...` stores it.
CPU time is that of Redis (INFO) and of the nodes' bridge threads (/metrics) from the start to the
end of the load, divided by the publications that were appended meanwhile.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
sys.path.insert(0, str(ROOT / "tests" / "e2e" / "harness"))
import ports  # noqa: E402

REDIS_PORT = ports.free_port()
PATH = "/connection/websocket"


class Redis:
    """A separate server without persistence."""

    def __init__(self):
        self.directory = tempfile.mkdtemp()
        command = ["redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", "--dir", self.directory]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                self.socket = socket.create_connection(("127.0.0.1", REDIS_PORT))
                break
            except OSError:
                time.sleep(0.05)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, command):
        self.socket.sendall(command.encode() + b"\r\n")
        data = self.socket.recv(65536)
        if data[:1] == b"$":
            length, rest = data[1:].split(b"\r\n", 1)
            while len(rest) < int(length) + 2:
                rest += self.socket.recv(65536)
            return rest.decode()
        return data.decode()

    def info(self):
        lines = self.call("INFO all").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def cpu_seconds(self):
        info = self.info()
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def commands(self):
        return int(self.info()["total_commands_processed"])

    def round_trip_us(self, count=2000):
        times = []
        for _ in range(count):
            begun = time.perf_counter_ns()
            self.call("PING")
            times.append((time.perf_counter_ns() - begun) / 1000)
        return {"p50_us": statistics.median(times), "p99_us": sorted(times)[count * 99 // 100]}

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)


class Node:
    """A Corecast process with one shard."""

    def __init__(self, redis=True):
        self.clients = f"127.0.0.1:{ports.free_port()}"
        self.api = f"127.0.0.1:{ports.free_port()}"
        command = [TARGET / "corecast", "serve", "--dev", "--shards", "1",
                   "--listen", self.clients, "--api-listen", self.api]
        if redis:
            command += ["--redis", f"redis://127.0.0.1:{REDIS_PORT}"]
        environment = {**os.environ, "CORECAST_SERVER_ACCEPT_RATE": "50000",
                       "CORECAST_CLIENT_FRAMES_PER_SECOND_MAX": "1000000"}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://{self.api}/ready") as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        sys.exit("perf/run bus: a node did not become ready")

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.api}/metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def stop(self):
        self.process.kill()
        self.process.wait()


def bench(*arguments):
    command = [TARGET / "corecast-bench", *map(str, arguments), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(run):
    out, err = run.communicate()
    try:
        found = json.loads(out)
    except json.JSONDecodeError:
        sys.exit(f"perf/run bus: the generator failed: {err[-2000:]}")
    return found


def load(subscribers, publisher, rate, seconds, channels=32, name="load"):
    """Starts publications to `publisher`, with subscribers on another node."""
    return bench("channels", "--profile", "corecast", "--channels", channels, "--connections",
                 channels, "--channel", name, "--rate", rate, "--publish", "frame", "--publishers",
                 4, "--bytes", 128, "--seconds", seconds,
                 "--url", f"ws://{subscribers.clients}{PATH}", "--publish-url",
                 f"ws://{publisher.clients}{PATH}")


class Meter:
    """Usage of Redis and the bridges since this was created, for each publication."""

    def __init__(self, redis, nodes):
        self.redis, self.nodes = redis, nodes
        self.begun = self.read()

    def read(self):
        total = lambda name: sum(node.metric(name) for node in self.nodes)
        return (self.redis.cpu_seconds(), total("corecast_bridge_cpu_seconds_total"),
                total('corecast_bus_publications_total{result="ok"}'),
                total("corecast_bus_entries_total") / len(self.nodes))

    def found(self):
        redis, bridge, publications, entries = (
            end - begin for begin, end in zip(self.begun, self.read()))
        return {"publications": publications,
                "publications_per_batch": publications / max(entries, 1),
                "redis_cpu_us": redis / publications * 1e6,
                "bridge_cpu_us_per_node": bridge / publications / len(self.nodes) * 1e6}


def faults(found):
    return {key: found[key] for key in ("lost", "duplicates", "reordered")}


def delivery(found):
    window = (found.get("windows") or [found["window"]])[0]
    return window["delivery"]


def throughput(args):
    redis = Redis()
    nodes = [Node(), Node()]
    try:
        meter = Meter(redis, nodes)
        begun = time.monotonic()
        runs = [load(nodes[1], nodes[0], args.rate // 2, args.seconds, name="ab"),
                load(nodes[0], nodes[1], args.rate // 2, args.seconds, name="ba")]
        found = [result(run) for run in runs]
        return {"asked_per_second": args.rate, "seconds": args.seconds,
                "wall_seconds": time.monotonic() - begun, **meter.found(),
                "generators": found}
    finally:
        for one in [*nodes, redis]:
            one.stop()


def latency(args):
    redis = Redis()
    nodes = [Node(), Node(), Node(redis=False)]
    try:
        alone = result(load(nodes[2], nodes[2], 1000, args.seconds, channels=1))
        trip = redis.round_trip_us()
        across = result(load(nodes[1], nodes[0], 1000, args.seconds, channels=1))
        return {"redis_round_trip": trip, "one_node": alone, "two_nodes": across}
    finally:
        for one in [*nodes, redis]:
            one.stop()


def nodes(args):
    rows = []
    for count in (1, 3, 8):
        redis = Redis()
        all_nodes = [Node() for _ in range(count)]
        try:
            meter = Meter(redis, all_nodes)
            found = result(load(all_nodes[-1], all_nodes[0], args.rate, args.seconds))
            rows.append({"nodes": count, **meter.found(), **faults(found)})
        finally:
            for one in [*all_nodes, redis]:
                one.stop()
    return {"rate": args.rate, "rows": rows}


def storm(args):
    redis = Redis()
    node = Node()
    try:
        run = bench("storm", "--connections", args.connections, "--url",
                    f"ws://{node.clients}{PATH}", "--publish-url", f"http://{node.api}/api/publish")
        commands, samples = redis.commands(), []
        while run.poll() is None:
            time.sleep(0.2)
            samples.append(redis.commands() - commands)
            if len(samples) > 10_000:
                break
        found = result(run)
        return {"connections": args.connections, "redis_commands": samples[-1],
                "storm": found}
    finally:
        for one in (node, redis):
            one.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "latency", "nodes", "storm"])
    parser.add_argument("--rate", type=int, default=None)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=18_000)
    args = parser.parse_args()
    args.rate = args.rate or {"throughput": 50_000}.get(args.what, 5_000)
    subprocess.run(["cargo", "build", "--locked", "--release", "--workspace"], cwd=ROOT, check=True,
                   stdout=sys.stderr)
    acts = {"throughput": throughput, "latency": latency, "nodes": nodes, "storm": storm}
    json.dump(acts[args.what](args), sys.stdout, indent=2)
    print()


main()
