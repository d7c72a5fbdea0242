"""The commands besides `serve`, and the first start of a new user."""

import os
import pty
import re
import socket
import subprocess
import time
import tomllib

import httpx
import pytest

from harness.command import run
from harness.ports import free_port
from harness.server import BINARY, ROOT, Server, eventually


def test_the_default_configuration_is_toml_with_comments_and_passes_its_own_check(tmp_path):
    printed = run("config", "default")
    assert printed.returncode == 0, printed.stderr
    defaults = tomllib.loads(printed.stdout)
    assert {"server", "client", "channel", "api"} <= defaults.keys()
    assert printed.stdout.count("#") > 20, "every setting is explained"
    path = tmp_path / "default.toml"
    path.write_text(printed.stdout)
    checked = run("config", "check", "--config", str(path))
    if checked.returncode == 2:  # The file may be an argument instead.
        checked = run("config", "check", str(path))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("text, names", [
    ("[client]\nping_intervall = \"1s\"\n", ["ping_intervall", "ping_interval"]),
    ("[servr]\nshards = 1\n", ["servr", "server"]),
    ("[[channel.namespaces]]\nname = \"a\"\nhistory_sise = 1\n", ["history_sise", "history_size"]),
    ("[client]\nping_interval = \"soon\"\n", ["ping_interval", "soon"]),
    ("[client]\nmessage_bytes_max = \"many\"\n", ["message_bytes_max", "many"]),
    ("[server]\ndriver = \"kqueue\"\n", ["driver", "kqueue"]),
    ("[client\n", ["line 1"]),
    # A pong that may come after the next ping would never be missed.
    ("[client]\nping_interval = \"5s\"\npong_timeout = \"6s\"\n", ["pong_timeout"]),
    ("[[channel.namespaces]]\nname = \"a\"\nslow_policy = \"skip\"\nforce_recovery = true\n"
     "history_size = 10\nhistory_ttl = \"10s\"\n", ["slow_policy"]),
])
def test_a_wrong_setting_is_an_error_that_names_it(tmp_path, text, names):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    started = run("serve", "--dev", "--config", str(path), "--listen",
                  f"127.0.0.1:{free_port()}", "--api-listen", f"127.0.0.1:{free_port()}")
    assert started.returncode not in (0, None)
    for name in names:
        assert name in started.stderr + started.stdout


@pytest.mark.parametrize("text, env, names", [
    ("[channel]\nforce_positioning = true\n", {}, ["channel.force_positioning", "history_size"]),
    ("", {"CORECAST_REDIS_INGEST": '["app:ingest"]'}, ["CORECAST_REDIS_INGEST", "brackets"]),
    (f"[[channel.namespaces]]\nname = \"{'n' * 255}\"\n", {}, ["255", "client.channel_bytes_max"]),
    ("", {"CORECAST_CLIENT_PING_INTERVAL": "soon"}, ["environment: client.ping_interval", "soon"]),
])
def test_a_check_refuses_what_serve_refuses(tmp_path, text, env, names):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    for command in (["config", "check", str(path)], ["serve", "--config", str(path)]):
        done = run(*command, env=env)
        assert done.returncode not in (0, None), command
        for name in names:
            assert name in done.stderr + done.stdout, (name, done.stderr)


def test_without_dev_a_door_left_open_is_an_error_that_says_so():
    ports = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    started = run("serve", "--listen", ports[0], "--api-listen", ports[1])
    assert started.returncode != 0 and "key" in (started.stderr + started.stdout)


def test_an_environment_variable_wins_over_the_file_and_a_flag_over_both(tmp_path):
    path = tmp_path / "file.toml"
    path.write_text('[client]\nping_interval = "11s"\n[server]\nshards = 3\n')
    env = {"CORECAST_CLIENT_PING_INTERVAL": "12s"}
    shown = run("config", "show", "--config", str(path), env=env)
    assert shown.returncode == 0, shown.stderr
    client = tomllib.loads(shown.stdout)["client"]
    assert client["ping_interval"] == "12s"


def test_show_hides_secrets(tmp_path):
    path = tmp_path / "file.toml"
    path.write_text('[api]\nkeys = ["a-very-secret-key"]\n')
    shown = run("config", "show", "--config", str(path))
    assert shown.returncode == 0, shown.stderr
    assert "a-very-secret-key" not in shown.stdout


