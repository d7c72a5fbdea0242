"""A client that does not read is closed at a limit, and no other client waits for it."""

import json
import threading
import time

import pytest

from harness.client import Client, offsets
from harness.server import eventually
from harness.wire import TEXT, Wire, frame

SERVER = {"shards": 1, "config": """
[client]
outbox_bytes_max = "256KiB"
frames_per_second_max = 1000000

[channel]
history_size = 2000
history_ttl = "60s"
force_recovery = true

[[channel.namespaces]]
name = "lossy"
slow_policy = "skip"
history_size = 0
history_ttl = "0s"
force_recovery = false
force_positioning = false
"""}

PAYLOAD = "x" * 2000
PUBLICATIONS = 1000  # 2 MB: more than outbox and socket buffers hold together.
MIB = 1 << 20


def publish_all(server, channel, end=PUBLICATIONS, begin=0):
    for start in range(begin, end, 50):
        server.api("batch", {"commands": [
            {"publish": {"channel": channel, "data": {"n": n, "x": PAYLOAD}}}
            for n in range(start, min(start + 50, end))
        ]})


def publish_all_to(server, channel, fast):
    """What a client receives that keeps up: it reads each batch before the next is published."""
    received = []
    for start in range(0, PUBLICATIONS, 50):
        publish_all(server, channel, start + 50, start)
        received += fast.publications(channel, 50)
    return received


def test_a_slow_client_is_closed_3008_while_a_fast_one_misses_nothing_and_memory_is_bounded(
        server, connect, channel):
    before, rss = server.settled_metrics(), server.rss_bytes()
    fast = connect()
    fast.subscribe(channel)
    with Wire(server, receive_bytes=4096) as slow:
        slow.connect()
        slow.text('{"id":2,"subscribe":{"channel":"%s"}}' % channel)
        assert b'"id":2' in slow.frame()[1]
        pubs = publish_all_to(server, channel, fast)
        assert offsets(pubs) == list(range(1, PUBLICATIONS + 1))
        # The history holds about 2 MB, an outbox 256 KiB: anything beyond is a queue without end.
        assert server.rss_bytes() - rss < 12 * MIB
        eventually(lambda: server.metrics().total("corecast_connections")
                   <= before.total("corecast_connections") + 1, 12, "the slow one is gone")
        assert slow.closed() in {3008, None}, "a close frame cannot follow half of another one"
    changed = {labels["reason"]: value - before.total("corecast_closes_total", **labels)
               for name, labels, value in server.settled_metrics().samples
               if name == "corecast_closes_total"}
    assert [reason for reason, count in changed.items() if count] == ["slow"], changed


def test_who_was_slow_recovers_everything_after_it_came_back(server, connect, channel):
    with Wire(server, receive_bytes=4096) as slow:
        slow.connect()
        slow.text('{"id":2,"subscribe":{"channel":"%s"}}' % channel)
        epoch = json.loads(slow.frame()[1])["subscribe"]["epoch"]
        publish_all(server, channel, 700)
        eventually(lambda: server.result("channels", pattern=channel)["channels"] == {},
                   12, "the slow one is gone")
        seen = _offsets_until_the_end(slow)
    assert seen == list(range(1, len(seen) + 1)), "what a slow client did get has no hole"
    while len(seen) < 700:
        with Client(server) as client:
            last = seen[-1] if seen else 0
            result = client.subscribe(channel, recover=True, offset=last, epoch=epoch)
            if not result.get("recovered"):  # More than one recovery may return: page through.
                page = client.history(channel, limit=300, since={"offset": last, "epoch": epoch})
                result = {"publications": page["publications"]}
            seen += offsets(result["publications"])
    assert seen == list(range(1, 701))


def _offsets_until_the_end(wire):
    seen = []
    try:
        while True:
            opcode, payload = wire.frame()
            if opcode != TEXT:
                break
            for line in payload.split(b"\n"):
                push = json.loads(line).get("push")
                if push:
                    seen.append(push["pub"]["offset"])
    except (EOFError, ConnectionError):
        pass
    return seen


