"""Bytes that no well-behaved client sends. Each gets its documented code, costs bounded memory, and
does not affect other clients of the same shard."""

import random
import socket
import struct
import time

import pytest

from harness.client import Client, Closed
from harness.server import eventually
from harness.wire import (
    BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, close_frame, frame, upgrade,
)
from harness.witness import Witness

# One shard, so that the healthy client shares it with whoever misbehaves.
SERVER = {"shards": 1}

MIB = 1 << 20
RSS_GROWTH_MAX = 16 * MIB

TOO_MUCH = {1008, 1009, 3013}


@pytest.fixture
def undisturbed(server):
    """A healthy client watches while the test runs, and memory must not have grown after it."""
    before = server.rss_bytes()
    with Witness(server):
        yield
    eventually(lambda: server.rss_bytes() - before < RSS_GROWTH_MAX, what="memory stays bounded")
    assert server.metrics().total("corecast_audit_errors_total") == 0


pytestmark = pytest.mark.usefixtures("undisturbed")


def flood(wire, data, times):
    """Sends the same bytes again and again, until done or until the server has enough."""
    wire.socket.settimeout(3)
    try:
        for _ in range(times):
            wire.send(data)
    except (TimeoutError, ConnectionError):
        return False
    return True


@pytest.mark.parametrize("announced, codes", [
    (1 << 63, {1002, 1009}),  # The standard wants the highest bit to be 0.
    ((1 << 63) - 1, {1009}),
    (1 << 32, {1009}),
    (16 * MIB, {1009}),
    (65_537, {1009}),
])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_that_announces_too_much_is_closed_at_once(server, announced, codes, opcode):
    with Wire(server) as wire:
        wire.connect()
        wire.send(frame(opcode, announced=announced))
        assert wire.closed(seconds=2) in codes


def test_many_frames_that_announce_too_much_cost_no_memory(server):
    before = server.rss_bytes()
    for _ in range(200):
        with Wire(server) as wire:
            wire.open()
            wire.send(frame(TEXT, b"x" * 10, announced=(1 << 63) - 1))
            assert wire.closed(seconds=2) == 1009
    assert server.rss_bytes() - before < 4 * MIB


@pytest.mark.parametrize("bytes_sent", [
    frame(TEXT, b"{}", mask=False),
    frame(TEXT, b"{}", rsv=4),
    frame(TEXT, b"{}", rsv=1),
    frame(3), frame(7), frame(0xB), frame(0xF),
    frame(CONTINUATION, b"a"),
    frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    frame(PING, b"a", fin=False),
    frame(CLOSE, b"\x03\xe8", fin=False),
    frame(PING, b"a" * 126),
    frame(CLOSE, b"a"),
    close_frame(1005), close_frame(1006), close_frame(999), close_frame(1015), close_frame(2999),
    close_frame(0),
], ids=range(19))
def test_what_breaks_the_framing_rules_closes_1002(server, bytes_sent):
    with Wire(server) as wire:
        wire.connect()
        wire.send(bytes_sent)
        assert wire.closed(seconds=2) == 1002


