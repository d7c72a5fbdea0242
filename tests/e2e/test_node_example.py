"""The Node.js example: it publishes, and its page receives with Centrifugo's SDK."""

import json
import shutil

import httpx
import pytest

from harness.client import Client
from harness.example import page_shows, running
from harness.server import CACHE, ROOT

EXAMPLE = ROOT / "examples" / "node"
MODULES = CACHE / "node" / "node_modules"


@pytest.fixture
def application(server, tmp_path):
    """The example on a port of its own, with the SDK that the tests have: its URL."""
    shutil.copytree(EXAMPLE, tmp_path / "node", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "node" / "node_modules").symlink_to(MODULES)
    with running(server, lambda port: ["node", "server.mjs"], tmp_path / "node") as url:
        yield url


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
    page_shows(server, application, f"node-example-{driver}.png",
               lambda text: publish(application, text))


def test_its_sdk_is_the_one_that_is_tested():
    versions = [json.loads((place / "package.json").read_text())["dependencies"]["centrifuge"]
                for place in (EXAMPLE, ROOT / "tests" / "e2e")]
    assert versions[0] == versions[1]
