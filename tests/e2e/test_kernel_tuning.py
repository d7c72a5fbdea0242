"""kernel-tuning: check, apply and revert, in a network namespace. Copies replace the files of the
whole machine, so that nothing outside changes."""

import pathlib
import re
import shlex
import subprocess

import pytest

from harness.server import ROOT

TUNING = ROOT / "kernel-tuning"

# The machine's own settings are covered, and nothing below can reach them. wmem_max holds a value
# that is better than ours; the file of nr_open is missing.
PREPARE = """
set -euo pipefail
mount -t tmpfs none /proc/sys/fs
mount -t tmpfs none /proc/sys/kernel
mkdir /proc/sys/kernel/random
echo a-boot >/proc/sys/kernel/random/boot_id
echo 1000 >/proc/sys/fs/file-max
echo 2 >/proc/sys/kernel/io_uring_disabled
cd /proc/sys/net
echo 128 >core/somaxconn
printf '4096 131072 6291456' >ipv4/tcp_rmem
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "--mount", "bash", "-c"]


def machine():
    """The machine's own value of each key of the table."""
    names = re.findall(r"^([a-z_.0-9]+) \|", (TUNING / "keys").read_text(), re.MULTILINE)
    paths = [pathlib.Path("/proc/sys", name.replace(".", "/")) for name in names]
    return {path: path.read_text() for path in paths if path.exists()}


@pytest.fixture(scope="module", autouse=True)
def nothing_outside_changes():
    before = machine()
    assert len(before) > 5
    yield
    assert machine() == before


