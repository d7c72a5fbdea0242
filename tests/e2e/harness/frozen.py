"""Processes that stand still."""

import contextlib
import pathlib
import signal
import time

STOP_SECONDS_MAX = 10


def freeze(process):
    """Stops a process, and returns once it runs no longer. The signal takes effect only when a
    thread of the process handles it, which may take a while on a busy machine."""
    process.send_signal(signal.SIGSTOP)
    limit = time.monotonic() + STOP_SECONDS_MAX
    while not all(state in "TZ" for state in states(process.pid)):
        assert time.monotonic() < limit, f"{process.args} does not stop: {states(process.pid)}"
        time.sleep(0.001)


def thaw(process):
    """Lets a frozen process go on."""
    process.send_signal(signal.SIGCONT)


def states(pid):
    """The states of all threads, as in proc(5)."""
    found = []
    for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        # A thread may end while its file is read.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(thread.read_text().rpartition(")")[2].split()[0])
    return found
