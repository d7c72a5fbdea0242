#!/usr/bin/env python3
"""Counts the user instructions of the server's paths, and prevents them from growing.

  perf/run instructions            counts, and shows each item with its accepted count
  perf/run instructions --check    the same; exits with 1 if an item needs over 3 % more
  perf/run instructions --accept   the same, and accepts all counts: perf/instructions.json

`corecast-paths` (perf/paths) runs each item many times, without a kernel, under valgrind's
callgrind. It counts every instruction and simulates the caches below, so other load on the machine
does not matter. It takes about 20 s after a release build.

Counts depend on the compiler, valgrind, the C library and the processor's extensions, by which
memcpy and UTF-8 checks are selected. If these differ from those of the accepted counts, --check
shows the differences and does not fail.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import zip_longest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ACCEPTED = ROOT / "perf" / "instructions.json"

# Maximum difference of a count from the accepted one.
TOLERANCE = 0.03

# A core's own caches, the same on every machine: 32 KiB for the first level, 1 MiB for the last.
CACHES = ["--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64"]

# The function that calls the items.
CALLER = "corecast_paths::counted"
CALLEE = re.compile(r"corecast_paths::item::(\w+)$")

# Maximum duration of a run under valgrind, in seconds.
SECONDS_MAX = 300


def fail(text, code=2):
    print(f"perf/run instructions: {text}", file=sys.stderr)
    raise SystemExit(code)


def environment():
    """Returns everything besides the code that affects the counts."""
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    extensions = [name for name in ("avx2", "avx512f") if re.search(rf"\b{name}\b", flags)]
    return {
        "rustc": output("rustc", "--version"),
        "valgrind": output("valgrind", "--version"),
        "libc": " ".join(platform.libc_ver()),
        "processor": " ".join([platform.machine(), *extensions]),
    }


def output(*command):
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def count():
    """Runs all items. Returns the profile, and the number of operations of each item."""
    build = ["cargo", "build", "--locked", "--release", "--quiet", "--workspace"]
    subprocess.run(build, cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    program = ROOT / target / "release" / "corecast-paths"
    with tempfile.TemporaryDirectory() as folder:
        profile = pathlib.Path(folder) / "callgrind.out"
        command = ["valgrind", "-q", "--tool=callgrind", "--cache-sim=yes", *CACHES]
        command += [f"--callgrind-out-file={profile}", program]
        ran = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS_MAX
        )
        if ran.returncode != 0:
            fail(f"corecast-paths failed:\n{ran.stdout}{ran.stderr}")
        operations = dict(line.split() for line in ran.stdout.splitlines())
        return profile.read_text(), {name: int(times) for name, times in operations.items()}


def costs_of(profile, operations):
    """Returns the events of one operation of each item, from callgrind's format. `fn=` names a
    function, `cfn=` a function it calls, and the line after `calls=` has the events of these
    calls."""
    names, found, events = {}, {}, []
    caller = callee = None
    called = False

    def name_of(text):
        number, _, name = text.partition(" ")
        if name:
            names[number] = name
        return names[number]

    for line in profile.splitlines():
        if line.startswith("events:"):
            events = line.split()[1:]
        elif line.startswith("fn="):
            caller = name_of(line[3:])
        elif line.startswith("cfn="):
            callee = name_of(line[4:])
        elif line.startswith("calls="):
            called = True
        elif called:
            called = False
            item = CALLEE.search(callee)
            if caller.endswith(CALLER) and item:
                # Callgrind leaves out zeros at the end.
                counts = zip_longest(events, map(int, line.split()[1:]), fillvalue=0)
                found[item[1]] = costs_of_one(dict(counts), operations[item[1]])
    missing = operations.keys() - found.keys()
    if missing or not found:
        fail(f"no counts in the profile for {sorted(missing)}")
    return {name: found[name] for name in operations}


def costs_of_one(counts, operations):
    return {
        "instructions": round(counts["Ir"] / operations, 2),
        "d1_misses": round((counts["D1mr"] + counts["D1mw"]) / operations, 2),
        "ll_misses": round((counts["DLmr"] + counts["DLmw"]) / operations, 2),
    }


def show(costs, accepted):
    print(f"{'one of':28}{'instructions':>14}{'accepted':>12}{'change':>9}{'D1 misses':>11}"
          f"{'LL misses':>11}")
    for name, cost in costs.items():
        before = accepted.get(name, {}).get("instructions")
        change = f"{cost['instructions'] / before - 1:+9.1%}" if before else f"{'new':>9}"
        print(f"{name:28}{cost['instructions']:14.1f}{before or 0:12.1f}{change}"
              f"{cost['d1_misses']:11.2f}{cost['ll_misses']:11.2f}")


def judge(costs, accepted):
    """Returns items that rose or are not in the file, and items that fell or are gone."""
    worse, better = [], []
    for name, cost in costs.items():
        if name not in accepted:
            worse.append(f"{name} has no accepted count")
            continue
        now, before = cost["instructions"], accepted[name]["instructions"]
        change = f"{now / before - 1:+.1%}"
        text = f"{name}: {before} instructions were accepted, {now} are needed ({change})"
        if now > before * (1 + TOLERANCE):
            worse.append(text)
        elif now < before * (1 - TOLERANCE):
            better.append(text)
    gone = [name for name in accepted if name not in costs]
    better += [f"{name} is accepted and is no item any more" for name in gone]
    return worse, better


def write(costs, here):
    # One item per line, so that a diff shows the changed ones.
    items = [f"    {json.dumps(name)}: {json.dumps(cost)}" for name, cost in costs.items()]
    lines = ["{", f'  "environment": {json.dumps(here)},', '  "items": {', ",\n".join(items), "  }"]
    ACCEPTED.write_text("\n".join([*lines, "}", ""]))
    print(f"accepted: {ACCEPTED.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="fail if a count rose by over 3 %%")
    group.add_argument("--accept", action="store_true", help="accept the counts as they are")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        fail("valgrind is missing: apt-get install valgrind, or ./test install")
    kept = {"environment": {}, "items": {}}
    if ACCEPTED.exists():
        kept = json.loads(ACCEPTED.read_text())
    accepted, here = kept["items"], environment()
    costs = costs_of(*count())
    show(costs, accepted)
    if options.accept:
        return write(costs, here)
    if here != kept["environment"]:
        print(f"the accepted counts are of {kept['environment']}, these of {here}: not judged")
        return None
    worse, better = judge(costs, accepted)
    for line in better:
        print(f"BETTER  {line}")
    if better:
        print("perf/run instructions --accept keeps it so")
    for line in worse:
        print(f"WORSE   {line}")
    if worse:
        print("fix it; or if it is worth it, run perf/run instructions --accept, and say why in "
              "the commit")
    if worse and options.check:
        raise SystemExit(1)
    return None


if __name__ == "__main__":
    main()
