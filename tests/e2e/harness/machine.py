"""A copy of this Debian for tests that install packages: a layer over `/` in namespaces of its own.
Whatever is written there is gone when the copy ends, and the host does not see it."""

import os
import pathlib
import shutil
import subprocess

import pytest

from harness.server import eventually

BOOT_SECONDS_MAX = 30

# Runs in a new mount namespace. systemd-nspawn leaves files in /run, and wants control groups of
# version 2, which some hosts have beside those of version 1.
LAYER = """
set -e
space=$1
shift
mount -t tmpfs none "$space"
mkdir "$space/changes" "$space/work" "$space/root"
mount -t overlay -o "lowerdir=/,upperdir=$space/changes,workdir=$space/work" none "$space/root"
# Images of containers have one that forbids the start of services.
rm -f "$space/root/usr/sbin/policy-rc.d"
chroot "$space/root" dpkg-query --show init-system-helpers >/dev/null
exec "$@"
"""

BY_HAND = """
ip link set lo up
mount --rbind /dev "$0/dev"
mount -t proc none "$0/proc"
mount -t tmpfs none "$0/run"
mount -t tmpfs none "$0/tmp"
exec chroot "$0" sleep infinity
"""

BOOT = """
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
exec systemd-nspawn --quiet --directory "$0" --boot --machine "$1" --register no --keep-unit \
    --private-network --link-journal no systemd.unit=basic.target
"""


class Machine:
    """Runs until the end of the `with` block. Skips the test where this host can't have one."""

    def __init__(self, directory, boots):
        self.boots, self.space = boots, pathlib.Path(directory, "machine")
        self.log_path = pathlib.Path(directory, "log")
        self.inside = []
        if reason := self.lacking():
            pytest.skip(reason)

    def lacking(self):
        """Says why this host can't have one, or returns None."""
        if os.geteuid() != 0:
            return "installing a package needs root"
        if shutil.which("dpkg") is None:
            return "dpkg is not installed"
        if self.boots and not (shutil.which("systemd-nspawn")
                               and pathlib.Path("/lib/systemd/systemd").exists()):
            return "systemd and systemd-nspawn are not installed"
        self.space.mkdir()
        tried = subprocess.run(self.layer("true"), capture_output=True, text=True)
        return f"no layer over /: {tried.stderr.strip()}" if tried.returncode else None

    def layer(self, *command):
        return ["unshare", "--mount", "bash", "-c", LAYER, "layer", self.space, *command]

    def __enter__(self):
        root = self.space / "root"
        if self.boots:
            command = ["bash", "-ec", BOOT, root, f"corecast-{os.getpid()}"]
        else:
            command = ["unshare", "--net", "bash", "-ec", BY_HAND, root]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.layer(*command), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        try:
            eventually(self.is_up, BOOT_SECONDS_MAX, lambda: f"the machine is up\n{self.log()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # The kernel ends what runs in a machine with its first process, which ends with nspawn.
        self.process.kill()
        self.process.wait()

    def is_up(self):
        if self.process.poll() is not None:
            pytest.skip(f"no machine starts here: {self.log()}")
        if not self.boots:
            # The last command of BY_HAND.
            pid = self.process.pid
            self.inside = ["nsenter", "--target", str(pid), "--mount", "--net", "--root", "--wd"]
            return pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
        first = first_process(self.process.pid)
        if first is None:
            return False
        self.inside = ["nsenter", "--target", str(first), "--all"]
        return self.ask("systemctl is-active basic.target") == "active"

    def start(self, script, **options):
        """Starts a script of the shell in the machine."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        return subprocess.Popen([*self.inside, "bash", "-ec", script], env=environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, **options)

    def ask(self, script):
        """Runs a script, and returns what it prints, whatever its status."""
        return self.start(script).communicate(timeout=60)[0].strip()

    def run(self, script):
        """Runs a script that must succeed, and returns what it prints."""
        process = self.start(script)
        printed = process.communicate(timeout=60)[0]
        assert process.returncode == 0, f"{script}: {printed}"
        return printed.strip()

    def put(self, source, name):
        """Copies a file of the host to `/root/NAME`."""
        with open(source, "rb") as content:
            subprocess.run([*self.inside, "/usr/bin/tee", f"/root/{name}"], stdin=content,
                           stdout=subprocess.DEVNULL, check=True)
        return f"/root/{name}"

    def log(self):
        return self.log_path.read_text(errors="replace")[-4000:]


def first_process(ancestor):
    """Returns the descendant of `ancestor` that is process 1 of its own namespace, or None."""
    parents, firsts = {}, []
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue  # It has ended.
        pid = int(fields["Pid"])
        parents[pid] = int(fields["PPid"])
        if fields["NSpid"].split()[1:] == ["1"]:
            firsts.append(pid)
    return next((pid for pid in firsts if ancestor in ancestors(pid, parents)), None)


def ancestors(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid
