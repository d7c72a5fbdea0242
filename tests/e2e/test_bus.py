"""Several nodes on one Redis act as one server: order, positions, history and recovery are the same
on all of them."""

import base64
import json
import threading

import pytest

from harness.client import Client, Plain, data, offsets
from harness.config import FRAMES, namespace, recovered
from harness.nodes import Nodes
from harness.server import Server, eventually
from harness.wire import BINARY, TEXT, Wire, frame

NODES = {"config": "".join([
    FRAMES,
    namespace("none", history_size=0, history_ttl="0s", force_recovery=False),
    recovered("text", 10, data="text"),
    recovered("binary", 10, data="binary"),
    recovered("small", 5),
    recovered("brief", 10, "1s"),
])}


def together(*calls):
    """The results of these calls, made at the same time."""
    results = [None] * len(calls)

    def run(n, call):
        results[n] = call()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_what_three_nodes_publish_at_once_has_one_order_everywhere(nodes, channel):
    clients = [nodes.subscribe(n, channel) for n in range(3)]
    answers = together(*(
        lambda server=server, n=n: [(f"{n}-{i}", server.publish(channel, f"{n}-{i}"))
                                    for i in range(60)]
        for n, server in enumerate(nodes)))
    seen = [[(pub["offset"], pub["data"]) for pub in client.publications(channel, 180)]
            for client in clients]
    assert seen[0] == seen[1] == seen[2]
    assert [offset for offset, _ in seen[0]] == list(range(1, 181))
    answered = sorted((answer["offset"], id) for answers_of in answers for id, answer in answers_of)
    assert answered == seen[0], "the API's answers are the positions that clients see"
    for answers_of in answers:
        assert [a["offset"] for _, a in answers_of] == sorted(a["offset"] for _, a in answers_of)
    for client in clients:
        client.silent()


def test_a_position_means_the_same_on_every_node(nodes, channel):
    clients = [nodes.connect(n) for n in range(3)]
    position = nodes[0].publish(channel, 1)
    nodes.at(channel, position)
    subscribed = [client.subscribe(channel) for client in clients]
    assert {(s["offset"], s["epoch"]) for s in subscribed} == {(1, position["epoch"])}
    again = nodes[1].publish(channel, 2)
    assert again == {"offset": 2, "epoch": position["epoch"]}
    assert [client.publication(channel)["offset"] for client in clients] == [2, 2, 2]


def test_asking_an_empty_channel_for_its_epoch_gives_the_one_that_it_keeps(nodes, channel):
    epochs = {nodes.connect(n).subscribe(channel)["epoch"] for n in range(3)}
    assert len(epochs) == 1
    assert nodes[2].publish(channel, 1) == {"offset": 1, "epoch": epochs.pop()}


def test_a_clients_publication_arrives_everywhere_with_its_info(nodes, channel):
    clients = [nodes.subscribe(n, channel) for n in range(3)]
    clients[1].publish(channel, {"by": "client"})
    for client in clients:
        publication = client.publication(channel)
        assert publication["data"] == {"by": "client"} and publication["offset"] == 1
        assert publication["info"]["client"] == clients[1].connected["client"]


def test_tags_survive_the_way_and_the_history(nodes, channel):
    client = nodes.subscribe(2, channel)
    nodes[0].publish(channel, 1, tags={"a": "b", "é": ""})
    assert client.publication(channel)["tags"] == {"a": "b", "é": ""}
    eventually(lambda: nodes[1].history(channel))
    assert nodes[1].history(channel)[0]["tags"] == {"a": "b", "é": ""}


def test_the_payload_arrives_byte_for_byte(nodes, channel):
    plain = nodes.plain(1, channel)
    payload = '{"b":  1, "a" : [true ,null], "é":"\\u00e9", "f": 1.0e+3}'
    nodes[0].http.post("/api/publish", content='{"channel":"%s","data":%s}' % (channel, payload),
                       headers={"content-type": "application/json"})
    assert plain.receive() == payload


@pytest.mark.parametrize("size", [1, 1000, 60_000, 700_000])
def test_payloads_of_every_size_pass(nodes, channel, size):
    clients = [nodes.subscribe(n, channel) for n in (0, 2)]
    nodes[1].publish(channel, "x" * size)
    for client in clients:
        assert client.publication(channel)["data"] == "x" * size


