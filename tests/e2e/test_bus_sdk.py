"""The JavaScript SDK with several nodes. Publications of one node arrive from another one, and a
client whose node ends continues on the next one, behind the same address."""

import contextlib
import json
import subprocess
import time

import pytest

from harness.client import Client
from harness.proxy import Proxy
from harness.server import ROOT, eventually
from harness.traffic import CONFIG

NODES = {"config": CONFIG}
SCRIPT = ROOT / "tests" / "e2e" / "sdk" / "nodes.mjs"


class Sdk:
    """The SDK in a process of its own, subscribed to one channel until number `last` comes."""

    def __init__(self, port, channel, last):
        self.process = subprocess.Popen(
            ["node", str(SCRIPT), f"ws://127.0.0.1:{port}/connection/websocket", channel,
             str(last)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ready(self):
        line = self.process.stdout.readline()
        assert line == "READY\n", line + self.process.communicate(timeout=10)[0]

    def result(self, seconds=30):
        output = self.process.communicate(timeout=seconds)[0]
        assert self.process.returncode == 0, output
        return json.loads(output)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def follow():
    """Starts SDKs that follow a channel, and waits until they are subscribed."""
    with contextlib.ExitStack() as stack:
        def start(ports, channel, last):
            sdks = [Sdk(port, channel, last) for port in ports]
            for sdk in sdks:
                stack.callback(sdk.kill)
            for sdk in sdks:
                sdk.ready()
            return sdks
        yield start


def publish(server, channel, numbers):
    for n in numbers:
        position = server.publish(channel, {"n": n})
    return position


def test_a_publisher_on_one_node_reaches_sdks_on_the_others(nodes, follow):
    sdks = follow([nodes[1].client_port, nodes[2].client_port], "t:far", 200)
    publish(nodes[0], "t:far", range(1, 201))
    for sdk in sdks:
        result = sdk.result()
        assert result["numbers"] == list(range(1, 201)) and result["errors"] == []
        assert len(result["subscribed"]) == 1


def test_an_sdk_whose_node_is_killed_recovers_everything_on_the_next(nodes, join, follow):
    extra = join([nodes.redis.url])
    with Proxy(extra[0].client_port) as address:
        (sdk,) = follow([address.port], "t:moves", 150)
        publish(nodes[0], "t:moves", range(1, 51))
        extra[0].kill()
        publish(nodes[1], "t:moves", range(51, 101))
        address.target = nodes[2].client_port
        publish(nodes[0], "t:moves", range(101, 151))
        result = sdk.result()
    assert result["numbers"] == list(range(1, 151)), "nothing lost, nothing twice, in order"
    assert result["offsets"] == list(range(1, 151))
    assert result["subscribed"] == [
        {"wasRecovering": False, "recovered": False}, {"wasRecovering": True, "recovered": True}]
    assert result["errors"] == []


def test_an_sdk_is_told_once_that_redis_began_anew(join, redis, follow):
    nodes = join([redis.url] * 2)
    (sdk,) = follow([nodes[1].client_port], "t:anew", 40)
    publish(nodes[0], "t:anew", range(1, 11))
    nodes.at("t:anew", {"offset": 10, "epoch": _epoch(nodes[0], "t:anew")})
    time.sleep(0.2)
    redis.restart()
    eventually(lambda: "result" in nodes[0].api(
        "publish", {"channel": "t:else", "data": 1}).json(), 10)
    for n in range(11, 41):
        publish(nodes[0], "t:anew", [n])
        time.sleep(0.05)
    result = sdk.result()
    # What is published before it is subscribed again is lost to it, and it is told so.
    assert result["numbers"][:10] == list(range(1, 11))
    assert result["numbers"][10:] == list(range(result["numbers"][10], 41))
    assert result["subscribed"] == [
        {"wasRecovering": False, "recovered": False}, {"wasRecovering": True, "recovered": False}]
    assert result["subscribing"][-1] == 2500 and result["errors"] == []


def _epoch(server, channel):
    return server.result("history", channel=channel, limit=0)["epoch"]


def test_an_sdk_notices_nothing_of_a_cut_between_node_and_redis(join, redis, follow):
    nodes = join([redis.url] * 2)
    (sdk,) = follow([nodes[1].client_port], "t:cut", 60)
    for n in range(3):
        publish(nodes[0], "t:cut", range(1 + 20 * n, 21 + 20 * n))
        redis.kill_clients()
        time.sleep(0.1)
    result = sdk.result()
    assert result["numbers"] == list(range(1, 61))
    assert len(result["subscribed"]) == 1 and result["errors"] == []


def test_an_application_publishes_with_xadd_alone(nodes, follow):
    (sdk,) = follow([nodes[2].client_port], "t:xadd", 100)
    with Client(nodes[0]) as client:
        client.subscribe("t:xadd")
        for n in range(1, 101):
            nodes.redis.client.xadd(
                "corecast:ingest", {"channel": "t:xadd", "data": json.dumps({"n": n})})
        assert [pub["data"]["n"] for pub in client.publications("t:xadd", 100)] == \
            list(range(1, 101))
    assert sdk.result()["numbers"] == list(range(1, 101))
