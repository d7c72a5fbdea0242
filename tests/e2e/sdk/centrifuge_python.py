"""Scenarios for `centrifuge-python`, whichever version this interpreter has:

    python centrifuge_python.py SCENARIO WS_URL API_URL PREFIX_OF_CHANNELS

Exit status 0 is success. A scenario that needs the server changed under it prints READY and waits;
whoever started it does the rest.
"""

import asyncio
import json
import sys
import urllib.request

from centrifuge import (
    CentrifugeError, Client, ClientEventHandler, ReplyError, StreamPosition,
    SubscriptionEventHandler,
)

SCENARIO, WS_URL, API_URL, PREFIX = sys.argv[1:5]
SECONDS = 8


async def api(method, **payload):
    def post():
        request = urllib.request.Request(
            f"{API_URL}/api/{method}", json.dumps(payload).encode(),
            {"content-type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return json.load(opener.open(request, timeout=10))
    body = await asyncio.get_running_loop().run_in_executor(None, post)
    assert "error" not in body, (method, body)
    return body.get("result", body.get("replies"))


class Events:
    """What was heard, in one queue for each kind of event."""

    def __init__(self):
        self.queues = {}

    def queue(self, kind):
        return self.queues.setdefault(kind, asyncio.Queue())

    async def next(self, kind, seconds=SECONDS):
        try:
            return await asyncio.wait_for(self.queue(kind).get(), seconds)
        except asyncio.TimeoutError:
            waiting = {kind: queue.qsize() for kind, queue in self.queues.items()}
            raise AssertionError(f"no {kind!r} came; waiting: {waiting}") from None

    async def lost(self):
        """The code with which the connection was lost: older versions call that disconnected, even
        where they come back by themselves."""
        kinds = [asyncio.ensure_future(self.queue(kind).get())
                 for kind in ("connecting", "disconnected")]
        done, waiting = await asyncio.wait(
            kinds, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        assert done, "the connection was not lost"
        return done.pop().result().code

    def empty(self, kind):
        return self.queue(kind).empty()


class OfClient(Events, ClientEventHandler):
    async def on_connecting(self, ctx):
        self.queue("connecting").put_nowait(ctx)

    async def on_connected(self, ctx):
        self.queue("connected").put_nowait(ctx)

    async def on_disconnected(self, ctx):
        self.queue("disconnected").put_nowait(ctx)

    async def on_error(self, ctx):
        self.queue("error").put_nowait(ctx)

    async def on_subscribed(self, ctx):
        self.queue("subscribed").put_nowait(ctx)

    async def on_unsubscribed(self, ctx):
        self.queue("unsubscribed").put_nowait(ctx)

    async def on_publication(self, ctx):
        self.queue("publication").put_nowait(ctx.pub)


class OfSubscription(Events, SubscriptionEventHandler):
    async def on_subscribed(self, ctx):
        self.queue("subscribed").put_nowait(ctx)

    async def on_unsubscribed(self, ctx):
        self.queue("unsubscribed").put_nowait(ctx)

    async def on_publication(self, ctx):
        self.queue("publication").put_nowait(ctx.pub)


async def make_client():
    events = OfClient()
    client = Client(WS_URL, events=events)
    await client.connect()
    connected = await events.next("connected")
    return client, events, connected.client


async def make_subscription(client, channel, **options):
    events = OfSubscription()
    subscription = client.new_subscription(channel, events, **options)
    await subscription.subscribe()
    return subscription, events


async def basic():
    client, events, id = await make_client()
    subscription, sub = await make_subscription(client, f"{PREFIX}-basic")
    subscribed = await sub.next("subscribed")
    assert subscribed.recoverable and subscribed.stream_position.epoch, subscribed
    await subscription.publish({"n": 1, "text": "é\n\U0001f600"})
    own = await sub.next("publication")
    assert own.data == {"n": 1, "text": "é\n\U0001f600"} and own.info.client == id, own
    await client.publish(f"{PREFIX}-basic", {"n": 2})
    await api("publish", channel=f"{PREFIX}-basic", data={"n": 3}, tags={"a": "b"})
    assert (await sub.next("publication")).offset == 2
    assert (await sub.next("publication")).tags == {"a": "b"}

    history = await subscription.history(limit=10)
    assert [pub.data["n"] for pub in history.publications] == [1, 2, 3]
    assert history.offset == 3
    page = await subscription.history(limit=1, since=StreamPosition(1, history.epoch))
    assert [pub.data["n"] for pub in page.publications] == [2]
    newest = await subscription.history(limit=2, reverse=True)
    assert [pub.data["n"] for pub in newest.publications] == [3, 2]
    position = await subscription.history()
    assert position.publications == [] and position.offset == 3

    await subscription.unsubscribe()
    await sub.next("unsubscribed")
    await api("publish", channel=f"{PREFIX}-basic", data={"n": 4})
    await asyncio.sleep(0.2)
    assert sub.empty("publication")
    await subscription.subscribe()
    await sub.next("subscribed")
    await client.disconnect()
    assert (await events.next("disconnected")).code == 0
    assert events.empty("error")


async def many():
    client, _, _ = await make_client()
    made = [await make_subscription(client, f"{PREFIX}-many-{n}") for n in range(50)]
    for _, sub in made:
        await sub.next("subscribed")
    await asyncio.gather(*(subscription.publish(n) for n, (subscription, _) in enumerate(made)))
    for n, (_, sub) in enumerate(made):
        assert (await sub.next("publication")).data == n
    await client.disconnect()


async def order():
    client, _, _ = await make_client()
    _, sub = await make_subscription(client, f"{PREFIX}-order")
    await sub.next("subscribed")
    for start in range(0, 500, 100):
        await api("batch", commands=[
            {"publish": {"channel": f"{PREFIX}-order", "data": n}}
            for n in range(start, start + 100)])
    for n in range(500):
        assert (await sub.next("publication")).data == n
    await client.disconnect()


async def recovery():
    client, events, id = await make_client()
    _, sub = await make_subscription(client, f"{PREFIX}-recovery")
    await sub.next("subscribed")
    await api("publish", channel=f"{PREFIX}-recovery", data=1)
    await sub.next("publication")
    await events.next("connecting")
    # One call, so that the publications are there before the client is back.
    await api("batch", commands=[
        {"disconnect": {"user": "", "client": id,
                        "disconnect": {"code": 4100, "reason": "come back"}}},
        *({"publish": {"channel": f"{PREFIX}-recovery", "data": n}} for n in range(2, 21)),
    ])
    assert await events.lost() == 4100
    subscribed = await sub.next("subscribed")
    assert subscribed.was_recovering and subscribed.recovered, subscribed
    for n in range(2, 21):
        pub = await sub.next("publication")
        assert (pub.data, pub.offset) == (n, n), pub
    await api("publish", channel=f"{PREFIX}-recovery", data=21)
    assert (await sub.next("publication")).offset == 21
    assert sub.empty("publication")
    await client.disconnect()


async def terminal():
    _, events, id = await make_client()
    await api("disconnect", user="", client=id)
    assert (await events.next("disconnected")).code == 3503
    await asyncio.sleep(1)
    assert events.empty("connected"), "it must not come back"


async def unsubscribed():
    client, _, id = await make_client()
    _, sub = await make_subscription(client, f"{PREFIX}-unsubscribed")
    await sub.next("subscribed")
    await api("unsubscribe", user="", client=id, channel=f"{PREFIX}-unsubscribed")
    assert (await sub.next("unsubscribed")).code == 2000
    await client.disconnect()


async def errors():
    client, _, _ = await make_client()

    async def code(coroutine):
        try:
            await coroutine
        except ReplyError as error:
            return error.code
        except CentrifugeError as error:
            return repr(error)
        return None

    assert await code(client.rpc("method", {})) == 108
    assert await code(client.presence(f"{PREFIX}-errors")) == 108
    assert await code(client.presence_stats(f"{PREFIX}-errors")) == 108
    assert await code(client.publish("a" * 256, {})) == 107
    since = StreamPosition(1, "other")
    assert await code(client.history(f"{PREFIX}-errors", limit=1, since=since)) == 112
    _, sub = await make_subscription(client, "a" * 256)
    assert (await sub.next("unsubscribed")).code == 107
    await client.disconnect()


async def token():
    events = OfClient()
    await Client(WS_URL, events=events, token="eyJh.e30.x").connect()
    assert (await events.next("disconnected")).code == 3500
    client, _, _ = await make_client()
    _, sub = await make_subscription(client, f"{PREFIX}-token", token="eyJh.e30.x")
    assert (await sub.next("unsubscribed")).code == 103
    await client.disconnect()


async def protobuf():
    events = OfClient()
    await Client(WS_URL, events=events, use_protobuf=True).connect()
    assert (await events.next("disconnected")).code == 3506
    await asyncio.sleep(0.5)
    assert events.queue("connecting").qsize() <= 1, "it must not try again"


async def server_side():
    client, events, id = await make_client()
    channel = f"{PREFIX}-server-side"
    await api("publish", channel=channel, data=0)
    await api("subscribe", user="", client=id, channel=channel)
    first = await events.next("subscribed")
    assert first.recoverable and first.stream_position.offset == 1, first
    await api("publish", channel=channel, data=1)
    assert (await events.next("publication")).data == 1
    await api("batch", commands=[
        {"disconnect": {"user": "", "client": id,
                        "disconnect": {"code": 4100, "reason": "come back"}}},
        *({"publish": {"channel": channel, "data": n}} for n in range(2, 21)),
    ])
    again = await events.next("subscribed")
    assert again.channel == channel and again.was_recovering and again.recovered, again
    for n in range(2, 21):
        assert (await events.next("publication")).data == n
    await api("publish", channel=channel, data=21)
    assert (await events.next("publication")).offset == 22
    assert events.empty("unsubscribed")
    await client.disconnect()


async def idle():
    client, events, _ = await make_client()
    _, sub = await make_subscription(client, f"{PREFIX}-idle")
    await sub.next("subscribed")
    await asyncio.sleep(7)
    await api("publish", channel=f"{PREFIX}-idle", data=1)
    await sub.next("publication")
    assert events.empty("connected")
    await client.disconnect()


async def restart():
    client, events, _ = await make_client()
    _, sub = await make_subscription(client, f"{PREFIX}-restart")
    before = await sub.next("subscribed")
    await api("publish", channel=f"{PREFIX}-restart", data=1)
    await sub.next("publication")
    await events.next("connecting")
    print("READY", flush=True)
    assert await events.lost() == 3001
    await events.next("connected", 30)
    after = await sub.next("subscribed")
    assert after.was_recovering and not after.recovered, after
    assert after.stream_position.epoch != before.stream_position.epoch
    await api("publish", channel=f"{PREFIX}-restart", data=2)
    assert (await sub.next("publication")).data == 2
    await client.disconnect()


asyncio.run(globals()[SCENARIO]())
