"""Running programs of other processors with qemu, which translates their instructions."""

import pathlib
import platform
import shutil

from .project import Missing


def command(target):
    """Returns the words before a program of `target` that run it here: none if it needs no qemu."""
    if target.name == platform.machine():
        return []
    names = (f"qemu-{target.name}", f"qemu-{target.name}-static")
    emulator = next(filter(None, map(shutil.which, names)), None)
    root = pathlib.Path("/usr", target.gnu[:-1])
    if emulator is None or not (root / "lib" / "libc.so.6").exists():
        raise Missing(f"programs for {target.name} do not run here: apt-get install qemu-user "
                      f"libc6-{target.debian}-cross libgcc-s1-{target.debian}-cross")
    return [emulator, "-L", root]
