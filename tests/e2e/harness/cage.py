"""A memory cgroup around a server. The kernel kills the server if it exceeds the allowed memory."""

import itertools
import os
import pathlib
import time

import pytest

_numbers = itertools.count(1)

# Data on its way to a client that does not read. Version 2 of cgroups charges it to the server,
# and version 1 counts it separately. The server requests send buffers of 64 KiB, see limits.rs.
SOCKET_BYTES = 100 * 1024
# Additional kernel memory of a connection: socket, file, poll.
CONNECTION_BYTES = 6 * 1024


class Cage:
    """`Server(…, prefix=cage.enter)` runs in the cgroup. Its limit applies after `allow`. The test
    is skipped where cgroups can't be created."""

    def __enter__(self):
        self.directory, self.version = _make()
        # The shell replaces itself by the server.
        procs = str(self.directory / "cgroup.procs")
        self.enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', procs]
        return self

    def __exit__(self, *_):
        for _ in range(100):  # An ended process leaves the cgroup shortly after.
            try:
                return self.directory.rmdir()
            except OSError:
                time.sleep(0.05)

    def allow(self, more_bytes, connections=0):
        """Allows this much more memory than now, and the kernel memory of `connections` clients
        that don't read."""
        each = CONNECTION_BYTES + (SOCKET_BYTES if self.version == 2 else 0)
        bound = int(self.used_bytes() + more_bytes + connections * each)
        if self.version == 2:
            self.write("memory.swap.max", 0)
            self.write("memory.max", bound)
        else:
            self.write("memory.limit_in_bytes", bound)
            self.write("memory.memsw.limit_in_bytes", bound)

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
    """Creates a cgroup with a memory limit. Returns it and the version of its hierarchy."""
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
            except OSError as error:
                pytest.skip(f"a memory cgroup is needed: {error}")
            return root / name, version
    pytest.skip("a memory cgroup is needed, and none is mounted")
