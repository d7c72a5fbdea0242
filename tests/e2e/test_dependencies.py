"""Checks deny.toml without cargo-deny: licences, sources and bans of every package in Cargo.lock
that is built on Linux."""

import functools
import json
import re
import subprocess
import tomllib

import pytest

from harness.server import ROOT

RULES = tomllib.loads((ROOT / "deny.toml").read_text())


@functools.cache
def packages():
    """Every package of the locked graph for the targets of deny.toml, ours left out."""
    found = {}
    for target in RULES["graph"]["targets"]:
        metadata = json.loads(subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features",
             "--filter-platform", target],
            cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        built = {node["id"] for node in metadata["resolve"]["nodes"]}
        found |= {package["id"]: package for package in metadata["packages"]
                  if package["id"] in built and package["source"]}
    assert len(found) > 20, "cargo metadata told of next to nothing"
    return list(found.values())


def allows(expression, allowed=frozenset(RULES["licenses"]["allow"])):
    """Whether an SPDX expression leaves a choice that consists of allowed licences."""
    tokens = re.findall(r"\(|\)|AND|OR|WITH [\w.-]+|[\w.+-]+", expression.replace("/", " OR "))
    tokens = [token for token in tokens if not token.startswith("WITH")]

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            assert tokens.pop(0) == ")", expression
            return value
        return token in allowed

    value = either()
    assert not tokens, f"not an SPDX expression: {expression!r}"
    return value


@pytest.mark.parametrize("expression, allowed", [
    ("MIT", True), ("GPL-3.0", False), ("GPL-3.0 OR MIT", True), ("MIT AND GPL-3.0", False),
    ("MIT/Apache-2.0", True), ("(MIT OR GPL-3.0) AND Unicode-3.0", True),
    ("Apache-2.0 WITH LLVM-exception", True), ("(GPL-2.0 AND MIT) OR LGPL-3.0", False),
])
def test_an_expression_of_licences_is_read_as_it_is_meant(expression, allowed):
    assert allows(expression) is allowed


def test_every_licence_is_an_allowed_one():
    wrong = {package["name"]: package["license"] or package["license_file"]
             for package in packages() if not allows(package["license"] or "none")}
    assert not wrong, wrong


def test_every_allowed_licence_is_needed():
    every = frozenset(RULES["licenses"]["allow"])
    unused = [one for one in every
              if all(allows(package["license"] or "none", every - {one}) for package in packages())]
    # Ours is either of these, at the choice of whoever takes it.
    assert not set(unused) - {"MIT", "Apache-2.0"}, unused


def test_every_advisory_that_is_ignored_has_its_reason():
    assert all(one["id"] and one["reason"] for one in RULES["advisories"]["ignore"])


def test_every_package_comes_from_one_registry():
    sources = {package["source"] for package in packages()}
    assert len(sources) == 1 and sources.pop().startswith("registry+"), sources


def test_no_banned_package_is_there():
    banned = {ban["crate"]: ban["reason"] for ban in RULES["bans"]["deny"]}
    wrong = {package["name"]: banned[package["name"]] for package in packages()
             if package["name"] in banned}
    assert not wrong, wrong


def test_every_ban_has_its_reason():
    assert all(ban["reason"] for ban in RULES["bans"]["deny"])


def test_no_version_is_left_to_chance():
    ours = json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    wrong = [(package["name"], dependency["name"]) for package in ours["packages"]
             for dependency in package["dependencies"]
             if dependency["req"] == "*" and not dependency.get("path")]
    assert not wrong, wrong
