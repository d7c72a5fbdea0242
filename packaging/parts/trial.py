"""A trial of the program: it serves a subscriber, and that gets a publication.

The program of another processor runs in qemu. That has no io_uring, so the program uses epoll.
"""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import urllib.request

from . import emulator
from .binary import program
from .project import WORK, Missing, run

# For each thing that the trial waits for. A translated program is slow.
PATIENCE_SECONDS = 60

MESSAGE = '{"text": "Hello"}'


def try_out(order):
    """Tries the program of `order`, and says what was tried."""
    words = [str(word) for word in (*emulator.command(order.target), program(order))]
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        driver = serve(words, pathlib.Path(directory))
    on = f" in {pathlib.PurePath(words[0]).name}" if len(words) > 1 else ""
    print(f"{words[-1]}  serves, subscribes and publishes on {driver}{on}", flush=True)


def serve(words, directory):
    """Runs a server, sends one message through it, and returns the name of its driver."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith("CORECAST_")}
    log, received = directory / "log", directory / "received"

    def ask(*arguments):
        return run(*words, *arguments, env=environment, timeout=PATIENCE_SECONDS)

    with contextlib.ExitStack() as stack:
        client, api = reserved_port(stack), reserved_port(stack)
        environment |= {"CORECAST_URL": f"ws://127.0.0.1:{client}",
                        "CORECAST_API_URL": f"http://127.0.0.1:{api}"}

        def start(output, *arguments):
            started = subprocess.Popen([*words, *arguments], env=environment,
                                       stdout=stack.enter_context(output.open("wb")),
                                       stderr=subprocess.STDOUT)
            stack.callback(started.wait)
            stack.callback(started.kill)
            return started

        server = start(log, "serve", "--dev", "--shards", "1", "--listen", f"127.0.0.1:{client}",
                       "--api-listen", f"127.0.0.1:{api}")
        until(lambda: is_ready(api), server, log)
        start(received, "subscribe", "news")
        until(lambda: "news" in ask("channels", "--json"), server, log)
        ask("publish", "news", MESSAGE)
        until(lambda: "Hello" in received.read_text(), server, log)
        server.terminate()
        if (status := server.wait(PATIENCE_SECONDS)) != 0:
            raise Missing(f"the server ended with status {status}:\n{log.read_text()}")
    driver = re.search(r"running with 1 shard on (\w+)", log.read_text())
    return driver[1] if driver else "an unknown driver"


def reserved_port(stack):
    """Returns a port that nobody else gets until `stack` ends, because a socket is bound to it."""
    holder = stack.enter_context(socket.socket())
    holder.bind(("127.0.0.1", 0))
    # With both, the server may listen there.
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        holder.setsockopt(socket.SOL_SOCKET, option, 1)
    return holder.getsockname()[1]


def is_ready(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/ready", timeout=PATIENCE_SECONDS) as response:
            return response.status == 200
    except OSError:
        return False


def until(happened, server, log):
    """Waits until `happened()` is true, while the server runs."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if server.poll() is not None or time.monotonic() > end:
            raise Missing(f"the server of the trial does not work:\n{log.read_text()}")
        time.sleep(0.1)
