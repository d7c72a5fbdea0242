"""Events of connections reach the application as entries of a Redis stream, at least once, and in
order for each connection."""

import collections
import socket
import time

import pytest

from harness.client import Client, Plain
from harness.events import EVENTS, STREAM, events, once, wait_events
from harness.server import Server, eventually

NAMESPACES = """
[[channel.namespaces]]
name = "seen"
events = ["subscribe", "unsubscribe", "publish"]

[[channel.namespaces]]
name = "unseen"
"""
NODES = {"config": EVENTS + NAMESPACES}


def test_the_life_of_a_connection_is_told_in_its_order(nodes, channel):
    client = nodes.subscribe(1, channel)
    id = client.connected["client"]
    client.unsubscribe(channel)
    client.subscribe(channel)
    client.close()
    wait_events(nodes.redis, 1, client=id, event="disconnect")
    told = once(events(nodes.redis, client=id))
    kinds = [event["event"] for event in told]
    assert kinds[:4] == ["connect", "subscribe", "unsubscribe", "subscribe"]
    # An end may be told for each subscription, too.
    assert kinds[4:] in (["disconnect"], ["unsubscribe", "disconnect"])
    assert len({(event["node"], event["boot"]) for event in told}) == 1
    for event in told:
        assert event["user"] == ""
        assert abs(int(event["time"]) / 1000 - time.time()) < 20
        if "subscribe" in event["event"]:
            assert event["channel"] == channel


def test_an_end_is_told_with_its_code_and_reason(nodes):
    client = nodes.connect(2)
    id = client.connected["client"]
    nodes[2].result("disconnect", user="", client=id, disconnect={"code": 4321, "reason": "away"})
    assert client.closed()[0] == 4321
    (end,) = once(wait_events(nodes.redis, 1, client=id, event="disconnect"))
    assert end["code"] == "4321" and end["reason"] == "away"


def test_a_plain_websocket_has_events_too(nodes, channel):
    before = len(events(nodes.redis, channel=channel))
    with Plain(nodes[0], f"/ws?channels={channel}"):
        subscribe = wait_events(nodes.redis, before + 1, channel=channel, event="subscribe")[-1]
    wait_events(nodes.redis, 1, event="disconnect", client=subscribe["client"])


def test_a_beginning_is_told_with_the_address_of_the_client(driver, redis):
    config = EVENTS + '[server]\nproxies = ["127.0.0.2"]\n'
    headers = {"X-Forwarded-For": "192.0.2.66, 2001:db8::1"}
    with Server(driver, config=config, args=["--redis", redis.url]) as server:
        for source, address in [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "2001:db8::1")]:
            to = ("127.0.0.1", server.client_port)
            connection = socket.create_connection(to, timeout=10, source_address=(source, 0))
            with Client(server, sock=connection, headers=headers) as client:
                id = client.connected["client"]
                (begun,) = once(wait_events(redis, 1, client=id, event="connect"))
                assert begun["address"] == address


def test_what_a_client_sends_is_told_as_a_message(nodes):
    client = nodes.connect(1)
    client.send('{"send":{"data":{"hello":[1]}}}')
    (message,) = once(wait_events(nodes.redis, 1, event="message",
                                  client=client.connected["client"]))
    assert message["data"] == '{"hello":[1]}'
    assert client.subscribe("still-there")


def test_a_namespace_may_tell_what_its_clients_publish(nodes):
    client = nodes.subscribe(0, "seen:1")
    client.publish("seen:1", {"a": 1})
    client.publish("unseen:1", {"b": 1})
    (publish,) = once(wait_events(nodes.redis, 1, event="publish", channel="seen:1"))
    assert publish["data"] == '{"a":1}' and publish["client"] == client.connected["client"]
    assert events(nodes.redis, event="publish", channel="unseen:1") == []


def test_many_connections_are_told_each_in_its_order(nodes, channel):
    clients = [nodes.connect(n % 3) for n in range(60)]
    for client in clients:
        client.subscribe(channel)
    ids = {client.connected["client"] for client in clients}
    nodes.close_clients()
    eventually(lambda: len({event["client"] for event in
                            events(nodes.redis, event="disconnect")} & ids) == 60, 10)
    for id in ids:
        told = [event["event"] for event in once(events(nodes.redis, client=id))]
        assert told[:2] == ["connect", "subscribe"] and told[-1] == "disconnect", told


