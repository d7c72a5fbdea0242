"""A network that fails silently: packets are lost without a reset or the end of a stream."""

import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from harness.server import BINARY, ROOT, eventually

INTERVAL, PONG_TIMEOUT = 2, 1
CLIENTS = 20

CLIENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from harness.wire import Wire
class server: client_port = int(sys.argv[2])
wires = [Wire(server).connect() for _ in range(int(sys.argv[3]))]
print("connected", flush=True)
time.sleep(60)
"""


@pytest.fixture
def cut_network(driver, tmp_path):
    """A server in a network of its own, whose loopback a test can take down."""
    unshared = subprocess.run(["unshare", "--net", "true"], capture_output=True)
    assert unshared.returncode == 0 and shutil.which("ip"), \
        "a network namespace is needed: root, and Debian's iproute2"
    config = tmp_path / "corecast.toml"
    config.write_text(
        f'[client]\nping_interval = "{INTERVAL}s"\npong_timeout = "{PONG_TIMEOUT}s"\n')
    log = open(tmp_path / "log", "wb")
    serve = [BINARY, "serve", "--dev", "--driver", driver, "--shards", "1",
             "--listen", "127.0.0.1:8000", "--api-listen", "127.0.0.1:9000",
             "--config", str(config)]
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *serve],
        stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def inside(*command, **options):
        enter = ["nsenter", "--net", f"--target={process.pid}"]
        return subprocess.Popen([*enter, *command], **options)

    eventually(lambda: inside("curl", "-sf", "http://127.0.0.1:9000/ready",
                              stdout=subprocess.DEVNULL).wait() == 0, 10, "ready")
    yield process, inside
    process.kill()
    process.wait()
    log.close()


def sockets(process):
    """Sockets of the server's one shard; the API's are in the control thread's own table."""
    (shard,) = (task for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir()
                if (task / "comm").read_text().strip() == "shard-0")
    return sum(_is_socket(fd) for fd in (shard / "fd").iterdir())


def _is_socket(fd):
    try:
        return fd.readlink().name.startswith("socket:")
    except OSError:
        return False


def test_clients_behind_a_dead_network_are_gone_within_ping_interval_and_pong_timeout(cut_network):
    process, inside = cut_network
    before = sockets(process)
    client = inside(sys.executable, "-c", CLIENT, str(ROOT / "tests" / "e2e"), "8000",
                    str(CLIENTS), stdout=subprocess.PIPE)
    try:
        assert client.stdout.readline() == b"connected\n"
        assert sockets(process) >= before + CLIENTS
        started = time.monotonic()
        assert inside("ip", "link", "set", "lo", "down").wait() == 0
        # The close frame cannot arrive either, so the time to linger for its answer comes on top.
        eventually(lambda: sockets(process) <= before, INTERVAL + PONG_TIMEOUT + 6 + 2,
                   "the dead are gone")
        print(f"gone after {time.monotonic() - started:.1f} s")
        assert inside("ip", "link", "set", "lo", "up").wait() == 0
        eventually(lambda: inside("curl", "-sf", "http://127.0.0.1:9000/ready",
                                  stdout=subprocess.DEVNULL).wait() == 0, 10, "ready again")
    finally:
        client.kill()
        client.wait()
