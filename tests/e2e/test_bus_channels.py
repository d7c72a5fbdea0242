"""The limit on channels created per second, with Redis. There the name of a channel that a client
publishes to is kept for 30 days, so without a limit a client could fill the memory of Redis."""

import time

import pytest

from harness.client import Client

BURST, PER_SECOND, NAMES = 20, 1, 60
NODES = {"config": f"""
[channel]
history_size = 100
history_ttl = "60s"

[client]
channels_max = {BURST}
channels_created_per_second_max = {PER_SECOND}
"""}


def places(redis):
    """Returns the number of channels whose position is in Redis, in all streams."""
    keys = [name.removesuffix("bus") + "places" for name in redis.streams().values()]
    # The field without a name is the generation, and no channel.
    return sum(redis.client.hlen(key) - redis.client.hexists(key, "") for key in keys)


def commands(client, way, name):
    """Returns the commands that use a channel once, without staying in it."""
    params = {"publish": {"data": 1}}.get(way, {})
    yield client.command(way, channel=name, **params)
    if way == "subscribe":
        yield client.command("unsubscribe", channel=name)


def invent(client, way, prefix, *, together):
    """Uses new channels one after another, or all in one frame. Returns the codes of the answers,
    and 0 for each that is no error."""
    each = [list(commands(client, way, f"{prefix}{number}")) for number in range(NAMES)]
    answers = {}
    for frame in [sum(each, [])] if together else each:
        client.send_commands(*frame)
        for _ in frame:
            answer = client.next()
            answers[answer["id"]] = answer.get("error", {}).get("code", 0)
    return [answers[first["id"]] for first, *_ in each]


@pytest.mark.parametrize("way", ["subscribe", "publish", "history"])
def test_a_client_that_invents_names_is_refused_with_111_and_costs_redis_no_more(join, redis, way):
    (server,) = join([redis.url])
    granted = 0
    for together in (False, True):
        with Client(server) as client:
            began = time.monotonic()
            codes = invent(client, way, f"{together}", together=together)
            seconds = time.monotonic() - began
        assert codes[:BURST] == [0] * BURST, "its burst"
        assert set(codes) == {0, 111}
        assert codes.count(0) <= BURST + PER_SECOND * seconds + 1, f"{codes} in {seconds:.1f} s"
        granted += codes.count(0)
        assert server.metrics().total("corecast_channels_created_total") == granted
        assert places(redis) == (granted if way == "publish" else 0)
    with Client(server) as other:
        other.subscribe("new")
        other.publish("new", 1)
