"""The HTTP API, with Centrifugo's requests and responses."""

import base64
import threading

import pytest

from harness.client import offsets
from harness.server import eventually

SERVER = {"config": """
[client]
frames_per_second_max = 1000000

[[channel.namespaces]]
name = "bare"
history_size = 0
history_ttl = "0s"
force_recovery = false
force_positioning = false

[[channel.namespaces]]
name = "large"
history_size = 1000
history_ttl = "60s"
"""}


def error(response):
    assert response.status_code == 200, f"{response.status_code} {response.text}"
    body = response.json()
    assert body.keys() == {"error"} and body["error"]["code"] and body["error"]["message"], body
    return body["error"]["code"]


def test_publish_answers_with_the_position(server, channel):
    first, second = server.publish(channel, 1), server.publish(channel, 2)
    assert first["offset"] == 1 and second["offset"] == 2 and first["epoch"] == second["epoch"]


def test_publish_without_history_answers_an_empty_result(server):
    assert server.publish("bare:1", 1) == {}


def test_data_may_be_base64(server, connect, channel):
    client = connect()
    client.subscribe(channel)
    server.result("publish", channel=channel, b64data=base64.b64encode(b'{"a":1}').decode())
    assert client.publication(channel)["data"] == {"a": 1}


def test_history_may_be_skipped(server, connect, channel):
    client = connect()
    client.subscribe(channel)
    server.publish(channel, "kept")
    assert "offset" not in server.publish(channel, "passing", skip_history=True)
    assert [pub["data"] for pub in client.publications(channel, 2)] == ["kept", "passing"]
    kept = server.result("history", channel=channel, limit=-1)
    assert [pub["data"] for pub in kept["publications"]] == ["kept"] and kept["offset"] == 1


def test_an_idempotency_key_publishes_once(server, connect, channel):
    client = connect()
    client.subscribe(channel)
    first = server.publish(channel, 1, idempotency_key="key")
    assert server.publish(channel, 1, idempotency_key="key") == first
    assert server.publish(channel, 2, idempotency_key="other")["offset"] == 2
    assert offsets(client.publications(channel, 2)) == [1, 2]
    client.silent()
    assert server.publish(f"{channel}-b", 1, idempotency_key="key")["offset"] == 1


