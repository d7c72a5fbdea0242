"""Centrifugo's protocol: subscribe, publish and unsubscribe."""

import threading
import time

import pytest

from harness.client import Client, offsets
from harness.server import Server

SERVER = {"config": """
[client]
channels_max = 8
frames_per_second_max = 1000000

[[channel.namespaces]]
name = "chat"
history_size = 10
history_ttl = "60s"
force_recovery = true

[[channel.namespaces]]
name = "bare"
history_size = 0
history_ttl = "0s"
force_recovery = false
force_positioning = false

[[channel.namespaces]]
name = "text"
data = "text"

[[channel.namespaces]]
name = "binary"
data = "binary"
"""}


def test_the_reply_carries_a_position_even_before_the_first_message(connect, channel):
    result = connect().subscribe(channel)
    assert result["recoverable"] is True and result["positioned"] is True
    assert result["epoch"] and result.get("offset", 0) == 0
    assert not result.get("recovered") and not result.get("was_recovering")
    assert connect().subscribe(channel)["epoch"] == result["epoch"]


def test_the_first_publication_has_offset_one_and_the_next_two(connect, server, channel):
    client = connect()
    position = client.subscribe(channel)
    results = [server.publish(channel, {"n": n}) for n in range(3)]
    pubs = client.publications(channel, 3)
    assert [pub["data"] for pub in pubs] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert offsets(pubs) == [1, 2, 3] == [result["offset"] for result in results]
    assert {result["epoch"] for result in results} == {position["epoch"]}


def test_the_position_of_a_late_subscriber_is_the_top(connect, server, channel):
    for n in range(4):
        server.publish(channel, n)
    client = connect()
    assert client.subscribe(channel)["offset"] == 4
    server.publish(channel, "live")
    assert client.publication(channel)["offset"] == 5


def test_a_client_publishes_and_hears_itself_with_its_info(connect, channel):
    publisher, listener = connect(), connect()
    publisher.subscribe(channel)
    listener.subscribe(channel)
    assert publisher.publish(channel, {"text": "hé\"\\"}) == {}
    for client in (publisher, listener):
        pub = client.publication(channel)
        assert pub["data"] == {"text": "hé\"\\"}
        assert pub["info"]["client"] == publisher.connected["client"]
        assert pub["info"]["user"] == ""


def test_a_publication_of_the_api_has_no_info(connect, server, channel):
    client = connect()
    client.subscribe(channel)
    server.publish(channel, 1)
    assert "info" not in client.publication(channel)


def test_tags_arrive(connect, server, channel):
    client = connect()
    client.subscribe(channel)
    server.publish(channel, 1, tags={"a": "b", "c": "d"})
    assert client.publication(channel)["tags"] == {"a": "b", "c": "d"}


def test_a_publisher_reads_its_own_write(connect, channel):
    client = connect()
    for n in range(20):
        client.publish(channel, n)
        assert client.history(channel, limit=1, reverse=True)["publications"][0]["data"] == n


def test_a_payload_with_raw_newlines_does_not_split_a_frame(connect, server, channel):
    client = connect()
    client.subscribe(channel)
    body = '{"channel":"%s","data":{\n "a": [1,\r\n 2],\n\t"b": "x\\ny"\n}}' % channel
    response = server.http.post("/api/publish", content=body,
                                headers={"content-type": "application/json"})
    assert "result" in response.json(), response.text
    assert client.publication(channel)["data"] == {"a": [1, 2], "b": "x\ny"}


@pytest.mark.parametrize("data", [True, 0, -1.5e300, "", "\u2028\U0001f600", [], {}, [[{}]]])
def test_any_json_value_is_a_payload(connect, server, channel, data):
    client = connect()
    client.subscribe(channel)
    server.publish(channel, data)
    assert client.publication(channel)["data"] == data
    client.publish(channel, data)
    assert client.publication(channel)["data"] == data


def test_a_second_subscribe_answers_105(connect, channel):
    client = connect()
    client.subscribe(channel)
    assert client.error("subscribe", channel=channel) == 105
    client.unsubscribe(channel)
    client.subscribe(channel)


