"""API calls about clients cover the clients of all nodes, whichever node gets the call."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from harness.proxy import Proxy
from harness.server import eventually

# Nodes tell each other how they are once in a while, and forget who is silent.
TOLD_SECONDS_MAX = 8
FORGOTTEN_SECONDS_MAX = 30


def uids(server):
    return sorted(node["uid"] for node in server.result("info")["nodes"])


def test_info_lists_every_node_on_every_node(nodes):
    for server in nodes:
        eventually(lambda: len(uids(server)) == 3, TOLD_SECONDS_MAX, "three nodes")
    assert uids(nodes[0]) == uids(nodes[1]) == uids(nodes[2])
    assert len(set(uids(nodes[0]))) == 3
    for node in nodes[0].result("info")["nodes"]:
        assert node["name"] and node["version"] and node["uptime"] >= 0
        assert {"num_clients", "num_users", "num_channels", "num_subs"} <= node.keys()


def test_info_counts_the_clients_of_each_node(nodes, channel):
    for n, count in enumerate((1, 2, 3)):
        for _ in range(count):
            nodes.subscribe(n, channel)
    for server in nodes:
        eventually(lambda: sorted(node["num_clients"] for node in server.result("info")["nodes"])
                   == [1, 2, 3], TOLD_SECONDS_MAX, "one, two and three")
        eventually(lambda: sum(node["num_subs"] for node in server.result("info")["nodes"]) == 6,
                   TOLD_SECONDS_MAX)


def test_a_killed_node_is_forgotten(nodes, join):
    extra = join([nodes.redis.url])
    eventually(lambda: len(uids(nodes[0])) == 4, TOLD_SECONDS_MAX)
    extra[0].kill()
    eventually(lambda: len(uids(nodes[0])) == 3, FORGOTTEN_SECONDS_MAX, "three are left")


def test_channels_are_counted_over_all_nodes(nodes, channel):
    clients = [nodes.subscribe(n, f"{channel}-all") for n in (0, 1, 1, 2)]
    nodes.subscribe(2, f"{channel}-one")
    expected = {f"{channel}-all": {"num_clients": 4}, f"{channel}-one": {"num_clients": 1}}
    for server in nodes:
        eventually(lambda: server.result("channels", pattern=f"{channel}-*")["channels"]
                   == expected, TOLD_SECONDS_MAX, f"{expected}")
    clients[0].close()
    for server in nodes:
        eventually(lambda: server.result("channels", pattern=f"{channel}-all")["channels"]
                   == {f"{channel}-all": {"num_clients": 3}}, TOLD_SECONDS_MAX)


def test_disconnect_finds_a_client_of_another_node(nodes):
    gone, stays = nodes.connect(2), nodes.connect(2)
    assert nodes[0].result("disconnect", user="", client=gone.connected["client"],
                           disconnect={"code": 4321, "reason": "go away"}) == {}
    assert gone.closed() == (4321, "go away")
    stays.silent()


def test_unsubscribe_finds_a_client_of_another_node(nodes, channel):
    client, other = nodes.subscribe(1, channel), nodes.subscribe(1, channel)
    nodes[0].result("unsubscribe", user="", client=client.connected["client"], channel=channel)
    push = client.push()
    assert push["channel"] == channel and push["unsubscribe"]["code"] == 2000
    nodes[2].publish(channel, 1)
    assert other.publication(channel)["data"] == 1
    client.silent()


@pytest.mark.parametrize("asked", [0, 1])
def test_subscribe_subscribes_a_client_on_any_node(nodes, channel, asked):
    client = nodes.connect(1)
    position = nodes[0].publish(channel, "before")
    nodes.at(channel, position)
    assert nodes[asked].result("subscribe", user="", client=client.connected["client"],
                               channel=channel) == {}
    push = client.push()
    assert push["channel"] == channel, push
    assert push["subscribe"]["recoverable"] is True and push["subscribe"]["positioned"] is True
    assert (push["subscribe"]["offset"], push["subscribe"]["epoch"]) == (1, position["epoch"])
    nodes[2].publish(channel, "after")
    publication = client.publication(channel)
    assert publication["data"] == "after" and publication["offset"] == 2
    eventually(lambda: nodes[2].result("channels", pattern=channel)["channels"]
               == {channel: {"num_clients": 1}}, TOLD_SECONDS_MAX)


def test_subscribe_recovers_since_a_position(nodes, channel):
    client = nodes.connect(2)
    for n in range(1, 6):
        position = nodes[0].publish(channel, n)
    nodes.at(channel, position)
    since = {"offset": 3, "epoch": position["epoch"]}
    nodes[1].result("subscribe", user="", client=client.connected["client"], channel=channel,
                    recover_since=since)
    assert "subscribe" in client.push()
    assert [client.publication(channel)["data"] for _ in range(2)] == [4, 5]
    nodes[0].publish(channel, 6)
    assert client.publication(channel)["offset"] == 6


def test_unsubscribe_ends_what_subscribe_began(nodes, channel):
    client = nodes.connect(0)
    who = {"user": "", "client": client.connected["client"], "channel": channel}
    nodes[1].result("subscribe", **who)
    assert "subscribe" in client.push()
    nodes[2].result("unsubscribe", **who)
    assert client.push()["unsubscribe"]["code"] == 2000
    nodes[1].publish(channel, 1)
    client.silent()


def test_calls_about_clients_that_are_nowhere_are_no_errors(nodes, channel):
    for method in ("disconnect", "unsubscribe", "subscribe"):
        began = time.monotonic()
        assert nodes[0].result(method, user="", client="nobody", channel=channel) == {}
        assert time.monotonic() - began < 2


def test_requests_between_nodes_cost_redis_little(join, redis):
    # An old one, and the answer to a call that is over, are of no use to anybody.
    redis.client.xadd("corecast:control", {"padding": "x" * 1_000_000}, id="1-1")
    nodes = join([redis.url] * 2)
    for _ in range(40):
        nodes[0].result("disconnect", user="", client="nobody", padding="x" * 1_000_000)
    assert redis.client.memory_usage("corecast:control") < 100_000
    for n in range(60):
        nodes[0].result("disconnect", user=f"{n}".rjust(1_000_000))
    assert 10_000_000 < redis.client.memory_usage("corecast:control") < 60_000_000
    nodes.subscribe(1, "a")
    assert nodes[0].result("channels")["channels"].keys() == {"a"}
    answers = f"corecast:answers:{nodes[0].result('info')['nodes'][0]['uid']}"
    eventually(lambda: redis.client.xlen(answers) == 0, what="what has been read is removed")
    eventually(lambda: not redis.client.exists("corecast:control"), 15, "it is forgotten")


def error(server, method):
    return server.api(method).json()["error"]


def test_no_part_of_the_nodes_is_taken_for_all(nodes, channel):
    nodes.subscribe(2, channel)
    silent = nodes[2].result("info")["nodes"][0]["uid"]
    nodes[2].freeze()
    try:
        told = error(nodes[0], "channels")
        assert told["code"] == 100 and silent in told["message"], told
    finally:
        nodes[2].thaw()
    eventually(lambda: "error" not in nodes[0].api("channels").json(), TOLD_SECONDS_MAX)
    assert channel in nodes[0].result("channels")["channels"]


def test_a_node_takes_clients_only_when_others_know_of_it(redis, join):
    redis.client.set("corecast:nodes", "no leases")
    node = join([redis.url], await_ready=False)[0]

    def reports_why():
        try:
            ready = node.http.get(f"{node.api_url}/ready", timeout=1)
        except httpx.TransportError:
            return False  # The port of the API is not open yet.
        return ready.status_code == 503 and "lease" in ready.text and "WRONGTYPE" in ready.text

    eventually(reports_why, 10, "it reports why it has no lease")
    refused = node.http.get(f"{node.http_url}/health")
    assert refused.status_code == 503 and "Retry-After" in refused.headers
    redis.client.delete("corecast:nodes")
    node.wait_ready()
    assert redis.client.zcard("corecast:nodes") == 1


def test_a_node_whose_lease_redis_has_lost_is_not_left_out(join, redis, channel):
    nodes = join([redis.url] * 2)
    nodes.subscribe(1, channel)
    uid = nodes[1].result("info")["nodes"][0]["uid"]
    eventually(lambda: len(uids(nodes[0])) == 2, TOLD_SECONDS_MAX)
    eventually(lambda: "a node has joined" in nodes[0].log(), TOLD_SECONDS_MAX)
    nodes[1].freeze()
    redis.client.flushall()
    try:
        for method in ("channels", "info"):
            told = error(nodes[0], method)
            assert told["code"] == 100 and uid in told["message"], told
        eventually(lambda: redis.client.zcard("corecast:nodes") == 1, 5, "its own lease is back")
        told = error(nodes[0], "channels")
        assert told["code"] == 100 and uid in told["message"], told
    finally:
        nodes[1].thaw()
    eventually(lambda: "error" not in nodes[0].api("channels").json(), TOLD_SECONDS_MAX)
    assert channel in nodes[0].result("channels")["channels"]
    assert len(uids(nodes[0])) == 2
    assert "a node has stopped" not in nodes[0].log()


def test_views_without_redis_are_errors_that_say_so(join, redis, channel):
    nodes = join([redis.url] * 2)
    nodes.subscribe(0, channel)
    eventually(lambda: len(uids(nodes[0])) == 2, TOLD_SECONDS_MAX)
    redis.kill()
    for method in ("info", "channels"):
        began = time.monotonic()
        told = error(nodes[0], method)
        assert told["code"] == 100 and "Redis" in told["message"], told
        assert time.monotonic() - began < 5


def test_a_subscription_that_can_not_be_had_is_an_error(join, redis):
    nodes = join([redis.url], config="[client]\nchannels_max = 2\n")
    client = nodes.connect(0)
    who = {"user": "", "client": client.connected["client"]}
    for name in ("one", "two"):
        nodes[0].result("subscribe", **who, channel=name)
        assert client.push()["channel"] == name
    error = nodes[0].api("subscribe", {**who, "channel": "three"}).json()["error"]
    assert error["code"] == 106, error
    nodes[0].result("unsubscribe", **who, channel="two")
    client.push()
    redis.freeze()
    error = nodes[0].api("subscribe", {**who, "channel": "unheard-of"}).json()["error"]
    assert error["code"] == 100, error
    redis.thaw()
    eventually(lambda: "result" in nodes[0].api(
        "subscribe", {**who, "channel": "unheard-of"}).json(), TOLD_SECONDS_MAX)
    assert client.push()["channel"] == "unheard-of"


@pytest.mark.parametrize("all_channels", [False, True], ids=["one", "all"])
def test_a_subscription_that_is_ended_before_it_has_begun_does_not_begin(join, redis, all_channels):
    with Proxy(redis.port) as proxy, ThreadPoolExecutor() as pool:
        nodes = join([proxy.url])
        client = nodes.connect(0)
        who = {"user": "", "client": client.connected["client"]}
        proxy.latency = 0.5
        # Redis must be asked where the channel stands.
        asking = pool.submit(nodes[0].api, "subscribe", {**who, "channel": "slow"})
        time.sleep(0.2)
        # Other nodes, of which there are none, can't be heard in time.
        nodes[0].api("unsubscribe", {**who, "channel": "" if all_channels else "slow"})
        asking.result()
        proxy.latency = 0
        eventually(lambda: "result" in nodes[0].api(
            "publish", {"channel": "slow", "data": 1}).json(), TOLD_SECONDS_MAX)
        client.silent()
        eventually(lambda: "result" in nodes[0].api(
            "subscribe", {**who, "channel": "slow"}).json(), TOLD_SECONDS_MAX)
        assert client.push()["channel"] == "slow", "later it may"
        assert nodes[0].metrics().total("corecast_subscriptions") == 1