def test_an_idempotency_key_publishes_once_even_when_used_at_the_same_time(server, channel):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(
            server.publish(channel, 1, idempotency_key="race"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(result["offset"] == 1 for result in results), results
    assert server.result("history", channel=channel, limit=0)["offset"] == 1


@pytest.mark.parametrize("payload, code", [
    ({"data": 1}, 107),
    ({"channel": "", "data": 1}, 107),
    ({"channel": "a"}, 107),
    ({"channel": "nowhere:1", "data": 1}, 102),
    ({"channel": "a" * 256, "data": 1}, 107),
    ({"channel": "a", "b64data": "%%%"}, 107),
])
def test_a_publish_that_cannot_be_is_an_error_in_a_200(server, payload, code):
    assert error(server.api("publish", payload)) == code


@pytest.mark.parametrize("payload, code, status", [
    ({"channel": "nowhere:1", "data": 1}, 102, 404),
    ({"data": 1}, 107, 400),
])
def test_in_transport_mode_an_error_is_a_status(server, payload, code, status):
    response = server.api("publish", payload, headers={"X-Centrifugo-Error-Mode": "transport"})
    assert response.status_code == status
    assert response.json()["code"] == code and response.json()["message"]


def test_in_transport_mode_what_is_off_is_400_and_what_works_is_200(server, channel):
    mode = {"X-Centrifugo-Error-Mode": "transport"}
    assert server.api("history", {"channel": "bare:1"}, headers=mode).status_code == 400
    since = {"offset": 1, "epoch": "other"}
    server.publish(channel, 1)
    response = server.api("history", {"channel": channel, "limit": 1, "since": since}, headers=mode)
    assert response.status_code == 416 and response.json()["code"] == 112
    response = server.api("publish", {"channel": channel, "data": 1}, headers=mode)
    assert response.status_code == 200 and response.json()["result"]["offset"] == 2


def test_broadcast_answers_for_each_channel_in_order(server, connect):
    client = connect()
    client.subscribe("cast-a")
    client.subscribe("cast-c")
    responses = server.result(
        "broadcast", channels=["cast-a", "nowhere:1", "cast-c", "bare:1"], data={"n": 1},
    )["responses"]
    assert responses[0]["result"]["offset"] == 1 and responses[2]["result"]["offset"] == 1
    assert responses[1]["error"]["code"] == 102
    assert responses[3] == {"result": {}}
    assert {client.push()["channel"], client.push()["channel"]} == {"cast-a", "cast-c"}


@pytest.mark.parametrize("payload", [{"data": 1}, {"channels": [], "data": 1}, {"channels": ["a"]}])
def test_a_broadcast_without_channels_or_data_answers_107(server, payload):
    assert error(server.api("broadcast", payload)) == 107


@pytest.mark.parametrize("parallel", [False, True])
def test_a_batch_is_answered_in_order(server, channel, parallel):
    channel = f"{channel}-{parallel}"
    response = server.api("batch", {"parallel": parallel, "commands": [
        {"publish": {"channel": channel, "data": 1}},
        {"publish": {"channel": "nowhere:1", "data": 1}},
        {"broadcast": {"channels": [f"{channel}-b"], "data": 1}},
        {"history": {"channel": "other", "limit": 0}},
        {"channels": {}},
    ]})
    assert response.status_code == 200
    replies = response.json()["replies"]
    assert replies[0]["publish"]["offset"] == 1
    assert replies[1]["error"]["code"] == 102
    assert replies[2]["broadcast"]["responses"][0]["result"]["offset"] == 1
    assert replies[3]["history"]["publications"] == []
    assert "channels" in replies[4]["channels"]


def test_a_batch_in_sequence_sees_its_own_writes(server, channel):
    commands = [{"publish": {"channel": channel, "data": n}} for n in range(20)]
    commands.append({"history": {"channel": channel, "limit": -1}})
    replies = server.api("batch", {"commands": commands}).json()["replies"]
    assert [pub["data"] for pub in replies[-1]["history"]["publications"]] == list(range(20))


def test_a_batch_is_200_even_in_transport_mode(server):
    response = server.api("batch", {"commands": [{"publish": {"channel": "nowhere:1", "data": 1}}]},
                          headers={"X-Centrifugo-Error-Mode": "transport"})
    assert response.status_code == 200


def test_history_is_told_in_pages_without_a_cap(server):
    for start in range(0, 400, 100):
        server.api("batch", {"commands": [
            {"publish": {"channel": "large:1", "data": n}} for n in range(start, start + 100)]})
    everything = server.result("history", channel="large:1", limit=-1)
    assert len(everything["publications"]) == 400 and everything["offset"] == 400
    since = {"offset": 10, "epoch": everything["epoch"]}
    page = server.result("history", channel="large:1", limit=2, since=since)
    assert offsets(page["publications"]) == [11, 12]
    page = server.result("history", channel="large:1", limit=2, since=since, reverse=True)
    assert offsets(page["publications"]) == [9, 8]
    position = server.result("history", channel="large:1")
    assert position == {"publications": [], "offset": 400, "epoch": everything["epoch"]}


def test_history_errors(server, channel):
    assert error(server.api("history", {"channel": "bare:1", "limit": -1})) == 108
    assert error(server.api("history", {"limit": -1})) == 107
    server.publish(channel, 1)
    since = {"offset": 1, "epoch": "other"}
    assert error(server.api("history", {"channel": channel, "limit": 1, "since": since})) == 112


def test_history_remove_empties_a_channel_and_its_offsets_go_on(server, channel):
    for n in range(3):
        before = server.publish(channel, n)
    assert server.result("history_remove", channel=channel) == {}
    assert server.history(channel) == []
    after = server.publish(channel, 4)
    assert after["epoch"] != before["epoch"] or after["offset"] == 4


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
def test_presence_is_not_offered(server, channel, method):
    assert error(server.api(method, {"channel": channel})) == 108


def test_channels_are_listed_by_pattern(server, connect):
    clients = [connect(), connect()]
    clients[0].subscribe("list-1")
    clients[1].subscribe("list-1")
    clients[1].subscribe("list-2")
    clients[1].subscribe("other-list")
    assert server.result("channels", pattern="list-*")["channels"] == {
        "list-1": {"num_clients": 2}, "list-2": {"num_clients": 1},
    }
    assert server.result("channels", pattern="list-?")["channels"].keys() == {"list-1", "list-2"}
    assert server.result("channels", pattern="nothing-*")["channels"] == {}
    assert "other-list" in server.result("channels")["channels"]


def test_channels_are_told_in_pages_that_together_are_all(server, connect):
    names = {f"page-{n:03}" for n in range(100)}
    client = connect()
    for name in names:
        client.subscribe(name)
    seen, cursor, pages = [], "", 0
    while True:
        result = server.result("channels", pattern="page-*", limit=30, cursor=cursor)
        assert len(result["channels"]) <= 30
        seen += result["channels"]
        pages += 1
        cursor = result.get("cursor") or result.get("next_cursor") or ""
        if not cursor:
            break
        assert pages < 20, "pages without an end"
    assert len(seen) == 100 and set(seen) == names and pages >= 4


def test_info_tells_the_node(server, connect, channel):
    connect().subscribe(channel)
    (node,) = server.result("info")["nodes"]
    assert node["uid"] and node["name"] and node["version"]
    assert node["num_clients"] >= 1 and node["num_channels"] >= 1 and node["num_subs"] >= 1
    assert node["num_users"] >= 0 and node["uptime"] >= 0
    assert "metrics" not in node or "items" in node["metrics"]


def test_info_counts_channels_with_subscribers_only(server, connect, channel):
    def count():
        return server.result("info")["nodes"][0]["num_channels"]

    client = connect()
    before = count()
    for n in range(5):
        server.publish(f"{channel}-{n}", n)
    assert count() == before
    client.subscribe(f"{channel}-0")
    client.subscribe(f"{channel}-new")
    assert count() == before + 2


@pytest.mark.parametrize("pattern, found", [
    ("{}-[ab]1", ["a1", "b1"]),
    ("{}-[!a]1", ["b1", "c1"]),
    ("{}-[b-c]?", ["b1", "c1"]),
    ("{}-{{a1,c*}}", ["a1", "c1"]),
    ("{}-\\*", ["*"]),
])
def test_a_pattern_selects_channels_as_in_centrifugo(server, connect, channel, pattern, found):
    client = connect()
    for name in ("a1", "b1", "c1", "*"):
        client.subscribe(f"{channel}-{name}")
    names = server.result("channels", pattern=pattern.format(channel))["channels"]
    assert sorted(names) == [f"{channel}-{name}" for name in found]
    assert server.api("channels", {"pattern": "[z-a]"}).json()["error"]["code"] == 107


@pytest.mark.parametrize("method", ["disconnect", "unsubscribe", "subscribe"])
@pytest.mark.parametrize("target", [{}, {"uesr": "7"}, {"user": None, "client": ""}])
def test_a_call_that_names_nobody_concerns_nobody(server, connect, channel, method, target):
    client = connect()
    client.subscribe(channel)
    answer = server.api(method, {"channel": channel, **target}).json()
    assert answer["error"]["code"] == 107
    client.silent(0.1)


def test_disconnect_closes_one_client_with_3503(server, connect):
    gone, other = connect(), connect()
    assert server.result("disconnect", user="", client=gone.connected["client"]) == {}
    assert gone.closed()[0] == 3503
    other.silent()


def test_disconnect_closes_with_the_code_that_was_asked_for(server, connect):
    client = connect()
    server.result("disconnect", user="", client=client.connected["client"],
                  disconnect={"code": 4321, "reason": "go away"})
    assert client.closed() == (4321, "go away")


def test_disconnect_of_a_client_that_is_not_there_is_no_error(server, connect):
    witness = connect()
    assert server.result("disconnect", user="", client="no-such-client") == {}
    witness.silent()


def test_unsubscribe_is_told_with_2000_and_ends_the_stream(server, connect, channel):
    client = connect()
    client.subscribe(channel)
    server.result("unsubscribe", user="", client=client.connected["client"], channel=channel)
    push = client.push()
    assert push["channel"] == channel and push["unsubscribe"]["code"] == 2000
    server.publish(channel, 1)
    client.silent()
    client.subscribe(channel)


def test_unsubscribe_without_a_channel_means_all(server, connect, channel):
    client = connect()
    names = {f"{channel}-{n}" for n in range(3)}
    for name in names:
        client.subscribe(name)
    server.result("unsubscribe", user="", client=client.connected["client"], channel="")
    assert {client.push()["channel"] for _ in names} == names


def test_the_old_form_with_method_and_params_works(server, channel):
    response = server.http.post("/api", json={
        "method": "publish", "params": {"channel": channel, "data": 1}})
    assert response.status_code == 200 and response.json()["result"]["offset"] == 1


def test_what_is_no_call_gets_its_status(server):
    assert server.http.get("/api/publish").status_code == 405
    assert server.http.post("/api/no_such_method", json={}).status_code == 404
    assert server.http.get("/nothing").status_code == 404
    for content in [b"{", b'{"channel":"a"', b"[]x", b"\xff\xfe"]:
        response = server.http.post("/api/publish", content=content,
                                    headers={"content-type": "application/json"})
        assert response.status_code == 400, (content, response.text)
        assert not response.headers.get("content-type", "").startswith("application/json")


def test_a_body_that_is_too_large_is_413(server):
    response = server.http.post("/api/publish", content=b"[" + b" " * (32 << 20) + b"]",
                                headers={"content-type": "application/json"})
    assert response.status_code == 413


def test_payloads_nested_too_deep_are_refused(server, channel):
    body = '{"channel":"%s","data":%s}' % (channel, "[" * 10_000 + "]" * 10_000)
    response = server.http.post("/api/publish", content=body,
                                headers={"content-type": "application/json"})
    assert response.status_code == 400 or error(response) == 107


def test_a_publication_reaches_a_hundred_channels_in_one_broadcast(server, connect):
    client = connect()
    names = [f"wide-{n}" for n in range(100)]
    for name in names:
        client.subscribe(name)
    responses = server.result("broadcast", channels=names, data=1)["responses"]
    assert len(responses) == 100 and all("result" in response for response in responses)
    assert sorted(client.push()["channel"] for _ in names) == sorted(names)


def test_what_is_counted_in_info_goes_back_when_clients_leave(server, connect, channel):
    client = connect()
    client.subscribe(channel)
    client.close()
    eventually(lambda: channel not in server.result("channels", pattern=channel)["channels"],
               what="the channel has no clients")