def test_text_and_binary_namespaces_pass_as_they_are(nodes):
    for channel, payload, opcode, expected in [
        ("text:pass", {"data": "plain {text é"}, TEXT, "plain {text é".encode()),
        ("binary:pass", {"b64data": base64.b64encode(bytes(range(256))).decode()}, BINARY,
         bytes(range(256))),
    ]:
        with Wire(nodes[0]) as near, Wire(nodes[2]) as far, Wire(nodes[1]) as publisher:
            for n, wire in [(0, near), (2, far)]:
                wire.open(nodes.here(n, channel))
            nodes[1].result("publish", channel=channel, **payload)
            assert near.frame() == far.frame() == (opcode, expected)
            publisher.open(f"/ws?channels={channel}&publish={channel}")
            publisher.send(frame(opcode, b"from a client"))
            assert near.frame() == far.frame() == (opcode, b"from a client")


def test_a_command_sees_the_publications_before_it(nodes, channel):
    """One frame with publications and then a history: it has them, whether they are answered in the
    order of the frame or not, and so has one that is asked for right after the answers."""
    client = nodes.connect(0)
    for n in range(100):
        name = f"{channel}-{n}"
        publishes = [client.command("publish", channel=name, data=at) for at in range(3)]
        history = client.command("history", channel=name, limit=-1)
        ids = client.send_commands(*publishes, history)
        replies = [client.next() for _ in ids]
        assert {reply["id"] for reply in replies[:3]} == set(ids[:3]), replies
        assert "history" in replies[3], replies
        assert sorted(data(replies[3]["history"]["publications"])) == [0, 1, 2]
        client.publish(name, 3)
        assert data(client.history(name, limit=-1)["publications"])[3:] == [3]
        client.send_commands(client.command("publish", channel=name, data=4),
                             client.command("subscribe", channel=name))
        assert "publish" in client.next() and "subscribe" in client.next()


def test_a_namespace_without_history_is_delivered_and_has_no_position(nodes):
    clients = [nodes.subscribe(n, "none:1") for n in range(3)]
    for n in range(20):
        assert "offset" not in nodes[n % 3].publish("none:1", n)
    for client in clients:
        publications = client.publications("none:1", 20)
        assert data(publications) == list(range(20))
        assert not any("offset" in publication for publication in publications)


def test_skip_history_is_delivered_everywhere_and_kept_nowhere(nodes, channel):
    clients = [nodes.subscribe(n, channel) for n in range(3)]
    nodes[0].publish(channel, "kept")
    assert "offset" not in nodes[1].publish(channel, "passing", skip_history=True)
    nodes[2].publish(channel, "kept too")
    for client, server in zip(clients, nodes):
        assert data(client.publications(channel, 3)) == ["kept", "passing", "kept too"]
        assert [(pub["offset"], pub["data"]) for pub in server.history(channel)] == \
            [(1, "kept"), (2, "kept too")]


def test_an_idempotency_key_publishes_once_whichever_node_is_asked(nodes, channel):
    clients = [nodes.subscribe(n, channel) for n in range(3)]
    first = nodes[0].publish(channel, 1, idempotency_key="key")
    assert nodes[1].publish(channel, 1, idempotency_key="key") == first
    assert nodes[2].publish(channel, 1, idempotency_key="key") == first
    assert nodes[2].publish(channel, 2, idempotency_key="other")["offset"] == 2
    for client in clients:
        assert data(client.publications(channel, 2)) == [1, 2]
    clients[0].silent()
    assert nodes[1].publish(f"{channel}-b", 1, idempotency_key="key")["offset"] == 1


def test_an_idempotency_key_publishes_once_on_all_nodes_at_the_same_time(nodes, channel):
    answers = together(*(
        lambda server=server: server.publish(channel, 1, idempotency_key="race")
        for server in list(nodes) * 4))
    assert {answer["offset"] for answer in answers} == {1}
    assert nodes[0].publish(channel, 2)["offset"] == 2


