"""Everything that README.md and docs show as code works. What can't run here has a reason."""

import contextlib
import json
import re
import shutil
import subprocess
import sys

import httpx
import pytest

from harness.events import EVENTS
from harness.example import running
from harness.client import Client
from harness.ports import free_port
from harness.server import ROOT, Server, eventually
from harness.snippets import Desk, here, snippets

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SNIPPETS = {name: text for page in PAGES for name, text in snippets(page).items()}

# Other pages with code, of which nothing runs here.
OTHER_PAGES = {
    "CONTRIBUTING.md": "runs all tests",
    "bench/README.md": "builds Corecast; test_bench.py runs every scenario",
    "bench/peers/README.md": "installs other servers",
    "examples/fastapi/README.md": "test_fastapi_example.py runs the application",
    "examples/laravel/README.md": "needs Laravel",
    "examples/node/README.md": "test_node_example.py runs the application",
    "kernel-tuning/README.md": "changes the host; test_kernel_tuning.py runs the scripts",
    "packaging/README.md": "builds for minutes; test_packaging.py packs the program",
    "packaging/wheel/README.md": "needs the published package; test_packaging.py installs a wheel",
    "perf/README.md": "measures for hours",
    "tests/checker/README.md": "builds the checker, which `./test` runs",
}
NOT_RUN = {
    "README.md sh 1": "builds Corecast and runs all tests",
    "docs/api.md php 1": "needs Laravel",
    "docs/install.md ini 1": "is a part of a systemd unit",
    "docs/install.md sh 1": "needs the published package; test_packaging.py installs a wheel",
    **{f"docs/install.md sh {n}": "installs packages on the host" for n in range(2, 8)},
    "docs/install.md yaml 1": "needs Kubernetes",
    "docs/operations.md sh 1": "builds Corecast, and opens 50,000 connections",
}
SHELL = ["README.md sh 2", "docs/api.md sh 1", "docs/api.md sh 2", "docs/api.md sh 3"]
RECEIVERS = ["README.md js 1", "README.md js 2", "docs/clients.md js 1", "docs/clients.md js 2",
             "docs/clients.md python 1"]
PUBLISHERS = ["README.md js 3", "docs/api.md js 1"]
APPLICATIONS = ["docs/api.md python 1", "docs/api.md python 2"]
SETTINGS = ["README.md toml 1", "docs/configuration.md toml 1", "docs/configuration.md toml 2"]
OTHERS = ["README.md sh 3", "docs/configuration.md sh 1", "docs/events.md sh 1",
          "docs/clients.md go 1", "docs/ingest.md sh 1", "docs/metrics.md yaml 1",
          "docs/nodes.md sh 1", "docs/nodes.md sh 2"]


@pytest.fixture(scope="module")
def server():
    with Server("auto") as server:
        yield server


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_every_snippet_is_run_or_has_a_reason():
    run = {*SHELL, *RECEIVERS, *PUBLISHERS, *APPLICATIONS, *SETTINGS, *OTHERS}
    assert run.isdisjoint(NOT_RUN)
    assert run | set(NOT_RUN) == set(SNIPPETS), "a new snippet belongs into one of the lists"
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    others = {page for page in listed.stdout.split() if page not in PAGES and snippets(page)}
    assert others == set(OTHER_PAGES), "a new page with code belongs into one of the lists"


@pytest.mark.parametrize("name", SHELL)
def test_a_command_reaches_the_server(server, desk, name):
    text = here(SNIPPETS[name], server)
    url = {"CORECAST_API_URL": server.api_url, "CORECAST_API_KEY": "any"}
    printed = desk.shell(text, **url)
    # curl succeeds whatever the API answers.
    assert "curl" not in text or '"result"' in printed, printed


@pytest.mark.parametrize("name", RECEIVERS)
def test_a_client_prints_what_is_published(server, desk, name):
    text = here(SNIPPETS[name], server)
    desk.write("corecast.mjs", (ROOT / "examples" / "corecast.mjs").read_text())
    desk.receives(server, desk.python(text) if "python" in name else desk.node(text))


def test_a_client_in_go_prints_what_is_published(server, desk):
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    desk.write("main.go", here(SNIPPETS["docs/clients.md go 1"], server))
    for name in ("go.mod", "go.sum"):
        desk.write(name, (ROOT / "tests" / "e2e" / "sdk" / "go" / name).read_text())
    desk.shell("go build -mod=readonly -o client .", 60)
    desk.receives(server, ["./client"])


