"""What happens to connections reaches the application as entries of a Redis stream: at least once,
in order per connection, and even when the node that held them is dead."""

import time

import pytest

from harness.client import Plain
from harness.proxy import Proxy
from harness.server import eventually

EVENTS = """
[events]
connect = true
disconnect = true
subscribe = true
unsubscribe = true
message = true
"""
NAMESPACES = """
[[channel.namespaces]]
name = "seen"
events = ["subscribe", "unsubscribe", "publish"]

[[channel.namespaces]]
name = "unseen"
"""
NODES = {"config": EVENTS + NAMESPACES}
STREAM = "corecast:events"
# The lease of a dead node runs out after about ten seconds, and nine later it is missed; but who
# has just started takes nobody for dead for ten, and who was cut off itself for twenty.
LOST_SECONDS_MAX = 60
LEASES = "corecast:nodes"
# What a node says that will tell an end again, as it does not know whether it has been told.
REPEATED = "the end of a node can't be told yet"


def events(redis, stream=STREAM, **wanted):
    """The events that have these fields, oldest first."""
    found = []
    for _, fields in redis.client.xrange(stream):
        event = {key.decode(): value.decode() for key, value in fields.items()}
        if wanted.items() <= event.items():
            found.append(event)
    return found


def wait_events(redis, count, seconds=10.0, **wanted):
    eventually(lambda: len(events(redis, **wanted)) >= count, seconds, f"{count} of {wanted}")
    return events(redis, **wanted)


def once(found):
    """At least once: a repeated event is the same event."""
    seen = []
    for event in found:
        if event not in seen:
            seen.append(event)
    return seen


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


@pytest.fixture
def alone(redis, join):
    """Nodes with settings of their own, on a Redis of the test's own."""
    def make(config, count=1):
        return join([redis.url] * count, config=config)
    return make


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


def test_a_dead_node_is_told_once_by_another(alone, redis):
    nodes = alone(EVENTS, count=3)
    ids = [nodes.connect(0).connected["client"] for _ in range(3)]
    connect = wait_events(redis, 1, event="connect", client=ids[0])[0]
    assert events(redis, event="node_lost") == []
    nodes[0].kill()
    wait_events(redis, 1, LOST_SECONDS_MAX, event="node_lost")
    time.sleep(3)
    told = events(redis, event="node_lost")
    assert {(lost["node"], lost["boot"]) for lost in told} == {(connect["node"], connect["boot"])}
    repeated = "".join(node.log() for node in nodes[1:]).count(REPEATED)
    assert len(told) <= 1 + repeated, f"one node tells it: {told}"
    nodes[0].start()
    again = wait_events(redis, 1, event="connect",
                        client=nodes.connect(0).connected["client"])[0]
    assert again["boot"] != connect["boot"]


def test_a_roster_tells_the_end_of_each_connection_of_a_dead_node(alone, redis):
    nodes = alone(EVENTS + "roster = true\n", count=2)
    ids = {nodes.connect(0).connected["client"] for _ in range(25)}
    gone = nodes.connect(0)
    gone.close()
    stays = nodes.connect(1).connected["client"]
    wait_events(redis, 27, event="connect")
    wait_events(redis, 1, event="disconnect", client=gone.connected["client"])
    nodes[0].kill()
    eventually(lambda: {event["client"] for event in
                        events(redis, event="disconnect", lost="1")} >= ids, LOST_SECONDS_MAX)
    told = {event["client"] for event in events(redis, event="disconnect", lost="1")}
    assert told == ids, "neither who had left, nor who is on a node that lives"
    assert stays not in told and len(events(redis, event="node_lost")) == 1


def test_a_node_that_drains_is_not_lost(alone, redis):
    nodes = alone('[server]\ndrain = "500ms"\n' + EVENTS, count=2)
    id = nodes.connect(0).connected["client"]
    wait_events(redis, 1, event="connect", client=id)
    nodes[0].terminate()
    assert nodes[0].wait(10) == 0
    nodes[0].killed = True
    (end,) = once(wait_events(redis, 1, event="disconnect", client=id))
    assert end["code"] == "3001"
    time.sleep(21)
    assert events(redis, event="node_lost") == []


