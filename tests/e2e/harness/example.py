"""An application of `examples`, on its own port and connected to a server."""

import contextlib
import os
import subprocess

import httpx

from harness.ports import free_port
from harness.server import CACHE, ROOT, eventually


@contextlib.contextmanager
def running(server, command, directory, **environment):
    """Starts `command(port)` in `directory` with the server's addresses. Yields its URL."""
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


def disconnect(server):
    """Closes the connection of the page, which comes back by itself."""
    server.result("disconnect", user="", disconnect={"code": 4000, "reason": "come back"})


def restart(server):
    """Kills the server, starts it again, and waits until the page is back."""
    server.kill()
    server.start()
    eventually(lambda: "news" in server.result("channels")["channels"], 30, "the page is back")


def page_shows(server, url, picture, publish, interrupt=disconnect):
    """Checks that a browser on the page at `url` shows what `publish(text)` publishes, also after
    `interrupt(server)`. A screenshot of the end is saved as `picture`."""
    browser = subprocess.Popen(
        ["node", str(ROOT / "tests" / "e2e" / "sdk" / "browser.mjs"), url, str(CACHE / picture),
         "seen in a browser", "restart" if interrupt is restart else "example"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert browser.stdout.readline() == "OPEN\n"
        eventually(lambda: "news" in server.result("channels")["channels"], 15,
                   "the page is subscribed")
        publish("seen in a browser")
        assert browser.stdout.readline() == "SEEN\n", browser.communicate()[0]
        interrupt(server)
        # After a disconnect the browser is not back yet, and it must still show this.
        publish("seen in a browser again")
        output = browser.communicate(timeout=60)[0]
        assert browser.returncode == 0, output
    finally:
        browser.kill()
