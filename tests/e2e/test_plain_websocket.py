"""Plain WebSocket at `/ws`, for clients without an SDK: only payloads, no protocol."""

import json
import time

import pytest

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
    assert plain.begin() == {"channel": channel, "epoch": position["epoch"], "offset": 0}
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
    assert plain.begin() == {"channel": channel, "epoch": epoch, "offset": 2}
    assert [json.loads(plain.receive())["offset"] for _ in range(3)] == [3, 4, 5]


@pytest.mark.parametrize("epoch, offset", [("other", 1), (None, 3), (None, 99)])
def test_since_that_cannot_be_continued_closes_3010(listen, server, epoch, offset):
    for n in range(20):
        current = server.publish("small:gap", n)["epoch"]
    assert listen(f"channels=small:gap&since={epoch or current}:{offset}").closed()[0] == 3010


def test_since_that_cannot_be_continued_is_told_in_an_envelope(listen, server):
    for n in range(20):
        epoch = server.publish("small:told", n)["epoch"]
    plain = listen(f"channels=small:told&since={epoch}:3&envelope=json")
    first = json.loads(plain.receive())
    assert first == {"channel": "small:told", "gap": {"after": 0, "next": 21}}
    assert plain.begin() == {"channel": "small:told", "epoch": epoch, "offset": 20}
    server.publish("small:told", "next")
    assert json.loads(plain.receive())["offset"] == 21


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


def test_since_may_stand_for_each_of_several_channels(listen, server):
    names = ["small:@1", "small:b", "small:c@2:3"]
    positions = [server.publish(name, n) for name in names for n in range(4)][3::4]
    query = f"channels={','.join(names)}&envelope=json&since={names[2]}@{positions[2]['epoch']}:1" \
            f"&since={names[0]}@{positions[0]['epoch']}:4"
    plain = listen(query)
    told = {name: [] for name in names}
    for _ in range(6):
        message = json.loads(plain.receive())
        told[message["channel"]].append((message["offset"], "data" in message))
    assert told == {names[0]: [(4, False)], names[1]: [(4, False)],
                    names[2]: [(1, False), (2, True), (3, True), (4, True)]}
    plain.silent()


@pytest.mark.parametrize("last, offsets", [(0, []), (2, [3, 4]), (300, [1, 2, 3, 4])])
def test_last_brings_the_newest_first(listen, server, channel, last, offsets):
    for n in range(1, 5):
        epoch = server.publish(channel, n)["epoch"]
    plain = listen(f"channels={channel}&last={last}&envelope=json")
    assert plain.begin() == {"channel": channel, "epoch": epoch, "offset": 4 - len(offsets)}
    server.publish(channel, 5)
    received = [json.loads(plain.receive()) for _ in range(len(offsets) + 1)]
    assert [message["offset"] for message in received] == [*offsets, 5]
    bare = listen(f"channels={channel}&last={last}")
    server.publish(channel, 6)
    kept = [5 - last + 1, 5] if last == 2 else offsets + [5] if last else []
    assert [bare.receive() for _ in range(len(kept) + 1)] == [str(n) for n in [*kept, 6]]


def test_where_there_is_a_position_last_is_of_no_consequence(listen, server, channel):
    for n in range(1, 5):
        epoch = server.publish(channel, n)["epoch"]
    plain = listen(f"channels={channel}&last=3&since={epoch}:3&envelope=json")
    assert plain.begin()["offset"] == 3 and json.loads(plain.receive())["offset"] == 4


def test_a_channel_without_a_history_has_a_position_too(listen, server):
    plain = listen("channels=text:begin&envelope=json&last=3")
    begin = plain.begin()
    server.publish("text:begin", "a")
    assert json.loads(plain.receive())["offset"] == begin["offset"] + 1


BAD_REQUEST, CHANNEL_LIMIT = 3501, 3505


@pytest.mark.parametrize("query, says", [
    ("", "channels"), ("?", "channels"), ("?channels=", "channels"), ("?channels=,", "empty name"),
    ("?channels=" + "a" * 256, "bad request"), ("?channels=%zz", "percent"),
    ("?channels=a%00b", "bad request"), ("?channels=a,b&since=x:1", "channel@epoch:offset"),
    ("?channels=a&since=1", "epoch:offset"), ("?channels=a&since=x:y", "epoch:offset"),
    ("?channels=a,b&since=c@1:1", "names a channel"), ("?channels=a&last=301", "300"),
    ("?channels=a&envelope=xml", "json"), ("?channels=nowhere:1", "unknown channel: nowhere:1"),
    ("?channels=a&publish=nowhere:1", "publish=nowhere:1"),
])
def test_what_a_client_must_mend_is_told_by_a_close_frame(listen, server, query, says):
    """A page can't read the status or the body of a refused upgrade."""
    name = "corecast_handshakes_total"
    before = server.settled_metrics(name).total(name, result="refused")
    plain = listen(query.removeprefix("?"))
    code, reason = plain.closed()
    assert code == BAD_REQUEST and says in reason, (code, reason)
    after = server.settled_metrics(name).total(name, result="refused")
    assert after == before + 1


def test_too_many_channels_close_3505(listen):
    code, reason = listen("channels=" + ",".join(f"c{n}" for n in range(129))).closed()
    assert code == CHANNEL_LIMIT, reason
    assert "129 channels, but client.channels_max = 128" in reason, reason


def test_a_plain_websocket_and_an_sdk_share_a_channel(listen, connect, channel):
    client = connect()
    client.subscribe(channel)
    plain = listen(f"channels={channel}&publish={channel}", channel)
    client.publish(channel, {"from": "sdk"})
    assert plain.receive() == '{"from":"sdk"}'
    assert client.publication(channel)["data"] == {"from": "sdk"}
    plain.send('{"from":"plain"}')
    assert client.publication(channel)["data"] == {"from": "plain"}
