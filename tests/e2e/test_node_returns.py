"""A live node that others considered dead writes its keys in Redis again."""

import time

from harness.events import EVENTS, LEASES, LOST_SECONDS_MAX, events, wait_events
from harness.proxy import Proxy
from harness.server import eventually


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
        node = alone('[server]\ndrain = "5s"\n' + EVENTS).add(link.url)
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
