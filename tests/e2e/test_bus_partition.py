"""Real failures of the network between two sites: the link is disabled, packets are lost in one
direction or both, or the link is slow. There may be a Redis primary at each site. A node that is
cut off keeps its clients and tells them nothing wrong. Afterwards every client has all
publications, or was told about a gap."""

import time

import pytest

from harness.netns import AWAY, DOOR, HOME, SHARED
from harness.redis import Redis, Sentinel
from harness.server import eventually
from harness.traffic import CONFIG, Traffic

NODES = {"config": CONFIG}


@pytest.fixture
def redis(sites):
    with Redis(host=HOME) as redis:
        yield redis


@pytest.fixture
def settle(sites, join):
    """Makes nodes: `home` at home, and another one away; all of them know Redis by `url`."""
    def make(url, home=1):
        nodes = join([url] * home)
        nodes.add_away(sites, url)
        return nodes

    return make


def is_degraded(server):
    answer = server.http.get("/ready")
    assert answer.status_code == 200, "who is cut off goes on serving its clients"
    return "degraded" in answer.text and server.metrics().total("corecast_bus_up") == 0


def check_never_disturbed(followers):
    """They were subscribed once and never anything else: neither closed nor told."""
    for follower in followers:
        kinds = [entry[0] for entry in follower.log if entry[0] != "pub"]
        assert kinds == ["subscribed"], f"{follower.at}: {kinds}"


CUTS = {
    "plug pulled at the node": lambda sites: sites.pull(AWAY),
    "plug pulled at Redis": lambda sites: sites.pull(HOME),
    "packets vanish": lambda sites: sites.deafen(HOME, AWAY),
    "requests vanish": lambda sites: sites.deafen(HOME),
    "answers vanish": lambda sites: sites.deafen(AWAY),
}


@pytest.mark.parametrize("how", CUTS)
def test_a_node_that_is_cut_off_is_its_own_publishers_business(settle, sites, redis, how):
    nodes = settle(redis.url)
    home, away = nodes
    with Traffic(nodes) as traffic:
        at_home, cut_off = traffic.publishers
        before = len(at_home.outcomes("ok"))
        CUTS[how](sites)
        eventually(lambda: is_degraded(away), 6, "the node knows")
        refused = len(cut_off.outcomes("unavailable"))
        eventually(lambda: len(cut_off.outcomes("unavailable")) > refused, 5, "it refuses")
        assert not is_degraded(home)
        assert len(at_home.outcomes("ok")) > before + 10, "the other node goes on"
        sites.heal()
        traffic.flows(10)
        eventually(lambda: not is_degraded(away), 2, "and it says so")
    traffic.check(told=False)
    check_never_disturbed(traffic.followers)
    assert {one.outcome for one in at_home.attempts} == {"ok"}, "and is not concerned"
    if how == "answers vanish":
        seen = {entry[2] for entry in traffic.followers[0].log if entry[0] == "pub"}
        assert any(one.id in seen for one in cut_off.outcomes("unknown")), \
            "what was on its way was appended, and its publisher was told that it may have been"


def test_a_link_that_comes_and_goes_loses_nothing(settle, sites, redis):
    nodes = settle(redis.url)
    with Traffic(nodes) as traffic:
        for _ in range(8):
            sites.pull(HOME)
            time.sleep(0.4)
            sites.heal()
            time.sleep(0.3)
        traffic.flows(10)
    traffic.check(told=False)
    check_never_disturbed(traffic.followers)


def test_who_was_cut_off_while_the_bus_was_trimmed_tells_its_clients(settle, sites, redis):
    nodes = settle(redis.url)
    with Traffic(nodes, publish_on=[0]) as traffic:
        sites.pull(AWAY)
        time.sleep(4)
        for stream in redis.streams().values():
            redis.client.xtrim(stream, maxlen=2, approximate=False)
        sites.heal()
        traffic.flows(10)
    traffic.check()
    at_home, cut_off = traffic.followers
    assert cut_off.told() and cut_off.lost() and not at_home.told()
    check_never_disturbed([at_home])


def test_a_node_that_starts_behind_a_cut_waits_for_the_link(sites, redis, join):
    nodes = join([redis.url])
    position = nodes[0].publish("t:early", {"id": "first"})
    sites.deafen(AWAY)
    late = nodes.add_away(sites, redis.url, await_ready=False)
    eventually(lambda: "Redis" in late.log(), 10, "it says what it waits for")
    assert late.http.get("/ready").status_code == 503 and late.alive()
    sites.heal()
    late.wait_ready()
    nodes.at("t:early", position)


