"""The notices of all crates that are part of the program. Their licences ask for them."""

import functools
import json
import pathlib
import re

from .project import ROOT, Missing, run

# Names of files with licences and notices, as crates have them.
NOTICE = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


@functools.cache
def notices(target):
    """Returns the text: each licence once, below the crates that have it."""
    crates_of = {}
    for crate in linked(target):
        directory = pathlib.Path(crate["manifest_path"]).parent
        texts = [path.read_text(errors="replace").strip() for path in sorted(directory.iterdir())
                 if NOTICE.match(path.name) and path.is_file()]
        name = f"{crate['name']} {crate['version']} ({crate['license']})"
        # Some crates of a workspace leave the files out. Their authors and terms are named instead.
        for text in texts or [f"{', '.join(crate['authors'])}\n{crate['repository']}"]:
            crates_of.setdefault(text, []).append(name)
    parts = ["Corecast contains the following libraries. Each licence is below its libraries.\n"]
    line = "-" * 80
    parts += [f"{line}\n" + "\n".join(crates) + f"\n{line}\n\n{text}\n"
              for text, crates in sorted(crates_of.items(), key=lambda entry: entry[1])]
    return "\n".join(parts).encode()


def linked(target):
    """The crates of the program, without its own, those of its tests and those that only build."""
    metadata = json.loads(run(
        "cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform",
        target.triple, cwd=ROOT))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, ahead = set(), [root]
    while ahead:
        node = nodes[ahead.pop()]
        wanted = [one["pkg"] for one in node["deps"]
                  if any(kind["kind"] is None for kind in one["dep_kinds"])]
        ahead += [one for one in wanted if one not in found]
        found.update(wanted)
    if len(found) < 20:
        raise Missing("cargo metadata lists next to no dependency")
    return sorted((packages[one] for one in found),
                  key=lambda crate: (crate["name"], crate["version"]))
