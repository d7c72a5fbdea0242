"""Every scenario of the load generator on a small scale against a real server. All scenarios must
work, and the server must make no mistake in them."""

import json
import pathlib
import shutil
import signal
import subprocess

import pytest

from harness.server import BINARY, ROOT, eventually

BENCH = str(pathlib.Path(BINARY).parent / "corecast-bench")
CONNECTIONS = 2000

SCENARIOS = {
    "connect": "connect --hold 200ms",
    "idle": "idle -n 1000 --settle 200ms --hold 500ms --publish-once",
    "fanout": "fanout --rate 20 --seconds 1",
    "saturate": "saturate --outstanding 4 --seconds 1",
    "saturate by frames": "saturate --publish frame --seconds 1",
    "channels": "channels --channels 200 --rate 500 --seconds 1",
    "channels by frames": "channels --channels 200 --rate 500 --seconds 1 --publish frame",
    "churn": "churn --rate 500 --seconds 1",
    "storm": "storm --bystanders 200 --calm 500ms",
    "slow": "slow --slow 20 --rate 10 --seconds 1 --pairs 1",
    "ladder": "ladder --rungs 500,2000 --idle 500ms --settle 200ms --rate 5 --seconds 1",
}


def bench(server, flags, path="/connection/websocket", report=None):
    """Runs a scenario; what it found, after asserting that it passed."""
    scenario, *more = flags.split()
    command = [BENCH, scenario, "--json", "--url", server.ws_url + path, "--timeout", "20s"]
    if "-n" not in more and scenario != "ladder":
        more += ["-n", str(CONNECTIONS)]
    if "frame" not in more and scenario not in ("connect", "churn"):
        more += ["--publish-url", server.api_url + "/api/publish"]
    if report:
        more += ["--report", str(report)]
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_passes_and_counts_everything(server, tmp_path, name):
    found = bench(server, SCENARIOS[name], report=tmp_path)
    assert found["passed"] and found["failures"] == {}, found
    assert found["established"] == CONNECTIONS, found
    assert all(found.get(fault, 0) == 0 for fault in ("lost", "duplicates", "reordered")), found
    page = (tmp_path / "index.html").read_text()
    assert "Passed" in page and "<script" not in page
    assert name == "idle" or "<svg" in page


def test_a_fan_out_delivers_each_publication_to_everyone(server):
    found = bench(server, "fanout --rate 10 --messages 20")
    assert found["publications"] == 20
    assert found["deliveries"] == 20 * CONNECTIONS
    assert found["server"]["cpu_seconds"] > 0, "the server's process was found by its port"


def test_a_storm_gives_everyone_what_was_missed(server):
    found = bench(server, "storm --missed 7 --bystanders 100 --calm 500ms")
    assert found["missed"] == 7
    assert found["handshake"]["count"] >= CONNECTIONS
    assert found["bystanders"]["before"]["count"] > 0
    assert found["bystanders"]["faults"] == {"lost": 0, "duplicates": 0, "reordered": 0}


def test_a_ladder_measures_each_rung(server):
    found = bench(server, SCENARIOS["ladder"])
    assert [rung["connections"] for rung in found["rungs"]] == [500, 2000]
    assert all(rung["window"]["deliveries"] > 0 for rung in found["rungs"])


def test_servers_are_compared_by_the_ratios_of_their_windows(server):
    """One server under two names: the ratios are about 1, and an assertion that is far off fails.
    Its handshakes are compared, for in one channel each side would get the other's publications."""
    url = f"{server.ws_url}/connection/websocket"
    sides = [f"corecast,name={name},url={url}" for name in ("one", "two")]
    command = [BENCH, "compare", "connect", "--json", "-n", "500", "--pairs", "2", "--abort"]
    for side in sides:
        command += ["--server", side]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    ratios = {ratio["measure"]: ratio for ratio in json.loads(done.stdout)["ratios"]}
    assert ratios["cpu-handshake"]["low"] <= ratios["cpu-handshake"]["median"]
    assert 0.1 < ratios["rate"]["median"] < 10
    command += ["--assert", "two:cpu-handshake=0.001"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert json.loads(done.stdout)["broken_assertions"] == ["two:cpu-handshake=0.001"]


def test_a_ladder_that_is_interrupted_shows_what_it_has_measured(server, tmp_path):
    profile = shutil.copy(ROOT / "bench" / "profiles" / "corecast.toml", tmp_path / "mine.toml")
    before = server.connections()
    command = [BENCH, "ladder", "--profile", profile, "--rungs", "200,20000",
               "--connect-rate", "400", "--idle", "200ms", "--settle", "200ms",
               "--rate", "5", "--seconds", "1", "--abort",
               "--url", f"{server.ws_url}/connection/websocket",
               "--publish-url", f"{server.api_url}/api/publish"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: server.connections() - before > 400, 30, "the second rung is climbed")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    lines = output.splitlines()
    assert lines[0].split()[:3] == ["server", "mine", "at"], "a path is called after its file"
    assert all(len(line) <= 100 for line in lines), output
    rungs = [line.split()[0] for line in lines if line.split() and line.split()[0].isdigit()]
    assert rungs[0] == "200" and len(rungs) == 4 and 200 < int(rungs[1]) < 20000, output
