#!/usr/bin/env python3
"""Stores a result with everything that is needed to judge and to repeat it.

  perf/run keep NAME [--] COMMAND...

COMMAND runs in the root of the repository and prints one JSON object on standard output. Its
standard error is shown. perf/results/NAME.json then contains the object with the date, the machine,
the kernel, the commit and the command. Stored results are for all readers, so the command must not
contain paths that only exist on this machine; use paths from the root of the repository. The exit
code is that of the command. If it is not 0, nothing is stored.
"""

import datetime
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "perf" / "results"

# Valid names of results, which are file names on all systems.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

# A path from the root of the file system or from a home directory. Text after `://` is an
# address, and a single `/name` may be part of one, so only these directories count as paths of the
# machine.
ROOT_DIRS = "bin|dev|etc|home|mnt|opt|proc|root|run|srv|sys|tmp|usr|var"
MACHINE_PATH = re.compile(rf"(?<![\w.:/])(~|/({ROOT_DIRS})\b)|{re.escape(str(ROOT))}")


def fail(text):
    print(f"perf/run keep: {text}", file=sys.stderr)
    raise SystemExit(2)


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": model[1] if model else os.uname().machine,
        "cores": os.cpu_count(),
        "memory_bytes": int(memory[1]) * 1024,
        # The processor reports this itself, for any hypervisor.
        "virtual": bool(re.search(r"^flags\s*:.*\bhypervisor\b", info, re.MULTILINE)),
    }


def commit():
    changed = output("git", "status", "--porcelain", "--", ".", ":!perf/results")
    return {"id": output("git", "rev-parse", "HEAD").strip(), "dirty": bool(changed.strip())}


def check_portable(texts, what):
    for text in texts:
        if MACHINE_PATH.search(text):
            fail(f"{what} has {text!r}, which only this machine has: name it from the top of the "
                 "repository")


def strings(value):
    """Yields every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def measure(command):
    try:
        ran = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        fail(f"can't run {command[0]}: {error.strerror}")
    if ran.returncode != 0:
        sys.stdout.write(ran.stdout)
        print(f"perf/run keep: {command[0]} ended with {ran.returncode}: not kept", file=sys.stderr)
        raise SystemExit(ran.returncode if ran.returncode > 0 else 1)
    try:
        result = json.loads(ran.stdout)
    except ValueError as error:
        fail(f"{command[0]} must print one JSON object and nothing else: {error}\n{ran.stdout}")
    if not isinstance(result, dict):
        fail(f"{command[0]} must print one JSON object, not {ran.stdout.strip()[:80]!r}")
    return result


def main():
    name, command = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name in ("-h", "--help"):
        return print(__doc__.strip())
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        fail("usage: perf/run keep NAME [--] COMMAND...")
    if not NAME.fullmatch(name):
        fail(f"{name!r} can't be a result's name: at most 64 of a-z, 0-9, '.', '_' and '-'")
    check_portable(command, "the command")
    # Before the command runs, because it may take long, and the tree may change meanwhile.
    kept = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "kernel": os.uname().release,
        "commit": commit(),
        "command": shlex.join(command),
    }
    kept["result"] = measure(command)
    check_portable(strings(kept["result"]), "the result")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(kept, indent=2) + "\n")
    return print(f"kept: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
