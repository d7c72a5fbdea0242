"""What happens to connections reaches the application as entries of a Redis stream: at least once,
and in order per connection."""

import time

from harness.client import Plain
from harness.events import EVENTS, STREAM, events, once, wait_events
from harness.server import eventually

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
    numbers = [int(event["seq"]) for event in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(told)))
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
