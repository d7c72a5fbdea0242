"""Limits and costs of channels: their number, new ones per second, bytes, keys, and publications
that no recovery could return."""

import pytest
import websockets.exceptions

from harness.cage import Cage
from harness.client import Client, Closed, Plain
from harness.server import Server, eventually
from harness.wire import TEXT, Wire, frame

HISTORY = 'history_size = 100\nhistory_ttl = "60s"\n'

# As JSON, beside what a publication costs besides.
RECOVERY_BYTES_MAX = 768 * 1024


def test_names_that_clients_invent_drive_nobodys_history_out(driver):
    config = f'[channel]\n{HISTORY}history_bytes_max = "256KiB"\n'
    config += "[client]\nchannels_created_per_second_max = 1000000\n"
    with Server(driver, config=config) as server:
        with Client(server) as reader:
            epoch = reader.subscribe("c", recoverable=True)["epoch"]
        for number in range(20):
            server.publish("c", number)
        clients = [Client(server) for _ in range(40)]
        for at, client in enumerate(clients):
            names = [f"{at:03}{number:03}".ljust(255, "x") for number in range(128)]
            client.send_commands(*(client.command("subscribe", channel=name) for name in names))
        for client in clients:
            for _ in range(128):
                assert "subscribe" in client.next()
        assert server.metrics().total("corecast_channels_in_use") == 40 * 128
        with Client(server) as reader:
            result = reader.subscribe("c", recover=True, epoch=epoch, offset=0)
            assert result["recovered"] and len(result["publications"]) == 20
        for client in clients:
            client.close()
        eventually(lambda: server.metrics().total("corecast_channels") == 1, 5, "all are forgotten")
        assert server.metrics().total("corecast_history_evictions_total") == 0


def test_a_position_before_the_first_publication_stays_true_when_everybody_has_left(driver):
    with Server(driver, config=f"[channel]\n{HISTORY}") as server:
        with Client(server) as client:
            seen = client.subscribe("c", recoverable=True)
            assert seen.get("offset", 0) == 0
        eventually(lambda: server.metrics().total("corecast_channels") == 0, 5, "it costs nothing")
        for number in range(2):
            server.publish("c", number)
        with Client(server) as client:
            result = client.subscribe("c", recover=True, epoch=seen["epoch"], offset=0)
            assert result["recovered"]
            assert [pub["data"] for pub in result["publications"]] == [0, 1]


def test_beyond_its_channels_a_node_refuses_new_ones_with_111(driver):
    with Server(driver, config="[channel]\nchannels_max = 10\n", shards=2) as server:
        with Client(server) as client, Client(server) as other:
            for number in range(10):
                client.subscribe(f"c{number}")
            assert other.error("subscribe", channel="more") == 111
            other.subscribe("c3")
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                Plain(server, "/ws?channels=more")
            assert refused.value.response.status_code == 503
            assert "retry-after" in refused.value.response.headers
            body = refused.value.response.body.decode()
            assert 'channel "more"' in body and "channel.channels_max is reached" in body, body
            assert server.metrics().total("corecast_channels_refused_total") == 2
            client.unsubscribe("c0")
            # The channel's home hears of it a moment later.
            eventually(lambda: "subscribe" in other.ask("subscribe", channel="more"), 2, "room")


@pytest.mark.parametrize("way", ["subscribe", "publish", "history"])
def test_a_client_that_invents_names_is_refused_with_111_and_nobody_else_is(driver, way):
    config = f"[channel]\n{HISTORY}[client]\nchannels_max = 20\n"
    config += "channels_created_per_second_max = 1\n"
    with Server(driver, config=config) as server, Client(server) as client:
        codes = []
        for number in range(60):
            params = {"publish": {"data": 1}}.get(way, {})
            answer = client.ask(way, channel=f"x{number}", **params)
            codes.append(answer.get("error", {}).get("code", 0))
            if way == "subscribe":
                client.ask("unsubscribe", channel=f"x{number}")
        assert codes[:20] == [0] * 20, "its burst"
        assert set(codes) == {0, 111} and codes.count(0) < 40
        created = server.metrics().total("corecast_channels_created_total")
        assert created == codes.count(0)
        with Client(server) as other:
            other.subscribe("new")
            # What has subscribers on its shard may be named at any time.
            shared = [Client(server) for _ in range(8)]
            for one in shared:
                one.subscribe("new")
            client.subscribe("new")