@pytest.mark.parametrize("bytes_sent", [
    frame(TEXT, b"\xff"),
    frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"),
    frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("),
    frame(TEXT, b"\xe2\x82"),
    close_frame(1000, b"\xc0\xaf"),
], ids=range(5))
def test_text_that_is_no_utf_8_closes_1007(server, bytes_sent):
    with Wire(server) as wire:
        wire.connect()
        wire.send(bytes_sent)
        assert wire.closed(seconds=2) == 1007


def test_text_that_is_no_utf_8_closes_before_its_frame_ends(server):
    with Wire(server) as wire:
        wire.connect()
        wire.send(frame(TEXT, b"abc\xff", announced=1000))
        assert wire.closed(seconds=2) == 1007


def test_characters_cut_between_fragments_are_whole(server):
    command = '{"id":2,"publish":{"channel":"cut","data":"€\U0001f600é"}}'.encode()
    with Wire(server) as wire:
        wire.connect()
        for index, byte in enumerate(command):
            last = index == len(command) - 1
            wire.send(frame(CONTINUATION if index else TEXT, bytes([byte]), fin=last))
        assert b'"publish":{}' in wire.frame()[1]


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_100_000_fragments_of_one_message_are_cut(server, payload):
    with Wire(server) as wire:
        wire.connect()
        wire.send(frame(TEXT, b"", fin=False))
        flood(wire, frame(CONTINUATION, payload, fin=False) * 1000, 100)
        assert wire.closed() in TOO_MUCH


def test_empty_frames_without_end_are_no_way_to_keep_a_shard_busy(server):
    before = server.cpu_seconds()
    with Wire(server) as wire:
        wire.connect()
        flood(wire, frame(PONG) * 1000, 1000)
        wire.ended(seconds=5)
    assert server.cpu_seconds() - before < 5


@pytest.mark.timeout(120)
def test_a_million_pings_whose_answers_are_never_read_cost_bounded_memory(server):
    before = server.rss_bytes()
    with Wire(server, receive_bytes=4096) as wire:
        wire.connect()
        flood(wire, frame(PING, b"p" * 125) * 500, 2000)
        assert server.rss_bytes() - before < 4 * MIB
        assert wire.closed(seconds=15) in TOO_MUCH | {3008, None}


def test_a_few_pings_are_each_answered(server):
    with Wire(server) as wire:
        wire.connect()
        for n in range(5):
            wire.send(frame(PING, b"%d" % n))
            assert wire.frame() == (PONG, b"%d" % n)


def test_commands_faster_than_the_limit_are_served_or_closed_3013(server):
    with Wire(server) as wire:
        wire.connect()
        command = frame(TEXT, b'{"id":2,"history":{"channel":"flood"}}')
        sent = flood(wire, command * 100, 1000)
        code = wire.closed(seconds=10) if not sent else _code_if_closed(wire)
        assert code in {3013, 3008, None}


def _code_if_closed(wire):
    try:
        return wire.closed(seconds=3)
    except TimeoutError:
        return None


@pytest.mark.parametrize("command", [
    "[" * 10_000,
    "[" * 10_000 + "]" * 10_000,
    '{"id":2,"publish":' * 3000,
    '{"a":' * 5000 + "1" + "}" * 5000,
])
def test_10_000_nested_brackets_as_a_command_close_3501(server, command):
    with Client(server) as client:
        client.send(command)
        assert client.closed()[0] == 3501


@pytest.mark.parametrize("data", ["[" * 10_000 + "]" * 10_000, '{"a":' * 9_000 + "1" + "}" * 9_000])
def test_10_000_nested_brackets_as_a_payload_are_the_publishers_error(server, data):
    with Client(server) as client:
        client.send('{"id":2,"publish":{"channel":"deep","data":%s}}' % data)
        try:
            assert client.reply(2)["error"]["code"] == 107
        except Closed as closed:
            assert closed.code == 3501
    assert server.result("history", channel="deep")["offset"] == 0


@pytest.mark.parametrize("text", [
    '{"id":2,"publish":{"channel":"a","data":NaN}}',
    '{"id":2,"publish":{"channel":"a","data":01}}',
    '{"id":2,"publish":{"channel":"a","data":1,}}',
    '{"id":2,"publish":{"channel":"a","data":"\\ud800"x}}',
    '{"id":2,"publish":{"channel":"a","data":1}} trailing',
    '{"id":2,"publish":{"channel":"a","data":\x00}}',
    '\ufeff{"id":2,"publish":{"channel":"a","data":1}}',
    '{"id":99999999999999999999,"publish":{"channel":"a","data":1}}',
])
def test_json_that_is_none_closes_3501(server, text):
    with Client(server) as client:
        client.send(text)
        assert client.closed()[0] == 3501


@pytest.mark.parametrize("number", ["1e999999", "-0", "1" * 5000, "0." + "0" * 5000 + "1"])
def test_numbers_that_nobody_can_hold_pass_through_as_text(server, number):
    with Client(server) as client:
        client.send('{"id":2,"publish":{"channel":"numbers","data":%s}}' % number)
        assert client.reply(2) == {"id": 2, "publish": {}}


def test_a_channel_name_of_a_megabyte_is_too_much_for_a_frame(server):
    with Client(server) as client:
        client.send('{"id":2,"subscribe":{"channel":"%s"}}' % ("a" * MIB))
        assert client.closed()[0] == 1009


def test_a_channel_name_of_60_kb_answers_107(server):
    with Client(server) as client:
        assert client.error("subscribe", channel="a" * 60_000) == 107
        assert client.error("publish", channel="a" * 60_000, data=1) == 107
        assert client.history("still-here")["offset"] == 0
    response = server.api("publish", {"channel": "a" * MIB, "data": 1})
    assert response.status_code in (400, 413) or response.json()["error"]["code"] == 107


def test_the_129th_channel_answers_106(server):
    with Client(server) as client:
        for n in range(128):
            client.subscribe(f"bomb-{n}")
        assert client.error("subscribe", channel="bomb-128") == 106


def test_a_reset_in_the_middle_of_a_message_frees_the_connection(server):
    before = server.settled_connections(), server.descriptors()
    for n in range(300):
        wire = Wire(server).connect()
        wire.send(frame(TEXT, b'{"id":2,"publ', announced=1000))
        wire.reset() if n % 3 else wire.close()
    eventually(lambda: server.connections() <= before[0], 8, "connections are back")
    eventually(lambda: server.descriptors() <= before[1] + 3, 8, "descriptors are back")


def test_data_after_a_close_is_ignored(server):
    with Wire(server) as wire:
        wire.connect()
        late = b'{"id":2,"publish":{"channel":"late","data":1}}'
        wire.send(close_frame(1000) + frame(TEXT, late))
        assert wire.closed() == 1000
    assert server.result("history", channel="late")["offset"] == 0


def test_who_never_answers_a_close_is_cut_anyway(server):
    before = server.descriptors()
    wires = [Wire(server).connect() for _ in range(50)]
    for wire in wires:
        wire.text("nonsense")
    for wire in wires:
        assert wire.closed() == 3501
    eventually(lambda: server.descriptors() <= before + 3, 9, "descriptors are back")
    for wire in wires:
        assert wire.ended(seconds=1) < 1
        wire.close()


def test_a_client_that_shuts_down_its_side_only_is_freed(server):
    before = server.settled_connections()
    with Wire(server) as wire:
        wire.connect()
        wire.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: server.connections() <= before, 8, "its connection is gone")