def test_an_unknown_namespace_answers_102(connect):
    client = connect()
    assert client.error("subscribe", channel="nowhere:1") == 102
    assert client.error("publish", channel="nowhere:1", data=1) == 102
    assert client.error("history", channel="nowhere:1") == 102
    client.subscribe("chat:1")


def test_beyond_the_limit_of_channels_answers_106(connect):
    client = connect()
    for n in range(8):
        client.subscribe(f"limit-{n}")
    assert client.error("subscribe", channel="limit-8") == 106
    client.unsubscribe("limit-3")
    client.subscribe("limit-8")


@pytest.mark.parametrize("name", ["a" * 256, "é", "a\u0000b", "a\nb"])
def test_a_bad_channel_name_answers_107(connect, name):
    assert connect().error("subscribe", channel=name) == 107


def test_a_name_of_255_bytes_is_good(connect):
    connect().subscribe("a" * 255)


def test_a_namespace_may_say_what_its_whole_names_look_like(driver):
    config = '[[channel.namespaces]]\nname = "digits"\nchannel_regex = "[0-9]+"\n' \
             '[[channel.namespaces]]\nname = "any"\nchannel_regex = "(?s).*"\n'
    with Server(driver, config=config) as server, Client(server) as client:
        client.subscribe("digits:12")
        client.subscribe("any:é")
        for wrong in ("digits:12x", "digits:x12", "any:\u001b[2J", "any:\u009b2J"):
            assert client.error("subscribe", channel=wrong) == 107


@pytest.mark.parametrize("name", ["a#1", "#", ":room", ":"])
def test_a_number_sign_is_ordinary_and_an_empty_namespace_is_none(driver, name):
    config = "[auth]\ninsecure = false\nanonymous = true\n"
    with Server(driver, config=config) as server, Client(server) as client:
        client.subscribe(name)
        server.publish(name, 1)
        assert client.publication(name)["data"] == 1
        assert client.error("subscribe", channel="$" + name) == 103


def test_a_token_that_nothing_can_check_answers_103(connect, channel):
    client = connect()
    assert client.error("subscribe", channel=channel, token="eyJh.e30.x") == 103
    client.subscribe(channel, token="")


def test_a_publication_without_data_answers_107(connect, channel):
    client = connect()
    assert client.error("publish", channel=channel) == 107
    assert client.error("publish", channel="text:1") == 107
    client.publish(channel, None)


def test_the_first_publication_names_the_epoch(connect, server, channel):
    client = connect()
    epoch = client.subscribe(channel)["epoch"]
    for n in range(2):
        server.publish(channel, n)
    first, second = client.publications(channel, 2)
    assert first["epoch"] == epoch and "epoch" not in second


@pytest.mark.parametrize("type", [1, 2, 3, 4])
def test_a_subscription_type_that_the_namespace_has_not_answers_103(connect, channel, type):
    assert connect().error("subscribe", channel=channel, type=type) == 103


def test_a_tags_filter_where_none_is_allowed_answers_107(connect, channel):
    tags_filter = {"cmp": "eq", "key": "a", "val": "b"}
    assert connect().error("subscribe", channel=channel, tf=tags_filter) == 107


def test_an_unknown_delta_closes_3501_and_a_known_one_is_ignored(connect, channel):
    client = connect()
    assert "delta" not in client.subscribe(channel, delta="fossil")
    client.send('{"id":9,"subscribe":{"channel":"x%s","delta":"other"}}' % channel)
    assert client.closed()[0] == 3501


def test_history_where_there_is_none_answers_108(connect):
    assert connect().error("history", channel="bare:1") == 108


def test_a_namespace_without_history_delivers_without_offsets(connect, server):
    client = connect()
    result = client.subscribe("bare:1", recover=True, offset=0, epoch="")
    assert "recoverable" not in result and "positioned" not in result
    assert not result.get("recovered") and result["was_recovering"] is True
    server.publish("bare:1", "x")
    pub = client.publication("bare:1")
    assert pub["data"] == "x" and "offset" not in pub