def test_a_node_that_lives_is_not_taken_for_lost(alone, redis):
    nodes = alone('[client]\nping_interval = "5m"\n' + EVENTS + "roster = true\n", count=2)
    ids = {nodes.connect(0).connected["client"] for _ in range(5)}
    wait_events(redis, 5, event="connect")
    time.sleep(12)  # Who has just started takes nobody for dead.
    leases = redis.client.zrange(LEASES, 0, -1)
    assert len(leases) == 2
    # As a step of Redis' clock does; and what a node leaves that died while it told of others.
    redis.client.zadd(LEASES, dict.fromkeys(leases, 1))
    claims = [b"lost:" + lease for lease in leases]
    redis.client.zadd(LEASES, dict.fromkeys(claims, 1))
    eventually(lambda: sorted(redis.client.zrange(LEASES, 0, -1)) == sorted(leases), 30,
               "the claims are given up")
    assert events(redis, event="node_lost") == events(redis, event="disconnect") == []
    nodes[0].kill()
    wait_events(redis, 1, LOST_SECONDS_MAX, event="node_lost")
    told = {event["client"] for event in events(redis, event="disconnect", lost="1")}
    assert told == ids, "each of them, as nobody has emptied the roster before"


def test_a_node_that_was_taken_for_lost_writes_its_roster_anew(alone, redis):
    nodes = alone('[events]\nroster = true\n')
    ids = {nodes.connect(0).connected["client"].encode() for _ in range(300)}
    roster = f"corecast:roster:{nodes[0].result('info')['nodes'][0]['uid']}"
    eventually(lambda: set(redis.client.hkeys(roster)) == ids, 10)
    (lease,) = redis.client.zrange(LEASES, 0, -1)
    # As another node does: it takes the lease, empties the roster, and gives up its claim.
    redis.client.zadd(LEASES, {b"lost:" + lease: time.time() * 1000 + 60_000})
    redis.client.zrem(LEASES, lease)
    redis.client.delete(roster)
    eventually(lambda: redis.client.zscore(LEASES, lease), 5, "it renews its lease")
    time.sleep(4)
    assert not redis.client.exists(roster), "its end is being told"
    gone = nodes.made.pop()
    ids.remove(gone.connected["client"].encode())
    gone.close()
    redis.client.zrem(LEASES, b"lost:" + lease)
    eventually(lambda: set(redis.client.hkeys(roster)) == ids, 10, "who is connected is written")


def test_a_node_that_was_cut_off_goes_on_and_its_end_is_told_again(alone, redis):
    with Proxy(redis.port) as link:
        nodes = alone('[client]\nping_interval = "5m"\n' + EVENTS + "roster = true\n")
        node = nodes.add(link.url)
        ids = {nodes.connect(1).connected["client"] for _ in range(5)}
        roster = f"corecast:roster:{wait_events(redis, 5, event='connect')[0]['node']}"
        link.silent = True
        wait_events(redis, 1, LOST_SECONDS_MAX, event="node_lost")
        assert len(events(redis, event="disconnect", lost="1")) == 5
        assert not redis.client.exists(roster)
        # Of its first renewal it does not hear.
        link.lose_answer_to(b"ZRANGEBYSCORE")
        link.silent = False
        eventually(lambda: {id.decode() for id in redis.client.hkeys(roster)} == ids, 15,
                   "who is connected is written anew")
        node.kill()
        wait_events(redis, 2, LOST_SECONDS_MAX, event="node_lost")
        assert len(events(redis, event="disconnect", lost="1")) == 10


def test_a_lease_that_is_given_up_is_not_taken_again(alone, redis):
    with Proxy(redis.port) as link:
        node = alone('[server]\ndrain = "0s"\n' + EVENTS).add(link.url)
        eventually(lambda: len(redis.client.zrange(LEASES, 0, -1)) == 2)
        own = node.result("info")["nodes"][0]["uid"].encode()
        link.latency = 0.7
        # It stops while it waits for an answer that its renewal goes on from.
        with redis.client.monitor() as commands:
            described = "corecast:node:" + own.decode()
            while described not in next(commands.listen())["command"]:
                pass
        node.terminate()
        assert node.wait(15) == 0
        node.killed = True
        leases = redis.client.zrange(LEASES, 0, -1)
        assert not [lease for lease in leases if lease.startswith(own)], leases


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
