"""The Node.js example: it publishes, and its page receives with Centrifugo's SDK."""

import json
import os
import shutil
import subprocess

import httpx
import pytest

from harness.client import Client
from harness.ports import free_port
from harness.server import CACHE, ROOT, eventually

EXAMPLE = ROOT / "examples" / "node"
MODULES = CACHE / "node" / "node_modules"


@pytest.fixture
def application(server, tmp_path):
    """The example on a port of its own, with the SDK that the tests have: its URL."""
    shutil.copytree(EXAMPLE, tmp_path / "node", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "node" / "node_modules").symlink_to(MODULES)
    port = free_port()
    process = subprocess.Popen(
        ["node", "server.mjs"], cwd=tmp_path / "node",
        env={**os.environ, "PORT": str(port), "CORECAST_API_URL": server.api_url,
             "CORECAST_WS_URL": server.ws_url},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = f"http://127.0.0.1:{port}"

    def serves():
        assert process.poll() is None, process.communicate()[0]
        try:
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        eventually(serves, 15, "the application serves")
        yield url
    finally:
        process.kill()
        process.communicate()


def publish(application, text):
    return httpx.post(f"{application}/publish", json={"text": text}, trust_env=False)


def test_what_the_application_publishes_arrives(server, application):
    with Client(server) as client:
        position = client.subscribe("news")
        response = publish(application, "by node")
        assert response.status_code == 200, response.text
        pub = client.publication("news")
        assert pub["data"] == {"text": "by node"}
        assert response.json() == {"offset": pub["offset"], "epoch": position["epoch"]}


def test_a_bad_request_does_not_reach_the_server(application):
    for body in (b"{}", b"[", b'{"text":1}', b'{"text":"' + b"x" * 100_000 + b'"}'):
        response = httpx.post(f"{application}/publish", content=body, trust_env=False)
        assert response.status_code == 422, body[:20]


@pytest.mark.timeout(120)
def test_its_page_shows_what_is_published(server, application, driver):
    browser = subprocess.Popen(
        ["node", str(ROOT / "tests" / "e2e" / "sdk" / "browser.mjs"), application,
         str(CACHE / f"node-example-{driver}.png"), "seen in a browser", "example"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert browser.stdout.readline() == "OPEN\n"
        eventually(lambda: "news" in server.result("channels")["channels"], 15,
                   "the page is subscribed")
        publish(application, "seen in a browser")
        assert browser.stdout.readline() == "SEEN\n", browser.communicate()[0]
        # It is away while this is published, and still shows it.
        server.result("disconnect", user="", disconnect={"code": 4000, "reason": "come back"})
        publish(application, "seen in a browser again")
        output = browser.communicate(timeout=60)[0]
        assert browser.returncode == 0, output
    finally:
        browser.kill()


def test_its_sdk_is_the_one_that_is_tested():
    versions = [json.loads((place / "package.json").read_text())["dependencies"]["centrifuge"]
                for place in (EXAMPLE, ROOT / "tests" / "e2e")]
    assert versions[0] == versions[1]
