"""The packages of `packaging/build`, made from the program of the other tests."""

import configparser
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import zipfile

import httpx
import pytest
import yaml

from harness.container import Container, Image, bundle, runtimes
from harness.ports import free_port
from harness.seccomp import default_of, resolved
from harness.server import BINARY, ROOT, eventually
from harness.snippets import snippets

PACKAGING = ROOT / "packaging"
sys.path.append(str(PACKAGING))
from parts import deb, wheel  # noqa: E402
from parts.elf import Elf  # noqa: E402
from parts.project import TARGETS  # noqa: E402

UNIT = PACKAGING / "systemd" / "corecast.service"
SECCOMP = json.loads((PACKAGING / "image" / "seccomp.json").read_text())
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          timeout=60, **options)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


def commands(*words):
    """The commands that `corecast WORDS --help` lists."""
    text = run(BINARY, *words, "--help")
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.MULTILINE)
    names = re.findall(r"^  (\w+) ", listed[1], re.MULTILINE) if listed else []
    return [name for name in names if name != "help"]


def build(out, *arguments, binary=BINARY):
    """Builds packages, and returns them by the endings of their names."""
    run(PACKAGING / "build", *arguments, "--binary", binary, "--out", out, "--level", 1,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
    return {path.suffix: path for path in out.iterdir()}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    kinds = ["wheel", "image"] + ["deb"] * (shutil.which("dpkg-deb") is not None)
    # The trial fails the build if the program does not work.
    return build(tmp_path_factory.mktemp("packages"), *kinds, "--try")


class Ports:
    """Free ports for a server that gets them by its environment, and its API."""

    def __init__(self):
        self.client, self.api = free_port(), free_port()
        self.environment = {
            "CORECAST_SERVER_LISTEN": f"127.0.0.1:{self.client}",
            "CORECAST_SERVER_API_LISTEN": f"127.0.0.1:{self.api}",
            "CORECAST_SERVER_SHARDS": "1",
        }

    def ready(self):
        try:
            url = f"http://127.0.0.1:{self.api}/ready"
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def publish(self, key=""):
        return httpx.post(f"http://127.0.0.1:{self.api}/api/publish", trust_env=False,
                          headers={"x-api-key": key},
                          json={"channel": "news", "data": {"text": "Hello"}})


def service():
    """The section [Service] of the unit: a list of values for each key."""
    parser = configparser.RawConfigParser(strict=False, dict_type=dict, delimiters="=")
    parser.optionxform = str
    parser.read(UNIT)
    return dict(parser["Service"])


def test_the_unit_starts_a_server_with_a_key_from_its_credential(tmp_path):
    unit = service()
    secret = tmp_path / "api_keys"
    secret.write_text("secret-of-the-unit\n")
    assert unit["LoadCredential"] == "api_keys:/etc/corecast/api_keys"
    variable, credential = unit["Environment"].split("=")
    assert credential == "/run/credentials/%n/api_keys"
    program, *arguments = shlex.split(unit["ExecStart"])
    assert program == "/usr/bin/corecast"
    arguments = [argument.replace("/etc/corecast", str(PACKAGING)) for argument in arguments]
    ports = Ports()
    environment = {**os.environ, **ports.environment, variable: str(secret)}
    with subprocess.Popen([BINARY, *arguments], env=environment) as server:
        try:
            eventually(ports.ready, seconds=15, what="the service is ready")
            assert ports.publish("wrong").status_code == 401
            assert ports.publish("secret-of-the-unit").json()["result"] is not None
        finally:
            server.kill()


def test_systemd_understands_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # Here the program is somewhere else, and its manual is not installed.
    text = UNIT.read_text().replace("/usr/bin/corecast", BINARY)
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
    (tmp_path / "corecast.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "corecast.service"],
                          capture_output=True, text=True)
    about_us = [line for line in done.stderr.splitlines() if "corecast" in line]
    assert not about_us, about_us


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_every_command_and_no_hidden_one(shell):
    script = run(BINARY, "generate", "completions", shell)
    top = commands()
    assert {"serve", "info", "history"} <= set(top) and "generate" not in top, top
    lacking = [word for word in [*top, *commands("config")]
               if not re.search(rf"(?<![\w-]){word}(?!\w)", script)]
    assert not lacking
    assert "api-listen" in script and "generate" not in script


def test_bash_completes_commands_and_flags():
    script = run(BINARY, "generate", "completions", "bash")

    def complete(*words):
        line = f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}"
        last = " ".join(shlex.quote(word) for word in ("corecast", words[-1], words[-2]))
        shown = run("bash", "-c", f'{script}\n{line}\n_corecast {last}\necho "${{COMPREPLY[@]}}"')
        return shown.split()

    assert complete("corecast", "se") == ["serve"]
    assert complete("corecast", "serve", "--api") == ["--api-listen"]


