"""The commands that call the HTTP API: tables for people, JSON for programs, exit codes for
scripts, and errors that name the way out."""

import json

import pytest

from harness.command import run
from harness.ports import free_port
from harness.server import Server


@pytest.fixture
def ask(server):
    """Runs a command with the server's API, whose URL needs no scheme."""
    def asked(*arguments, **options):
        return run(*arguments, "--api", server.api_url.removeprefix("http://"), **options)
    return asked


def rows(done):
    """The rows of a table, without its head."""
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()[1:]]


def test_info_shows_each_node_in_a_row(ask):
    done = ask("info")
    assert done.stdout.split()[:3] == ["node", "clients", "channels"]
    nodes, versions = done.stdout.split("\n\n")
    assert len(nodes.splitlines()) == 2 and "MiB" in nodes and versions.startswith("version ")
    (node,) = json.loads(ask("info", "--json").stdout)["nodes"]
    assert node["name"] in done.stdout and node["uid"]


def test_channels_are_sorted_filtered_and_come_in_pages(ask, connect):
    connect().subscribe("list:b")
    for channel in ("list:a", "list:b", "list:c"):
        connect().subscribe(channel)
    assert rows(ask("channels", "list:*")) == [["list:a", "1"], ["list:b", "2"], ["list:c", "1"]]
    first = ask("channels", "list:*", "--limit", "2")
    assert [name for name, _ in rows(first)] == ["list:a", "list:b"]
    assert "--after 'list:b'" in first.stderr
    assert rows(ask("channels", "list:*", "--after", "list:b")) == [["list:c", "1"]]
    page = json.loads(ask("channels", "list:*", "--limit", "1", "--json").stdout)
    assert page == {"channels": {"list:a": {"num_clients": 1}}, "cursor": "list:a"}
    none = ask("channels", "nothing:*")
    assert (none.returncode, none.stdout) == (0, "") and "no such channel" in none.stderr


def test_history_shows_the_last_publications_or_those_after_a_position(server, ask, channel):
    for n in range(1, 5):
        position = server.publish(channel, {"n": n}, tags={"k": "v"} if n == 4 else None)
    last = ask("history", channel, "--limit", "2")
    assert rows(last) == [["3", '{"n":3}'], ["4", '{"k":"v"}', '{"n":4}']]
    assert f"{channel} is at {position['epoch']}:4" in last.stderr
    since = ask("history", channel, "--since", f"{position['epoch']}:1", "--limit", "2")
    assert [offset for offset, _ in rows(since)] == ["2", "3"]
    every = json.loads(ask("history", channel, "--limit", "all", "--json").stdout)
    assert [pub["offset"] for pub in every["publications"]] == [1, 2, 3, 4]
    assert every["offset"] == 4 and every["epoch"] == position["epoch"]


def test_payloads_of_clients_do_not_reach_the_terminal_as_they_are(server, ask, channel):
    server.publish(channel, "\u009b2J\u202e")
    shown = ask("history", channel).stdout
    assert r"\u{9b}2J\u{202e}" in shown and "\u009b" not in shown


def test_disconnect_closes_one_client_or_all_but_some(ask, connect):
    one, other, kept = connect(), connect(), connect()
    done = ask("disconnect", "--client", one.connected["client"])
    assert done.returncode == 0 and one.connected["client"] in done.stdout, done.stderr
    assert one.closed()[0] == 3503
    done = ask("disconnect", "--everyone", "--keep", kept.connected["client"],
               "--code", "4100", "--reason", "moved")
    assert done.returncode == 0, done.stderr
    assert tuple(other.closed()[:2]) == (4100, "moved")
    kept.subscribe("still-here")


@pytest.mark.parametrize("arguments", [
    ("disconnect",),
    ("disconnect", "--user", ""),  # An unset variable of a script does not mean everybody.
    ("disconnect", "--user", "a", "--everyone"),
    ("disconnect", "--everyone", "--code", "1000"),
    ("history",),
    ("history", "a", "--since", "7"),
    ("channels", "--limit", "many"),
])
def test_wrong_usage_is_exit_code_2(ask, arguments):
    done = ask(*arguments)
    assert done.returncode == 2 and "Usage:" in done.stderr or "help" in done.stderr


def test_errors_name_the_way_out(server, ask):
    nobody = run("info", "--api", f"127.0.0.1:{free_port()}")
    assert nobody.returncode == 1 and "--api" in nobody.stderr and "refused" in nobody.stderr
    clients = run("info", "--api", server.http_url)
    assert clients.returncode == 1 and "server.api_listen" in clients.stderr
    socket = run("info", "--api", server.ws_url)
    assert socket.returncode == 1 and "for clients" in socket.stderr
    long = ask("history", "n" * 256)
    assert long.returncode == 1 and "(107)" in long.stderr and "can't read" in long.stderr


KEYED = """
[api]
keys = ["sesame"]
[[channel.namespaces]]
name = "bare"
"""


def test_a_key_is_asked_for_and_may_come_from_the_environment(driver):
    with Server(driver, dev=False, config=KEYED) as server:
        api = {"CORECAST_API_URL": server.api_url}
        closed = run("info", env=api)
        assert closed.returncode == 1 and "CORECAST_API_KEY" in closed.stderr
        wrong = run("info", "--api-key", "wrong", env=api)
        assert wrong.returncode == 1 and "api.keys" in wrong.stderr
        key = {**api, "CORECAST_API_KEY": "sesame"}
        assert run("info", env=key).returncode == 0
        unknown = run("history", "other:1", env=key)
        assert unknown.returncode == 1 and "must be a namespace" in unknown.stderr
        none = run("history", "bare:1", env=key)
        assert none.returncode == 1 and "history_size" in none.stderr
