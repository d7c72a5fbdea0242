#!/usr/bin/env python3
"""Requests to the kernel: system calls of a handshake, of an idle connection and of a delivery, and
the kernel memory of a connection. Prints one JSON object.

  perf/run kernel [--driver io_uring] [--connections 10000] [--profile corecast]
                  [--outstanding 1]

Uses a server with one shard, the load generator, and strace on the shard's thread. Memory is the
growth of the kernel's slabs (/proc/slabinfo, which requires root) for both ends of a connection,
because both are on this machine. Objects of other processes that are created meanwhile count, too.
Other load on the machine hardly affects these figures. Only calls that serve many connections at
once (io_uring_enter and epoll_wait during handshakes) are fewer if more connections arrive
together.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e" / "harness"))
import ports  # noqa: E402

CLIENTS, API = ("127.0.0.1", ports.free_port()), ("127.0.0.1", ports.free_port())

# There is one of these for each socket. File systems use the same slabs.
SHARED_SLABS = ("dentry", "lsm_inode_cache")
# URL paths for the generator's profiles.
PATHS = {"corecast": "/connection/websocket", "plain": "/ws?channels={channel}"}
# Number of counted publications, and the pause before and after them in seconds.
PUBLICATIONS, PAUSE = 32, 5
# Seconds for which idle connections are measured: two ping intervals.
IDLE_SECONDS = 50
# Timeouts for connecting and for the start of the server, and the polling interval, in seconds.
RAMP_MAX, START_MAX, LOOK = 120, 10, 0.1
# Time for the kernel to free objects that it frees late, in seconds.
SETTLE = 3
# Kernel objects of a connection: sockets, their files, and their polls.
SLABS = ("TCP", "TCPv6", "sock_inode_cache", "dentry", "filp", "lsm_inode_cache", "lsm_file_cache",
         "io_kiocb", "eventpoll_epi", "ep_head")


def fail(text):
    print(f"perf/run kernel: {text}", file=sys.stderr)
    raise SystemExit(2)


def eventually(what, seconds, is_so):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            fail(f"not within {seconds} s: {what}")
        time.sleep(LOOK)


def listens(address):
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


@contextlib.contextmanager
def server(options):
    """Starts a server with one shard. Yields the id of the shard's thread."""
    for address in (CLIENTS, API):
        # The kernel tears down a ring after its process has ended, and the listener with it.
        eventually(f"nothing else listens on {address}", START_MAX, lambda: not listens(address))
    listen = ["--listen", "{}:{}".format(*CLIENTS), "--api-listen", "{}:{}".format(*API)]
    command = [options.bin / "corecast", "serve", "--dev", "--shards", "1"]
    command += ["--driver", options.driver, *listen]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually("the server listens", START_MAX, lambda: listens(CLIENTS) and listens(API))
            tasks = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
            yield next(task.name for task in tasks if (task / "comm").read_text() == "shard-0\n")
        finally:
            process.kill()


def bench(options, scenario, *flags):
    url = "ws://{}:{}".format(*CLIENTS) + PATHS[options.profile]
    command = [options.bin / "corecast-bench", scenario, "--json", "--abort"]
    command += ["--profile", options.profile, "--url", url]
    command += ["--connections", str(options.connections), *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def traced(thread, counts):
    """Counts the thread's system calls by name in `counts`."""
    with tempfile.NamedTemporaryFile("r") as table:
        command = ["strace", "-c", "-U", "calls,name", "-p", thread, "-o", table.name]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
            status = pathlib.Path(f"/proc/{thread}/status")
            is_traced = lambda: "TracerPid:\t0\n" not in status.read_text()
            eventually("strace sees the shard's thread", START_MAX, is_traced)
            yield
            strace.send_signal(signal.SIGINT)
        for line in table.read().splitlines():
            row = re.fullmatch(r"\s*(\d+) (\w+)", line)
            if row and row[2] != "total":
                counts[row[2]] = int(row[1])


def metric(name):
    page = urllib.request.urlopen("http://{}:{}/metrics".format(*API), timeout=START_MAX)
    rows = [line for line in page.read().decode().splitlines() if re.match(rf"{name}[ {{]", line)]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


def await_subscribers(count):
    everybody = lambda: metric("corecast_subscriptions") >= count
    eventually(f"{count} clients are subscribed", RAMP_MAX, everybody)


def slabs():
    """Returns the objects in use and the size of one, by the name of the slab."""
    try:
        rows = pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]
    except PermissionError:
        fail("/proc/slabinfo takes root")
    fields = [row.split() for row in rows]
    return {row[0]: (int(row[1]), int(row[3])) for row in fields}


