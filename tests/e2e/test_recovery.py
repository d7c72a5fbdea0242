"""Recovery: a client gets all missed publications, or is told that this is impossible."""

import threading
import time

import pytest

from harness.client import Client, offsets
from harness.config import FRAMES, recovered
from harness.server import Server

SERVER = {"config": FRAMES + recovered("small", 10) + recovered("large", 1000)
          + recovered("brief", 10, "1s")}


def recover(client, channel, offset, epoch, **more):
    return client.subscribe(channel, recover=True, offset=offset, epoch=epoch, **more)


@pytest.fixture
def fill(server):
    """Publishes `count` numbers and returns the last position."""
    def publish(channel, count, start=1):
        for n in range(start, start + count):
            position = server.publish(channel, n)
        return position
    return publish


def test_the_missing_suffix_is_complete(connect, fill, channel):
    position = fill(channel, 5)
    fill(channel, 3, start=6)
    result = recover(connect(), channel, position["offset"], position["epoch"])
    assert result["recovered"] is True and result["was_recovering"] is True
    assert offsets(result["publications"]) == [6, 7, 8]
    assert [pub["data"] for pub in result["publications"]] == [6, 7, 8]
    assert result["offset"] == 5, "the client advances as it processes them"
    assert result["epoch"] == position["epoch"]


def test_live_publications_follow_the_recovered_ones_without_a_gap(connect, fill, server, channel):
    epoch = fill(channel, 3)["epoch"]
    client = connect()
    assert offsets(recover(client, channel, 1, epoch)["publications"]) == [2, 3]
    server.publish(channel, "live")
    assert client.publication(channel)["offset"] == 4


def test_who_missed_nothing_recovers_with_nothing(connect, fill, channel):
    position = fill(channel, 5)
    result = recover(connect(), channel, position["offset"], position["epoch"])
    assert result["recovered"] is True and not result.get("publications")
    assert result["offset"] == 5


def test_more_missed_than_is_kept_is_never_recovered_in_part(connect, fill):
    epoch = fill("small:1", 25)["epoch"]
    client = connect()
    result = recover(client, "small:1", 14, epoch)
    assert not result.get("recovered") and result["was_recovering"] is True
    assert not result.get("publications") and result["offset"] == 25
    client.unsubscribe("small:1")
    result = recover(client, "small:1", 15, epoch)
    assert result["recovered"] is True and offsets(result["publications"]) == list(range(16, 26))


def test_more_missed_than_one_recovery_may_return_is_not_recovered(connect, fill):
    epoch = fill("large:1", 310)["epoch"]
    client = connect()
    assert not recover(client, "large:1", 9, epoch).get("recovered")
    client.unsubscribe("large:1")
    result = recover(client, "large:1", 10, epoch)
    assert result["recovered"] is True and len(result["publications"]) == 300


@pytest.mark.parametrize("offset", [0, 3, 5])
@pytest.mark.parametrize("epoch", ["other", "_"])
def test_another_epoch_is_not_recovered(connect, fill, channel, offset, epoch):
    position = fill(channel, 5)
    result = recover(connect(), channel, offset, epoch)
    assert not result.get("recovered") and result["was_recovering"] is True
    assert not result.get("publications")
    assert (result["offset"], result["epoch"]) == (5, position["epoch"])


def test_another_epoch_of_an_empty_stream_is_not_recovered_either(connect, channel):
    assert not recover(connect(), channel, 0, "_").get("recovered")


def test_a_position_ahead_of_the_stream_is_not_recovered(connect, fill, channel):
    epoch = fill(channel, 5)["epoch"]
    result = recover(connect(), channel, 6, epoch)
    assert not result.get("recovered") and result["offset"] == 5


def test_the_very_beginning_of_an_empty_stream_is_recovered(connect, channel):
    result = recover(connect(), channel, 0, "")
    assert result["recovered"] is True and result["was_recovering"] is True
    assert not result.get("publications") and result["epoch"]


def test_absent_offset_and_epoch_mean_the_very_beginning(connect, channel):
    result = connect().subscribe(channel, recover=True)
    assert result["recovered"] is True


def test_an_empty_epoch_matches_any(connect, fill, channel):
    fill(channel, 4)
    client = connect()
    assert offsets(recover(client, channel, 0, "")["publications"]) == [1, 2, 3, 4]
    client.unsubscribe(channel)
    assert offsets(recover(client, channel, 3, "")["publications"]) == [4]


def test_who_rejects_what_is_unrecovered_gets_112(connect, fill):
    epoch = fill("small:reject", 25)["epoch"]
    client = connect()
    for offset, asked in [(3, epoch), (25, "other"), (0, "_")]:
        refused = client.error("subscribe", channel="small:reject", recover=True, offset=offset,
                               epoch=asked, flag=3)
        assert refused == 112
    assert recover(client, "small:reject", 24, epoch, flag=3)["recovered"] is True


def test_what_has_expired_is_not_recovered(connect, fill):
    position = fill("brief:1", 3)
    time.sleep(2.2)
    client = connect()
    result = recover(client, "brief:1", 1, position["epoch"])
    assert not result.get("recovered") and result["offset"] == 3
    client.unsubscribe("brief:1")
    assert recover(client, "brief:1", 3, position["epoch"])["recovered"] is True


def test_who_comes_and_goes_under_load_sees_every_publication_once(server):
    channel, total, seen, rounds = "large:flapping", 1500, [], 0
    position = {"offset": 0, "epoch": ""}

    deadline = time.monotonic() + 60

    def publish():
        for n in range(1, total + 1):
            server.publish(channel, n)
            time.sleep(0.001)
            # Nobody may fall more than one recovery behind.
            while n - len(seen) > 200 and time.monotonic() < deadline:
                time.sleep(0.001)

    publisher = threading.Thread(target=publish)
    publisher.start()
    while len(seen) < total and time.monotonic() < deadline:
        rounds += 1
        client = Client(server)
        result = recover(client, channel, position["offset"], position["epoch"])
        assert result["recovered"] is True, f"round {rounds}: {result}"
        pubs = result.get("publications", [])
        try:
            for _ in range(20):
                pubs.append(client.publication(channel, seconds=0.5))
        except TimeoutError:
            pass
        seen += offsets(pubs)
        position = {"offset": seen[-1] if seen else 0, "epoch": result["epoch"]}
        client.socket.close_socket() if rounds % 2 else client.close()
    publisher.join()
    assert seen == list(range(1, total + 1)), f"a hole or a double after {rounds} rounds"
    assert rounds > 5


def test_a_server_that_started_again_recovers_nothing_and_says_so(driver):
    with Server(driver) as server:
        position = server.publish("again", 1)
        server.kill()
        server.start()
        with Client(server) as client:
            result = recover(client, "again", position["offset"], position["epoch"])
            assert not result.get("recovered") and result["was_recovering"] is True
            assert result["epoch"] != position["epoch"]