def test_the_banner_tells_where_to_connect_how_to_publish_and_which_driver_runs(driver):
    with Server(driver) as server:
        log = server.log()
        assert f"127.0.0.1:{server.client_port}" in log and f":{server.api_port}" in log
        assert "curl" in log and driver in log
        assert "echo" not in log


def test_the_echo_is_not_there_unless_it_was_asked_for(driver):
    with Server(driver) as server:
        assert httpx.get(f"{server.http_url}/echo", trust_env=False).status_code == 404


def test_publish_and_subscribe_talk_through_the_server(driver):
    with Server(driver) as server:
        subscriber = subprocess.Popen(
            [BINARY, "subscribe", "news", *_url_flag("subscribe", server.ws_url)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            eventually(lambda: "news" in server.result("channels")["channels"] or
                       subscriber.poll() is not None, what="it is subscribed")
            published = run("publish", "news", '{"text":"hello"}',
                            *_url_flag("publish", server.api_url))
            assert published.returncode == 0, published.stderr
            assert '{"text":"hello"}' in subscriber.stdout.readline()
        finally:
            subscriber.kill()
            subscriber.wait()


def _url_flag(command, url):
    """The flag by which a command is told its server, as its help names it."""
    text = run(command, "--help").stdout
    for flag in ("--url", "--api-url", "--api", "--server", "--connect"):
        if re.search(rf"{flag}\b", text):
            return [flag, url]
    return []


@pytest.mark.parametrize("document", ["README.md", "docs/api.md"])
def test_publishing_with_curl_works_as_the_documents_say(driver, document):
    text = (ROOT / document).read_text()
    commands = [
        command.replace("\\\n", " ")
        for command in re.findall(r"^\s*(curl (?:[^\n]*\\\n)*[^\n]*)$", text, re.MULTILINE)
        if "/api/publish" in command.replace("\\\n", " ")
    ]
    assert commands, f"{document} shows how to publish with curl"
    with Server(driver) as server:
        for command in commands:
            here = f"127.0.0.1:{server.api_port}"
            command = re.sub(r"(localhost|127\.0\.0\.1):9000", here, command)
            done = subprocess.run(["bash", "-c", command + " -sS --max-time 5"],
                                  capture_output=True, text=True)
            assert done.returncode == 0 and '"result"' in done.stdout, f"{command}\n{done}"
            for channel in re.findall(r'"channel"\s*:\s*"([^"]+)"', command):
                assert server.result("history", channel=channel)["offset"] >= 1


def test_a_port_that_is_taken_is_an_error_that_names_it(driver):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = run("serve", "--dev", "--driver", driver, "--listen", f"127.0.0.1:{port}",
                      "--api-listen", f"127.0.0.1:{free_port()}")
        assert started.returncode not in (0, None) and str(port) in started.stderr + started.stdout


def test_it_starts_in_a_moment(driver):
    started = time.monotonic()
    with Server(driver):
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_is_there(arguments):
    shown = run(*arguments)
    assert shown.returncode == 0 and "corecast" in shown.stdout


def test_a_terminal_shows_control_characters_of_messages_as_escapes(driver):
    leader, follower = pty.openpty()
    with Server(driver) as server:
        subscriber = subprocess.Popen([BINARY, "subscribe", "term", "--url", server.ws_url],
                                      stdout=follower, stderr=subprocess.DEVNULL)
        os.close(follower)
        try:
            eventually(lambda: "term" in server.result("channels")["channels"])
            server.publish("term", "\u001b[2Jüa\nb\u009b")
            assert os.read(leader, 100).decode() == "\\u001b[2Jüa\\nb\\u009b\r\n"
        finally:
            subscriber.kill()
            subscriber.wait()
            os.close(leader)


def test_a_password_on_the_command_line_is_warned_of_and_never_shown(driver):
    url = "redis://:sesame@127.0.0.1:1"
    with Server(driver, args=["--redis", url], await_ready=False) as server:
        eventually(lambda: "CORECAST_REDIS_URL" in server.log())
        assert "sesame" not in server.log()