def test_history_is_the_same_on_every_node(nodes, channel):
    for n in range(30):
        position = nodes[n % 3].publish(channel, n)
    nodes.at(channel, position)
    kept = [server.history(channel) for server in nodes]
    assert kept[0] == kept[1] == kept[2]
    assert data(kept[0]) == list(range(30)) and offsets(kept[0]) == list(range(1, 31))
    since = {"offset": 28, "epoch": position["epoch"]}
    assert data(nodes[2].history(channel, since=since)) == [28, 29]


def test_history_remove_holds_on_every_node_and_offsets_go_on(nodes, channel):
    for n in range(3):
        before = nodes[0].publish(channel, n)
    nodes.at(channel, before)
    assert nodes[1].result("history_remove", channel=channel) == {}
    for server in nodes:
        eventually(lambda: server.history(channel) == [], what="it is removed everywhere")
    after = nodes[2].publish(channel, 3)
    assert after["epoch"] != before["epoch"] or after["offset"] == 4
    for server in nodes:
        eventually(lambda: data(server.history(channel)) == [3])


def test_history_ends_by_size_and_by_time_on_every_node(nodes):
    for n in range(1, 21):
        position = nodes[n % 3].publish("small:1", n)
        nodes[n % 3].publish("brief:1", n)
    nodes.at("small:1", position)
    for server in nodes:
        assert offsets(server.history("small:1")) == [16, 17, 18, 19, 20]
        eventually(lambda: server.history("brief:1") == [], what="it has expired")
        assert server.result("history", channel="brief:1", limit=0)["offset"] == 20
    assert nodes[1].publish("brief:1", 21)["offset"] == 21


def test_a_position_of_one_node_is_recovered_on_another(nodes, channel):
    for n in range(1, 11):
        position = nodes[0].publish(channel, n)
    nodes.at(channel, position)
    for n in range(3):
        result = nodes.connect(n).subscribe(channel, recover=True, offset=4,
                                            epoch=position["epoch"])
        assert result["recovered"] is True
        assert offsets(result["publications"]) == [5, 6, 7, 8, 9, 10]
    with Plain(nodes[2], f"/ws?channels={channel}&envelope=json&since={position['epoch']}:8") as ws:
        assert ws.begin()["offset"] == 8
        assert [json.loads(ws.receive())["offset"] for _ in range(2)] == [9, 10]


def test_more_missed_than_is_kept_is_told_on_another_node(nodes):
    first = nodes[0].publish("small:told", 0)
    for n in range(20):
        last = nodes[0].publish("small:told", n)
    nodes.at("small:told", last)
    result = nodes.connect(2).subscribe("small:told", recover=True, **first)
    assert not result.get("recovered") and result["offset"] == last["offset"]


def test_many_channels_arrive_each_in_its_order(nodes):
    channels = [f"many-{n}" for n in range(240)]
    halves = [(nodes.connect(2), channels[::2]), (nodes.connect(1), channels[1::2])]
    for client, own in halves:
        for channel in own:
            client.subscribe(channel)
    for n in range(5):
        responses = nodes[n % 3].result("broadcast", channels=channels, data=n)["responses"]
        assert [response["result"]["offset"] for response in responses] == [n + 1] * 240
    for client, own in halves:
        seen = {channel: [] for channel in own}
        for _ in range(5 * len(own)):
            push = client.push()
            seen[push["channel"]].append(push["pub"]["data"])
        assert all(one == [0, 1, 2, 3, 4] for one in seen.values()), seen
    assert len(nodes.redis.streams()) == 8, "the channels are spread over all streams"


def test_a_batch_is_answered_in_its_order(nodes, channel):
    client = nodes.subscribe(1, channel)
    commands = [{"publish": {"channel": channel, "data": n}} for n in range(100)]
    replies = nodes[0].api("batch", {"commands": commands}).json()["replies"]
    assert [reply["publish"]["offset"] for reply in replies] == list(range(1, 101))
    assert data(client.publications(channel, 100)) == list(range(100))


@pytest.mark.parametrize("name", ["{0}", "a{x}b", "{}", "with space", "none:c:", "{", "%7B",
                                  "*?["])
def test_every_channel_name_is_a_channel_of_its_own(nodes, name):
    client = nodes.subscribe(2, name)
    nodes[0].publish(name, "here")
    assert client.publication(name)["data"] == "here"
    client.silent(0.05)


