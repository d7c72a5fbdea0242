"""Every profile of the load generator against its server."""

import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from harness.ports import free_port
from harness.profile import Profile
from harness.server import ROOT, Server

PROFILES = ROOT / "bench" / "profiles"
RUN = ROOT / "bench" / "peers" / "run"
CORECAST = ["corecast", "plain"]
PEERS = sorted(path.stem for path in PROFILES.glob("*.toml") if path.stem not in CORECAST)

SUBSCRIBERS = 3
PAYLOADS = 5
DATA = r'\{"seq":\d+,"ns":\d+,"pad":"x*"\}'
LISTEN_SECONDS_MAX = 20
# Corecast with pings that a test can wait for.
PINGS = '[client]\nping_interval = "1s"\npong_timeout = "500ms"\n'
# Two of Socket.IO's, which has one each 25 s.
SOCKETIO_PINGS_SECONDS = 52
# After this long without a message nothing more is thought to come.
SILENT_SECONDS = 0.3


def payloads(round):
    """As the generator makes them; sizes on both sides of where a frame's length grows."""
    return [json.dumps({"seq": round * PAYLOADS + number, "ns": 10**15 + number,
                        "pad": "x" * (60 * number)}, separators=(",", ":"))
            for number in range(PAYLOADS)]


def check(profile):
    """Three subscribers; each way to publish reaches all of them, each payload once, in order."""
    assert profile.ways, "there is no way to publish"
    with contextlib.ExitStack() as stack:
        elsewhere = profile.elsewhere(f"{profile.channel}-other")
        clients = [profile.subscriber() for _ in range(SUBSCRIBERS)]
        stranger = elsewhere.subscriber()
        for client in [*clients, stranger]:
            stack.callback(client.close)
        # Some accept a client before they have it in their lists, and tell it nothing after that.
        time.sleep(SILENT_SECONDS)
        expected, expected_elsewhere = [], []
        for round, way in enumerate(profile.ways):
            publisher = profile.publisher(way)
            stack.callback(publisher.close)
            for repeat in range(2):
                sent = payloads(round * 2 + repeat)
                publisher.publish(sent)
                expected += sent
                for client in clients:
                    assert client.collect(len(expected), DATA) == expected, way
            if profile.reaches_any_channel(way):
                publisher.publish(sent, elsewhere)
                expected_elsewhere += sent
                assert stranger.collect(len(expected_elsewhere), DATA) == expected_elsewhere, way
            if way == "frame":
                publisher.client.drain(SILENT_SECONDS)
                heard = [line for line in publisher.client.lines if re.search(DATA, line)]
                assert not heard, "the publisher got what it published"
        for client in [*clients, stranger]:
            client.drain(SILENT_SECONDS)
            wanted = expected_elsewhere if client is stranger else expected
            assert re.findall(DATA, "\n".join(client.lines)) == wanted
            assert client.alive(), "no pong"


def addresses_of(server):
    return {"127.0.0.1:8000": f"127.0.0.1:{server.client_port}",
            "127.0.0.1:9000": f"127.0.0.1:{server.api_port}"}


@pytest.mark.parametrize("name", CORECAST)
def test_corecast_speaks_as_its_profile_says(server, channel, name):
    check(Profile(PROFILES / f"{name}.toml", channel, addresses_of(server)))


@pytest.mark.parametrize("name", ["corecast", "centrifugo"])
def test_who_comes_back_gets_what_it_missed(server, channel, name):
    """Centrifugo's profile as well: Corecast speaks the same protocol, on two ports."""
    addresses = addresses_of(server)
    if name == "centrifugo":
        addresses = {"127.0.0.1:22010/connection": f"127.0.0.1:{server.client_port}/connection",
                     "127.0.0.1:22010/api": f"127.0.0.1:{server.api_port}/api"}
    profile = Profile(PROFILES / f"{name}.toml", channel, addresses)
    check(profile)
    keys = profile.keys["recover"]
    publisher = profile.publisher("http")
    client = profile.subscriber()
    epoch = client.opening[-1].partition(keys["epoch"])[2].partition('"')[0]
    assert epoch, client.opening
    seen, missed = payloads(10), payloads(11)
    publisher.publish(seen)
    assert client.collect(PAYLOADS, DATA) == seen
    offset = int(re.match(r"\d+", client.lines[-1].rpartition(keys["offset"])[2])[0])
    client.close()
    publisher.publish(missed)
    client = profile.subscriber((epoch, offset))
    assert client.collect(PAYLOADS, DATA) == missed
    client.close()
    publisher.close()


def test_corecast_keeps_who_answers_the_pings_of_its_profile(driver, channel):
    with Server(driver, config=PINGS) as server:
        check_pings(Profile(PROFILES / "corecast.toml", channel, addresses_of(server)), 3.5)


def check_pings(profile, seconds):
    client = profile.subscriber()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.drain(SILENT_SECONDS)
    # The second comes only to who has answered the first.
    assert client.pings >= 2, f"{client.pings} pings in {seconds} s"
    assert client.alive()
    client.close()


def installed(name):
    if name == "centrifugo":
        return shutil.which("centrifugo") is not None
    return (RUN.parent / ".cache" / name / ".stamp").exists()


@contextlib.contextmanager
def peer(name, log):
    """The peer's profile, once it listens."""
    port = free_port()
    with open(log, "w") as output, subprocess.Popen(
            [RUN, name, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + LISTEN_SECONDS_MAX
            while not listens(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield pathlib.Path(re.search(r"--profile (\S+)", log.read_text())[1])
            assert process.poll() is None, log.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def need_installed(name):
    if not installed(name):
        pytest.skip(f"not installed: bench/peers/run --install {name}")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_speaks_as_its_profile_says(name, channel, tmp_path):
    need_installed(name)
    with peer(name, tmp_path / "log") as path:
        profile = Profile(path, channel)
        check(profile)
        client = profile.subscriber(compression="deflate")
        # Nchan always agrees to it, and then compresses only what it was told to.
        compresses = "Sec-WebSocket-Extensions" in client.socket.response.headers
        client.close()
        assert compresses == (name == "nchan")


def test_socketio_keeps_who_answers_the_pings_of_its_profile(channel, tmp_path):
    need_installed("socketio")
    with peer("socketio", tmp_path / "log") as path:
        check_pings(Profile(path, channel), SOCKETIO_PINGS_SECONDS)
