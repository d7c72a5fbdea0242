"""Plain WebSocket at `/ws`: no protocol but the payload, for whoever has no SDK."""

import json
import time

import pytest
import websockets.exceptions

from harness.client import Plain
from harness.wire import BINARY, TEXT, Wire, frame

SERVER = {"config": """
[[channel.namespaces]]
name = "text"
data = "text"

[[channel.namespaces]]
name = "binary"
data = "binary"

[[channel.namespaces]]
name = "small"
history_size = 5
history_ttl = "60s"
force_recovery = true
"""}


@pytest.fixture
def listen(server):
    """Opens `/ws` with a query, and waits until it is subscribed."""
    opened = []

    def make(query, channel=None, **options):
        plain = Plain(server, f"/ws?{query}", **options)
        opened.append(plain)
        if channel:
            wait_subscribed(server, channel)
        return plain

    yield make
    for plain in opened:
        plain.close()


def wait_subscribed(server, channel, count=1):
    deadline = time.monotonic() + 5
    while True:
        channels = server.result("channels", pattern=channel).get("channels", {})
        if channels.get(channel, {}).get("num_clients", 0) >= count:
            return
        assert time.monotonic() < deadline, f"no {count} subscribers of {channel}: {channels}"
        time.sleep(0.02)


def test_the_payload_arrives_byte_for_byte(listen, server, channel):
    plain = listen(f"channels={channel}", channel)
    payload = '{"b":  1, "a" : [true ,null], "é":"\\u00e9"}'
    server.http.post("/api/publish", content='{"channel":"%s","data":%s}' % (channel, payload),
                     headers={"content-type": "application/json"})
    assert plain.receive() == payload


def test_each_publication_is_one_frame(listen, server, channel):
    plain = listen(f"channels={channel}", channel)
    for n in range(50):
        server.publish(channel, n)
    assert [plain.receive() for _ in range(50)] == [str(n) for n in range(50)]


def test_the_frames_type_follows_the_namespace(server):
    for channel, payload, opcode, expected in [
        ("text:1", {"data": "plain {text"}, TEXT, b"plain {text"),
        ("binary:1", {"b64data": "AP8Q"}, BINARY, b"\x00\xff\x10"),
        ("json", {"data": [1]}, TEXT, b"[1]"),
    ]:
        with Wire(server) as wire:
            wire.open(f"/ws?channels={channel}")
            wait_subscribed(server, channel)
            server.result("publish", channel=channel, **payload)
            assert wire.frame() == (opcode, expected)


def test_one_connection_may_have_several_channels(listen, server):
    plain = listen("channels=several-a,several-b", "several-b")
    server.publish("several-a", "a")
    server.publish("several-b", "b")
    assert {plain.receive(), plain.receive()} == {'"a"', '"b"'}
    server.publish("several-c", "c")
    plain.silent()


def test_a_channel_name_may_be_percent_encoded(listen, server):
    plain = listen("channels=small%3A%31", "small:1")
    server.publish("small:1", 1)
    assert plain.receive() == "1"


def test_the_envelope_tells_channel_and_position(listen, server, channel):
    plain = listen(f"channels={channel}&envelope=json", channel)
    position = server.publish(channel, {"a": 1})
    assert json.loads(plain.receive()) == {
        "channel": channel, "data": {"a": 1}, "offset": 1, "epoch": position["epoch"],
    }


def test_since_brings_what_was_missed(listen, server, channel):
    for n in range(1, 6):
        epoch = server.publish(channel, n)["epoch"]
    plain = listen(f"channels={channel}&since={epoch}:3", channel)
    server.publish(channel, 6)
    assert [plain.receive() for _ in range(3)] == ["4", "5", "6"]


def test_since_with_envelopes_continues_the_offsets(listen, server, channel):
    for n in range(1, 6):
        epoch = server.publish(channel, n)["epoch"]
    plain = listen(f"channels={channel}&since={epoch}:2&envelope=json")
    assert [json.loads(plain.receive())["offset"] for _ in range(3)] == [3, 4, 5]


