"""A wall clock that can be set wrong, for processes that a test starts with it."""

import pathlib
import struct
import subprocess

SOURCE = pathlib.Path(__file__).with_name("clock.c")


class Clock:
    """A command that begins with `prefix` gets a clock that is wrong by the last `jump`."""

    def __init__(self, path, seconds=0):
        self.offset, library = path / "clock", path / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self.offset.write_bytes(struct.pack("=q", seconds))
        self.prefix = ["env", f"LD_PRELOAD={library}", f"WRONG_CLOCK={self.offset}"]

    def jump(self, seconds):
        with open(self.offset, "r+b") as file:
            file.write(struct.pack("=q", seconds))
