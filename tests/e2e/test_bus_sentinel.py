"""A planned failover. The primary works, and accepts writes for many seconds that will be lost. So
nodes must leave it at the first notice of a Sentinel."""

import contextlib
import threading
import time

import pytest
import redis.exceptions

from harness.redis import Redis, Sentinel
from harness.server import eventually
from harness.traffic import CONFIG, Traffic

NODES = {"config": CONFIG}
# From the first word of the Sentinel, and from the promotion, to the last append that is lost.
AFTER_FIRST_WORD_MAX, AFTER_PROMOTION_MAX = 0.3, 2.0
# The tests' own clocks wait for a core, too.
SLACK_SECONDS = 0.2
BACK_SECONDS_MAX = 3.0
# What is on its way to the replica in the moment of its promotion is not of it any more.
IN_FLIGHT_SECONDS_MAX = 0.2
GUARD = ("--min-replicas-to-write", "1")


class Heard(threading.Thread):
    """When a Sentinel said its first word of a failover, and when a server said that it is a
    primary."""

    def __init__(self, sentinel, replicas):
        super().__init__(daemon=True)
        self.sentinel, self.replicas = sentinel, replicas
        self.first_word = self.promoted = self.primary = None
        self.ready = threading.Event()

    def run(self):
        listener = self.sentinel.client.pubsub()
        listener.subscribe("+promoted-slave", "+failover-state-reconf-slaves", "+switch-master")
        self.ready.set()
        while self.first_word is None or self.primary is None:
            message = listener.get_message(timeout=0.002)
            if message and message["type"] == "message" and self.first_word is None:
                self.first_word = time.time()
            for replica in self.replicas if self.primary is None else []:
                # Who is promoted ends the connections of all of its clients.
                with contextlib.suppress(redis.exceptions.ConnectionError):
                    if replica.client.role()[0] == b"master":
                        self.promoted, self.primary = time.time(), replica


def last_append(redis):
    """When that server appended its last entry, by the clock of the machine."""
    last = [redis.client.xrevrange(name, count=1) for name in redis.streams().values()]
    return max(int(entries[0][1][b"t"]) for entries in last if entries) / 1000


@contextlib.contextmanager
def failover(join, count, *options):
    """Nodes with traffic, whose primary, with options, and its replicas a Sentinel watches."""
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(Redis(*options))
        replicas = [stack.enter_context(Redis()) for _ in range(count)]
        for replica in replicas:
            replica.follow(old)
        sentinel = stack.enter_context(Sentinel(old))
        sentinel.wait_replica(count)
        nodes = join([sentinel.url] * 2)
        heard = Heard(sentinel, replicas)
        with Traffic(nodes, interval=0.01) as traffic:
            heard.start()
            assert heard.ready.wait(5)
            yield old, sentinel, heard, traffic
        traffic.check()


def wait_back(traffic):
    """Waits until all nodes have gone to the new primary, and publish there."""
    deadline = time.monotonic() + BACK_SECONDS_MAX
    for server in traffic.nodes:
        eventually(lambda: switches(server) == 1, BACK_SECONDS_MAX, "it has heard of it")
    traffic.flows(deadline - time.monotonic() + SLACK_SECONDS)


def switches(server):
    return server.metrics().total("corecast_bus_reconnects_total", reason="sentinel")


def check_left_in_time(old, heard):
    left = last_append(old)
    assert left - heard.first_word <= AFTER_FIRST_WORD_MAX + SLACK_SECONDS
    assert left - heard.promoted <= AFTER_PROMOTION_MAX + SLACK_SECONDS


@pytest.mark.parametrize("count", [1, 3])
def test_a_primary_that_is_replaced_on_purpose_is_left_at_the_first_word(join, count):
    with failover(join, count) as (old, sentinel, heard, traffic):
        sentinel.fail_over()
        heard.join(10)
        assert heard.primary, "a replica is promoted"
        wait_back(traffic)
        check_left_in_time(old, heard)
        assert [switches(server) for server in traffic.nodes] == [1, 1], "once is enough"


def test_a_primary_that_needs_a_replica_loses_nothing_and_is_soon_replaced(join):
    with failover(join, 1, *GUARD) as (_, sentinel, heard, traffic):
        sentinel.fail_over()
        heard.join(10)
        assert heard.primary, "a replica is promoted"
        wait_back(traffic)
        for publisher in traffic.publishers:
            publisher.stopping.set()
            publisher.join(10)
        # Who was told about the new epoch came back to where it was then: the rest is in the
        # history.
        kept = {pub["data"]["id"] for pub in traffic.nodes[0].history("t:traffic")}
    seen = {entry[2] for one in traffic.followers for entry in one.log if entry[0] == "pub"}
    lost = [one for one in traffic.attempts if one.outcome == "ok" and one.id not in seen | kept]
    after = [one.began - heard.promoted for one in lost]
    assert all(-IN_FLIGHT_SECONDS_MAX < seconds < SLACK_SECONDS for seconds in after), lost
    assert len(lost) <= 2 * len(traffic.publishers), lost


def test_a_sentinel_that_only_others_name_is_heard_when_the_named_one_is_dead(join):
    with Redis() as old, Redis() as replica:
        replica.follow(old)
        with Sentinel(old) as named, Sentinel(old) as second, Sentinel(old) as third:
            others = [second, third]
            for sentinel in (named, *others):
                sentinel.wait_replica()
                sentinel.wait_others(2)
            before = [sentinel.listeners() for sentinel in others]
            nodes = join([named.url] * 2)
            eventually(lambda: all(sentinel.listeners() >= count + 2
                                   for sentinel, count in zip(others, before, strict=True)),
                       5, "both nodes listen to both others")
            heard = Heard(second, [replica])
            with Traffic(nodes, interval=0.01) as traffic:
                heard.start()
                assert heard.ready.wait(5)
                named.kill()
                third.fail_over()
                heard.join(10)
                assert heard.primary, "the replica is promoted"
                wait_back(traffic)
                check_left_in_time(old, heard)
            traffic.check()


def test_a_promoted_replica_that_refuses_the_first_dial_is_dialled_again(join):
    with failover(join, 1) as (old, sentinel, heard, traffic):
        (replica,) = heard.replicas
        before = replica.client.config_get("maxclients")["maxclients"]
        replica.client.config_set("maxclients", len(replica.client.client_list()))
        refused = replica.client.info("stats")["rejected_connections"]
        sentinel.fail_over()
        heard.join(10)
        eventually(lambda: replica.client.info("stats")["rejected_connections"] >= refused + 3, 5,
                   "it is dialled, and refuses")
        replica.client.config_set("maxclients", before)
        wait_back(traffic)
        check_left_in_time(old, heard)