def test_what_was_asked_for_flags_that_a_client_sends_anyway_is_harmless(connect, channel):
    client = connect()
    result = client.subscribe(channel, flag=1, positioned=True, recoverable=True, join_leave=True)
    assert "id" not in result and result["recoverable"] is True
    client.silent()


def test_text_and_binary_payloads_reach_json_clients_as_strings(connect, server):
    client = connect()
    client.subscribe("text:1")
    client.subscribe("binary:1")
    server.publish("text:1", "plain {text")
    assert client.publication("text:1")["data"] == "plain {text"
    server.result("publish", channel="binary:1", b64data="AP8Q")
    assert client.publication("binary:1")["data"] == "AP8Q"


def test_a_payload_that_is_not_of_the_namespaces_type_answers_107(connect, server):
    assert connect().error("publish", channel="text:1", data={"not": "text"}) == 107
    body = server.api("publish", {"channel": "text:1", "data": [1]}).json()
    assert body["error"]["code"] == 107
    body = server.api("publish", {"channel": "any", "b64data": "AP8Q"}).json()
    assert body["error"]["code"] == 107, "three bytes that are no JSON"


def test_unsubscribe_answers_an_empty_result_for_any_channel(connect, channel):
    client = connect()
    assert client.unsubscribe("never-subscribed") == {}
    client.subscribe(channel)
    assert client.unsubscribe(channel) == {}
    assert client.unsubscribe(channel) == {}


def test_nothing_precedes_the_subscribe_reply_or_follows_the_unsubscribe_reply(
        connect, server, channel):
    with _publishing(server, channel):
        client = connect()
        received = 0
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            command = client.command("subscribe", channel=channel)
            client.send_commands(command)
            reply = client.next()
            assert reply.get("id") == command["id"], f"a push before the reply: {reply}"
            expected = reply["subscribe"].get("offset", 0) + 1
            for _ in range(3):
                assert client.publication(channel)["offset"] == expected
                expected += 1
            command = client.command("unsubscribe", channel=channel)
            client.send_commands(command)
            while "push" in (message := client.next()):
                assert message["push"]["pub"]["offset"] == expected
                expected += 1
                received += 1
            assert message == {"id": command["id"], "unsubscribe": {}}
            client.silent(0.01)
            assert not client.queue
        assert received >= 0


def test_all_subscribers_see_one_order_without_a_hole(connect, server, channel):
    listeners = [connect() for _ in range(8)]  # More than there are shards.
    for listener in listeners:
        listener.subscribe(channel)
    publishers = [connect() for _ in range(4)]

    def publish(publisher, number):
        for n in range(100):
            publisher.publish(channel, [number, n])

    threads = [threading.Thread(target=publish, args=(p, i)) for i, p in enumerate(publishers)]
    for thread in threads:
        thread.start()
    views = [listener.publications(channel, 400) for listener in listeners]
    for thread in threads:
        thread.join()
    assert offsets(views[0]) == list(range(1, 401))
    for view in views[1:]:
        assert view == views[0]
    for number in range(4):  # And each publisher's own order is kept.
        assert [n for p, n in (pub["data"] for pub in views[0]) if p == number] == list(range(100))


def test_channels_do_not_mix(connect, server):
    a, b = connect(), connect()
    a.subscribe("mix-a")
    b.subscribe("mix-b")
    server.publish("mix-a", "for a")
    server.publish("mix-b", "for b")
    assert a.publication("mix-a")["data"] == "for a"
    assert b.publication("mix-b")["data"] == "for b"
    a.silent()


def test_a_publication_without_subscribers_is_kept(connect, channel):
    client = connect()
    client.publish(channel, "alone")
    assert client.history(channel, limit=-1)["publications"][0]["data"] == "alone"


class _publishing:
    """Publishes into a channel through the API for as long as the block runs."""

    def __init__(self, server, channel):
        self.server, self.channel, self.stopping = server, channel, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        n = 0
        while not self.stopping.is_set():
            self.server.publish(self.channel, n)
            n += 1

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()
