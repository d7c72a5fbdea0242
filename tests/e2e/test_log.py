"""The log, as operators and their programs read it."""

import json
import signal
import subprocess

import httpx
import pytest

from harness.client import Client
from harness.server import Server, eventually
from harness.wire import Wire, upgrade

JSON = """
[log]
format = "json"
level = "debug"
[client]
allowed_origins = ["https://good.example"]
"""
KEYS = '[api]\nkeys = ["the-right-key-of-this-server"]\n'
EVIL = "Origin: https://evil.example"


def refuse(server, count=1):
    for _ in range(count):
        with Wire(server) as wire:
            wire.send(upgrade(lines=[EVIL]))
            assert wire.response()[0] == 403


def lines(server, message):
    """Returns the fields of each line with this message. Every line of the output is an object."""
    objects = [json.loads(line) for line in server.log().splitlines()]
    assert all(isinstance(one, dict) and one["timestamp"] and one["level"] for one in objects)
    return [one["fields"] for one in objects if one["fields"]["message"] == message]


def test_every_line_is_an_object_from_the_start_to_the_end(driver):
    with Server(driver, config=JSON) as server:
        [serving] = eventually(lambda: lines(server, "serving"))
        assert serving["listen"] == f"127.0.0.1:{server.client_port}"
        assert serving["api_listen"] == f"127.0.0.1:{server.api_port}"
        assert serving["shards"] == 2 and serving["driver"] in ("io_uring", "epoll")
        refuse(server)
        [refused] = eventually(lambda: lines(server, "a client was refused"))
        expected = {"reason": "foreign_origin", "status": 403, "origin": "https://evil.example",
                    "address": "127.0.0.1"}
        assert expected.items() <= refused.items(), refused
        client = Client(server)
        [opened] = eventually(lambda: lines(server, "a connection has opened"))
        assert opened["address"] == "127.0.0.1" and opened["protocol"] == "centrifugo"
        client.close()
        [closed] = eventually(lambda: lines(server, "a connection has closed"))
        assert closed["client"] == opened["client"] and closed["reason"] == "client_closed"
        with Client(server):
            server.process.send_signal(signal.SIGINT)
            assert server.wait(10) == 0
        assert lines(server, "1 client left") and lines(server, "stopped")


@pytest.mark.parametrize("config, descriptors, word", [
    ('[log]\nformat = "json"\n[server]\nno_such_setting = 1\n', 1024, "no_such_setting"),
    ('[log]\nformat = "json"\n[server\n', 1024, "corecast.toml"),
    (JSON, 200, "open files"),
], ids=["a setting", "the syntax", "the host"])
def test_an_error_at_the_start_is_an_object_too(driver, config, descriptors, word):
    prefix = ["prlimit", f"--nofile={descriptors}"]
    with Server(driver, config=config, prefix=prefix, await_ready=False) as server:
        assert server.wait(10) == 1
        text = server.log()
    *_, last = [json.loads(line) for line in text.splitlines()]
    assert last["level"] == "ERROR" and word in last["fields"]["message"], text


def test_repeats_are_counted_and_health_checks_are_no_handshakes(driver):
    with Server(driver, config=JSON) as server:
        before = server.settled_metrics()
        for method in ("GET", "HEAD", "OPTIONS"):
            assert httpx.request(
                method, server.http_url + "/health", trust_env=False).status_code == 200
        after = server.settled_metrics()
        for name in ("corecast_handshakes_total", "corecast_closes_total", "corecast_handshaking"):
            assert after.total(name) == before.total(name), name
        refuse(server, 20)
        eventually(lambda: lines(server, "a client was refused"))
        eventually(lambda: refuse(server) or any(
            "left_out" in one for one in lines(server, "a client was refused")))
        found = lines(server, "a client was refused")
        told = len(found) + sum(one.get("left_out", 0) for one in found)
        refused = server.settled_metrics().total(
            "corecast_handshakes_total", result="refused", reason="foreign_origin")
        assert 21 <= told <= refused and len(found) <= 5, found


def test_wrong_keys_are_logged_and_counted(driver):
    with Server(driver, config=JSON + KEYS, dev=False) as server:
        for _ in range(5):
            wrong = server.api("info", headers={"X-API-Key": "guess"})
            assert wrong.status_code == 401
        [line] = eventually(lambda: lines(server, "a request to the API had no valid key"))[:1]
        assert line["address"] == "127.0.0.1"
        right = {"X-API-Key": "the-right-key-of-this-server"}
        [node] = server.api("info", headers=right).json()["result"]["nodes"]
        assert set(node["delivery"]) == {"10s", "1m", "5m"}, node
        metrics = server.metrics()
        name = "corecast_api_requests_total"
        assert metrics.total(name, method="info", status="401") == 5
        eventually(lambda: server.metrics().total(name, method="info", status="200") == 1)
        assert "guess" not in server.log() and "the-right-key" not in server.log()


def test_limits_and_the_process_are_in_the_metrics(server):
    metrics = server.metrics()
    for name in ("corecast_connections_max", "corecast_outbox_bytes_max",
                 "process_resident_memory_bytes", "process_virtual_memory_bytes",
                 "process_open_fds", "process_max_fds", "process_threads"):
        assert metrics.total(name) > 0, name
    before = metrics.total("process_open_fds")
    with Client(server), Client(server), Client(server):
        eventually(lambda: server.metrics().total("process_open_fds") >= before + 3)


def test_promtool_has_nothing_to_say(server):
    try:
        check = subprocess.run(["promtool", "check", "metrics"], input=server.metrics().text,
                               capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("promtool is not installed")
    assert check.returncode == 0 and not check.stderr, check.stderr
