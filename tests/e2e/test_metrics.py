"""`/metrics`, `/live` and `/ready`, as an operator sees them."""

import socket
import time

from harness.client import Client
from harness.server import eventually
from harness.wire import Wire
from harness.witness import Witness

ALWAYS_THERE = {
    "corecast_connections", "corecast_publications_total", "corecast_deliveries_total",
    "corecast_delivered_bytes_total", "corecast_outbox_bytes", "corecast_loop_stalls_total",
    "corecast_shard_busy_ratio", "corecast_audit_errors_total", "corecast_build_info",
    "corecast_delivery_seconds_count", "corecast_delivery_seconds_sum",
    "corecast_delivery_seconds_bucket",
}


def test_the_promised_metrics_are_there_and_of_no_other_kind(server, connect, channel):
    connect().subscribe(channel)
    server.publish(channel, 1)
    metrics = eventually(lambda: _complete(server.metrics()), what="every promised name is there")
    assert "summary" not in metrics.types.values(), "histograms, no summaries"
    for name in metrics.names():
        assert name.startswith(("corecast_", "process_")), name


def _complete(metrics):
    return metrics if ALWAYS_THERE <= metrics.names() else None


def test_the_exposition_is_one_that_a_scraper_reads(server):
    response = server.http.get("/metrics")
    kind = response.headers["content-type"]
    assert kind.startswith(("text/plain", "application/openmetrics-text")), kind
    if kind.startswith("application/openmetrics-text"):
        assert response.text.endswith("# EOF\n")
    assert server.metrics().types["corecast_connections"] == "gauge"


def test_connections_move_with_clients(server, connect):
    before = server.settled_metrics()
    client = connect()
    eventually(lambda: server.connections() == before.total("corecast_connections") + 1)
    eventually(lambda: server.metrics().total("corecast_handshakes_total")
               == before.total("corecast_handshakes_total") + 1)
    client.close()
    eventually(lambda: server.connections() == before.total("corecast_connections"))
    after = server.settled_metrics()
    assert after.total("corecast_closes_total") == before.total("corecast_closes_total") + 1


def test_publications_and_deliveries_are_counted(server, connect, channel):
    listeners = [connect() for _ in range(4)]
    for listener in listeners:
        listener.subscribe(channel)
    before = server.settled_metrics()
    for n in range(10):
        server.publish(channel, n)
    listeners[0].publish(channel, 10)
    for listener in listeners:
        listener.publications(channel, 11)

    def moved(name):
        return server.metrics().total(name) - before.total(name)

    eventually(lambda: moved("corecast_publications_total") == 11)
    sources = {labels["source"] for name, labels, _ in server.metrics().samples
               if name == "corecast_publications_total"}
    assert len(sources) >= 2, "the API and a client are different sources"
    eventually(lambda: moved("corecast_deliveries_total") == 44)
    assert moved("corecast_delivered_bytes_total") > 44
    eventually(lambda: moved("corecast_delivery_seconds_count") > 0)


def test_a_close_is_counted_by_its_reason(server, connect):
    before = server.settled_metrics()
    client = connect()
    client.send("nonsense")
    client.closed()
    eventually(lambda: server.metrics().total("corecast_closes_total")
               == before.total("corecast_closes_total") + 1)
    changed = [labels for name, labels, value in server.metrics().samples
               if name == "corecast_closes_total" and value > before.total(name, **labels)]
    assert len(changed) == 1 and set(changed[0]) >= {"reason"}, changed


def test_recoveries_are_counted_by_their_result(server, connect, channel):
    before = server.settled_metrics().total("corecast_recoveries_total")
    connect().subscribe(channel, recover=True, offset=0, epoch="")
    connect().subscribe(channel, recover=True, offset=9, epoch="other")
    eventually(lambda: server.metrics().total("corecast_recoveries_total") == before + 2)
    results = {labels["result"] for name, labels, value in server.metrics().samples
               if name == "corecast_recoveries_total" and value}
    assert len(results) >= 2


def test_no_label_names_a_channel_or_a_client(server, connect):
    client = connect()
    client.subscribe("a-channel-that-nobody-must-see")
    client.publish("a-channel-that-nobody-must-see", 1)
    text = server.http.get("/metrics").text
    assert "nobody-must-see" not in text
    assert client.connected["client"] not in text and "127.0.0.1" not in text


def test_live_and_ready_are_200(server):
    assert server.http.get("/live").status_code == 200
    assert server.http.get("/ready").status_code == 200


def test_a_slow_scraper_and_a_greedy_one_harm_nobody(server):
    with Witness(server):
        slow = []
        for _ in range(100):
            scraper = socket.create_connection(("127.0.0.1", server.api_port))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
            slow.append(scraper)
        for scraper in slow[:50]:
            scraper.sendall(b"\r\n")  # Half of them ask; none of them reads.
        for _ in range(200):
            assert server.http.get("/metrics").status_code == 200
        time.sleep(1)
        for scraper in slow:
            scraper.close()
    assert server.metrics().total("corecast_audit_errors_total") == 0


def test_a_scraper_that_sends_requests_ahead_is_paced(server):
    requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=10) as scraper:
        began, received = time.monotonic(), b""
        scraper.sendall(requests)
        while received.count(b"HTTP/1.1 200") < 100:
            received += scraper.recv(1 << 20)
            # An established caller is not in the same queue.
            asked = time.monotonic()
            server.publish("paced", 1)
            assert time.monotonic() - asked < 2
        assert time.monotonic() - began > 0.4, "100 of them take half a second, at 5 ms each"


def test_handshakes_are_counted_by_their_result(server):
    before = server.settled_metrics()
    with Wire(server) as wire:
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.response()[0] == 404
    with Client(server):
        pass
    changed = {labels["reason"]: value - before.total(name, **labels)
               for name, labels, value in server.settled_metrics().samples
               if name == "corecast_handshakes_total"}
    moved = {reason: count for reason, count in changed.items() if count}
    assert moved == {"none": 1, "unknown_path": 1}, "one granted, one refused"
