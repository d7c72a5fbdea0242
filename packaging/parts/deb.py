"""The Debian package: the program, a service of systemd, manual pages and completions."""

import email.utils
import gzip
import os
import pathlib
import shutil
import tempfile
import textwrap

from .binary import generated, program
from .elf import Elf
from .notices import notices
from .project import MANIFEST, PACKAGING, ROOT, VERSION, WORK, Missing, epoch, run, tell

MAINTAINER = "The Corecast developers <corecast@localhost>"

MAINTAINER_SCRIPTS = ("postinst", "prerm", "postrm")

# The packages of the libraries that the program may be linked with.
PACKAGE_OF = {"libgcc_s.so.1": "libgcc-s1"}

COMPLETIONS = {
    "completions/corecast.bash": "usr/share/bash-completion/completions/corecast",
    "completions/_corecast": "usr/share/zsh/vendor-completions/_corecast",
    "completions/corecast.fish": "usr/share/fish/vendor_completions.d/corecast.fish",
}


def pack(order):
    if shutil.which("dpkg-deb") is None:
        raise Missing("dpkg-deb is not installed: apt-get install dpkg")
    binary = program(order)
    files = contents(order, binary)
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        tree = pathlib.Path(directory)
        tree.chmod(0o755)
        for path, (content, mode) in files.items():
            place(tree / path, content, mode)
        size = sum(len(content) for content, _ in files.values())
        place(tree / "DEBIAN/control", control(order.target, Elf(binary), size).encode(), 0o644)
        place(tree / "DEBIAN/conffiles", b"/etc/corecast/corecast.toml\n", 0o644)
        for script in MAINTAINER_SCRIPTS:
            place(tree / "DEBIAN" / script, (PACKAGING / "debian" / script).read_bytes(), 0o755)
        order.out.mkdir(parents=True, exist_ok=True)
        package = order.out / f"corecast_{version()}_{order.target.debian}.deb"
        run("dpkg-deb", "--root-owner-group", "-Zxz", f"-z{order.level}", "--build", tree, package,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch())})
    tell(package)


def version():
    """The version as Debian writes it: 1.2.0-rc.1 is 1.2.0~rc.1 there, which is before 1.2.0."""
    return VERSION.replace("-", "~")


def contents(order, binary):
    """All files with their modes."""
    documents = "usr/share/doc/corecast"
    files = {
        "usr/bin/corecast": (binary.read_bytes(), 0o755),
        "etc/corecast/corecast.toml": ((PACKAGING / "corecast.toml").read_bytes(), 0o644),
    }
    for source, to in {
        PACKAGING / "systemd/corecast.service": "usr/lib/systemd/system/corecast.service",
        PACKAGING / "systemd/corecast.sysusers": "usr/lib/sysusers.d/corecast.conf",
        PACKAGING / "debian/copyright": f"{documents}/copyright",
        ROOT / "kernel-tuning/proxies/nginx.conf": f"{documents}/examples/nginx.conf",
        ROOT / "kernel-tuning/proxies/haproxy.cfg": f"{documents}/examples/haproxy.cfg",
        PACKAGING / "image/seccomp.json": f"{documents}/examples/seccomp.json",
    }.items():
        files[to] = (source.read_bytes(), 0o644)
    for name, content in {
        "CHANGELOG.md.gz": (ROOT / "CHANGELOG.md").read_bytes(),
        "changelog.gz": changelog().encode(),
        "THIRD-PARTY-LICENSES.txt.gz": notices(order.target),
    }.items():
        files[f"{documents}/{name}"] = (gzip.compress(content, 9, mtime=0), 0o644)
    for path, content in generated(order).items():
        if path in COMPLETIONS:
            files[COMPLETIONS[path]] = (content, 0o644)
        else:
            page = f"usr/share/man/man1/{pathlib.PurePath(path).name}.gz"
            files[page] = (gzip.compress(content, 9, mtime=0), 0o644)
    return files


def place(path, content, mode):
    """Writes a file. dpkg-deb gives newer files the time stamp of SOURCE_DATE_EPOCH."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def changelog():
    """The changelog in Debian's form, which tools read."""
    return f"""\
corecast ({version()}) unstable; urgency=medium

  * CHANGELOG.md.gz has the changes.

 -- {MAINTAINER}  {email.utils.formatdate(epoch())}
"""


def control(target, elf, size):
    depends = [f"libc6 (>= {elf.glibc[0]}.{elf.glibc[1]})"] if elf.glibc else []
    depends += sorted({PACKAGE_OF[name] for name in elf.libraries if name in PACKAGE_OF})
    depends += ["init-system-helpers (>= 1.54)", "passwd"]
    description = textwrap.indent(textwrap.fill(MANIFEST["description"], 79), " ")
    return f"""\
Package: corecast
Version: {version()}
Architecture: {target.debian}
Maintainer: {MAINTAINER}
Installed-Size: {size // 1024}
Depends: {", ".join(depends)}
Recommends: ca-certificates
Suggests: redis-server, nginx
Section: net
Priority: optional
Description: WebSocket broadcast server
{description}
 .
 Browsers and devices connect to Corecast, an application publishes to it over
 HTTP, and each publication reaches every subscriber of its channel.
"""
