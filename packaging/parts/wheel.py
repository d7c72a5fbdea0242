"""The Python wheel: `pip install` puts the program on PATH. It contains no Python."""

import base64
import hashlib
import io
import re
import stat
import time
import zipfile

from .binary import program
from .elf import Elf
from .notices import notices
from .project import LICENCES, MANIFEST, PACKAGING, ROOT, VERSION, Missing, epoch, write

# Libraries that every system has for which pip accepts manylinux wheels (PEP 600).
MANYLINUX = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1",
             "libutil.so.1", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}

# The oldest glibc that a tag of ours names. Before it, tags had other names.
MANYLINUX_MIN = (2, 17)


def pack(order):
    binary = program(order)
    tags = platform_tags(Elf(binary), order.target)
    name = f"corecast-{version()}"
    path = order.out / f"{name}-py3-none-{'.'.join(tags)}.whl"
    info = f"{name}.dist-info"
    files = {f"{name}.data/scripts/corecast": (binary.read_bytes(), 0o755)}
    for licence in LICENCES:
        files[f"{info}/licenses/{licence}"] = ((ROOT / licence).read_bytes(), 0o644)
    files[f"{info}/licenses/THIRD-PARTY-LICENSES.txt"] = (notices(order.target), 0o644)
    files[f"{info}/METADATA"] = (metadata(path.name).encode(), 0o644)
    files[f"{info}/WHEEL"] = (wheel(tags).encode(), 0o644)
    record = [f"{path},{digest(content)},{len(content)}" for path, (content, _) in files.items()]
    record = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    files[f"{info}/RECORD"] = (record.encode(), 0o644)
    write(path, archive(files, order.level))


def version():
    """The version as Python writes it: 1.2.0-rc.1 is 1.2.0rc1 there."""
    match = re.fullmatch(r"(\d+\.\d+\.\d+)(?:-(alpha|beta|rc)\.(\d+))?", VERSION)
    if not match:
        raise Missing(f"the version {VERSION} has no form for Python; use X.Y.Z or X.Y.Z-rc.N")
    stage = {None: "", "alpha": "a", "beta": "b", "rc": "rc"}[match[2]]
    return f"{match[1]}{stage}{match[3] or ''}"


def platform_tags(elf, target):
    """The systems on which the program runs, from the libraries that it is linked with."""
    others = set(elf.libraries) - MANYLINUX
    if others:
        raise Missing(f"the program needs {sorted(others)}, which not every system has")
    if elf.glibc is None:
        return [f"manylinux_2_17_{target.name}", f"musllinux_1_1_{target.name}"]
    major, minor = max(elf.glibc, MANYLINUX_MIN)
    return [f"manylinux_{major}_{minor}_{target.name}"]


def metadata(file):
    return f"""\
Metadata-Version: 2.4
Name: corecast
Version: {version()}
Summary: {MANIFEST["description"]}
License-Expression: {MANIFEST["license"]}
License-File: LICENSE-MIT
License-File: LICENSE-APACHE
License-File: THIRD-PARTY-LICENSES.txt
Classifier: Development Status :: 4 - Beta
Classifier: Environment :: Console
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Rust
Classifier: Topic :: Communications
Requires-Python: >=3.7
Description-Content-Type: text/markdown

{(PACKAGING / "wheel" / "README.md").read_text().replace("WHEEL", file)}"""


def wheel(tags):
    lines = ["Wheel-Version: 1.0", f"Generator: corecast ({VERSION})", "Root-Is-Purelib: false"]
    return "\n".join(lines + [f"Tag: py3-none-{tag}" for tag in tags]) + "\n"


def digest(content):
    value = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={value.decode()}"


def archive(files, level):
    stream = io.BytesIO()
    # The format has no time before 1980.
    when = time.gmtime(max(epoch(), 315532800))[:6]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as packed:
        for path, (content, mode) in files.items():
            info = zipfile.ZipInfo(path, when)
            info.external_attr = (stat.S_IFREG | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, content, compresslevel=level)
    return stream.getvalue()
