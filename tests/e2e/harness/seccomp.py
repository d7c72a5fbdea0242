"""Reads seccomp profiles as Docker and Podman do. Their rules may depend on capabilities, the
kernel and the processor, which runtimes do not understand."""

import json
import os
import platform
import re

import pytest

from harness.server import ROOT

# Docker's names of processors.
ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def default_of(engine):
    """The profile that `docker` or `podman` uses unless told otherwise, which `./test` fetches."""
    path = ROOT / "tests" / ".cache" / "profiles" / f"{engine}.json"
    if not path.exists():
        pytest.skip(f"`./test install` could not fetch the profile of {engine}")
    return json.loads(path.read_text())


def resolved(profile):
    """Returns what holds for a container without capabilities on this host."""
    name, architecture = ARCHITECTURES[platform.machine()]
    names = profile.get("architectures", [])
    for entry in profile.get("archMap", []):
        if entry["architecture"] == architecture:
            names = [architecture, *(entry["subArchitectures"] or [])]
    rules = [rule for rule in profile["syscalls"]
             if included(rule.get("includes") or {}, name)
             and not excluded(rule.get("excludes") or {}, name)]
    known = ("names", "action", "args", "errnoRet")
    return {
        **{key: profile[key] for key in ("defaultAction", "defaultErrnoRet") if key in profile},
        "architectures": names,
        "syscalls": [{key: rule[key] for key in known if rule.get(key)} for rule in rules],
    }


def included(wanted, name):
    oldest = re.findall(r"\d+", wanted.get("minKernel", "0"))
    return not wanted.get("caps") and name in wanted.get("arches", [name]) \
        and [int(part) for part in oldest] <= kernel()


def excluded(wanted, name):
    # The container has none of the capabilities that exclude a rule.
    return name in wanted.get("arches", [])


def kernel():
    return [int(part) for part in re.findall(r"\d+", os.uname().release)[:2]]
