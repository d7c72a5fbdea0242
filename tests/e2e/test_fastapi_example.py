"""The FastAPI example: it publishes in all its ways, and its page receives."""

import sys

import httpx
import pytest

from harness.client import Client
from harness.command import run
from harness.example import page_shows, restart, running
from harness.ports import free_port
from harness.server import ROOT, Server

EXAMPLE = ROOT / "examples" / "fastapi"


def serving(port):
    return [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]


@pytest.fixture
def application(server):
    with running(server, serving, EXAMPLE) as url:
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
    with running(nodes[0], serving, EXAMPLE, CORECAST_REDIS_URL=redis.url) as url:
        response = httpx.post(f"{url}/publish/redis", json={"text": "by redis"}, trust_env=False)
        assert response.status_code == 202, response.text
        for client in clients:
            assert client.publication("news")["data"] == {"text": "by redis"}


def test_a_bad_request_does_not_reach_the_server(application):
    assert httpx.post(f"{application}/publish/cent", json={}, trust_env=False).status_code == 422


def test_without_corecast_and_redis_it_asks_to_try_again(driver):
    with Server(driver) as server:
        nowhere = {"CORECAST_API_URL": f"http://127.0.0.1:{free_port()}",
                   "CORECAST_REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
        with running(server, serving, EXAMPLE, **nowhere) as url:
            for way in ("cent", "http", "redis"):
                response = httpx.post(f"{url}/publish/{way}", json={"text": "a"}, trust_env=False)
                assert response.status_code == 503, (way, response.text)
                assert "can't publish now" in response.json()["detail"]
                assert response.headers["retry-after"]


@pytest.mark.timeout(120)
def test_its_page_shows_what_the_command_publishes(server, application, driver):
    page_shows(server, application, f"example-command-{driver}.png",
               lambda text: run("publish", "news", text, "--api", server.api_url))


@pytest.mark.timeout(120)
def test_its_page_shows_what_is_published(server, application, driver):
    page_shows(server, application, f"example-{driver}.png", lambda text: httpx.post(
        f"{application}/publish/http", json={"text": text}, trust_env=False))


@pytest.mark.timeout(120)
def test_its_page_survives_a_restart_of_the_server(driver):
    with Server(driver) as server, running(server, serving, EXAMPLE) as url:
        page_shows(server, url, f"example-restart-{driver}.png",
                   lambda text: server.publish("news", {"text": text}), interrupt=restart)


def test_the_requirements_are_pinned():
    for line in (EXAMPLE / "requirements.txt").read_text().splitlines():
        assert not line.strip() or line.startswith("#") or "==" in line, line
