"""A plain WebSocket opens when all of its channels are subscribed, so all publications after
`onopen` arrive. Before that, nothing is sent and nothing is lost."""

import contextlib
import json
import socket
import threading
import time

import pytest

from harness.client import Client, Closed, Plain
from harness.proxy import Proxy
from harness.server import Server, eventually
from harness.wire import TEXT, Wire, frame, upgrade

LATENCY = 0.02
FAR = 0.1  # Each way. A piece may wait behind another one, so a call takes up to four times this.
STREAMS, SHARDS = 8, 2
ROUNDS = 40
WAIT_SECONDS_MAX = 3  # The time after which the answer is 503.
SLACK_SECONDS = 2  # A deadline may be a second late, and the machine busy.

PRIVATE = {"dev": False, "config": """
[auth]
anonymous = true

[api]
keys = ["secret"]

[[channel.namespaces]]
name = "open"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
"""}


def waiting(server):
    return server.metrics().total("corecast_handshaking")


def request(wire, query):
    wire.send(upgrade(f"/ws?{query}"))


def test_what_is_published_after_the_upgrade_arrives_though_redis_is_far(redis, join):
    with Proxy(redis.port) as link:
        nodes = join([redis.url, link.url])
        link.latency = LATENCY
        for n in range(ROUNDS):
            with Plain(nodes[1], f"/ws?channels=far-{n}") as plain:
                nodes[0].publish(f"far-{n}", n)
                assert plain.receive() == str(n)


def test_several_channels_are_asked_for_at_once(redis, join):
    names = [f"many-{n}" for n in range(50)]
    with Proxy(redis.port) as link, redis.client.monitor() as monitor:
        nodes = join([redis.url, link.url])
        opened(nodes[1], "/ws?channels=first").socket.close()  # Redis has the script from now on.
        link.latency = FAR
        began = time.monotonic()
        with Plain(nodes[1], f"/ws?channels={','.join(names)}&envelope=json") as plain:
            took = time.monotonic() - began
            assert took < 20 * FAR, "streams do not wait for each other"
            redis.client.echo("asked")
            calls = lookups(monitor)
            assert len(calls) <= STREAMS * SHARDS and sum(calls) == len(names), calls
            assert {plain.begin()["channel"] for _ in names} == set(names)
            for name in names:
                nodes[0].publish(name, name)
            assert {json.loads(plain.receive())["data"] for _ in names} == set(names)


def test_while_redis_is_away_the_answer_is_503_and_may_be_tried_again(redis, join):
    with Proxy(redis.port) as link:
        nodes = join([link.url])
        link.silent = True
        with Wire(nodes[0]) as wire:
            began = time.monotonic()
            request(wire, "channels=away&envelope=json")
            status, headers, body = wire.response()
            assert status == 503 and int(headers["retry-after"]) > 0 and b'"away"' in body, body
            assert time.monotonic() - began < WAIT_SECONDS_MAX + SLACK_SECONDS
        assert nodes[0].metrics().total("corecast_handshakes_total", result="unavailable") == 1
        link.silent = False
        with eventually(lambda: opened(nodes[0], "/ws?channels=away"), 15, "it is back") as plain:
            nodes[0].publish("away", 1)
            assert plain.receive() == "1"


def test_a_subscribe_and_a_history_while_redis_is_away_say_so(held):
    server, link = held
    with Client(server) as client:
        for method, params in [("subscribe", {}), ("history", {"limit": 1})]:
            error = client.ask(method, channel="away-1", **params)["error"]
            assert error["code"] == 100 and error["temporary"], error
            assert "Redis can't be reached" in error["message"], error
    link.silent = False


def test_a_connect_with_subscriptions_while_redis_is_away_says_so_and_works_later(held):
    server, link = held
    subs = {"away-2": {}}
    with Client(server, connect=False) as client:
        client.send_commands(client.command("connect", subs=subs))
        code, reason = client.closed()
        assert code == 3004, "SDKs come back"
        assert "Redis can't be reached" in reason and '"away-2"' in reason, reason
    closes = server.settled_metrics("corecast_closes_total")
    assert closes.total("corecast_closes_total", reason="bus_unavailable") == 1
    assert closes.total("corecast_closes_total", reason="internal_error") == 0
    link.silent = False

    def connected():
        with Client(server, connect=False) as client, contextlib.suppress(Closed):
            return "connect" in client.ask("connect", subs=subs)

    eventually(connected, 15, "it is back")