def test_each_command_has_a_manual_page(tmp_path):
    run(BINARY, "generate", "man", tmp_path)
    pages = {page.name for page in tmp_path.iterdir()}
    names = [*commands(), *(f"config-{command}" for command in commands("config"))]
    assert pages == {"corecast.1", *(f"corecast-{name}.1" for name in names)}
    assert "\\-\\-api\\-listen" in (tmp_path / "corecast-serve.1").read_text()


def test_the_wheel_puts_the_program_on_the_path(packages, tmp_path):
    wheel = packages[".whl"]
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        metadata = packed.read(f"corecast-{VERSION}.dist-info/METADATA").decode()
        tag = re.search(r"^Tag: py3-none-(.+)$", packed.read(
            f"corecast-{VERSION}.dist-info/WHEEL").decode(), re.MULTILINE)[1]
    assert f"\npip install {wheel.name}\n" in metadata
    assert tag in wheel.name and tag.endswith(platform.machine())
    assert all("/scripts/" in name or ".dist-info/" in name for name in names), names
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    run(sys.executable, "-m", "pip", "--python", tmp_path / "venv/bin/python", "install", "-q",
        "--no-index", "--no-deps", "--disable-pip-version-check", wheel)
    installed = tmp_path / "venv" / "bin" / "corecast"
    assert run(installed, "--version") == f"corecast {VERSION}\n"
    ports = Ports()
    with subprocess.Popen([installed, "serve", "--dev"], stdout=subprocess.DEVNULL,
                          env={**os.environ, **ports.environment}) as server:
        try:
            eventually(ports.ready, seconds=15, what="the server of the wheel is ready")
            assert ports.publish().json()["result"]["offset"] == 1
        finally:
            server.kill()


def test_a_second_build_gives_the_same_bytes(tmp_path):
    # Any program does for this, and a small one is packed soon.
    first, second = (build(tmp_path / name, "wheel", binary="/bin/true") for name in "ab")
    assert first[".whl"].name == second[".whl"].name
    assert first[".whl"].read_bytes() == second[".whl"].read_bytes(), "the bytes differ"


@pytest.fixture
def other():
    """The processor that this host does not have."""
    return next(target for name, target in TARGETS.items() if name != platform.machine())