def test_random_bytes_never_hurt(server):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(300):
        with Wire(server) as wire:
            wire.socket.settimeout(2)
            try:
                if rng.random() < 0.3:
                    wire.send(rng.randbytes(rng.randrange(1, 2000)))
                else:
                    wire.open()
                    wire.send(_noise(rng))
                if rng.random() < 0.2:
                    wire.reset()
            except (OSError, EOFError):
                pass


def _noise(rng):
    """A frame that is well formed in part."""
    payload = rng.choice([b"", b"{}", b'{"id":1,"connect":{}}', rng.randbytes(rng.randrange(300))])
    data = bytearray(frame(rng.randrange(16), payload, fin=rng.random() < 0.8,
                           mask=rng.random() < 0.9, rsv=rng.choice([0, 0, 0, 1, 4])))
    for _ in range(rng.randrange(3)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data) * rng.randrange(1, 5)


def test_a_thousand_connections_come_and_go_without_a_trace(server):
    before = server.descriptors(), server.rss_bytes()
    for n in range(1000):
        with Wire(server) as wire:
            if n % 2:
                wire.connect()
                wire.text('{"id":2,"subscribe":{"channel":"churn-%d"}}' % n)
    eventually(lambda: server.descriptors() <= before[0] + 3, 8, "descriptors are back")
    assert server.rss_bytes() - before[1] < 4 * MIB
    eventually(lambda: server.result("channels", pattern="churn-*")["channels"] == {},
               what="their channels have nobody")


def test_subscribing_and_leaving_as_fast_as_possible_leaves_nothing(server):
    with Client(server) as client:
        for n in range(0, 400, 4):
            ids = client.send_commands(*(
                client.command(method, channel=f"race-{n % 7}")
                for method in ("subscribe", "unsubscribe", "unsubscribe", "subscribe")
            ))
            for id in ids:
                client.reply(id)
            client.unsubscribe(f"race-{n % 7}")
            time.sleep(0.005)
    assert server.result("channels", pattern="race-*")["channels"] == {}


def test_a_masking_key_of_any_value_is_undone(server):
    command = b'{"id":1,"connect":{}}'
    with Wire(server) as wire:
        wire.open()
        key = b"\x01\xfe\x80\x7f"
        masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(command))
        data = bytes([0x81, 0x80 | len(command)]) + key + masked
        for start in range(0, len(data), 5):  # Cut where the key is not aligned.
            wire.send(data[start:start + 5])
            time.sleep(0.002)
        assert b'"connect"' in wire.frame()[1]


def test_the_request_may_be_followed_by_frames_that_are_wrong(server):
    with Wire(server) as wire:
        wire.send(upgrade() + struct.pack(">BBQ", 0x81, 0xFF, 1 << 62))
        assert wire.response()[0] == 101
        assert wire.closed(seconds=2) == 1009
