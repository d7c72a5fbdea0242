"""The image for containers: the program, the C library that it needs, and certificates. No shell.

The archive is an OCI layout, and has the older manifest.json of `docker load` besides.
"""

import datetime
import hashlib
import json
import pathlib

from .binary import program
from .elf import Elf
from .notices import notices
from .project import LICENCES, MANIFEST, PACKAGING, ROOT, VERSION, Missing, epoch, tar, write

CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")

# A user without a name on the host. Kubernetes' runAsNonRoot needs a number.
USER = 65532

CONFIG = "/etc/corecast/corecast.toml"

# Containers have a network of their own, in which the API's default, a loopback address, can't be
# reached. The API still needs a key.
ENVIRONMENT = ["PATH=/usr/bin", f"CORECAST_CONFIG={CONFIG}",
               "CORECAST_SERVER_API_LISTEN=0.0.0.0:9000"]


def pack(order):
    files = root(order)
    layer, packed = tar(files), tar(files, order.level)
    config = dumps(image_config(order.target, hash_of(layer)))
    manifest = dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", config),
        "layers": [described("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
    })
    platform = {"architecture": order.target.oci, "os": "linux"}
    index = dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described("application/vnd.oci.image.manifest.v1+json", manifest) | {
            "platform": platform,
            "annotations": {"org.opencontainers.image.ref.name": VERSION,
                            "io.containerd.image.name": f"docker.io/library/corecast:{VERSION}"},
        }],
    })
    docker = dumps([{"Config": blob(config), "RepoTags": [f"corecast:{VERSION}"],
                     "Layers": [blob(packed)]}])
    files = {"oci-layout": dumps({"imageLayoutVersion": "1.0.0"}), "index.json": index,
             "manifest.json": docker}
    files |= {blob(content): content for content in (config, manifest, packed)}
    path = order.out / f"corecast-{VERSION}-{order.target.oci}.oci.tar"
    write(path, tar({name: (content, 0o644) for name, content in files.items()}))


def root(order):
    """The files of the image's root."""
    binary = program(order)
    nobody = f"nonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n"
    files = {
        "usr/bin/corecast": (binary.read_bytes(), 0o755),
        "etc/passwd": (f"root:x:0:0:root:/:/sbin/nologin\n{nobody}".encode(), 0o644),
        "etc/group": (f"root:x:0:\nnonroot:x:{USER}:\n".encode(), 0o644),
        "etc/nsswitch.conf": (b"hosts: files dns\n", 0o644),
        CONFIG[1:]: ((PACKAGING / "corecast.toml").read_bytes(), 0o644),
        "usr/share/doc/corecast/THIRD-PARTY-LICENSES.txt": (notices(order.target), 0o644),
    }
    for licence in LICENCES:
        files[f"usr/share/doc/corecast/{licence}"] = ((ROOT / licence).read_bytes(), 0o644)
    if not CERTIFICATES.exists():
        raise Missing(f"{CERTIFICATES} is missing: apt-get install ca-certificates")
    files[str(CERTIFICATES)[1:]] = (CERTIFICATES.read_bytes(), 0o644)
    return files | libraries(binary, order.target)


def libraries(binary, target):
    """The C library of this host, if the program is linked with it, with its notice.

    The program runs with older versions as well; the newest one has the fewest known holes.
    """
    elf = Elf(binary)
    if not elf.interpreter:
        return {}
    found, ahead = {}, [elf.interpreter, *elf.libraries]
    while ahead:
        name = pathlib.PurePath(ahead.pop()).name
        if name not in found:
            found[name] = library(name, target)
            ahead += Elf(found[name]).libraries
    directory = f"lib/{target.gnu[:-1]}"
    files = {f"{directory}/{name}": (path.read_bytes(), 0o755) for name, path in found.items()}
    # The place that every program names.
    loader = pathlib.PurePath(elf.interpreter)
    files[str(loader)[1:]] = files.pop(f"{directory}/{loader.name}")
    for package in ("libc6", "libgcc-s1"):
        copyright = pathlib.Path(f"/usr/share/doc/{package}/copyright")
        if copyright.exists():
            files[str(copyright)[1:]] = (copyright.read_bytes(), 0o644)
    return files


def library(name, target):
    """Returns the file of a library on this host: of its own system, or of a cross compiler."""
    triple = target.gnu[:-1]
    for directory in (f"/lib/{triple}", f"/usr/lib/{triple}", f"/usr/{triple}/lib", "/lib64"):
        path = pathlib.Path(directory, name)
        if path.exists() and Elf(path).is_for(target):
            return path.resolve()
    raise Missing(f"no {name} for {target.name} is installed here: apt-get install "
                  f"libc6-{target.debian}-cross libgcc-s1-{target.debian}-cross")


def image_config(target, layer_digest):
    return {
        "created": datetime.datetime.fromtimestamp(epoch(), datetime.timezone.utc)
                   .strftime("%Y-%m-%dT%H:%M:%SZ"),
        "architecture": target.oci,
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {"8000/tcp": {}, "9000/tcp": {}},
            "Env": ENVIRONMENT,
            "Entrypoint": ["/usr/bin/corecast"],
            "Cmd": ["serve"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "corecast",
                "org.opencontainers.image.description": MANIFEST["description"],
                "org.opencontainers.image.licenses": MANIFEST["license"],
                "org.opencontainers.image.version": VERSION,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "history": [{"created_by": "packaging/build image"}],
    }


def dumps(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def hash_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blob(content):
    return f"blobs/{hash_of(content).replace(':', '/')}"


def described(media_type, content):
    return {"mediaType": media_type, "digest": hash_of(content), "size": len(content)}
