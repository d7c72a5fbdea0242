"""An application of `examples`, on a port of its own beside a server."""

import contextlib
import os
import subprocess

import httpx

from harness.ports import free_port
from harness.server import CACHE, ROOT, eventually


@contextlib.contextmanager
def running(server, command, directory, **environment):
    """What `command(port)` starts in `directory`, told where the server is: its URL."""
    port = free_port()
    process = subprocess.Popen(
        command(port), cwd=directory,
        env={**os.environ, "PORT": str(port), "CORECAST_API_URL": server.api_url,
             "CORECAST_WS_URL": server.ws_url, **environment},
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


def page_shows(server, url, picture, publish):
    """A browser on the page at `url` shows what `publish(text)` publishes, and after it was thrown
    out what was published meanwhile. Its last sight is kept as `picture`."""
    browser = subprocess.Popen(
        ["node", str(ROOT / "tests" / "e2e" / "sdk" / "browser.mjs"), url, str(CACHE / picture),
         "seen in a browser", "example"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert browser.stdout.readline() == "OPEN\n"
        eventually(lambda: "news" in server.result("channels")["channels"], 15,
                   "the page is subscribed")
        publish("seen in a browser")
        assert browser.stdout.readline() == "SEEN\n", browser.communicate()[0]
        # It is away while this is published, and still shows it.
        server.result("disconnect", user="", disconnect={"code": 4000, "reason": "come back"})
        publish("seen in a browser again")
        output = browser.communicate(timeout=60)[0]
        assert browser.returncode == 0, output
    finally:
        browser.kill()
