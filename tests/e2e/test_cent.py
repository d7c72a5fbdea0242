"""The HTTP API must satisfy `cent`, Centrifugo's Python client."""

import asyncio

import cent
import pytest


@pytest.fixture
def api(server):
    with_client = cent.Client(f"{server.api_url}/api", api_key="any")
    yield with_client
    with_client.close()


def test_publish_and_history(api, channel):
    first = api.publish(cent.PublishRequest(channel=channel, data={"n": 1}))
    assert first.offset == 1 and first.epoch
    api.publish(cent.PublishRequest(channel=channel, data="two", tags={"a": "b"}))
    result = api.history(cent.HistoryRequest(channel=channel, limit=-1))
    assert [pub.data for pub in result.publications] == [{"n": 1}, "two"]
    assert (result.offset, result.epoch) == (2, first.epoch)
    api.history_remove(cent.HistoryRemoveRequest(channel=channel))
    assert api.history(cent.HistoryRequest(channel=channel, limit=-1)).publications == []


def test_broadcast(api, channel):
    result = api.broadcast(cent.BroadcastRequest(channels=[channel, f"{channel}-b"], data=1))
    assert [response.result.offset for response in result.responses] == [1, 1]


def test_batch(api, channel):
    result = api.batch(cent.BatchRequest(requests=[
        cent.PublishRequest(channel=channel, data=1),
        cent.BroadcastRequest(channels=[channel], data=2),
        cent.HistoryRequest(channel=channel, limit=-1),
        cent.InfoRequest(),
    ]))
    publish, broadcast, history, info = result.replies
    assert publish.offset == 1 and broadcast.responses[0].result.offset == 2
    assert [pub.data for pub in history.publications] == [1, 2]
    assert len(info.nodes) == 1


def test_channels_and_info(api, connect, channel):
    connect().subscribe(channel)
    assert api.channels(cent.ChannelsRequest(pattern=channel)).channels[channel].num_clients == 1
    (node,) = api.info(cent.InfoRequest()).nodes
    assert node.uid and node.num_clients >= 1


def test_disconnect_and_unsubscribe(api, connect, channel):
    client = connect()
    client.subscribe(channel)
    api.unsubscribe(cent.UnsubscribeRequest(
        user="", channel=channel, client=client.connected["client"]))
    assert client.push()["unsubscribe"]["code"] == 2000
    api.disconnect(cent.DisconnectRequest(user="", client=client.connected["client"]))
    assert client.closed()[0] == 3503


def test_an_error_is_an_exception_with_its_code(api):
    with pytest.raises(cent.CentApiResponseError) as refused:
        api.publish(cent.PublishRequest(channel="n" * 256, data=1))
    assert refused.value.code == 107


def test_the_asynchronous_client(server, channel):
    async def run():
        async with cent.AsyncClient(f"{server.api_url}/api", api_key="any") as api:
            results = await asyncio.gather(*(
                api.publish(cent.PublishRequest(channel=channel, data=n)) for n in range(20)))
            return sorted(result.offset for result in results)
    assert asyncio.run(run()) == list(range(1, 21))
