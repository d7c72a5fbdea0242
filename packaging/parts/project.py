"""The project as packages see it: its version, its targets, and where files go."""

import dataclasses
import functools
import gzip
import io
import os
import pathlib
import subprocess
import tarfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
WORK = ROOT / "target" / "packaging"

MANIFEST = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
VERSION = MANIFEST["version"]
LICENCES = ("LICENSE-MIT", "LICENSE-APACHE")


class Missing(Exception):
    """This host lacks something that a package needs. The text says what, and how to get it."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A processor, with the names that package formats have for it."""

    name: str
    triple: str
    debian: str
    oci: str

    @property
    def gnu(self):
        """Prefix of GNU's tools for this processor."""
        return self.triple.replace("-unknown", "") + "-"


TARGETS = {target.name: target for target in (
    Target("x86_64", "x86_64-unknown-linux-gnu", "amd64", "amd64"),
    Target("aarch64", "aarch64-unknown-linux-gnu", "arm64", "arm64"),
)}


@dataclasses.dataclass(frozen=True)
class Order:
    """One call of `packaging/build`."""

    target: Target
    out: pathlib.Path
    binary: pathlib.Path | None  # A program to pack instead of building one.
    level: int  # Of compression, 1 to 9.


def run(*command, **options):
    """Runs a command that must succeed, and returns its output."""
    command = [str(part) for part in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise Missing(f"`{' '.join(command)}` failed with status {done.returncode}")
    return done.stdout


@functools.cache
def epoch():
    """Time stamp of all files in packages: SOURCE_DATE_EPOCH, or that of the last commit. So two
    builds of one commit give the same bytes."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True,
                          text=True)
    return int(done.stdout) if done.returncode == 0 else 0


def tar(files, level=0):
    """Returns a tar archive of `files`, as gzip if `level` is not 0.

    `files` maps paths to pairs of content and mode. Their directories are added. Names of users,
    time stamps and the order do not depend on the host.
    """
    directories = {str(parent) for path in files for parent in pathlib.PurePath(path).parents}
    entries = dict.fromkeys(directories - {"."}) | files
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(entries):
            info = tarfile.TarInfo(path)
            info.mtime = epoch()
            if entries[path] is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                continue
            content, info.mode = entries[path]
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    data = stream.getvalue()
    return gzip.compress(data, level, mtime=0) if level else data


def write(path, data):
    """Writes a finished package and tells of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    tell(path)


def tell(path):
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB", flush=True)