def test_the_program_of_another_processor_is_refused(other, tmp_path):
    done = subprocess.run(
        [PACKAGING / "build", "wheel", "--target", other.name, "--binary", "/bin/true", "--out",
         tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and not list(tmp_path.iterdir()), done
    assert "no wheel: /bin/true is for " in done.stderr
    assert f"and not for {other.name}" in done.stderr


def test_packages_name_the_processor_of_their_program(other, tmp_path):
    content = bytearray(pathlib.Path("/bin/true").read_bytes())
    # The field e_machine of ELF.
    content[18:20] = {"x86_64": 62, "aarch64": 183}[other.name].to_bytes(2, sys.byteorder)
    (tmp_path / "true").write_bytes(content)
    program = Elf(tmp_path / "true")
    assert program.is_for(other)
    [tag] = wheel.platform_tags(program, other)
    assert tag.startswith("manylinux_2_") and tag.endswith(f"_{other.name}")
    assert f"\nArchitecture: {other.debian}\n" in deb.control(other, program, 1)


def test_the_page_of_packages_tells_what_was_tried_on_each_processor():
    page = (ROOT / "docs" / "install.md").read_text()
    for target in TARGETS.values():
        row = f"| `{target.name}` | `{target.debian}` | "
        assert row in page, row


def test_the_debian_package_has_its_files(packages):
    if ".deb" not in packages:
        pytest.skip("dpkg-deb is not installed")
    package = packages[".deb"]
    listed = run("dpkg-deb", "--contents", package)
    files = {line.split()[5][1:]: line for line in listed.splitlines()}
    for path in ("/usr/bin/corecast", "/usr/lib/systemd/system/corecast.service",
                 "/usr/lib/sysusers.d/corecast.conf", "/etc/corecast/corecast.toml",
                 "/usr/share/man/man1/corecast.1.gz",
                 "/usr/share/bash-completion/completions/corecast"):
        assert "root/root" in files[path], path
    fields = run("dpkg-deb", "--field", package, "Version", "Depends")
    assert VERSION in fields and "libc6 (>= 2." in fields
    conffiles = run("dpkg-deb", "--info", package, "conffiles")
    assert conffiles == "/etc/corecast/corecast.toml\n"


@pytest.fixture(scope="module")
def image(packages):
    return Image(packages[".tar"])


def test_the_image_is_what_its_digests_say(image):
    for name, content in image.files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(content).hexdigest() == pathlib.PurePath(name).name
    config = image.config
    assert config["architecture"] == image.platform["architecture"]
    assert config["rootfs"]["diff_ids"] == [
        f"sha256:{hashlib.sha256(image.layer).hexdigest()}"]
    assert config["config"]["User"] == "65532:65532"
    [for_docker] = json.loads(image.files["manifest.json"])
    assert for_docker["RepoTags"] == [f"corecast:{VERSION}"]
    assert {for_docker["Config"], *for_docker["Layers"]} <= image.files.keys()


@pytest.mark.parametrize("profile, driver_used", [
    ("corecast", "io_uring"), ("docker", "epoll"), ("podman", "epoll"),
])
def test_the_image_runs_read_only_without_capabilities(image, tmp_path, profile, driver_used):
    rules = resolved(SECCOMP if profile == "corecast" else default_of(profile))
    for runtime in runtimes():
        directory = tmp_path / runtime
        directory.mkdir()
        ports = Ports()
        environment = {**ports.environment, "CORECAST_API_KEYS": "secret"}
        bundle(image, directory, rules, [
            f"{key}={value}" for key, value in environment.items()])
        with Container(runtime, directory) as container:
            eventually(lambda: container.alive() and ports.ready(), seconds=20,
                       what=f"the container of {runtime} is ready")
            assert "result" in ports.publish("secret").json()
            assert f"running with 1 shard on {driver_used}" in container.log(), container.log()
            # So it has a descriptor table of its own.
            assert "each shard may open 4096 files" in container.log(), container.log()


def test_the_pod_of_kubernetes_starts_as_the_guide_shows(image, tmp_path):
    deployment, balancer = yaml.safe_load_all(
        snippets("docs/install.md")["docs/install.md yaml 1"])
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == balancer["spec"]["selector"]
    [container] = template["spec"]["containers"]
    numbers = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in balancer["spec"]["ports"]} == numbers.keys()
    # Other ports than those of the image, because the network is that of this host.
    ports = Ports()
    real = {"client": ports.client, "api": ports.api}
    assert f"CORECAST_SERVER_API_LISTEN=0.0.0.0:{numbers['api']}" in image.config["config"]["Env"]

    sources = {"configMap": PACKAGING / "corecast.toml", "secret": tmp_path / "api_keys"}
    sources["secret"].write_text("secret-of-kubernetes\n")
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = []
    for volume in template["spec"]["volumes"]:
        directory = tmp_path / volume["name"]
        directory.mkdir()
        [kind] = volume.keys() - {"name"}
        shutil.copy(sources[kind], directory)
        volumes.append((directory, places.pop(volume["name"])))
    assert not places, "each mount has a volume"
    environment = {**ports.environment,
                   **{entry["name"]: entry["value"] for entry in container["env"]}}
    runtime = runtimes()[0]
    bundle(image, tmp_path, resolved(SECCOMP), [
        f"{key}={value}" for key, value in environment.items()], volumes)
    with Container(runtime, tmp_path) as running:
        eventually(lambda: running.alive() and ports.ready(), seconds=20, what="the pod is ready")
        for probe in ("livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            url = f"http://127.0.0.1:{real[asked['port']]}{asked['path']}"
            assert httpx.get(url, trust_env=False).status_code == 200
        assert ports.publish("wrong").status_code == 401
        assert ports.publish("secret-of-kubernetes").status_code == 200


def test_compose_understands_its_file():
    # `docker-compose` is the one of Debian 12, which also refuses what only newer ones know.
    tools = [["docker-compose"], ["docker", "compose"]]
    tool = next((tool for tool in tools if knows_compose(tool)), None)
    if tool is None:
        pytest.skip("docker-compose is not installed")
    services = run(*tool, "config", "--services", cwd=PACKAGING / "compose")
    assert set(services.split()) == {"corecast-1", "corecast-2", "redis", "nginx"}


def knows_compose(tool):
    if shutil.which(tool[0]) is None:
        return False
    return subprocess.run([*tool, "version"], capture_output=True).returncode == 0


def test_compose_names_files_and_a_version_that_exist():
    text = (PACKAGING / "compose" / "compose.yaml").read_text()
    assert f"image: corecast:{VERSION}\n" in text
    for name in re.findall(r"(?:- |seccomp:)(\.\.?/[\w./-]+)", text):
        assert (PACKAGING / "compose" / name).exists(), name


@pytest.mark.parametrize("file", ["corecast.toml", "compose/corecast.toml"])
def test_the_configurations_of_the_packages_are_valid(file, tmp_path):
    run(BINARY, "config", "check", PACKAGING / file)
    # And so is the example in their comments.
    text = re.sub(r"^#(?=\S)", "", (PACKAGING / file).read_text(), flags=re.MULTILINE)
    (tmp_path / "corecast.toml").write_text(text)
    run(BINARY, "config", "check", tmp_path / "corecast.toml")
    assert "[[channel.namespaces]]" in text
