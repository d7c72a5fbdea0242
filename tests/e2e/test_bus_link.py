"""Redis works, but hangs for a while, or its link is slow, cut, silent, or loses an answer. No
publication is lost or repeated, so no client is told about a gap."""

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.proxy import Proxy
from harness.server import eventually
from harness.traffic import ANSWER_SECONDS_MAX, CONFIG, SLACK_SECONDS, Traffic, resuming

NODES = {"config": CONFIG}


def test_a_short_hang_is_waited_for(join, redis):
    with resuming(join([redis.url] * 3), told=False):
        redis.freeze()
        time.sleep(2)
        redis.thaw()


def test_a_long_hang_is_told_to_publishers_and_to_nobody_else(join, redis):
    nodes = join([redis.url] * 3)
    with resuming(nodes, told=False) as traffic:
        redis.freeze()
        time.sleep(8)
        for server in nodes:
            assert "degraded" in server.http.get("/ready").text
        redis.thaw()
    assert traffic.outcomes()["unknown"] >= 1, "what was on its way may have been appended"
    assert traffic.outcomes()["unavailable"] + traffic.outcomes()["unknown"] >= 3


def test_a_flood_into_a_hanging_redis_is_refused_in_time_and_bounded(join, redis, channel):
    nodes = join([redis.url])
    nodes[0].publish(channel, 0)
    before = nodes[0].rss_bytes()
    channels = [f"{channel}-{n}" for n in range(100)]
    broadcast = {"channels": channels, "data": "x" * 8000}
    redis.freeze()
    answers = []

    def flood():
        began = time.monotonic()
        answer = nodes[0].api("broadcast", broadcast, timeout=60)
        answers.append((time.monotonic() - began, answer))

    threads = [threading.Thread(target=flood) for _ in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = nodes[0].rss_bytes() - before
    pending = nodes[0].metrics().total("corecast_bus_pending_bytes")
    redis.thaw()
    assert len(answers) == 48
    for seconds, answer in answers:
        assert seconds <= ANSWER_SECONDS_MAX + 3 * SLACK_SECONDS
        assert answer.status_code == 200, answer
        for response in answer.json()["result"]["responses"]:
            if response["error"]["code"] != 111:  # No room to wait.
                _check_refused(response["error"])
    assert grown < 128 << 20, f"{grown >> 20} MiB for 4,800 publications of 8 KB"
    assert pending < 64 << 20
    eventually(lambda: "result" in nodes[0].api("publish", {"channel": channel, "data": 1}).json(),
               10, "publishing works again")


def test_a_batch_into_a_hanging_redis_is_answered_in_time(join, redis, channel):
    nodes = join([redis.url])
    nodes[0].publish(channel, 0)
    redis.freeze()
    began = time.monotonic()
    commands = [{"publish": {"channel": channel, "data": n}} for n in range(20)]
    answer = nodes[0].api("batch", {"commands": commands}, timeout=60)
    seconds = time.monotonic() - began
    redis.thaw()
    assert answer.status_code == 200, f"{answer} after {seconds:.1f} s: {answer.text}"
    for reply in answer.json()["replies"]:
        _check_refused(reply["error"])
    assert seconds <= ANSWER_SECONDS_MAX + SLACK_SECONDS, "not one deadline for each"


def _check_refused(error):
    assert error["code"] == 100, error
    assert error["message"].startswith(("bus unavailable", "result unknown")), error


def test_who_subscribes_while_redis_hangs_is_answered_in_time(join, redis, channel):
    nodes = join([redis.url])
    client = nodes.connect(0)
    redis.freeze()
    began = time.monotonic()
    reply = client.ask("subscribe", channel=channel)
    seconds = time.monotonic() - began
    redis.thaw()
    assert reply["error"]["code"] == 100, reply
    assert seconds <= 3 + SLACK_SECONDS / 2, f"answered after {seconds:.1f} s"


def test_who_subscribes_to_many_channels_waits_once_for_a_hanging_redis(join, redis, channel):
    nodes = join([redis.url])
    client = nodes.connect(0)
    redis.freeze()
    began = time.monotonic()
    wish = functools.partial(client.command, "subscribe")
    ids = client.send_commands(*(wish(channel=f"{channel}{n}") for n in range(20)))
    time.sleep(0.1)
    ids += client.send_commands(wish(channel=f"{channel}later"))
    replies = [client.reply(id, 10) for id in ids]
    seconds = time.monotonic() - began
    redis.thaw()
    assert {reply["error"]["code"] for reply in replies} == {100}, replies
    assert seconds <= 3 + SLACK_SECONDS / 2, f"answered after {seconds:.1f} s"


def test_one_cut_costs_nobody_anything(join, redis):
    nodes = join([redis.url] * 3)
    with Traffic(nodes) as traffic:
        assert redis.kill_clients() >= 3
        traffic.flows()
    traffic.check(told=False)
    assert traffic.outcomes().keys() == {"ok"}, traffic.outcomes()


def test_cuts_ten_times_a_second_lose_nothing(join, redis):
    with resuming(join([redis.url] * 3), told=False):
        for _ in range(30):
            redis.kill_clients()
            time.sleep(0.1)


def test_cuts_of_one_nodes_link_are_that_nodes_business(join, redis):
    with Proxy(redis.port) as link:
        nodes = join([link.url, redis.url])
        with resuming(nodes, told=False, publish_on=[1]) as traffic:
            target, link.target = link.target, 1  # Nothing listens there.
            link.cut()
            eventually(lambda: nodes[0].metrics().total("corecast_bus_up") == 0)
            traffic.publishers[0].stopping.wait(1.5)
            link.target = target
        assert traffic.outcomes().keys() == {"ok"}, "the other node is not concerned"


@pytest.mark.parametrize("how", ["TIMEOUT", "ERROR"])
def test_an_unblocked_reader_goes_on_where_it_was(join, redis, how):
    nodes = join([redis.url] * 2)
    with Traffic(nodes) as traffic:
        for _ in range(5):
            for client in redis.client.client_list():
                if "b" in client["flags"]:
                    redis.client.execute_command("CLIENT", "UNBLOCK", client["id"], how)
            time.sleep(0.1)
        traffic.flows()
    traffic.check(told=False)


def test_a_paused_redis_is_waited_for(join, redis):
    with resuming(join([redis.url] * 2), told=False):
        redis.client.execute_command("CLIENT", "PAUSE", "2000", "ALL")


def test_a_link_that_falls_silent_is_replaced(join, redis):
    with Proxy(redis.port) as link, resuming(join([link.url, redis.url]), told=False):
        link.hush()


def test_a_network_that_is_silent_for_a_while_is_waited_for(join, redis):
    with Proxy(redis.port) as link:
        nodes = join([link.url, redis.url])
        with resuming(nodes, told=False):
            link.silent = True
            time.sleep(6)
            assert "degraded" in nodes[0].http.get("/ready").text
            assert "degraded" not in nodes[1].http.get("/ready").text
            link.silent = False


def test_a_slow_link_delivers_late_and_says_so(join, redis):
    with Proxy(redis.port) as link:
        nodes = join([link.url, redis.url])
        with resuming(nodes, told=False):
            link.latency, link.slice_bytes = 0.2, 1
            eventually(lambda: nodes[0].metrics().total("corecast_bus_lag_seconds") > 0.1, 10,
                       "the lag is measured")


def test_a_lost_answer_publishes_once(join, redis, channel):
    with Proxy(redis.port) as link:
        nodes = join([link.url, redis.url])
        clients = [nodes.subscribe(n, channel) for n in range(2)]
        for n in range(3):
            link.lose_answer_to(f"mark-{n}".encode())
            body = nodes[0].api("publish", {"channel": channel, "data": f"mark-{n}"}).json()
            assert link.lost.is_set(), "the publication did not pass, or not as it is"
            if "error" in body:
                assert body["error"]["message"].startswith("result unknown"), body
            else:
                assert body["result"]["offset"] == n + 1
        nodes[1].publish(channel, "last")
        for client in clients:
            seen = [pub["data"] for pub in client.publications(channel, 4)]
            assert seen == ["mark-0", "mark-1", "mark-2", "last"]
            client.silent()


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "lost on its way"])
def test_a_first_batch_is_appended_once_though_its_publisher_is_not_known(
        join, redis, channel, taken):
    with Proxy(redis.port) as link, ThreadPoolExecutor() as pool:
        nodes = join([link.url, redis.url])
        client = nodes.subscribe(1, channel)
        nodes[1].publish("t:other", "Redis knows the script from now on")
        if taken:
            link.lose_answer_to(b"marked", silent=True)
        else:
            link.silent = True
        asked = pool.submit(nodes[0].api, "publish", {"channel": channel, "data": "marked"})
        if taken:
            assert link.lost.wait(5)
        else:
            eventually(lambda: link.saying(b"marked"))
            link.cut()
        known = list(redis.client.scan_iter("corecast:{*}:p:*"))
        assert len(known) == 1 + taken
        redis.client.delete(*known)
        link.silent = False
        body = asked.result(10).json()
        if taken:
            assert body["error"]["message"].startswith("result unknown"), body
        else:
            assert body["result"]["offset"] == 1, body
        assert client.publication(channel)["data"] == "marked"
        client.silent()


def test_a_lost_answer_is_asked_for_again_with_the_idempotency_key(join, redis, channel):
    with Proxy(redis.port) as link:
        nodes = join([link.url, redis.url])
        client = nodes.subscribe(1, channel)
        link.lose_answer_to(b"marked")
        publish = {"channel": channel, "data": "marked", "idempotency_key": "k"}
        nodes[0].api("publish", publish)
        assert link.lost.is_set()
        assert nodes[1].result("publish", **publish)["offset"] == 1
        assert client.publication(channel)["offset"] == 1
        client.silent()
