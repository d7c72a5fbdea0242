"""The SDKs that applications use. Each SDK runs its own scenario and checks it."""

import shutil
import subprocess
import sys

import pytest

from harness.server import CACHE, ROOT, Server

SERVER = {"config": '[client]\nping_interval = "2s"\npong_timeout = "1s"\n'}

HERE = ROOT / "tests" / "e2e" / "sdk"
NODE = ["node", str(HERE / "centrifuge.mjs")]
PYTHON = [sys.executable, str(HERE / "centrifuge_python.py")]
GO = [str(CACHE / "go" / "sdk")]
OLD_PYTHON = [str(CACHE / "venv-old-sdk" / "bin" / "python"), str(HERE / "centrifuge_python.py")]

SCENARIOS = [
    *(pytest.param(NODE, name, id=f"javascript-{name}") for name in (
        "basic", "batched", "order", "recovery", "beyond_history", "terminal", "unsubscribed",
        "errors", "idle", "token", "protobuf", "server_side")),
    *(pytest.param(command, name, id=f"{version}-{name}")
      for command, version in ((PYTHON, "python"), (OLD_PYTHON, "old_python"))
      for name in ("basic", "many", "order", "recovery", "terminal", "unsubscribed", "errors",
                   "idle", "token", "protobuf")),
    *(pytest.param(GO, name, id=f"go-{name}") for name in (
        "basic", "order", "recovery", "terminal", "unsubscribed", "errors", "idle", "token",
        "protobuf")),
    # Older versions do not know the push that begins a subscription of the server.
    pytest.param(PYTHON, "server_side", id="python-server_side"),
]


def needs(command):
    """`./test` builds the scenarios in Go where it can."""
    if command == GO and shutil.which("go") is None:
        pytest.skip("go is not installed")


@pytest.mark.parametrize("command, scenario", SCENARIOS)
def test_an_sdk_is_served(server, channel, command, scenario):
    needs(command)
    done = subprocess.run(
        [*command, scenario, f"{server.ws_url}/connection/websocket", server.api_url, channel],
        capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("command", [
    pytest.param(NODE, id="javascript"), pytest.param(PYTHON, id="python"),
    pytest.param(OLD_PYTHON, id="old_python"), pytest.param(GO, id="go"),
])
def test_an_sdk_survives_a_restart_and_learns_that_it_missed_something(driver, command):
    needs(command)
    with Server(driver, config='[server]\ndrain = "1s"\n') as server:
        sdk = subprocess.Popen(
            [*command, "restart", f"{server.ws_url}/connection/websocket", server.api_url,
             "restart"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            first = sdk.stdout.readline()
            assert first == "READY\n", first + sdk.communicate(timeout=10)[0]
            server.terminate()
            assert server.wait(10) == 0
            server.start()
            output = sdk.communicate(timeout=40)[0]
            assert sdk.returncode == 0, output
        finally:
            sdk.kill()
