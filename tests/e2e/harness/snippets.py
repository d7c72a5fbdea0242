"""The code of the documents, and ways to run it against a server of a test."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

from harness.server import BINARY, CACHE, ROOT, eventually

FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SECONDS_MAX = 20


def snippets(document):
    """The snippets of a page by name: `docs/api.md python 2` is its second one in Python."""
    counts, found = {}, {}
    for language, text in FENCE.findall((ROOT / document).read_text()):
        counts[language] = counts.get(language, 0) + 1
        found[f"{document} {language} {counts[language]}"] = text
    return found


def here(text, server):
    """The text with the addresses of a test's server in place of the usual ones."""
    for port, own in ((8000, server.client_port), (9000, server.api_port)):
        text = re.sub(rf"(localhost|127\.0\.0\.1|10\.0\.0\.5):{port}\b", f"127.0.0.1:{own}", text)
    return text


class Desk:
    """A directory in which snippets run. `corecast` and `redis-cli` are commands there, and
    centrifuge is a module of Node.js."""

    def __init__(self, path, redis=None):
        self.path = path
        (path / "node_modules").symlink_to(CACHE / "node" / "node_modules")
        commands = path / "bin"
        commands.mkdir()
        (commands / "corecast").symlink_to(BINARY)
        if redis:
            cli = f'#!/bin/sh\nexec {shutil.which("redis-cli")} -p {redis.port} "$@"\n'
            (commands / "redis-cli").write_text(cli)
            (commands / "redis-cli").chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}

    def write(self, name, text):
        (self.path / name).write_text(text)

    def shell(self, text, seconds=SECONDS_MAX, **environment):
        """Runs commands, which must all succeed, and returns their output."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self.path, capture_output=True, text=True,
            env={**self.environment, **environment}, timeout=seconds, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def running(self, *command, **environment):
        """Runs a program until the end of the block. Yields a function that returns its output."""
        log = self.path / "output"
        with open(log, "w") as output:
            process = subprocess.Popen(
                command, cwd=self.path, stdout=output, stderr=subprocess.STDOUT,
                env={**self.environment, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL)
        try:
            yield log.read_text
        finally:
            process.kill()
            process.wait()

    def node(self, text):
        """The command that runs JavaScript. Browsers have WebSocket; Node.js 20 needs a flag."""
        self.write("snippet.mjs", text)
        return ["node", "--experimental-websocket", "--no-warnings", "snippet.mjs"]

    def python(self, text):
        self.write("snippet.py", text)
        return [sys.executable, "snippet.py"]

    def receives(self, server, command, channel="news"):
        """Runs a program that prints what it receives, and publishes until it has printed it."""
        with self.running(*command) as output:
            def subscribed():
                assert "rror" not in output(), output()
                return channel in server.result("channels")["channels"]

            eventually(subscribed, SECONDS_MAX, "the program is subscribed")
            server.publish(channel, {"text": "seen by a snippet"})
            eventually(lambda: "seen by a snippet" in output(), SECONDS_MAX, "it prints it")
