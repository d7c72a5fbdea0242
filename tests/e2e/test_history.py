"""Centrifugo's protocol: history in pages, forwards and backwards."""

import pytest

from harness.client import offsets

SERVER = {"config": """
[client]
frames_per_second_max = 1000000

[[channel.namespaces]]
name = "small"
history_size = 5
history_ttl = "60s"

[[channel.namespaces]]
name = "large"
history_size = 1000
history_ttl = "60s"
"""}


@pytest.fixture
def filled(server, channel):
    """A channel with publications 1 to 10, and its epoch."""
    for n in range(1, 11):
        epoch = server.publish(channel, n)["epoch"]
    return channel, epoch


@pytest.mark.parametrize("params", [{}, {"limit": 0}, {"limit": 0, "reverse": False}])
def test_without_a_limit_only_the_position_is_told(connect, filled, params):
    channel, epoch = filled
    position = {"publications": [], "offset": 10, "epoch": epoch}
    assert connect().history(channel, **params) == position


def test_all_is_asked_for_with_minus_one(connect, filled):
    channel, epoch = filled
    result = connect().history(channel, limit=-1)
    assert offsets(result["publications"]) == list(range(1, 11))
    assert [pub["data"] for pub in result["publications"]] == list(range(1, 11))
    assert (result["offset"], result["epoch"]) == (10, epoch)


def test_pages_forward_follow_each_other(connect, filled):
    channel, epoch = filled
    client, since, pages = connect(), {"offset": 0, "epoch": epoch}, []
    while page := client.history(channel, limit=3, since=since)["publications"]:
        pages.append(offsets(page))
        since = {"offset": page[-1]["offset"], "epoch": epoch}
    assert pages == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]


def test_a_limit_without_since_takes_the_oldest(connect, filled):
    channel, _ = filled
    assert offsets(connect().history(channel, limit=2)["publications"]) == [1, 2]


def test_reverse_takes_the_newest_first(connect, filled):
    channel, epoch = filled
    client = connect()
    assert offsets(client.history(channel, limit=3, reverse=True)["publications"]) == [10, 9, 8]
    result = client.history(channel, limit=3, reverse=True, since={"offset": 5, "epoch": epoch})
    assert offsets(result["publications"]) == [4, 3, 2]
    result = client.history(channel, limit=9, reverse=True, since={"offset": 3, "epoch": epoch})
    assert offsets(result["publications"]) == [2, 1]


def test_reverse_from_offset_zero_answers_107(connect, filled):
    channel, epoch = filled
    since = {"offset": 0, "epoch": epoch}
    assert connect().error("history", channel=channel, limit=1, reverse=True, since=since) == 107


def test_another_epoch_answers_112_and_an_empty_one_matches(connect, filled):
    channel, _ = filled
    client = connect()
    since = {"offset": 8, "epoch": "other"}
    assert client.error("history", channel=channel, limit=1, since=since) == 112
    result = client.history(channel, limit=-1, since={"offset": 8, "epoch": ""})
    assert offsets(result["publications"]) == [9, 10]
    assert offsets(client.history(channel, limit=-1, since={"offset": 9})["publications"]) == [10]


def test_a_position_older_than_what_is_kept_begins_at_the_oldest(connect, server):
    for n in range(1, 21):
        epoch = server.publish("small:1", n)["epoch"]
    result = connect().history("small:1", limit=-1, since={"offset": 3, "epoch": epoch})
    assert offsets(result["publications"]) == [16, 17, 18, 19, 20]
    assert result["offset"] == 20


def test_a_client_gets_300_publications_at_most(connect, server):
    for n in range(1, 331):
        server.publish("large:1", n)
    client = connect()
    assert len(client.history("large:1", limit=-1)["publications"]) == 300
    assert len(client.history("large:1", limit=1000)["publications"]) == 300
    assert offsets(client.history("large:1", limit=1000, reverse=True)["publications"])[0] == 330


def test_the_application_gets_up_to_16_mib_and_is_told_what_did_not_fit(server):
    size, count = 700_000, 26
    for n in range(count):
        epoch = server.publish("large:2", f"{n:02}" + "x" * size)["epoch"]
    body = server.result("history", channel="large:2", limit=3)
    assert len(body["publications"]) == 3 and "omitted" not in body
    body = server.result("history", channel="large:2", limit=-1)
    read = body["publications"]
    assert sum(len(publication["data"]) for publication in read) > 15 << 20
    assert body["omitted"] == count - len(read) > 0
    since = {"offset": read[-1]["offset"], "epoch": epoch}
    rest = server.result("history", channel="large:2", limit=-1, since=since)
    assert offsets(read) + offsets(rest["publications"]) == list(range(1, count + 1))
    assert "omitted" not in rest


def test_asking_gives_a_stream_its_epoch(connect, server, channel):
    client = connect()
    result = client.history(channel, limit=-1)
    assert result["publications"] == [] and result["offset"] == 0 and result["epoch"]
    assert client.history(channel)["epoch"] == result["epoch"]
    assert server.publish(channel, 1) == {"offset": 1, "epoch": result["epoch"]}


def test_one_needs_no_subscription_to_ask(connect, filled):
    channel, _ = filled
    client = connect()
    client.subscribe("elsewhere")
    assert client.history(channel)["offset"] == 10


def test_history_keeps_tags_and_the_publishers_info(connect, server, channel):
    client = connect()
    server.publish(channel, 1, tags={"a": "b"})
    client.publish(channel, 2)
    tagged, own = client.history(channel, limit=-1)["publications"]
    assert tagged["tags"] == {"a": "b"} and "info" not in tagged
    assert own["info"]["client"] == client.connected["client"]
