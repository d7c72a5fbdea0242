"""Subscriptions that the application makes, after their client has come back."""

import threading

import pytest

from harness.client import Client, data, offsets
from harness.server import Server

SERVER = {"config": """
[auth]
insecure = false
anonymous = true

[client]
channels_max = 3
frames_per_second_max = 1000000

[[channel.namespaces]]
name = "closed"
allow_subscribe_for_client = false

[[channel.namespaces]]
name = "bare"
history_size = 0
history_ttl = "0s"
force_recovery = false
"""}


def subscribed(server, client, channel):
    """Lets the application subscribe a client. Returns the push that tells it."""
    server.result("subscribe", user="", client=client.connected["client"], channel=channel)
    push = client.push()
    assert push["channel"] == channel
    return push["subscribe"]


def come_back(connect, **subs):
    """Returns a client that names subscriptions, and what the reply says of them."""
    client = connect(connect=False)
    client.connected = client.call("connect", subs=subs)
    return client, client.connected.get("subs", {})


def test_a_subscription_is_resumed_with_what_was_missed(server, connect, channel):
    first = connect()
    position = subscribed(server, first, channel)
    server.publish(channel, 1)
    assert offsets([first.publication(channel)]) == [1]
    first.close()
    for n in (2, 3):
        server.publish(channel, n)
    wish = {"recover": True, "offset": 1, "epoch": position["epoch"]}
    client, subs = come_back(connect, **{channel: wish})
    result = subs.pop(channel)
    assert subs == {}
    assert data(result["publications"]) == [2, 3] and offsets(result["publications"]) == [2, 3]
    assert result["recovered"] and result["was_recovering"] and result["offset"] == 1
    assert result["recoverable"] and result["epoch"] == position["epoch"]
    server.publish(channel, 4)
    assert client.publication(channel)["offset"] == 4
    assert client.error("subscribe", channel=channel) == 105
    server.result("unsubscribe", user="", client=client.connected["client"], channel=channel)
    assert client.push()["unsubscribe"]["code"] == 2000


def test_a_position_that_is_lost_is_told(server, connect, channel):
    server.publish(channel, 1)
    client, subs = come_back(connect, **{channel: {"recover": True, "offset": 7, "epoch": "no"}})
    assert not subs[channel].get("recovered") and subs[channel]["was_recovering"]
    assert subs[channel]["offset"] == 1 and "publications" not in subs[channel]
    server.publish(channel, 2)
    assert client.publication(channel)["offset"] == 2


def test_what_a_client_may_not_have_by_itself_is_left_out(server, connect, channel):
    client, subs = come_back(connect, **{
        "closed:1": {"recover": True}, "nowhere:1": {}, f"${channel}": {}, "bare:1": None})
    assert subs == {"bare:1": {}}
    server.publish("bare:1", 1)
    assert client.publication("bare:1")["data"] == 1
    client.subscribe(channel)


def test_more_subscriptions_than_a_client_may_have_close_3505(connect, channel):
    client = connect(connect=False)
    names = {f"{channel}-{n}": {} for n in range(4)}
    client.send_commands(client.command("connect", subs=names))
    assert client.closed() == (
        3505, "channel limit: 4 channels, but client.channels_max = 3")


def test_a_channel_that_the_node_has_no_room_for_is_named(driver):
    config = SERVER["config"] + "\n[channel]\nchannels_max = 1\n"
    with Server(driver, config=config) as server, Client(server) as first:
        first.subscribe("first")
        with Client(server, connect=False) as client:
            client.send_commands(client.command("connect", subs={"second": {}}))
            text = 'too many requests: channel.channels_max is reached; channel "second"'
            assert client.closed() == (3013, text)
        with Client(server, connect=False) as client:
            client.connected = client.call("connect", subs={"first": {}})
            assert "first" in client.connected["subs"]


@pytest.mark.parametrize("subs", [{"": {}}, {"a": 1}, ["a"]])
def test_subscriptions_that_make_no_sense_close_3501(connect, subs):
    client = connect(connect=False)
    client.send_commands(client.command("connect", subs=subs))
    assert client.closed()[0] == 3501


def test_commands_behind_a_connect_wait_for_its_subscriptions(server, connect, channel):
    """A head, a connect and more in one write, as no SDK does, and publications all the while."""
    end = threading.Event()

    def publish():
        while not end.is_set():
            server.publish(channel, 0)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(20):
            client = connect(connect=False)
            commands = [client.command("connect", subs={channel: {}, f"{channel}-2": {}}),
                        client.command("history", channel=channel),
                        client.command("unsubscribe", channel=channel)]
            client.send_commands(*commands)
            first = client.next()
            assert first["id"] == 1 and first["connect"]["subs"].keys() == {channel, f"{channel}-2"}
            start = first["connect"]["subs"][channel]["offset"]
            client.reply(2)
            client.reply(3)
            seen = offsets([push["pub"] for push in client.pushes])
            assert seen == list(range(start + 1, start + 1 + len(seen)))
            client.close()
    finally:
        end.set()
        thread.join()


def test_a_client_that_is_too_fast_is_slowed_down_before_it_is_closed(driver):
    with Server(driver, config="[client]\nframes_per_second_max = 50\n") as server, \
            Client(server) as client:
        commands = [client.command("publish", channel="fast", data=n) for n in range(120)]
        for command in commands:
            client.send_commands(command)
        for command in commands:
            assert client.reply(command["id"])["publish"] == {}