def test_nothing_is_told_that_was_not_asked_for(alone, redis):
    nodes = alone(NAMESPACES)
    nodes.subscribe(0, "unseen:1").publish("unseen:1", 1)
    seen = nodes.subscribe(0, "seen:1")
    seen.publish("seen:1", 1)
    seen.close()
    wait_events(redis, 1, event="publish")
    wait_events(redis, 1, event="subscribe")
    eventually(lambda: nodes[0].connections() == 1)
    assert {event["event"] for event in events(redis)} <= {"subscribe", "unsubscribe", "publish"}
    assert {event["channel"] for event in events(redis)} == {"seen:1"}


def test_a_stream_may_have_another_name(alone, redis):
    nodes = alone('[events]\nstream = "app:events"\nconnect = true\n')
    client = nodes.connect(0)
    eventually(lambda: events(redis, "app:events", event="connect",
                              client=client.connected["client"]))
    assert not redis.client.exists(STREAM)


def test_events_wait_while_redis_is_away(alone, redis):
    nodes = alone(EVENTS)
    nodes.connect(0)
    wait_events(redis, 1, event="connect")
    redis.freeze()
    clients = [nodes.connect(0) for _ in range(20)]
    time.sleep(6)
    redis.thaw()
    ids = {client.connected["client"] for client in clients}
    eventually(lambda: {event["client"] for event in events(redis, event="connect")} >= ids, 10,
               "they are told later")
    # What was written when Redis went on, without an answer, was written once more.
    assert len(numbered(redis)) == 1


def numbered(redis):
    """The nodes that have written events. Those of each are numbered from 1 on, and whoever drops
    what is not above the last number has each once and in order."""
    last, kept = collections.Counter(), []
    for event in events(redis):
        node, number = (event["node"], event["boot"]), int(event["seq"])
        assert number <= last[node] + 1, f"{last[node]} is followed by {number}"
        if number > last[node]:
            last[node] = number
            kept.append({**event, "seq": None})
    began = [event["client"] for event in kept if event["event"] == "connect"]
    assert len(set(began)) == len(began), "a session begins once"
    return last.keys()


def test_events_are_numbered_without_holes_whoever_they_are_of(alone, redis):
    nodes = alone(EVENTS, count=2)
    clients = [nodes.connect(n % 2) for n in range(40)]
    for n, client in enumerate(clients):
        client.subscribe(f"numbered-{n % 7}")
    redis.kill_clients()
    for client in clients:
        client.send('{"send":{"data":1}}')
    nodes.close_clients()
    eventually(lambda: len({event["client"] for event in events(redis, event="disconnect")}) == 40,
               15)
    assert len(numbered(redis)) == len(nodes)


@pytest.mark.parametrize("bytes, frames, each", [(10, 60, 100), (60_000, 60, 1)],
                         ids=["small", "large"])
def test_the_stream_is_bounded_in_bytes(alone, redis, bytes, frames, each):
    most = 1024 * 1024
    nodes = alone(EVENTS + 'bytes_max = "1MiB"\n[client]\nframes_per_second_max = 100_000\n')
    client = nodes.connect(0)
    wait_events(redis, 1, event="connect")
    for n in range(frames):
        client.send("\n".join([f'{{"send":{{"data":"{"x" * bytes}"}}}}'] * each))
        if n % 10 == 9:
            client.ask("history", channel="t", limit=0)  # It has read so far.
            used = redis.client.memory_usage(STREAM, samples=0)
            assert (used or 0) <= 1.4 * most, used
    client.send('{"send":{"data":"last"}}')
    eventually(lambda: redis.client.xrevrange(STREAM, count=1)[0][1].get(b"data") == b'"last"', 20)
    used = redis.client.memory_usage(STREAM, samples=0)
    assert 0.5 * most <= used <= 1.4 * most, used
    numbers = [int(event["seq"]) for event in once(events(redis))]
    assert numbers == list(range(numbers[0], frames * each + 3)) and numbers[0] > 1
    marks = f"corecast:marks:{{{STREAM}}}"
    assert redis.client.llen(marks) < 100 and redis.client.memory_usage(marks) < 10_000
    # What is not ours there stops nobody.
    redis.client.delete(marks)
    redis.client.set(marks, "x")
    client.close()
    eventually(lambda: redis.client.type(marks) == b"list")
