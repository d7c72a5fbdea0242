"""Centrifugo's protocol in JSON: the transport, the first command, and violations."""

import json
import time

import pytest

from harness.server import dumps
from harness.wire import PING, PONG, TEXT, Wire, close_frame, frame, upgrade

COMMANDS = {
    "subscribe": {"channel": "a"},
    "unsubscribe": {"channel": "a"},
    "publish": {"channel": "a", "data": 1},
    "presence": {"channel": "a"},
    "presence_stats": {"channel": "a"},
    "history": {"channel": "a"},
    "rpc": {"method": "m"},
    "refresh": {"token": "t"},
    "sub_refresh": {"channel": "a", "token": "t"},
}

# A length, an id and an empty connect request.
PROTOBUF_CONNECT = bytes([4, 8, 1, 34, 0])


def test_the_connect_reply_tells_client_version_and_pings(connect):
    connected = connect().connected
    assert connected["client"] and connected["version"]
    assert connected["ping"] == 25 and connected["pong"] is True
    assert "expires" not in connected and "ttl" not in connected


def test_every_connection_has_a_client_id_of_its_own(connect):
    assert len({connect().connected["client"] for _ in range(10)}) == 10


def test_unknown_fields_of_a_command_are_ignored(connect):
    client = connect(connect=False)
    client.send('{"id":7,"connect":{"name":"js","version":"1","data":{},"profile":"x","dict":"y",'
                '"flag":1,"headers":{},"new":[{}]},"other":null}')
    assert client.reply(7)["connect"]["client"]


@pytest.mark.parametrize("method", COMMANDS)
def test_a_command_before_connect_closes_3501(connect, method):
    client = connect(connect=False)
    client.send(dumps({"id": 1, method: COMMANDS[method]}))
    assert client.closed()[0] == 3501


def test_a_second_connect_closes_3501(connect):
    client = connect()
    client.send('{"id":2,"connect":{}}')
    assert client.closed()[0] == 3501


@pytest.mark.parametrize("frame", [
    "", "{", "[]", "null", "1", '"text"', "nonsense", '{"id":2,"publish":}', '{"id":-1,"rpc":{}}',
    '{"id":4294967296,"rpc":{}}', '{"id":1.5,"rpc":{}}', '{"id":"1","rpc":{}}',
    '{"id":2,"publish":[]}', '{"id":2,"publish":{"channel":5,"data":1}}', '{"id":2}',
    '{"id":2,"ping":{}}', '{"id":2,"unknown":{}}', '{"id":2,"subscribe":null}', "{}",
    '{"subscribe":{"channel":"a"}}', '{"id":0,"subscribe":{"channel":"a"}}', '{"rpc":{}}',
])
def test_what_is_no_command_closes_3501(connect, frame):
    client = connect()
    client.send(frame)
    assert client.closed()[0] == 3501


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "publish", "presence", "history"])
def test_an_empty_channel_closes_3501(connect, method):
    client = connect()
    client.send(dumps({"id": 2, method: {**COMMANDS[method], "channel": ""}}))
    assert client.closed()[0] == 3501


def test_send_closes_3508_for_nobody_handles_it(connect):
    client = connect()
    client.send('{"send":{"data":{"a":1}}}')
    assert client.closed()[0] == 3508


@pytest.mark.parametrize("method", ["presence", "presence_stats", "rpc"])
def test_a_method_that_is_not_offered_answers_108(connect, method):
    assert connect().error(method, **COMMANDS[method]) == 108


def test_of_several_bodies_the_first_in_the_protocols_order_counts(connect, channel):
    client = connect()
    client.send(dumps({"id": 2, "history": {"channel": channel}, "publish": {"channel": channel,
                       "data": 1}, "subscribe": {"channel": channel}}))
    assert "subscribe" in client.reply(2)
    client.send(dumps({"id": 3, "subscribe": None, "history": {"channel": channel, "limit": -1}}))
    assert client.reply(3)["history"]["publications"] == []


def test_connect_and_subscribes_in_one_frame_are_answered_in_order(connect):
    client = connect(connect=False)
    commands = [client.command("connect")]
    commands += [client.command("subscribe", channel=f"batch-{n}") for n in range(20)]
    ids = client.send_commands(*commands)
    replies = [client.next() for _ in ids]
    assert [reply["id"] for reply in replies] == ids
    assert "connect" in replies[0] and all("subscribe" in reply for reply in replies[1:])


def test_commands_of_one_frame_see_each_other(connect, channel):
    client = connect()
    ids = client.send_commands(
        client.command("subscribe", channel=channel),
        client.command("publish", channel=channel, data={"n": 1}),
        client.command("history", channel=channel, limit=-1),
        client.command("unsubscribe", channel=channel),
        client.command("publish", channel=channel, data={"n": 2}),
    )
    replies = {id: client.reply(id) for id in ids}
    assert [p["data"] for p in replies[ids[2]]["history"]["publications"]] == [{"n": 1}]
    assert [push["pub"]["data"] for push in client.pushes] == [{"n": 1}]
    client.silent()


def test_an_id_may_be_anything_from_one_to_the_largest_u32(connect):
    client = connect()
    for id in (4_294_967_295, 1, 77):
        client.send(dumps({"id": id, "history": {"channel": "ids"}}))
        assert "history" in client.reply(id)


