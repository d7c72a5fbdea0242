"""The life of the Debian package in a copy of this host's Debian: installed, started, changed,
upgraded, removed and purged. Once under systemd, and once with the service started by hand."""

import shlex
import shutil

import pytest

from harness.machine import Machine
from harness.server import eventually
from test_packaging import VERSION, build, run, service

KEY = "CORECAST_API_KEY=$(cat /etc/corecast/api_keys)"

# So that a restart takes no five seconds. An administrator adds such a file with `systemctl edit`.
DROP_IN = """
mkdir -p /etc/systemd/system/corecast.service.d
printf '[Service]\\nEnvironment=CORECAST_SERVER_DRAIN_DELAY=0s\\n' \
    >/etc/systemd/system/corecast.service.d/override.conf
"""


class ByHand:
    """Starts the service like the unit does, where there is no systemd."""

    def __init__(self, machine):
        self.machine, self.process = machine, None

    def restart(self):
        self.stop()
        unit = service()
        secret, _, source = unit["LoadCredential"].partition(":")
        self.machine.run(f"install -D -m 400 -o corecast {source} /run/credentials/{secret}")
        variable = unit["Environment"].split("=")[0]
        user = shlex.quote(unit["User"])
        self.process = self.machine.start(
            f"{variable}=/run/credentials/{secret} exec setpriv --reuid {user} --regid {user} "
            f"--clear-groups {unit['ExecStart']}")

    installed = upgraded = restart

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    removed = stop


class Systemd:
    """The service under systemd, where the package itself starts, restarts and stops it."""

    def __init__(self, machine):
        self.machine = machine
        machine.run(DROP_IN)

    def state(self):
        return self.machine.run("systemctl show corecast -p ActiveState -p MainPID --value")

    def installed(self):
        self.first = self.state()
        assert "active" in self.first.split(), self.first
        assert self.machine.ask("systemctl is-enabled corecast") == "enabled"

    def restart(self):
        self.machine.run("systemctl restart corecast && systemctl disable corecast")
        self.first = self.state()

    def upgraded(self):
        second = self.state()
        assert "active" in second.split() and second != self.first, "it was restarted"
        # As the administrator wanted it before the upgrade.
        assert self.machine.ask("systemctl is-enabled corecast") == "disabled"

    def removed(self):
        assert self.machine.ask("systemctl is-active corecast") == "inactive"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    return build(tmp_path_factory.mktemp("package"), "deb")[".deb"]


@pytest.fixture(scope="module")
def newer(package, tmp_path_factory):
    """The package of the next version, which has other settings in its file."""
    tree = tmp_path_factory.mktemp("newer") / "tree"
    run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN" / "control"
    text = control.read_text()
    control.write_text(text.replace(f"Version: {VERSION}\n", f"Version: {VERSION}+1\n"))
    with open(tree / "etc/corecast/corecast.toml", "a") as settings:
        settings.write("# A comment of the next version.\n")
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, tree.parent / "newer.deb")
    return tree.parent / "newer.deb"


def publishes(machine, channel):
    """Whether the service publishes with the key of its installation. One that starts does not."""
    return '"Hello"' in machine.ask(
        f"{KEY} corecast publish {channel} Hello && {KEY} corecast history {channel}")


@pytest.mark.parametrize("manager", [ByHand, Systemd])
def test_the_package_is_installed_upgraded_removed_and_purged(manager, package, newer, tmp_path):
    with Machine(tmp_path, boots=manager is Systemd) as machine:
        machine.put(package, "corecast.deb")
        machine.put(newer, "newer.deb")
        life = manager(machine)

        dpkg = "dpkg --no-triggers --force-unsafe-io"
        machine.run(f"{dpkg} --install /root/corecast.deb")
        assert machine.run("stat -c '%a %U' /etc/corecast/api_keys") == "600 root"
        key = machine.run("cat /etc/corecast/api_keys")
        assert len(key) == 64, "256 random bits"
        life.installed()
        ready = "curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:9000/ready"
        eventually(lambda: machine.ask(ready) == "200", 15, "the service starts")
        assert "does not accept this key" in machine.ask(
            "CORECAST_API_KEY=wrong corecast publish news Hello")
        assert not publishes(machine, "news:today"), "nothing is allowed yet"

        # The example of the file becomes its settings.
        settings = "/etc/corecast/corecast.toml"
        machine.run(f"sed -i -E 's/^#([^ ])/\\1/' {settings} && corecast config check {settings}")
        life.restart()
        eventually(lambda: publishes(machine, "news:today"), 15, "the settings are in effect")
        edited = machine.run(f"cat {settings}")

        machine.run(f"{dpkg} --force-confold --install /root/newer.deb")
        life.upgraded()
        assert machine.run("dpkg-query -W -f '${Version}' corecast") == f"{VERSION}+1"
        assert machine.run(f"cat {settings}") == edited
        assert machine.run("cat /etc/corecast/api_keys") == key
        eventually(lambda: publishes(machine, "news:today"), 15, "the next version starts")

        machine.run(f"{dpkg} --remove corecast")
        life.removed()
        assert machine.ask("type -P corecast") == ""
        assert machine.run("ls /etc/corecast") == "api_keys\ncorecast.toml\ncorecast.toml.dpkg-dist"
        machine.run(f"{dpkg} --purge corecast")
        assert machine.ask("ls -d /etc/corecast /usr/share/doc/corecast").count("No such file") == 2
        assert machine.run("getent passwd corecast"), "its number must not go to another user"
