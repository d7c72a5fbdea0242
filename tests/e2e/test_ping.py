"""Heartbeats of both protocols are on time, and clients that don't answer are closed."""

import concurrent.futures
import time

from harness.server import eventually
from harness.wire import PING, PONG, TEXT, Wire, frame

INTERVAL, PONG_TIMEOUT = 2, 1
SERVER = {"config": f'[client]\nping_interval = "{INTERVAL}s"\npong_timeout = "{PONG_TIMEOUT}s"\n'}

SLACK = 1.2  # Two busy cores, and a sweep of stamps that is not per connection.


def test_pings_come_on_schedule_even_while_the_connection_is_busy(connect, server, channel):
    client = connect()
    assert client.connected["ping"] == INTERVAL and client.connected["pong"] is True
    started = time.monotonic()
    client.subscribe(channel)
    while time.monotonic() - started < 4 * INTERVAL:
        server.publish(channel, 1)
        client.publish(channel, 2)
        client.publications(channel, 2)
        time.sleep(0.05)
    first, *rest = [ping - started for ping in client.pings]
    assert INTERVAL / 2 - 0.2 <= first <= INTERVAL + SLACK
    gaps = [late - early for early, late in zip([first, *rest], rest)]
    assert len(gaps) >= 2
    assert all(INTERVAL - SLACK <= gap <= INTERVAL + SLACK for gap in gaps), gaps


def test_first_pings_are_spread(connect):
    started = time.monotonic()
    clients = [connect() for _ in range(12)]
    with concurrent.futures.ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(lambda client: _listen(client, INTERVAL + SLACK), clients))
    firsts = [client.pings[0] - started for client in clients]
    assert max(firsts) - min(firsts) > 0.1, firsts


def test_who_does_not_answer_a_ping_is_closed_3012(connect):
    client = connect(answer_pings=False)
    started = time.monotonic()
    code, _ = client.closed(seconds=INTERVAL + PONG_TIMEOUT + 2 * SLACK)
    assert code == 3012
    assert time.monotonic() - started >= INTERVAL / 2 + PONG_TIMEOUT - 0.3


def test_who_answers_stays(connect, channel):
    client = connect()
    _listen(client, 3 * (INTERVAL + PONG_TIMEOUT))
    assert len(client.pings) >= 3
    assert client.publish(channel, 1) == {}


def test_a_pong_behind_a_command_is_still_a_pong(connect):
    client = connect(answer_pings=False)
    eventually(lambda: _ping_came(client), INTERVAL + SLACK, "a ping")
    client.history("any")
    client.send("{}")
    assert client.history("any")["publications"] == []


def test_a_pong_in_the_frame_of_a_command_is_a_pong(connect):
    client = connect(answer_pings=False)
    eventually(lambda: _ping_came(client), INTERVAL + SLACK, "a ping")
    client.id += 1
    client.send('{}\n{"id":%d,"history":{"channel":"any"}}' % client.id)
    assert "history" in client.reply(client.id)


def test_a_second_pong_to_one_ping_closes_3501(connect):
    client = connect(answer_pings=False)
    eventually(lambda: _ping_came(client), INTERVAL + SLACK, "a ping")
    client.send("{}")
    client.send("{}")
    assert client.closed()[0] == 3501


def test_pings_may_be_asked_for_at_websocket_level(server):
    with Wire(server) as wire:
        wire.open("/connection/websocket?cf_ws_frame_ping_pong=true")
        wire.text('{"id":1,"connect":{}}')
        opcode, payload = wire.frame()
        assert opcode == TEXT and b'"ping"' not in payload and b'"pong"' not in payload, payload
        for _ in range(3):
            opcode, payload = wire.frame()
            assert opcode == PING, "no ping of the protocol beside the frame"
            wire.send(frame(PONG, payload))


def test_who_does_not_answer_a_ping_frame_is_gone(server):
    with Wire(server) as wire:
        wire.open("/connection/websocket?cf_ws_frame_ping_pong=true")
        wire.text('{"id":1,"connect":{}}')
        wire.frame()
        assert wire.closed(seconds=INTERVAL + PONG_TIMEOUT + 2 * SLACK) in (3012, None)


def test_plain_websockets_are_pinged_by_frames_and_cut_if_they_do_not_answer(server, channel):
    with Wire(server) as answering, Wire(server) as mute:
        answering.open(f"/ws?channels={channel}")
        mute.open(f"/ws?channels={channel}")
        started = time.monotonic()
        for _ in range(3):
            opcode, payload = answering.frame()
            assert opcode == PING
            answering.send(frame(PONG, payload))
        assert time.monotonic() - started > 2 * INTERVAL - SLACK
        assert mute.closed(seconds=SLACK) in (3012, None)
        server.publish(channel, {"still": "here"})
        opcode, payload = answering.frame()
        while opcode == PING:
            answering.send(frame(PONG, payload))
            opcode, payload = answering.frame()
        assert (opcode, payload) == (TEXT, b'{"still":"here"}')


def test_a_peer_that_vanished_without_a_word_is_freed(server):
    before = server.settled_connections()
    vanished = [Wire(server).connect() for _ in range(20)]
    eventually(lambda: server.connections() >= before + 20, what="all are counted")
    eventually(lambda: server.connections() <= before, INTERVAL + PONG_TIMEOUT + 6 + SLACK,
               "those who answer nothing, not even the close, are gone")
    for wire in vanished:
        wire.close()


def _ping_came(client):
    _listen(client, 0.05)
    return client.pings


def _listen(client, seconds):
    """Reads for a while; only pings may come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            frame = client.receive(max(deadline - time.monotonic(), 0.001))
        except TimeoutError:
            return
        client.read_frame(frame)
        assert not client.queue, client.queue
