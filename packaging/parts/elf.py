"""What a program is linked with, as readelf shows it. Package formats promise it to their users."""

import re

from .project import Missing, run


class Elf:
    """The dynamic section of a program."""

    def __init__(self, path):
        shown = run("readelf", "-WhldV", path)
        self.machine = re.search(r"Machine:\s+(.*)", shown)[1]
        interpreter = re.search(r"Requesting program interpreter: (\S+)\]", shown)
        self.interpreter = interpreter and interpreter[1]
        self.libraries = re.findall(r"\(NEEDED\)\s+Shared library: \[(.*)\]", shown)
        versions = re.findall(r"Name: GLIBC_(\d+)\.(\d+)", shown)
        # The newest version of the C library that a symbol needs; None if it is linked statically.
        self.glibc = max((int(major), int(minor)) for major, minor in versions) \
            if versions else None
        if self.libraries and not self.glibc:
            raise Missing(f"{path} is linked with {self.libraries}, and not with glibc")

    def is_for(self, target):
        return {"x86_64": "X86-64", "aarch64": "AArch64"}[target.name] in self.machine