def share(counts, operations):
    """Returns the calls of one operation, without those below one in a hundred thousand."""
    shares = {name: round(count / operations, 5) for name, count in counts.items()}
    return dict(sorted(((n, s) for n, s in shares.items() if s > 0), key=lambda pair: -pair[1]))


def measure_connections(options):
    """Measures calls of handshakes and idle connections, and the kernel memory of connections."""
    handshakes, idle = {}, {}
    with server(options) as thread:
        time.sleep(SETTLE)
        before = slabs()
        with traced(thread, handshakes):
            load = bench(options, "connect", "--hold", f"{RAMP_MAX + IDLE_SECONDS}s")
            count = options.connections
            await_subscribers(count)
        time.sleep(SETTLE)
        after = slabs()
        with traced(thread, idle):
            time.sleep(IDLE_SECONDS)
        load.kill()
        load.wait()
    memory = {}
    for name in SLABS:
        (objects, size), (base, _) = after.get(name, (0, 0)), before.get(name, (0, 0))
        if name in SHARED_SLABS:
            (objects, _), (base, _) = after["sock_inode_cache"], before["sock_inode_cache"]
        grown = (objects - base) / count
        if grown > 0 and size > 0:
            memory[name] = {"objects": round(grown, 2), "bytes": round(grown * size)}
    memory = dict(sorted(memory.items(), key=lambda pair: -pair[1]["bytes"]))
    return {
        "calls_per_handshake": share(handshakes, count),
        "calls_per_idle_connection_second": share(idle, count * IDLE_SECONDS),
        "kernel_bytes_per_connection_pair": sum(slab["bytes"] for slab in memory.values()),
        "slabs_per_connection_pair": memory,
    }


def measure_deliveries(options):
    """Measures calls of deliveries, from the last subscription to the last delivery."""
    counts, total = {}, options.connections * PUBLICATIONS
    with server(options) as thread:
        flags = ["--messages", str(PUBLICATIONS), "--outstanding", str(options.outstanding)]
        flags += ["--settle", f"{PAUSE}s", "--warmup", "0"]
        flags += ["--publish", "http", "--publish-url", "http://{}:{}/api/publish".format(*API)]
        load = bench(options, "saturate", *flags)
        await_subscribers(options.connections)
        with traced(thread, counts):
            if metric("corecast_deliveries_total") != 0:
                fail(f"strace took longer than {PAUSE} s to see the shard's thread")
            before = metric("corecast_delivered_bytes_total")
            everything = lambda: metric("corecast_deliveries_total") >= total
            eventually(f"{total} deliveries", RAMP_MAX, everything)
            sent = metric("corecast_delivered_bytes_total") - before
        if load.wait() != 0:
            fail("the load failed")
    return {
        "outstanding": options.outstanding,
        "calls_per_delivery": share(counts, total),
        "bytes_per_delivery": round(sent / total, 2),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--driver", choices=["io_uring", "epoll"], default="io_uring")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--outstanding", type=int, default=1)
    parser.add_argument("--profile", choices=PATHS, default="corecast")
    options = parser.parse_args()
    if not shutil.which("strace"):
        fail("strace is missing: apt-get install strace")
    build = ["cargo", "build", "--locked", "--release", "--quiet", "--workspace"]
    subprocess.run(build, cwd=ROOT, check=True)
    options.bin = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
    report = {name: getattr(options, name) for name in ("driver", "profile", "connections")}
    report |= measure_connections(options) | measure_deliveries(options)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