def test_json_in_a_binary_frame_is_accepted_and_answered_in_text(connect):
    client = connect(connect=False)
    client.send(b'{"id":1,"connect":{}}')
    assert client.reply(1)["connect"]["client"]


@pytest.mark.parametrize("query", ["?cf_protocol=protobuf", "?format=protobuf"])
def test_protobuf_by_query_is_accepted_and_closed_3506_after_a_message(connect, query):
    client = connect(connect=False, query=query)
    client.silent()
    client.send(PROTOBUF_CONNECT)
    assert client.closed()[0] == 3506


def test_protobuf_by_subprotocol_is_accepted_and_closed_3506_after_a_message(connect):
    client = connect(connect=False, subprotocols=["centrifuge-protobuf"])
    assert client.socket.subprotocol == "centrifuge-protobuf"
    client.send(PROTOBUF_CONNECT)
    assert client.closed()[0] == 3506


def test_a_token_that_nothing_can_check_closes_3500(connect):
    client = connect(connect=False)
    client.send_commands(client.command("connect", token="eyJh.e30.x"))
    assert client.closed()[0] == 3500
    assert connect(connect=False).call("connect", token="")["client"]


@pytest.mark.parametrize("offered, answered", [
    (["centrifuge-json"], "centrifuge-json"),
    (["other", "centrifuge-json"], "centrifuge-json"),
    (["other"], None),
    (None, None),
])
def test_a_subprotocol_is_answered_only_when_it_was_offered(connect, offered, answered):
    client = connect(subprotocols=offered)
    assert client.socket.subprotocol == answered


def test_an_empty_subprotocol_header_is_accepted(server):
    with Wire(server) as wire:
        wire.open(lines=["Sec-WebSocket-Protocol: "])
        assert "sec-websocket-protocol" not in wire.headers
        wire.text('{"id":1,"connect":{}}')
        assert b'"connect"' in wire.frame()[1]


def test_an_offer_to_compress_is_declined(connect):
    client = connect(compression="deflate")
    assert "Sec-WebSocket-Extensions" not in client.socket.response.headers
    assert client.publish("compressed", "a" * 1000) == {}


def test_a_message_up_to_the_limit_is_taken_and_a_longer_one_closes_1009(connect, channel):
    client = connect()
    shell = len(dumps(client.command("publish", channel=channel, data="")))
    client.publish(channel, "a" * (65_536 - shell - 8))
    client.send("a" * 65_537)
    assert client.closed()[0] == 1009


def test_data_in_the_packet_of_the_request_is_not_lost(server):
    with Wire(server) as wire:
        wire.send(upgrade() + frame(TEXT, b'{"id":1,"connect":{}}'))
        assert wire.response()[0] == 101
        assert b'"connect"' in wire.frame()[1]


def test_a_request_and_a_command_may_come_byte_by_byte_in_few_packets(server):
    data = upgrade() + frame(TEXT, b'{"id":1,"connect":{}}')
    with Wire(server) as wire:
        for start in range(0, len(data), 24):
            wire.send(data[start:start + 24])
            time.sleep(0.002)
        assert wire.response()[0] == 101
        assert b'"connect"' in wire.frame()[1]


def test_a_command_may_come_in_fragments_with_a_ping_between(server):
    with Wire(server) as wire:
        wire.open()
        wire.send(frame(TEXT, b'{"id":1,', fin=False))
        wire.send(frame(PING, b"between"))
        wire.send(frame(0, b'"connect":{}', fin=False) + frame(0, b"}"))
        assert wire.frame() == (PONG, b"between")
        assert b'"connect"' in wire.frame()[1]


def test_a_close_is_answered_with_its_code(server):
    with Wire(server) as wire:
        wire.connect()
        wire.send(close_frame(1000, b"done"))
        assert wire.closed() == 1000
        assert wire.ended() < 3


def test_several_replies_may_share_a_frame_and_none_is_empty(connect):
    client = connect()  # The client checks each frame that it reads.
    ids = client.send_commands(*(client.command("history", channel="many") for _ in range(60)))
    assert all("history" in client.reply(id) for id in ids)


def test_a_reply_to_an_error_has_code_and_message(connect):
    error = connect().ask("presence", channel="a")["error"]
    assert error["code"] == 108 and error["message"] and "temporary" not in error


def test_a_plain_get_gets_a_prompt_http_answer(server):
    with Wire(server) as wire:
        wire.send(b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\n\r\n")
        started = time.monotonic()
        assert wire.response()[0] in (400, 426)
        assert time.monotonic() - started < 1


def test_who_never_connects_is_closed_3502_after_ten_seconds(server):
    started = time.monotonic()
    with Wire(server) as silent, Wire(server) as pinging:
        silent.open()
        pinging.open()
        for _ in range(16):  # To be heard is not to connect.
            pinging.send(frame(PING))
            time.sleep(0.5)
        assert silent.closed(seconds=8) == 3502
        assert 8 <= time.monotonic() - started <= 14
        assert pinging.closed(seconds=4) == 3502


def test_the_health_of_the_client_port_is_200(server):
    with Wire(server) as wire:
        wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.response()[0] == 200
