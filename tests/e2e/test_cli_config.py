"""`corecast config init` and `import`, and variables of the environment that nothing reads."""

import json
import os
import pathlib
import stat
import tomllib

import pytest

from harness.client import Client, data
from harness.command import run
from harness.server import Server


def test_a_first_configuration_is_private_and_runs(driver, tmp_path):
    made = run("config", "init", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    path = tmp_path / "corecast.toml"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    text = path.read_text()
    (key,) = tomllib.loads(text)["api"]["keys"]
    assert key not in made.stdout, "a terminal keeps its lines"
    again = run("config", "init", cwd=tmp_path)
    assert again.returncode == 1 and "--force" in again.stderr and path.read_text() == text
    assert run("config", "init", "--force", cwd=tmp_path).returncode == 0
    assert path.read_text() != text, "each file has a key of its own"
    with Server(driver, dev=False, config=text) as server:
        client = Client(server)
        client.subscribe("news:today")
        env = {"CORECAST_API_KEY": key, "CORECAST_API_URL": server.api_url}
        published = run("publish", "news:today", "Hello", env=env)
        assert published.returncode == 0, published.stderr
        assert data(client.publications("news:today", 1)) == ["Hello"]
        client.close()


CENTRIFUGO = {
    "client": {"allowed_origins": ["https://example.com"], "token": {"hmac_secret_key": "s"}},
    "channel": {"namespaces": [{"name": "chat", "presence": True, "history_size": 5,
                                "history_ttl": "60s", "force_recovery": True}]},
    "http_api": {"key": "sesame"},
}


def test_a_configuration_of_centrifugo_becomes_one_that_serve_takes(driver, tmp_path):
    source = tmp_path / "centrifugo.json"
    source.write_text(json.dumps(CENTRIFUGO))
    done = run("config", "import", str(source))
    assert done.returncode == 0, done.stderr
    for note in ("client.token.hmac_secret_key: tokens are not part", "presence is not part"):
        assert note in done.stderr, done.stderr
    result = tmp_path / "corecast.toml"
    into = ["config", "import", str(source), "--output", str(result)]
    assert run(*into).returncode == 0 and result.read_text() == done.stdout
    assert stat.S_IMODE(os.stat(result).st_mode) == 0o600
    assert run(*into).returncode == 1 and run(*into, "--force").returncode == 0
    assert run("config", "check", str(result)).returncode == 0
    with Server(driver, dev=False, config=done.stdout) as server:
        published = run("publish", "chat:1", "Hello", "--json", "--api-key", "sesame",
                        "--api", server.api_url)
        assert json.loads(published.stdout)["offset"] == 1


def test_what_can_not_be_imported_is_an_error(tmp_path):
    for name, text, part in [
            ("a.json", '{"http_api": {"key": "supersecret}}', "a.json: is not valid JSON: "),
            ("a.toml", "[http_api]\nkey = supersecret", "a.toml: is not valid TOML: line 2, "),
            ("a.yaml", 'http_api:\n  key: "supersecret', "a.yaml: is not valid YAML: line "),
            ("a.ini", "", "must end in .json"), ("gone.yaml", None, "Check the path")]:
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        done = run("config", "import", str(path))
        assert done.returncode == 1 and part in done.stderr, done
        assert "supersecret" not in done.stderr + done.stdout


def test_variables_that_nothing_reads_are_errors():
    shown = run("config", "show", env={"CORECAST_SERVER_LISEN": "127.0.0.1:1"})
    assert shown.returncode == 1 and "CORECAST_SERVER_LISTEN?" in shown.stderr
    later = run("config", "show", env={"CORECAST_AUTH_JWKS": "https://a"})
    assert later.returncode == 1 and "not part of this version" in later.stderr
    links = {"CORECAST_PORT": "tcp://10.0.0.1:8000", "CORECAST_SERVICE_HOST": "10.0.0.1",
             "CORECAST_API_PORT_9000_TCP_ADDR": "10.0.0.2"}
    counted = run("config", "show", env={**links, "CORECAST_SERVER_MAX_CONNECTIONS": "20k"})
    assert counted.returncode == 0 and "max_connections = 20000" in counted.stdout


@pytest.mark.parametrize("arguments", [
    ["publish", "news", "Hello"], ["subscribe", "news"], ["info"], ["channels"],
    ["history", "news"], ["disconnect", "--user", "u"]])
def test_the_commands_that_call_a_server_refuse_misspelt_variables(arguments):
    nowhere = {"CORECAST_API_URL": "127.0.0.1:1", "CORECAST_APIKEY": "supersecret"}
    done = run(*arguments, env=nowhere)
    assert done.returncode == 1 and "did you mean CORECAST_API_KEY?" in done.stderr, done
    assert "supersecret" not in done.stderr


def test_variables_of_the_tests_mean_nothing_to_a_server():
    shown = run("config", "show", env={"CORECAST_SIM_SEED": "1"})
    assert shown.returncode == 1 and "CORECAST_SIM_SEED" in shown.stderr
    counted = run("config", "show", "--shards", "1k",
                  env={"CORECAST_CLIENT_MESSAGE_BYTES_MAX": "65536"})
    assert counted.returncode == 0 and "shards = 1000" in counted.stdout, counted.stderr


def test_keys_may_stand_in_a_file_line_by_line(driver, tmp_path):
    keys = tmp_path / "api_keys"
    keys.write_text("old-key\nnew-key\n")
    with Server(driver, dev=False, env={"CORECAST_API_KEYS_FILE": str(keys)}) as server:
        for key in ("old-key", "new-key"):
            asked = run("info", env={"CORECAST_API_URL": server.api_url, "CORECAST_API_KEY": key})
            assert asked.returncode == 0, asked.stderr
        asked = run("info", "--api", server.api_url, "--api-key-file", str(keys))
        assert asked.returncode == 0, asked.stderr
        for name in ("cmdline", "environ"):
            shown = pathlib.Path(f"/proc/{server.process.pid}/{name}").read_bytes()
            assert shown and b"old-key" not in shown and b"new-key" not in shown