@pytest.mark.parametrize("epoch, offset", [("other", 1), (None, 3), (None, 99)])
def test_since_that_cannot_be_continued_closes_3010(listen, server, epoch, offset):
    for n in range(20):
        current = server.publish("small:gap", n)["epoch"]
    assert listen(f"channels=small:gap&since={epoch or current}:{offset}").closed()[0] == 3010


def test_since_that_cannot_be_continued_is_told_in_an_envelope(listen, server):
    for n in range(20):
        epoch = server.publish("small:told", n)["epoch"]
    first = json.loads(listen(f"channels=small:told&since={epoch}:3&envelope=json").receive())
    assert first["channel"] == "small:told" and "gap" in first, first


def test_frames_are_published_where_publish_says(listen, server, channel):
    listener = listen(f"channels={channel}", channel)
    publisher = listen(f"channels={channel}-other&publish={channel}", f"{channel}-other")
    for n in range(10):
        publisher.send('{"n": %d}' % n)
    assert [listener.receive() for _ in range(10)] == ['{"n": %d}' % n for n in range(10)]
    assert server.result("history", channel=channel, limit=0)["offset"] == 10


def test_who_publishes_where_it_listens_hears_itself(listen, channel):
    plain = listen(f"channels={channel}&publish={channel}", channel)
    plain.send('"echo"')
    assert plain.receive() == '"echo"'


def test_a_string_from_an_sdk_is_the_text_of_a_text_namespace(listen, connect):
    plain = listen("channels=text:sdk&publish=text:sdk", "text:sdk")
    client = connect()
    client.subscribe("text:sdk")
    client.publish("text:sdk", "said by an sdk")
    assert plain.receive() == "said by an sdk"
    plain.send("said plainly")
    assert [client.publication("text:sdk")["data"] for _ in range(2)] == [
        "said by an sdk", "said plainly"]


def test_binary_frames_are_published_into_a_binary_namespace(server):
    with Wire(server) as listener, Wire(server) as publisher:
        listener.open("/ws?channels=binary:pub")
        wait_subscribed(server, "binary:pub")
        publisher.open("/ws?channels=binary:none&publish=binary:pub")
        publisher.send(frame(BINARY, bytes(range(256))))
        assert listener.frame() == (BINARY, bytes(range(256)))


def test_what_is_not_of_the_namespaces_type_is_not_published(listen, server, channel):
    publisher = listen(f"channels={channel}&publish={channel}", channel)
    publisher.send("{no json")
    assert publisher.closed()[0] >= 1000
    assert server.result("history", channel=channel, limit=0)["offset"] == 0


@pytest.mark.parametrize("query", [
    "", "?", "?channels=", "?channels=,", "?channels=" + "a" * 256, "?channels=%zz",
    "?channels=a%00b", "?channels=a,b&since=x:1", "?channels=a&since=1", "?channels=a&since=x:y",
    "?channels=a&envelope=xml",
])
def test_a_bad_query_is_refused_with_400(server, query):
    assert _refusal(server, query) == 400


@pytest.mark.parametrize("query", ["?channels=nowhere:1", "?channels=a&publish=nowhere:1"])
def test_an_unknown_namespace_is_refused(server, query):
    assert _refusal(server, query) in (400, 404)


def _refusal(server, query):
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        Plain(server, f"/ws{query}")
    response = refused.value.response
    assert b"\n" not in response.body.strip() and response.body.strip(), "a line that says why"
    return response.status_code


def test_a_plain_websocket_and_an_sdk_share_a_channel(listen, connect, channel):
    client = connect()
    client.subscribe(channel)
    plain = listen(f"channels={channel}&publish={channel}", channel)
    client.publish(channel, {"from": "sdk"})
    assert plain.receive() == '{"from":"sdk"}'
    assert client.publication(channel)["data"] == {"from": "sdk"}
    plain.send('{"from":"plain"}')
    assert client.publication(channel)["data"] == {"from": "plain"}