def lookups(monitor):
    """Returns how many of the channels each call to Redis asked for, until its echo."""
    calls = []
    while (entry := monitor.next_command())["command"] != "ECHO asked":
        if "many-" in entry["command"] and entry["client_type"] != "lua":
            calls.append(entry["command"].count("many-"))
    return calls


def opened(server, path):
    wire = Wire(server)
    wire.send(upgrade(path))
    if wire.response()[0] == 101:
        wire.close()
        return Plain(server, path)
    wire.close()
    return None


@pytest.fixture
def held(redis, join):
    """A node whose way to Redis is silent until `let`, and the way."""
    with Proxy(redis.port) as link:
        nodes = join([link.url])
        nodes.at("known", nodes[0].publish("known", 0))
        link.silent = True
        yield nodes[0], link


def test_nothing_is_said_before_all_channels_are_there(held):
    server, link = held
    with Wire(server) as wire:
        request(wire, "channels=known,unknown&envelope=json")
        eventually(lambda: server.metrics().total("corecast_subscriptions") == 1,
                   what="it is subscribed to the channel that this node knows")
        assert waiting(server) == 1
        wire.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(10)
        link.silent = False
        assert wire.response()[0] == 101
        first = {json.loads(wire.frame()[1])["channel"] for _ in range(2)}
        assert first == {"known", "unknown"}
        assert waiting(server) == 0


def test_what_is_sent_before_the_upgrade_is_carried_out_after_it(held):
    server, link = held
    with Wire(server) as wire:
        wire.send(upgrade("/ws?channels=early&publish=early") + frame(TEXT, b'"early"'))
        eventually(lambda: waiting(server) == 1, what="it waits")
        wire.send(frame(TEXT, b'"late"'))
        link.silent = False
        assert wire.response()[0] == 101
        assert [wire.frame()[1] for _ in range(2)] == [b'"early"', b'"late"']


@pytest.mark.parametrize("way", ["close", "reset", "half"])
def test_who_leaves_while_it_waits_is_forgotten_at_once(held, way):
    server, link = held
    with Wire(server) as wire:
        request(wire, "channels=left")
        eventually(lambda: waiting(server) == 1, what="it waits")
        began = time.monotonic()
        if way == "half":
            wire.socket.shutdown(socket.SHUT_WR)
        else:
            getattr(wire, way)()
        eventually(lambda: waiting(server) == 0, what="it is forgotten")
        assert time.monotonic() - began < WAIT_SECONDS_MAX / 2
    link.silent = False


def test_a_drain_answers_those_who_wait_with_503(held):
    server, _ = held
    with Wire(server) as wire:
        request(wire, "channels=drained")
        eventually(lambda: waiting(server) == 1, what="it waits")
        server.terminate()
        assert wire.response()[0] == 503


def test_permission_is_a_close_code_too(driver):
    with Server(driver, **PRIVATE) as server:
        with Plain(server, "/ws?channels=open:1") as plain:
            plain.silent()
        for path in ["/ws?channels=closed", "/ws?channels=open:1&publish=open:1"]:
            with Plain(server, path) as plain:
                code, reason = plain.closed()
                assert code == 3507 and reason.startswith("permission denied: "), reason
    closed = {**PRIVATE, "config": PRIVATE["config"].replace("anonymous = true\n\n", "\n", 1)}
    with Server(driver, **closed) as server, Plain(server, "/ws?channels=open:1") as plain:
        assert plain.closed()[0] == 3507


def test_publications_and_upgrades_race_and_nothing_is_missed(server, channel):
    """Who sees the upgrade gets every publication that is made from then on."""
    stop, count = threading.Event(), 0

    def publish():
        nonlocal count
        while not stop.is_set():
            count += 1
            server.publish(channel, count)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for _ in range(100):
            with Plain(server, f"/ws?channels={channel}") as plain:
                opened = count
                assert int(plain.receive()) <= opened + 1, "the next one, or the one under way"
    finally:
        stop.set()
        publisher.join()
