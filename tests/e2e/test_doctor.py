"""`corecast doctor`, and the report of `serve` about the host at its start."""

import ctypes
import json
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile

import pytest

from harness.server import BINARY, Server


def doctor(*arguments, prefix=(), **options):
    return subprocess.run([*prefix, BINARY, "doctor", *arguments], capture_output=True, text=True,
                          timeout=30, stdin=subprocess.DEVNULL, **options)


def findings(*arguments, **options):
    done = doctor(*arguments, "--json", **options)
    report = json.loads(done.stdout)
    stops = [one for one in report["findings"] if one["verdict"] == "stops"]
    assert done.returncode == (1 if stops else 0), done.stderr
    assert report["verdict"] == ("stops" if stops else "fine")
    return {one["check"]: one for one in report["findings"]}


def test_a_few_connections_fit_anywhere():
    done = doctor("--connections", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "can hold 10 connections" in done.stdout and "STOPS" not in done.stdout


def test_too_many_are_stopped_and_each_limit_says_what_mends_it():
    done = doctor("--connections", "900M")
    assert done.returncode == 1 and "900000000 connections" in done.stderr
    assert "STOPS" in done.stdout
    assert "in the configuration: server.max_connections = 900000000" in done.stdout
    for finding in findings("--connections", "900M").values():
        if finding["verdict"] in ("stops", "note"):
            assert finding["fix"] and finding["why"], finding


def test_the_descriptor_limit_is_that_of_whoever_asks():
    limited = ["prlimit", "--nofile=1000"]
    finding = findings("--connections", "2000", "--shards", "2", prefix=limited)[
        "descriptor limit"]
    assert finding["verdict"] == "stops" and "1000" in finding["found"]
    shards = re.search(r"--shards (\d+)", finding["fix"])[1]
    mended = findings("--connections", "2000", "--shards", shards, prefix=limited)
    assert mended["descriptor limit"]["verdict"] == "fine"


def test_the_limit_that_it_names_is_the_one_that_holds(driver):
    """Told that three shards hold 2,232 connections under a limit of 1,000, they do."""
    fits = findings("--connections", "2232", "--shards", "3", prefix=["prlimit", "--nofile=1000"])
    assert fits["descriptor limit"]["verdict"] == "fine"
    with Server(driver, shards=3, prefix=["prlimit", "--nofile=1000"]) as server:
        assert "2232 clients" in server.log()


def test_the_configuration_counts(tmp_path):
    path = tmp_path / "corecast.toml"
    path.write_text("[server]\nmax_connections = 50\nprivate_fd_tables = false\n")
    finding = findings("--config", str(path), "--connections", "51")
    assert finding["server.max_connections"]["verdict"] == "stops"
    assert "the process" in finding["descriptor limit"]["found"]
    # Without a number, the server's own limit is what must fit.
    assert findings("--config", str(path))["server.max_connections"]["verdict"] == "fine"


def test_each_fix_works_where_it_is_given(user_namespaces):
    """Settings that every network namespace has are set there; the host's must at least exist."""
    inside = ["unshare", "--user", "--map-root-user", "--net"]
    fixes = {name: one["fix"] for name, one in findings("--connections", "900M").items()}
    commands = {name: re.search(r"sysctl -w \S+=(\"[^\"]*\"|[0-9]+)", fix)
                for name, fix in fixes.items() if "sysctl -w" in fix}
    assert commands and all(commands.values()), fixes
    for name, command in commands.items():
        setting = pathlib.Path("/proc/sys") / name.replace(".", "/")
        assert setting.exists(), name
        probe = ["bash", "-c", f'[ -w {setting} ] || exit 0; {command[0]} && sysctl -n {name}']
        done = subprocess.run([*inside, *probe], capture_output=True, text=True, timeout=15)
        assert done.returncode == 0, (command[0], done.stderr)
    few = findings("--connections", "2000", prefix=["prlimit", "--nofile=1000"])
    serve = re.match(r"corecast serve (--shards \d+), or (ulimit -n \d+)",
                     few["descriptor limit"]["fix"])
    shown = subprocess.run([BINARY, "config", "show", *serve[1].split()], capture_output=True)
    assert shown.returncode == 0, "the server takes the flag"
    assert subprocess.run(["bash", "-c", f"{serve[2]}; true"]).returncode == 0


def test_a_user_who_is_not_root_is_shown_sudo():
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    binary = shutil.copy(BINARY, tempfile.mkdtemp(prefix="corecast-e2e-", dir="/var/tmp"))
    pathlib.Path(binary).parent.chmod(0o755)
    try:
        done = subprocess.run([*nobody, binary, "doctor", "--connections", "900M", "--json"],
                              capture_output=True, text=True, timeout=30, cwd="/")
        if "setpriv" in done.stderr:
            pytest.skip("only root can become another user")
        fixes = [one["fix"] for one in json.loads(done.stdout)["findings"]]
        assert any(fix.startswith("sudo sysctl -w") for fix in fixes), fixes
    finally:
        shutil.rmtree(pathlib.Path(binary).parent)


def test_what_a_namespace_hides_is_unknown(user_namespaces):
    hidden = findings("--connections", "100000", prefix=["unshare", "--user", "--net"])
    assert hidden["net.ipv4.tcp_mem"]["verdict"] == "unknown"


def refuse_io_uring():
    """A filter like Docker's: io_uring_setup (425 on every architecture) answers EPERM."""
    load, jump_equal, answer = 0x20, 0x15, 0x06
    errno_1, allow = 0x00050001, 0x7FFF0000
    program = b"".join(struct.pack("HBBI", *one) for one in [
        (load, 0, 0, 0), (jump_equal, 0, 1, 425), (answer, 0, 0, errno_1), (answer, 0, 0, allow)])
    buffer = ctypes.create_string_buffer(program)
    filters = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
    assert libc.prctl(set_seccomp, mode_filter, filters, 0, 0) == 0


def test_a_container_that_refuses_io_uring_is_told_how_to_allow_it():
    finding = findings("--connections", "10", preexec_fn=refuse_io_uring)["io_uring"]
    assert finding["verdict"] == "note" and "seccomp" in finding["fix"]
    strict = findings("--connections", "10", "--driver", "io_uring", preexec_fn=refuse_io_uring)
    assert strict["io_uring"]["verdict"] == "stops"
    assert findings("--connections", "10", "--driver", "epoll")["io_uring"]["verdict"] == "fine"


def test_serve_says_nothing_where_nothing_stops_it(driver):
    with Server(driver, config="[server]\nmax_connections = 100\n") as server:
        assert "corecast doctor" not in server.log()


def test_serve_logs_what_would_stop_it_in_one_line(driver, tmp_path, user_namespaces):
    """On a host that allows 700 open files for all programs together, in the eyes of the server."""
    files = tmp_path / "file-max"
    files.write_text("700\n")
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c",
              f'mount --bind {files} /proc/sys/fs/file-max && exec "$@"', "bash"]
    with Server(driver, config="[server]\nmax_connections = 5000\n", prefix=prefix) as server:
        lines = [line for line in server.log().splitlines() if "this host can't hold" in line]
        assert len(lines) == 1, server.log()
        for part in ("fs.file-max is 700", "sysctl -w fs.file-max=",
                     "corecast doctor --connections 5000"):
            assert part in lines[0]
