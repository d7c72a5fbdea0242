"""Other nodes notice a dead node and report the end of its sessions, but never those of a live
one."""

import socket
import time

from harness.events import (EVENTS, LEASES, LOST_SECONDS_MAX, events, once, wait_events)
from harness.server import eventually

# What a node says that will tell an end again, as it does not know whether it has been told.
REPEATED = "could not report the end of a lost node"


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
    lines = [f'{line} node="{socket.gethostname()}"'
             for line in ("a node has joined", "a node is lost")]
    # Each survivor looks at the leases by itself, every few seconds.
    eventually(lambda: all(line in node.log() for node in nodes[1:] for line in lines), 10,
               "each survivor logs it")
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
