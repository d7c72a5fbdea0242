"""`examples/corecast.mjs`, the module that follows channels in browsers and in Node.js. Cut off at
any point, it misses nothing and repeats nothing, from whichever position it continues."""

import collections
import json
import subprocess
import threading
import time

import pytest

from harness.client import Client
from harness.proxy import Proxy
from harness.server import ROOT, Server, eventually

SERVER = {"config": """
[[channel.namespaces]]
name = "kept"
history_size = 10000
history_ttl = "300s"
force_recovery = true
"""}

MODULE = ["node", str(ROOT / "tests" / "e2e" / "sdk" / "follow.mjs")]

# The response, the positions of two channels and some messages: every byte of them is a place at
# which a connection is cut.
CUTS = 420
RECOVERED_MAX = 300  # Who missed more than one recovery brings is told, so all stays below it.


class Following:
    """A process that follows; what it says is read as it comes."""

    def __init__(self, url, channels, last=0):
        what = json.dumps({"channels": channels, "last": last})
        self.process = subprocess.Popen([*MODULE, "follow", url, what], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.events = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def count(self, kind):
        return sum(kind in event for event in self.events)

    def ended(self, seconds=30):
        """Everything that it was told."""
        assert self.process.wait(seconds) == 0, self.process.stderr.read()
        self.reader.join()
        return self.events

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.mark.timeout(180)
def test_cut_off_at_every_byte_it_misses_nothing_and_sees_nothing_twice(server):
    channels = ["kept:a", "kept:b@2"]
    published, begun = collections.Counter(), False

    def publish(n=None):
        for channel in channels:
            published[channel] += 1
            server.publish(channel, {"n": n or published[channel]})

    with Proxy(server.client_port, cuts=CUTS) as cutter:
        with Following(f"ws://127.0.0.1:{cutter.port}/ws", dict.fromkeys(channels, "")) as module:
            for number in range(CUTS):
                eventually(lambda: cutter.begun > number, 10, f"connection {number} comes")
                # It is cut before anything is published, or while this is. What is published before
                # it has the first position of a channel would not be missed.
                while cutter.ended <= number and sum(published.values()) < 2 * (RECOVERED_MAX - 20):
                    begun = begun or {*channels} <= {event.get("begin") for event in module.events}
                    if begun:
                        publish()
            publish("end")
            events = module.ended()
    assert not [event for event in events if "gap" in event or event.get("final")], events
    told = check(events, channels, published)
    check_positions(server, told, published)


def check(events, channels, published):
    """Each message came once and in order; the positions that were told, for each channel."""
    told = {}
    for channel in channels:
        begins = [event["position"] for event in events if event.get("begin") == channel]
        messages = [event for event in events if event.get("message") == channel]
        assert [event["n"] for event in messages] == [*range(1, published[channel]), "end"]
        positions = [event["position"] for event in messages]
        assert [offset(position) for position in positions] == [
            *range(1, published[channel] + 1)], "the first position was told before all messages"
        told[channel] = sorted({*begins, *positions}, key=offset)
        assert offset(told[channel][0]) == 0
    assert events[-1]["positions"] == {channel: told[channel][-1] for channel in channels}
    return told


def check_positions(server, told, published):
    """From every position that it was told, all that came after it comes again."""
    what = {channel: {"positions": positions, "top": published[channel]}
            for channel, positions in told.items()}
    done = subprocess.run([*MODULE, "resume", f"{server.ws_url}/ws", json.dumps(what)],
                          capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for channel, results in json.loads(done.stdout).items():
        assert set(results) == set(told[channel])
        for position, offsets in results.items():
            assert offsets == [*range(offset(position) + 1, published[channel] + 1)], position


def offset(position):
    return int(position.split(":")[1])


def test_it_begins_with_the_last_ones_and_is_told_what_is_gone(server):
    for n in range(1, 6):
        epoch = server.publish("kept:last", {"n": n})["epoch"]
    with Following(f"{server.ws_url}/ws", {"kept:last": ""}, last=2) as module:
        eventually(lambda: module.count("message") == 2, 10, "they have come")
        server.publish("kept:last", {"n": "end"})
        told = [event.get("n") or event["position"] for event in module.ended() if
                "begin" in event or "message" in event]
    assert told == [f"{epoch}:3", 4, 5, "end"]
    with Following(f"{server.ws_url}/ws", {"kept:last": "other:3"}) as module:
        eventually(lambda: module.count("begin") == 1, 10, "it has begun")
        server.publish("kept:last", {"n": "end"})
        events = module.ended()
    kinds = [next(iter(event)) for event in events]
    assert kinds == ["open", "gap", "begin", "message", "positions"], events
    assert events[2]["position"] == f"{epoch}:6"


def test_it_stays_away_where_it_is_not_wanted(server):
    with Following(f"{server.ws_url}/ws", {"nowhere:1": ""}) as module:
        closed = [event for event in module.ended() if "closed" in event]
    assert closed == [{"closed": 3501, "reason": "unknown channel: nowhere:1", "final": True}]


def test_it_comes_back_when_the_application_asks_it_to(server):
    with Following(f"{server.ws_url}/ws", {"kept:asked": ""}) as module, Client(server):
        for n in range(3):
            eventually(lambda: module.count("begin") == n + 1, 10, "it is there")
            server.publish("kept:asked", {"n": n})
            server.result("disconnect", user="", disconnect={"code": 4000, "reason": "again"})
        eventually(lambda: module.count("begin") == 4, 10, "it is there")
        server.publish("kept:asked", {"n": "end"})
        events = module.ended()
    assert [event["n"] for event in events if "message" in event] == [0, 1, 2, "end"]


def test_it_notices_a_path_that_falls_silent(driver):
    config = SERVER["config"] + '[client]\nping_interval = "1s"\npong_timeout = "500ms"\n'
    with Server(driver, config=config) as server, Proxy(server.client_port) as proxy:
        with Following(f"ws://127.0.0.1:{proxy.port}/ws", {"kept:silent": ""}) as module:
            eventually(lambda: module.count("begin") == 1, 10, "it is there")
            time.sleep(3)
            assert module.count("closed") == 0, "the server's pings keep it"
            proxy.hush()
            server.publish("kept:silent", {"n": 1})
            eventually(lambda: module.count("begin") == 2, 10, "it is there again")
            server.publish("kept:silent", {"n": "end"})
            events = module.ended(60)  # `ws` waits for 30 s for the end of a connection
    assert [event["n"] for event in events if "message" in event] == [1, "end"]
    assert [event["reason"] for event in events if "closed" in event] == ["the server is silent"]


def test_its_pauses_grow_and_differ_and_it_says_what_fits_no_url():
    done = subprocess.run([*MODULE, "pauses"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