def test_names_of_one_path_count_together(driver):
    config = "[channel]\ncreated_per_second_max = 10\n"
    with Server(driver, config=config) as server:
        names = ",".join(f"x{number}" for number in range(50))
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            Plain(server, f"/ws?channels={names}")
        assert refused.value.response.status_code == 503
        body = refused.value.response.body.decode()
        assert 'channel "x10"' in body and "channel.created_per_second_max" in body, body
        assert server.metrics().total("corecast_channels_created_total") == 0
        # What is there is given back, so it may be named any number of times.
        with Client(server) as client:
            client.subscribe("there")
            for _ in range(40):
                with Plain(server, "/ws?channels=there"):
                    pass


def test_a_publication_that_could_not_be_recovered_is_refused_at_every_entrance(driver):
    config = f'[client]\nmessage_bytes_max = "2MiB"\noutbox_bytes_max = "2MiB"\n'
    config += f'[api]\nbody_bytes_max = "4MiB"\n[channel]\n{HISTORY}'
    config += '[[channel.namespaces]]\nname = "live"\nhistory_size = 0\nhistory_ttl = "0s"\n'
    config += "force_recovery = false\nallow_recovery = false\n"
    long, fits = "x" * RECOVERY_BYTES_MAX, "x" * (RECOVERY_BYTES_MAX - 1000)
    with Server(driver, config=config) as server, Client(server) as client:
        body = server.api("publish", {"channel": "c", "data": long}).json()
        assert body["error"]["code"] == 106
        for number in (str(RECOVERY_BYTES_MAX), "this one has 786"):
            assert number in body["error"]["message"]
        channels = ["c", "live:c"]
        responses = server.result("broadcast", channels=channels, data=long)["responses"]
        assert ["error" in response for response in responses] == [True, False]
        assert client.error("publish", channel="c", data=long) == 106
        server.publish("c", long, skip_history=True)
        with Plain(server, "/ws?channels=c&publish=c") as plain:
            plain.send(f'"{long}"')
            with pytest.raises(Closed) as closed:
                while True:
                    plain.receive()
            assert closed.value.code == 1009
        epoch = client.subscribe("c", recoverable=True)["epoch"]
        client.publish("c", fits)
        client.publish("live:c", long)
        with Client(server) as reader:
            result = reader.subscribe("c", recover=True, epoch=epoch, offset=0)
            assert result["recovered"] and len(result["publications"]) == 1


def test_idempotency_keys_have_a_bound_of_their_own(driver):
    with Server(driver, config='[api]\nidempotency_bytes_max = "16KiB"\n') as server:
        commands = [{"publish": {"channel": f"c{at}", "data": at, "idempotency_key": f"k{at}"}}
                    for at in range(500)]
        replies = server.api("batch", {"commands": commands}).json()["replies"]
        codes = [reply.get("error", {}).get("code", 0) for reply in replies]
        assert set(codes) == {0, 111}
        assert 100 < codes.count(0) < 16 * 1024 / 60
        used = server.metrics().total("corecast_idempotency_bytes")
        assert 16 * 1024 / 2 < used <= 16 * 1024
        again = server.api("batch", {"commands": commands[:1]}).json()["replies"]
        assert "error" not in again[0], "a repeat needs no room"
        server.publish("c", 1)