def test_a_narrow_link_is_slow_and_says_so(settle, sites, redis):
    nodes = settle(redis.url)
    with Traffic(nodes, publish_on=[0]) as traffic:
        sites.narrow(64)
        for n in range(15):
            nodes[0].publish("t:load", {"id": f"load-{n}", "text": "x" * 1000})
        eventually(lambda: nodes[1].metrics().total("corecast_bus_lag_seconds") > 0.1, 10,
                   "the lag is measured")
        traffic.flows(20)
        sites.heal()
        traffic.flows(10)
    traffic.check(told=False)
    check_never_disturbed(traffic.followers)


# Two primaries: one away, cut off together with a node, and at home the replica that was promoted.

@pytest.fixture
def pair(sites, redis):
    """Redis away, with options, and its replica at home, which is `redis`."""
    made = []

    def make(*options):
        primary = Redis(*options, host=AWAY, door=DOOR, prefix=sites.away)
        made.append(primary)
        redis.follow(primary)
        return primary, redis

    yield make
    for primary in made:
        primary.stop()


def isolate(sites, sentinel, replica):
    """Cuts the sites apart, until the one at home has a primary of its own."""
    sites.deafen(HOME, AWAY)
    eventually(lambda: sentinel.primary() == replica.port, 15, "promoted")


def reunite(sites, old, new):
    """Heals the link, and does what a sentinel does some ten seconds after that."""
    sites.heal()
    old.follow(new)


def test_two_primaries_end_with_a_word_to_everybody(settle, sites, pair):
    old, new = pair()
    with Sentinel(old, host=HOME) as sentinel:
        sentinel.wait_replica()
        nodes = settle(sentinel.url, home=2)
        with Traffic(nodes) as traffic:
            isolate(sites, sentinel, new)
            *_, cut_off = traffic.publishers
            acknowledged = len(cut_off.outcomes("ok"))
            eventually(lambda: len(cut_off.outcomes("ok")) >= acknowledged + 5, 5,
                       "the primary that is cut off knows nothing of the other one")
            traffic.wait_told(15, at=[0, 1])
            away = traffic.followers[2]
            check_never_disturbed([away])
            reunite(sites, old, new)
            traffic.flows(15)
        traffic.check(told=True, lost=True)
    kept = {pub["data"]["id"] for server in nodes
            for pub in server.history("t:traffic")}
    lost = cut_off.outcomes("ok")[acknowledged:acknowledged + 5]
    assert not kept & {one.id for one in lost}, "the test has lost nothing, so it shows nothing"


def test_a_primary_that_needs_its_replica_acknowledges_nothing_alone(settle, sites, pair):
    old, new = pair("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
    with Sentinel(old, host=HOME) as sentinel:
        sentinel.wait_replica()
        nodes = settle(sentinel.url, home=2)
        with Traffic(nodes) as traffic:
            isolate(sites, sentinel, new)
            *_, cut_off = traffic.publishers
            time.sleep(3)  # The replica's last word, the lag, and a look at it once a second.
            acknowledged = len(cut_off.outcomes("ok"))
            refused = len(cut_off.outcomes("unavailable"))
            eventually(lambda: len(cut_off.outcomes("unavailable")) >= refused + 2, 10, "refused")
            assert len(cut_off.outcomes("ok")) == acknowledged, "nobody else would have those"
            reunite(sites, old, new)
            traffic.flows(15)
        traffic.check(told=True)


def test_a_node_that_stays_with_a_primary_of_yesterday_publishes_nothing_there(settle, sites):
    both = {"port": 6379}
    with Redis("--bind", "*", **both, host=AWAY, door=DOOR, prefix=sites.away) as old, \
            Redis("--bind", "*", **both, host=HOME) as new:
        new.follow(old)
        sites.hold(AWAY)
        nodes = settle(f"redis://{SHARED}:6379", home=2)
        with Traffic(nodes) as traffic:
            sites.deafen(HOME, AWAY)
            new.promote()
            sites.hold(HOME)
            *_, cut_off = traffic.publishers
            traffic.wait_told(15, at=[0, 1])
            check_never_disturbed(traffic.followers[2:])
            assert cut_off.attempts[-1].outcome == "ok", "its primary is the other one, and well"
            reunite(sites, old, new)
            began = time.time()
            eventually(lambda: len(cut_off.outcomes("unavailable")) >= 2, 10, "refused")
            eventually(lambda: is_degraded(nodes[2]), 5, "the node knows")
            assert not [one for one in cut_off.outcomes("ok") if one.began > began], \
                "a replica has acknowledged something"
            sites.release(AWAY)
            traffic.flows(15)
        traffic.check(told=True, lost=True)
