"""Runs an image of `packaging/build` with crun or runc, as Docker would: as the image's user, with
a root that is read-only, without capabilities, and with a seccomp profile."""

import gzip
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

MOUNTS = [
    ("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/sys", "none", "/sys", ["rbind", "nosuid", "noexec", "nodev", "ro"]),
]


class Image:
    """An OCI layout in a tar archive, read as a runtime reads it."""

    def __init__(self, path):
        with tarfile.open(path) as archive:
            self.files = {entry.name: archive.extractfile(entry).read()
                          for entry in archive if entry.isfile()}
        assert json.loads(self.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
        [described] = json.loads(self.files["index.json"])["manifests"]
        self.platform = described["platform"]
        self.manifest = json.loads(self.blob(described))
        self.config = json.loads(self.blob(self.manifest["config"]))
        [layer] = self.manifest["layers"]
        self.layer = gzip.decompress(self.blob(layer))

    def blob(self, described):
        content = self.files["blobs/" + described["digest"].replace(":", "/")]
        assert len(content) == described["size"]
        return content

    def unpack(self, directory):
        with tarfile.open(fileobj=io.BytesIO(self.layer)) as layer:
            layer.extractall(directory, filter="tar")


def runtimes():
    """The installed runtimes. A test of containers is skipped if there is none."""
    found = [name for name in ("crun", "runc") if shutil.which(name)]
    if not found:
        pytest.skip("neither crun nor runc is installed")
    if os.geteuid() != 0:
        pytest.skip("containers without root are not tried")
    return found


def bundle(image, directory, seccomp, environment, volumes=()):
    """Writes what a runtime needs to run `image`, with the network of this host. `volumes` are
    pairs of a directory of the host and its place in the container."""
    root = pathlib.Path(directory, "rootfs")
    image.unpack(root)
    for mount, *_ in MOUNTS:
        (root / mount[1:]).mkdir(exist_ok=True)
    wanted = image.config["config"]
    user, group = map(int, wanted["User"].split(":"))
    namespaces = ["pid", "mount", "ipc", "uts"]
    specification = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "corecast",
        "process": {
            "user": {"uid": user, "gid": group},
            "args": wanted["Entrypoint"] + wanted["Cmd"],
            "env": wanted["Env"] + environment,
            "cwd": wanted["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}],
        },
        "mounts": [dict(zip(("destination", "type", "source", "options"), mount))
                   for mount in [*MOUNTS, *((place, "none", str(volume), ["bind", "ro"])
                                            for volume, place in volumes)]],
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            "seccomp": seccomp,
        },
    }
    pathlib.Path(directory, "config.json").write_text(json.dumps(specification))


class Container:
    """A container that runs until the end of the `with` block."""

    def __init__(self, runtime, directory):
        self.name, self.runtime = f"corecast-{os.getpid()}-{directory.name}", runtime
        self.state = directory / "state"
        self.log_path = directory / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*self.command(), "run", "--bundle", directory, self.name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def command(self):
        """The runtime, which sees control groups of version 2 only, because crun refuses both."""
        command = [self.runtime, "--root", str(self.state)]
        if self.runtime == "runc":
            return command
        mount = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, "sh", *command,
                "--cgroup-manager=disabled"]

    def log(self):
        return self.log_path.read_text(errors="replace")

    def alive(self):
        assert self.process.poll() is None, self.log()
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([*self.command(), "delete", "--force", self.name], capture_output=True)
        self.process.wait(20)
