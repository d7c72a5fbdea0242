"""A limit for the memory of a server. Its resident memory is measured all the time. Where memory
cgroups can be created, the kernel also kills the server if it exceeds the limit."""

import contextlib
import itertools
import os
import pathlib
import threading
import time

_numbers = itertools.count(1)

# Data on its way to a client that does not read. Version 2 of cgroups charges it to the server,
# and version 1 counts it separately. The server requests send buffers of 64 KiB, see limits.rs.
SOCKET_BYTES = 100 * 1024
# Additional kernel memory of a connection: socket, file, poll.
CONNECTION_BYTES = 6 * 1024


class Cage:
    """`Server(…, prefix=cage.enter)` runs in the cgroup. The limit applies from `allow` on, and
    `check` tells whether it was kept."""

    def __enter__(self):
        self.undo = contextlib.ExitStack()
        self.directory, self.version = _make()
        self.enter = []
        if self.directory:
            self.undo.callback(self.remove)
            # The shell replaces itself by the server.
            procs = str(self.directory / "cgroup.procs")
            self.enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', procs]
        return self

    def __exit__(self, *_):
        self.undo.close()

    def remove(self):
        for _ in range(100):  # An ended process leaves the cgroup shortly after.
            try:
                return self.directory.rmdir()
            except OSError:
                time.sleep(0.05)

    def allow(self, server, more_bytes, connections=0):
        """Allows the server this much more memory than now, and the kernel memory of `connections`
        clients that don't read."""
        self.server, self.more_bytes = server, more_bytes
        self.before = server.rss_bytes()
        self.most = self.undo.enter_context(peak(server))
        if self.directory is None:
            return
        each = CONNECTION_BYTES + (SOCKET_BYTES if self.version == 2 else 0)
        bound = int(self.used_bytes() + more_bytes + connections * each)
        if self.version == 2:
            self.write("memory.swap.max", 0)
            self.write("memory.max", bound)
        else:
            self.write("memory.limit_in_bytes", bound)
            self.write("memory.memsw.limit_in_bytes", bound)

    def check(self):
        """Fails if the server has had more memory than allowed."""
        assert self.directory is None or not self.kills(), "killed by the kernel"
        assert self.server.alive()
        grown = self.most[0] - self.before
        assert grown < self.more_bytes, f"{grown >> 20} MiB, {int(self.more_bytes) >> 20} allowed"

    def used_bytes(self):
        """Returns the memory that can't be reclaimed: everything but cached pages of files."""
        stat = dict(line.split() for line in self.read("memory.stat").splitlines())
        total = self.read("memory.current" if self.version == 2 else "memory.usage_in_bytes")
        return int(total) - int(stat["inactive_file"]) - int(stat["active_file"])

    def kills(self):
        """Returns the number of processes that the kernel has killed in the cgroup."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        lines = dict(line.split() for line in self.read(name).splitlines())
        return int(lines["oom_kill"])

    def read(self, name):
        return (self.directory / name).read_text()

    def write(self, name, value):
        if (self.directory / name).exists():  # Without swap there is no file for it.
            (self.directory / name).write_text(str(value))


def _make():
    """Creates a cgroup with a memory limit. Returns it and the version of its hierarchy, or None
    where none can be created."""
    name = f"corecast-test-{os.getpid()}-{next(_numbers)}"
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, options = line.split()[:4]
        root = pathlib.Path(mount)
        version = {"cgroup2": 2, "cgroup": 1}.get(kind, 0)
        if version == 1 and "memory" not in options.split(","):
            continue
        if version == 2 and "memory" not in (root / "cgroup.controllers").read_text().split():
            continue
        if version:
            try:
                if version == 2:
                    (root / "cgroup.subtree_control").write_text("+memory")
                (root / name).mkdir()
            except OSError:
                return None, 0
            return root / name, version
    return None, 0


@contextlib.contextmanager
def peak(server):
    """The most memory that the server has had meanwhile, in a list."""
    most, done = [0], threading.Event()

    def watch():
        with contextlib.suppress(OSError, TypeError):  # The server has ended.
            while not done.wait(0.02):
                most[0] = max(most[0], server.rss_bytes())
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
