"""Two sites with a link between them that the kernel can cut, block or slow down."""

import contextlib
import ctypes
import os
import subprocess

import pytest

# Addresses of Redis, nodes and Sentinels: the two ends of the link that can be disturbed.
HOME, AWAY = "10.0.0.1", "10.0.0.2"
# Address of the site away for tests at home, on a second link that always works.
DOOR = "10.0.1.2"
# An address of whichever site holds it. A site that does not hold it routes it to the other.
SHARED = "10.0.2.1"

CLONE_NEWNET = 0x40000000
LINK, DOOR_LINK = "bus", "door"


class Sites:
    """While the block runs, the thread and its child processes are at home, in their own network
    namespace with its own loopback. A command that begins with `away` runs at the other site.
    Nothing of it is visible from outside, and it ends with its last process."""

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            _enter_namespace(undo)
            self.holder = _hold_namespace(undo).pid
            self.away = ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--"]
            self.make()
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    def make(self):
        for link, ends in [(LINK, [HOME, AWAY]), (DOOR_LINK, ["10.0.1.1", DOOR])]:
            self.run(HOME, "ip", "link", "add", "dev", link, "type", "veth", "peer", "name", link,
                     "netns", self.holder)
            for site, address in zip([HOME, AWAY], ends):
                self.run(site, "ip", "address", "add", f"{address}/30", "dev", link)
        for site in (HOME, AWAY):
            for link in ("lo", DOOR_LINK):
                self.run(site, "ip", "link", "set", link, "up")
        # Outgoing connections away must not use a port that is free at home.
        for site, ports in [(HOME, "32768 60999"), (AWAY, "10000 29999")]:
            self.run(site, "sh", "-c", f"echo {ports} >/proc/sys/net/ipv4/ip_local_port_range")
        self.heal()

    def run(self, site, *command):
        """Runs a command at the site with this address."""
        prefix = self.away if site == AWAY else []
        subprocess.run([*prefix, *map(str, command)], check=True)

    def hold(self, site):
        """Adds the shared address to the site, even if the other one holds it, too."""
        self.run(site, "ip", "address", "add", f"{SHARED}/32", "dev", "lo")

    def release(self, site):
        self.run(site, "ip", "address", "del", f"{SHARED}/32", "dev", "lo")

    def pull(self, site):
        """Disables the link at `site`. It has no route any more, and the other end sees silence."""
        self.run(site, "ip", "link", "set", LINK, "down")

    def deafen(self, *sites):
        """Silently drops all packets to these sites."""
        for site in sites:
            self.run(site, "nft", "add table netdev cut; add chain netdev cut arriving { "
                     f"type filter hook ingress device {LINK} priority 0; policy drop; }}")

    def narrow(self, kbits):
        """Limits the link to this number of kbit/s in each direction. Up to 4 s of excess data is
        queued."""
        for site in (HOME, AWAY):
            self.run(site, "tc", "qdisc", "replace", "dev", LINK, "root", "tbf",
                     "rate", f"{kbits}kbit", "burst", "2kb", "latency", "4s")

    def heal(self):
        """Repairs the link."""
        for site in (HOME, AWAY):
            self.run(site, "nft", "add table netdev cut; delete table netdev cut")
            self.run(site, "tc", "qdisc", "replace", "dev", LINK, "root", "pfifo")
            self.run(site, "ip", "link", "set", LINK, "up")
        # Routes over a link are lost with it.
        for site, other in [(HOME, AWAY), (AWAY, HOME)]:
            self.run(site, "ip", "route", "replace", SHARED, "via", other)


class Guests:
    """While the block runs, the thread and its child processes are in their own network namespace,
    at the address `HOST`. The guests "one" and "two" reach it from different networks. A command
    that begins with `enter(guest)` runs as that guest."""

    HOST = "10.1.0.1"
    LINKS = {"one": ("10.1.0.1/24", "10.1.0.2/24"), "two": ("10.2.0.1/24", "10.2.0.2/24")}

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            _enter_namespace(undo)
            self.run("ip", "link", "set", "lo", "up")
            self.holders = {guest: _hold_namespace(undo).pid for guest in self.LINKS}
            for guest, (here, there) in self.LINKS.items():
                self.run("ip", "link", "add", "dev", guest, "type", "veth", "peer", "name", guest,
                         "netns", self.holders[guest])
                for prefix, address in [([], here), (self.enter(guest), there)]:
                    self.run(*prefix, "ip", "address", "add", address, "dev", guest)
                    self.run(*prefix, "ip", "link", "set", guest, "up")
            self.run(*self.enter("two"), "ip", "route", "add", self.HOST, "via", "10.2.0.1")
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    def enter(self, guest):
        return ["nsenter", f"--net=/proc/{self.holders[guest]}/ns/net", "--"]

    def run(self, *command):
        subprocess.run([*map(str, command)], check=True)


def _enter_namespace(undo):
    """Moves the thread into a new network namespace until `undo` is done."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    undo.callback(os.close, outside)
    try:
        _libc("unshare", CLONE_NEWNET)
    except PermissionError:
        pytest.skip("a network namespace is needed, and only root may make one")
    undo.callback(_libc, "setns", outside, CLONE_NEWNET)


def _hold_namespace(undo):
    """Returns the process that holds another network namespace. It ends when its input is closed,
    at the latest with this process."""
    holder = undo.enter_context(subprocess.Popen(
        ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    holder.stdin.write(b"\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == b"\n", "the namespace is not there"
    return holder


def _libc(name, *args):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*args):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