# A second copy of a long name would cost more than everything else that a channel has.
@pytest.mark.heavy
@pytest.mark.parametrize("name_bytes, allocated_bytes", [(20, 48), (255, 320)])
def test_a_private_channel_costs_250_bytes_and_its_name_once(driver, name_bytes, allocated_bytes):
    clients, channels, at_once = 400, 127, 20
    config = "[client]\nchannels_created_per_second_max = 1000000\n"
    # Clients answer no pings while others subscribe.
    config += 'ping_interval = "5m"\n'

    def subscribe(wires, names):
        for at, wire in enumerate(wires):
            lines = (b'{"id":%d,"subscribe":{"channel":"%s"}}' % (number, name.encode())
                     for number, name in enumerate(names(at), 2))
            wire.send(frame(TEXT, b"\n".join(lines)))
        for at, wire in enumerate(wires):
            answered = 0
            while answered < len(names(at)):
                _, payload = wire.frame()
                assert b'"error"' not in payload, payload
                answered += payload.count(b'"subscribe"')

    def own(first):
        return lambda at: [f"{first + at:08} {number:011}".ljust(name_bytes, "x")
                           for number in range(channels)]

    # A channel's home may be on another shard than its subscriber.
    with Server(driver, config=config, shards=2) as server:
        wires = [Wire(server).connect() for _ in range(clients)]
        subscribe(wires, lambda at: ["shared"])
        # The first round is the heap's and the page tables' growth.
        subscribe(wires[:at_once], own(0))
        before = server.rss_bytes()
        for first in range(at_once, clients, at_once):
            subscribe(wires[first:first + at_once], own(first))
        count = (clients - at_once) * channels
        private = (server.rss_bytes() - before) / count
        # A name has the counts of its allocation, and is rounded up by the allocator.
        print(f"{private:.0f} B for each of {count} private channels of {name_bytes} B")
        assert private <= 250 + allocated_bytes
        for wire in wires:
            wire.close()
        eventually(lambda: server.metrics().total("corecast_channels") == 0, 10, "all are gone")


@pytest.mark.heavy
def test_a_crowd_that_invents_names_has_so_many_channels_and_no_more(driver):
    clients, names, most = 600, 128, 20_000
    config = f"[channel]\n{HISTORY}channels_max = {most}\ncreated_per_second_max = 1000000\n"
    config += "force_recovery = true\n"
    # What a channel costs, its name, what the allocator rounds up to, and tables that grow.
    allowed = most * (250 + 255 + 48) * 3 // 2 + (8 << 20)
    with Cage() as cage, Server(driver, shards=1, config=config, prefix=cage.enter) as server, \
            Client(server) as subscriber:
        # Clients of this host have no shares by network, so the channel must be there already.
        epoch = subscriber.subscribe("c")["epoch"]
        server.publish("c", 0)
        for number in range(1, 20):
            server.publish("c", number)
        cage.allow(server, allowed, connections=clients)
        wires = [Wire(server).connect() for _ in range(clients)]
        in_use = lambda: server.metrics().total("corecast_channels_in_use")
        refused = lambda: server.metrics().total("corecast_channels_refused_total")
        for at, wire in enumerate(wires):
            lines = (b'{"id":%d,"subscribe":{"channel":"%s"}}'
                     % (2 + number, b"%05d%03d" % (at, number) + b"x" * 247)
                     for number in range(names))
            wire.send(frame(TEXT, b"\n".join(lines)))
            if at % 50 == 49:  # Input has a bound of its own.
                asked = (at + 1) * names
                eventually(lambda: in_use() + refused() >= asked, 20, "all are answered")
        # What spare room shards and subnets have is not used up.
        assert in_use() > most // 2
        assert in_use() <= most
        cage.check()
        with Client(server) as reader:
            result = reader.subscribe("c", recover=True, epoch=epoch, offset=0)
            assert result["recovered"] and len(result["publications"]) == 20
        server.publish("c", 20)
        for wire in wires:
            wire.close()
        eventually(lambda: in_use() == 1, 10, "all are forgotten")
        assert server.metrics().total("corecast_history_evictions_total") == 0
        cage.check()