@pytest.fixture
def run(tmp_path, user_namespaces):
    """Runs lines of shell in namespaces; `check`, `apply` and `revert` are functions there."""
    state = tmp_path / "state"

    def run(script):
        functions = "".join(
            f'{name}() {{ {TUNING / name} "$@" {extra}; }}\n'
            for name, extra in [("check", ""), ("apply", f"--state {shlex.quote(str(state))}"),
                                ("revert", f"--state {shlex.quote(str(state))}")])
        values = 'values() { (cd /proc/sys; grep -rs "" fs kernel net/core/somaxconn ' \
                 'net/ipv4/tcp_rmem net/ipv4/tcp_max_syn_backlog net/core/wmem_max); }\n'
        done = subprocess.run([*NAMESPACE, PREPARE + functions + values + script],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.state = state
    return run


def rows(text):
    """The lines of a report by their key."""
    return {line.split()[0]: line for line in text.splitlines() if re.match(r"[a-z]+\.", line)}


def test_what_apply_sets_check_finds_right_and_revert_takes_back(run):
    out = run("""
        values >/tmp/before.$$
        check --connections 1M && exit 9
        echo APPLIED; apply --connections 1M || true
        echo CHECKED; check --connections 1M || true
        echo REVERTED; revert || true
        values | diff /tmp/before.$$ - && echo SAME
        rm /tmp/before.$$
    """)
    first, rest = out.split("APPLIED\n")
    applied, rest = rest.split("CHECKED\n")
    checked, reverted = rest.split("REVERTED\n")
    assert "WRONG" in rows(first)["net.core.somaxconn"]
    assert rows(applied)["net.core.somaxconn"].endswith("set")
    for key in ("net.core.somaxconn", "net.ipv4.tcp_rmem", "fs.file-max",
                "kernel.io_uring_disabled"):
        assert rows(checked)[key].endswith("fine"), checked
    assert "SAME" in reverted
    assert not run.state.exists()


def test_a_second_apply_keeps_what_was_there_before_the_first(run):
    out = run("""
        apply --connections 100k || true
        apply --connections 1M || true
        echo 7 >/proc/sys/net/core/somaxconn
        apply --connections 1M || true
        revert || true
        echo; cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_rmem
    """)
    assert out.splitlines()[-2:] == ["128", "4096\t131072\t6291456"]


def test_what_is_better_than_ours_is_left_alone(run):
    out = run("echo 9999999 >/proc/sys/fs/file-max; apply || true; cat /proc/sys/fs/file-max")
    assert "left as it is" in rows(out)["fs.file-max"]
    assert out.splitlines()[-1] == "9999999"
    assert "fs.file-max" not in run.state.read_text()


def test_a_key_that_is_absent_or_not_to_be_written_is_told_and_stops_nothing(run):
    out = run("""
        touch /proc/sys/fs/nr_open; echo 5 >/proc/sys/fs/nr_open
        mount --bind /proc/sys/fs/nr_open /proc/sys/fs/nr_open
        mount -o remount,bind,ro /proc/sys/fs/nr_open
        rm /proc/sys/fs/file-max
        apply --connections 1M && exit 9
        echo STATUS $?
        cat /proc/sys/net/core/somaxconn
    """)
    assert "FAILED" in rows(out)["fs.nr_open"]
    assert "absent" in rows(out)["fs.file-max"]
    assert "absent" in rows(out)["net.ipv4.tcp_mem"], "it belongs to the first network namespace"
    assert out.splitlines()[-2:] == ["STATUS 1", "65535"]


def test_dry_run_and_print_change_nothing(run):
    out = run("""
        values >/tmp/before.$$
        apply --connections 1M --dry-run
        echo PRINTED; apply --connections 1M --print
        echo END; values | diff /tmp/before.$$ - && echo SAME
        rm /tmp/before.$$
    """)
    assert "would be set" in rows(out)["net.core.somaxconn"]
    printed = out.split("PRINTED\n")[1].split("END")[0]
    assert "-net.core.somaxconn = 65535\n" in printed and "wmem_max" not in printed
    assert out.endswith("SAME\n") and not run.state.exists()


def test_what_is_printed_is_the_same_after_it_was_applied(run):
    out = run("""
        apply --print >/tmp/first.$$
        apply >/dev/null || true
        apply --print | diff /tmp/first.$$ - && echo SAME
        rm /tmp/first.$$
    """)
    assert out == "SAME\n"


def test_after_a_boot_there_is_nothing_to_bring_back(run):
    out = run("""
        apply >/dev/null || true
        echo another-boot >/proc/sys/kernel/random/boot_id
        echo 300 >/proc/sys/net/core/somaxconn
        revert
        cat /proc/sys/net/core/somaxconn
    """)
    assert "has booted since" in out and out.endswith("\n300\n")
    assert not run.state.exists()


@pytest.mark.parametrize("command, arguments, words", [
    ("check", ["--connections", "1G"], "1G"),
    ("check", ["--connections", "0"], "0"),
    ("check", ["--state", "x"], "--state"),
    ("apply", ["--connections"], "needs a value"),
    ("apply", ["--state", "/proc/none/state"], "/proc/none/state"),
    ("revert", ["--connections", "5"], "--connections"),
])
def test_wrong_usage_is_an_error_that_names_it(command, arguments, words):
    done = subprocess.run([TUNING / command, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr, done.stderr + done.stdout


@pytest.mark.parametrize("command", ["check", "apply", "revert"])
def test_help_is_there(command):
    done = subprocess.run([TUNING / command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and f"{command} [--" in done.stdout


def test_the_guide_and_the_table_name_the_same_keys_and_values():
    table = [line for line in (TUNING / "keys").read_text().splitlines()
             if line and not line.startswith("#")]
    guide = (TUNING / "README.md").read_text()
    shown = {}
    for line in guide.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and re.match(r"`(fs|net|kernel)\.", cells[0]):
            shown[cells[0].strip("`")] = cells[2:6]
    for line in table:
        key, _, _, *values = [cell.strip() for cell in line.split("|")]
        assert shown.pop(key, None) == values, f"README.md shows other values of {key}"
    assert not shown, "README.md has rows that the table has not"