@pytest.mark.parametrize("name", PUBLISHERS)
def test_javascript_publishes(server, desk, name):
    before = server.result("history", channel="news")["offset"]
    desk.node(here(SNIPPETS[name], server))
    desk.shell("node --no-warnings snippet.mjs")
    assert server.result("history", channel="news")["offset"] == before + 1


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_publishes(server, desk, name):
    desk.write("app.py", here(SNIPPETS[name], server) + "\n\n@app.get('/')\ndef up(): return 1\n")
    with running(server, uvicorn, desk.path) as url:
        response = httpx.post(f"{url}/news", params={"text": "Hello"}, trust_env=False)
        assert response.status_code == 200 and response.json()["offset"] > 0, response.text


def uvicorn(port):
    return [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_valid(desk, name):
    desk.write("corecast.toml", SNIPPETS[name])
    assert "is valid" in desk.shell("corecast config check corecast.toml")


def test_the_commands_for_settings_work(desk):
    desk.write("centrifugo.json", json.dumps({"http_api": {"key": "sesame"}}))
    printed = desk.shell(SNIPPETS["docs/configuration.md sh 1"])
    assert "wrote corecast.toml" in printed and "corecast.toml is valid" in printed


def test_production_starts_as_the_readme_shows(desk):
    ports = free_port(), free_port()
    desk.write("corecast.toml", SNIPPETS["README.md toml 1"])
    flags = f" --listen 127.0.0.1:{ports[0]} --api-listen 127.0.0.1:{ports[1]}"
    text = SNIPPETS["README.md sh 3"].rstrip().replace("CORECAST_API", "exec env CORECAST_API")
    with desk.running("bash", "-c", text + flags) as output:
        eventually(lambda: ready(ports[1]), 15, output)
        assert f"127.0.0.1:{ports[0]}/ws?channels=news:" in output(), "a channel that works"


def ready(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_node_joins_as_the_guide_shows(redis, desk):
    ports = free_port(), free_port()
    desk.write("corecast.toml", '[api]\nkeys = ["sesame"]\n')
    flags = f" --listen 127.0.0.1:{ports[0]} --api-listen 127.0.0.1:{ports[1]}"
    text = SNIPPETS["docs/nodes.md sh 1"].rstrip()
    text = re.sub(r"redis://\S+", redis.url, text).replace("corecast", "exec corecast", 1)
    with desk.running("bash", "-c", text + flags) as output:
        eventually(lambda: ready(ports[1]), 15, output)


def test_redis_publishes_and_tells_events_as_the_guides_show(redis, tmp_path):
    desk = Desk(tmp_path, redis)
    with Server("auto", config=EVENTS, args=["--redis", redis.url]) as server:
        desk.shell(SNIPPETS["docs/ingest.md sh 1"])
        for channel, count in (("news", 2), ("chat:42", 1)):
            eventually(lambda: len(server.history(channel)) == count, 5, f"{channel} has all")
        with desk.running("bash", "-c", SNIPPETS["docs/events.md sh 1"]) as output:
            # The command waits for the next event, so clients come until it has seen one.
            eventually(lambda: tells(server, output), 10, "an event is printed")


def tells(server, output):
    with Client(server):
        return "corecast:events" in output()


def test_prometheus_scrapes_as_the_guide_shows(server, tmp_path):
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    desk, port = Desk(tmp_path), free_port()
    often = "global:\n  scrape_interval: 1s\n"
    desk.write("prometheus.yml", often + here(SNIPPETS["docs/metrics.md yaml 1"], server))
    desk.shell("promtool check config prometheus.yml")
    with Client(server) as client:
        client.subscribe("scraped")
        server.publish("scraped", 1)
        client.publication("scraped")

    def value(query):
        # It is 503 while Prometheus starts.
        done = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query},
                         trust_env=False).raise_for_status().json()
        return [float(found["value"][1]) for found in done["data"]["result"]]

    def scraped():
        with contextlib.suppress(httpx.HTTPError):
            return value('up{job="corecast"}') == [1]

    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
               f"--web.listen-address=127.0.0.1:{port}"]
    with desk.running(*command) as output:
        eventually(scraped, 20, output)
        [median] = value("histogram_quantile(0.5, corecast_delivery_seconds_bucket)")
        assert 0 < median < 5, median