def test_a_client_that_reads_slowly_but_reads_gets_everything(server, channel):
    with Wire(server, receive_bytes=16_384) as slow:
        slow.connect()
        slow.text('{"id":2,"subscribe":{"channel":"%s"}}' % channel)
        slow.frame()
        seen = []
        for start in range(0, 200, 40):  # 80 KB at a time: beyond the socket, within the outbox.
            server.api("batch", {"commands": [
                {"publish": {"channel": channel, "data": {"n": n, "x": PAYLOAD}}}
                for n in range(start, start + 40)]})
            time.sleep(0.2)
            while len(seen) < start + 40:
                opcode, payload = slow.frame()
                assert opcode == TEXT
                seen += [json.loads(line)["push"]["pub"]["offset"] for line in payload.split(b"\n")
                         if line != b"{}"]
        assert seen == list(range(1, 201))


def test_fifty_stuck_clients_do_not_slow_another(server, connect, channel):
    stuck = []
    for _ in range(50):
        wire = Wire(server, receive_bytes=4096).connect()
        wire.text('{"id":2,"subscribe":{"channel":"%s"}}' % channel)
        wire.frame()
        stuck.append(wire)
    fast = connect()
    fast.subscribe(channel)
    worst = 0.0
    for n in range(300):
        started = time.monotonic()
        server.publish(channel, {"n": n, "x": PAYLOAD})
        assert fast.publication(channel)["offset"] == n + 1
        worst = max(worst, time.monotonic() - started)
    assert worst < 2, f"the fast client waited {worst:.1f} s"
    for wire in stuck:
        wire.close()


def test_a_client_that_publishes_without_reading_replies_is_bounded(server):
    rss = server.rss_bytes()
    with Wire(server, receive_bytes=4096) as wire:
        wire.connect()
        wire.socket.settimeout(3)
        ask = frame(TEXT, b'{"id":2,"history":{"channel":"%s","limit":-1}}' % (b"a" * 200))
        try:
            for _ in range(3000):
                wire.send(ask * 10)
        except (TimeoutError, ConnectionError):
            pass
        assert server.rss_bytes() - rss < 8 * MIB


@pytest.mark.parametrize("query", ["&envelope=json"])
def test_where_skipping_is_allowed_a_slow_client_stays_and_is_told_of_the_gap(
        server, connect, channel, query):
    channel = f"lossy:{channel}"
    before = server.metrics().total("corecast_drops_total")
    fast = connect()
    fast.subscribe(channel)
    with Wire(server, receive_bytes=4096) as slow:
        slow.open(f"/ws?channels={channel}{query}")
        assert b'"data"' not in slow.frame()[1], "a position comes first"
        eventually(lambda: server.result("channels", pattern=channel)["channels"]
                   .get(channel, {}).get("num_clients") == 2, what="both are subscribed")
        pubs = publish_all_to(server, channel, fast)
        assert [pub["data"]["n"] for pub in pubs] == list(range(PUBLICATIONS))
        eventually(lambda: server.metrics().total("corecast_drops_total") > before,
                   what="drops are counted")
        # What comes while its outbox is full is skipped, so the end is told until it is heard.
        heard = threading.Event()
        ending = threading.Thread(target=_repeat_the_end, args=(server, channel, heard))
        ending.start()
        try:
            gaps = _gaps_until_the_end(slow)
        finally:
            heard.set()
            ending.join()
        assert gaps >= 1


def _repeat_the_end(server, channel, heard):
    while not heard.wait(0.3):
        server.publish(channel, {"n": "last"})


def _gaps_until_the_end(wire):
    expected, gaps = 0, 0
    while True:
        opcode, payload = wire.frame()
        if opcode != TEXT:
            continue
        message = json.loads(payload)
        if "gap" in message:
            gaps, expected = gaps + 1, None
            continue
        n = message["data"]["n"]
        if n == "last":
            return gaps
        assert expected in (None, n), f"{expected} was due, not {n}, and no gap was told"
        expected = n + 1
