"""The FastAPI example: it publishes in all its ways, and its page receives."""

import contextlib
import os
import subprocess
import sys

import httpx
import pytest

from harness.client import Client
from harness.ports import free_port
from harness.server import CACHE, ROOT, eventually

EXAMPLE = ROOT / "examples" / "fastapi"


@contextlib.contextmanager
def running(server, **environment):
    """The example on a port of its own, told where the server is: its URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)], cwd=EXAMPLE,
        env={**os.environ, "CORECAST_API_URL": server.api_url, "CORECAST_WS_URL": server.ws_url,
             **environment},
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


@pytest.fixture
def application(server):
    with running(server) as url:
        yield url


@pytest.mark.parametrize("way", ["cent", "http"])
def test_what_the_application_publishes_arrives(server, application, way):
    with Client(server) as client:
        position = client.subscribe("news")
        response = httpx.post(f"{application}/publish/{way}", json={"text": f"by {way}"},
                              trust_env=False)
        assert response.status_code == 200, response.text
        pub = client.publication("news")
        assert pub["data"] == {"text": f"by {way}"}
        assert response.json() == {"offset": pub["offset"], "epoch": position["epoch"]}


def test_what_it_adds_to_redis_arrives_on_every_node(redis, join):
    nodes = join([redis.url] * 2)
    clients = [nodes.subscribe(n, "news") for n in range(2)]
    with running(nodes[0], CORECAST_REDIS_URL=redis.url) as url:
        response = httpx.post(f"{url}/publish/redis", json={"text": "by redis"}, trust_env=False)
        assert response.status_code == 202, response.text
        for client in clients:
            assert client.publication("news")["data"] == {"text": "by redis"}


def test_a_bad_request_does_not_reach_the_server(application):
    assert httpx.post(f"{application}/publish/cent", json={}, trust_env=False).status_code == 422


@pytest.mark.timeout(120)
def test_its_page_shows_what_is_published(server, application, driver):
    browser = subprocess.Popen(
        ["node", str(ROOT / "tests" / "e2e" / "sdk" / "browser.mjs"), application,
         str(CACHE / f"example-{driver}.png"), "seen in a browser", "example"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert browser.stdout.readline() == "OPEN\n"
        eventually(lambda: "news" in server.result("channels")["channels"], 15,
                   "the page is subscribed")
        httpx.post(f"{application}/publish/http", json={"text": "seen in a browser"},
                   trust_env=False)
        assert browser.stdout.readline() == "SEEN\n", browser.communicate()[0]
        # It is away while this is published, and still shows it.
        server.result("disconnect", user="", disconnect={"code": 4000, "reason": "come back"})
        httpx.post(f"{application}/publish/http", json={"text": "seen in a browser again"},
                   trust_env=False)
        output = browser.communicate(timeout=60)[0]
        assert browser.returncode == 0, output
    finally:
        browser.kill()


def test_the_requirements_are_pinned():
    for line in (EXAMPLE / "requirements.txt").read_text().splitlines():
        assert not line.strip() or line.startswith("#") or "==" in line, line
