"""The program itself: linked for old versions of glibc, with its symbols in a file of their own."""

import functools
import os
import pathlib
import platform
import shutil
import subprocess

from . import emulator
from .elf import Elf
from .notices import notices
from .project import (
    LICENCES, PACKAGING, ROOT, TARGETS, VERSION, WORK, Missing, run, tar, tell, write)

# The oldest glibc that the program runs with, which is that of RHEL 8 and Debian 10. Older ones
# lack statx, which libraries use.
GLIBC = "2.28"

SHELLS = {"bash": "corecast.bash", "zsh": "_corecast", "fish": "corecast.fish"}


@functools.cache
def program(order):
    """Returns the program without symbols, `corecast`, with its symbols beside it."""
    directory = directory_of(order)
    directory.mkdir(parents=True, exist_ok=True)
    return split(order.target, order.binary or build(order.target), directory)


def directory_of(order):
    """Where the program is prepared. One that is given must not take the place of one of ours."""
    return WORK / ("given" if order.binary else "built") / order.target.name


def build(target):
    """Builds the program with zig as linker, which has the symbols of every version of glibc."""
    need_std(target)
    objcopy(target)
    tools = zig_tools()
    home = os.environ.get("CARGO_HOME", str(pathlib.Path.home() / ".cargo"))
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        # Paths of the building host help nobody, and would make builds differ.
        "CARGO_ENCODED_RUSTFLAGS": f"--remap-path-prefix={ROOT}=corecast\x1f"
                                   f"--remap-path-prefix={home}=cargo",
        "CFLAGS": f"-ffile-prefix-map={home}=cargo",
    }
    subprocess.run(
        [tools / "cargo-zigbuild", "zigbuild", "--locked", "--release", "--package", "corecast",
         "--bin", "corecast", "--target", f"{target.triple}.{GLIBC}"],
        cwd=ROOT, env=environment, check=True)
    base = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return base / target.triple / "release" / "corecast"


def need_std(target):
    """Checks that Rust's standard library for `target` is installed."""
    libraries = pathlib.Path(run(
        "rustc", "--print", "target-libdir", "--target", target.triple, cwd=ROOT).strip())
    if not any(libraries.glob("libstd-*.rlib")):
        raise Missing(
            f"Rust's standard library for {target.triple} is not installed. With rustup: rustup "
            f"target add {target.triple}. With Debian's rustc-web: dpkg --add-architecture "
            f"{target.debian} && apt-get update && apt-get install libstd-rust-web-dev:"
            f"{target.debian}")


def zig_tools():
    """Returns the directory of cargo-zigbuild and zig, which are installed there if necessary."""
    pinned, venv = PACKAGING / "requirements.txt", WORK / "venv"
    stamp = venv / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != pinned.read_text():
        run("python3", "-m", "venv", "--clear", venv)
        run(venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pinned)
        shutil.copy(pinned, stamp)
    return venv / "bin"


def split(target, built, directory):
    """Splits a program into `directory/corecast` and `directory/corecast.debug`."""
    elf = Elf(built)
    if not elf.is_for(target):
        raise Missing(f"{built} is for {elf.machine}, and not for {target.name}")
    stripped, debug = directory / "corecast", directory / "corecast.debug"
    tool = objcopy(target)
    run(tool, "--only-keep-debug", "--compress-debug-sections", built, debug)
    # The link lets gdb, perf and the backtraces of panics find the symbols beside the program.
    run(tool, "--strip-all", f"--add-gnu-debuglink={debug}", built, stripped)
    stripped.chmod(0o755)
    debug.chmod(0o644)
    return stripped


def objcopy(target):
    """Returns GNU's objcopy for the target. That of this host knows its own processor only."""
    names = [f"{target.gnu}objcopy"] + ["objcopy"] * (target.name == platform.machine())
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise Missing(f"there is no objcopy for {target.name}: apt-get install "
                      f"binutils-{target.gnu[:-1].replace('_', '-')}")
    return found


def generated(order):
    """Returns completions and manual pages, as the program itself writes them.

    They are the same for all processors, so a program of this host may write those of another.
    """
    own = directory_of(order)
    writer = next(filter(None, map(functools.partial(command, own.parent),
                                   (order.target, *TARGETS.values()))), None)
    if writer is None:
        # This names what is missing.
        emulator.command(order.target)
        raise Missing(f"{own / 'corecast'} does not run, so nothing writes its manual pages")
    files = {f"completions/{name}": run(*writer, "generate", "completions", shell).encode()
             for shell, name in SHELLS.items()}
    pages = own / "man"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir()
    run(*writer, "generate", "man", pages)
    return files | {f"man/{page.name}": page.read_bytes() for page in pages.iterdir()}


def command(directory, target):
    """Returns the words that run the program for `target` here, or None."""
    try:
        words = [*emulator.command(target), directory / target.name / "corecast"]
        works = subprocess.run([*words, "--version"], capture_output=True).returncode == 0
        return words if works else None
    except (Missing, OSError):
        return None


def pack(order):
    """Writes an archive with the program and what belongs to it, and one with its symbols."""
    binary = program(order)
    name = f"corecast-{VERSION}-{order.target.name}-linux"
    files = {path: (content, 0o644) for path, content in generated(order).items()}
    files |= {licence: ((ROOT / licence).read_bytes(), 0o644) for licence in LICENCES}
    files["THIRD-PARTY-LICENSES.txt"] = (notices(order.target), 0o644)
    for file in ("corecast.toml", "systemd/corecast.service", "systemd/corecast.sysusers"):
        files[pathlib.PurePath(file).name] = ((PACKAGING / file).read_bytes(), 0o644)
    files["corecast"] = (binary.read_bytes(), 0o755)
    files = {f"{name}/{path}": file for path, file in files.items()}
    write(order.out / f"{name}.tar.gz", tar(files, order.level))
    # Its sections are compressed already.
    symbols = {"corecast.debug": ((binary.parent / "corecast.debug").read_bytes(), 0o644)}
    write(order.out / f"{name}-debug.tar.gz", tar(symbols, 1))
    tell(binary)
