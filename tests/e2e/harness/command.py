"""The commands of `corecast` that end by themselves."""

import os
import subprocess

from harness.server import BINARY


def run(*arguments, env=None, cwd=None):
    """Runs a command. Its standard input is empty."""
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=15,
                          env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL)