def test_the_ids_in_redis_have_no_holes(nodes, channel):
    for n in range(20):
        nodes[n % 3].publish(f"{channel}-{n}", n)
    for name in nodes.redis.streams().values():
        ids = [tuple(map(int, id.split(b"-"))) for id, _ in nodes.redis.client.xrange(name)]
        assert len({epoch for epoch, _ in ids}) == 1
        numbers = [n for _, n in ids]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_the_bus_is_seen_in_metrics_and_readiness(nodes, channel):
    before = nodes[0].metrics().total("corecast_bus_publications_total", result="ok")
    for n in range(10):
        nodes[0].publish(channel, n)
    eventually(lambda: nodes[0].metrics().total("corecast_bus_publications_total", result="ok")
               == before + 10)
    for server in nodes:
        metrics = server.metrics()
        assert metrics.total("corecast_bus_up") == 1
        assert 0 <= metrics.total("corecast_bus_lag_seconds") < 1
        assert metrics.total("corecast_bus_gaps_total") == 0
        for name in ("corecast_bus_epoch_changes_total", "corecast_bus_pending_bytes",
                     "corecast_history_window_seconds"):
            assert name in metrics.names()
        ready = server.http.get("/ready")
        assert ready.status_code == 200 and "degraded" not in ready.text


def test_clients_of_a_killed_node_recover_everything_on_another(nodes, join, channel):
    extra = join([nodes.redis.url])
    client = extra.subscribe(0, channel)
    for n in range(1, 6):
        position = nodes[0].publish(channel, n)
    client.publications(channel, 5)
    extra[0].kill()
    for n in range(6, 20):
        nodes[1].publish(channel, n)
    again = nodes.connect(2)
    result = eventually(lambda: _recovered(again, channel, position, 14))
    assert offsets(result["publications"]) == list(range(6, 20))
    nodes[0].publish(channel, 20)
    assert again.publication(channel)["offset"] == 20


def _recovered(client, channel, position, count):
    """The reply to a recovery, once the node has read as many publications from the bus."""
    result = client.subscribe(channel, recover=True, **position)
    if len(result.get("publications", [])) == count:
        return result
    client.unsubscribe(channel)


def test_a_starting_node_knows_what_was_published_before(nodes, join, channel):
    for n in range(1, 11):
        position = nodes[n % 3].publish(channel, n)
    late = join([nodes.redis.url])
    assert late[0].result("history", channel=channel, limit=0) == {"publications": [], **position}
    assert data(late[0].history(channel)) == list(range(1, 11))
    result = late.connect(0).subscribe(channel, recover=True, offset=3, epoch=position["epoch"])
    assert result["recovered"] is True and offsets(result["publications"]) == list(range(4, 11))
    assert late[0].publish(channel, 11)["offset"] == 11


def test_a_node_that_starts_again_recovers_its_own_clients(nodes, join, channel):
    fleeting = join([nodes.redis.url])
    position = fleeting[0].publish(channel, 1)
    fleeting[0].kill()
    nodes[0].publish(channel, 2)
    fleeting[0].start()
    result = fleeting.connect(0).subscribe(channel, recover=True, **position)
    assert result["recovered"] is True and data(result["publications"]) == [2]


def test_another_prefix_is_another_bus(nodes, driver, channel):
    client = nodes.subscribe(0, channel)
    config = '[redis]\nprefix = "other"\n' + NODES["config"]
    other = Nodes(driver, [nodes.redis.url] * 2, config=config)
    try:
        theirs = other.subscribe(1, channel)
        other[0].publish(channel, "theirs")
        assert theirs.publication(channel)["data"] == "theirs"
        client.silent()
        nodes[0].publish(channel, "ours")
        assert client.publication(channel)["data"] == "ours"
        theirs.silent()
        assert nodes.redis.streams("other")
    finally:
        other.stop()


def test_without_redis_servers_share_nothing(driver, channel):
    with Server(driver) as one, Server(driver) as other, Client(other) as client:
        client.subscribe(channel)
        assert one.publish(channel, 1)["offset"] == 1
        client.silent()
        assert other.publish(channel, 1)["offset"] == 1
        assert client.publication(channel)["data"] == 1
