"""Headless Chromium uses the page of the API port."""

import subprocess

import pytest

from harness.server import CACHE, ROOT, Server

BROWSER = ["node", str(ROOT / "tests" / "e2e" / "sdk" / "browser.mjs")]


@pytest.mark.timeout(120)
def test_the_page_subscribes_publishes_and_shows_live_numbers(server, driver):
    screenshot = CACHE / f"page-{driver}.png"
    done = subprocess.run(
        [*BROWSER, f"{server.api_url}/", str(screenshot), "hello from a browser", "admin"],
        capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    page = server.result("channels", pattern="browser")["channels"]
    assert page in ({}, {"browser": {"num_clients": 1}})


@pytest.mark.timeout(120)
def test_the_page_says_what_is_wrong(driver):
    screenshot = CACHE / f"page-phone-{driver}.png"
    with Server(driver) as server:
        browser = subprocess.Popen(
            [*BROWSER, f"{server.api_url}/", str(screenshot), "hello from a phone", "mistakes"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            for line in browser.stdout:
                if line.strip() == "DEAD":
                    server.kill()
                elif line.strip() == "BACK":
                    server.start()
            assert browser.wait(30) == 0, browser.stderr.read()
        finally:
            browser.kill()
            browser.wait()


def test_the_page_is_for_dev_only_or_behind_the_key(server):
    response = server.http.get("/")
    assert response.status_code == 200 and "text/html" in response.headers["content-type"]
