"""The start of nodes with Redis: all forms of URLs, waiting for Redis, and refused servers."""

import subprocess

import pytest

from harness.client import Client
from harness.ports import free_port
from harness.proxy import Proxy
from harness.redis import Certificates, Cluster, Redis, Sentinel
from harness.server import BINARY, Server, eventually
from harness.wire import Wire, upgrade

REFUSED_SECONDS_MAX = 10


def refusal(*args, env=None):
    """What `serve` says when it refuses to start."""
    done = subprocess.run(
        [BINARY, "serve", "--dev", "--listen", f"127.0.0.1:{free_port()}",
         "--api-listen", f"127.0.0.1:{free_port()}", "--shards", "1", *args],
        capture_output=True, text=True, timeout=REFUSED_SECONDS_MAX, stdin=subprocess.DEVNULL)
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "panicked at" not in output
    return output


def works(nodes, channel="form"):
    """A publication passes from one node to the other."""
    client = nodes.subscribe(1, channel)
    nodes[0].publish(channel, "passes")
    assert client.publication(channel)["data"] == "passes"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-random"])
def test_a_policy_that_evicts_is_refused(policy):
    with Redis("--maxmemory-policy", policy) as redis:
        output = refusal("--redis", redis.url)
        assert policy in output and "noeviction" in output, output


def test_a_redis_that_is_too_old_is_refused(redis):
    version = redis.client.info("server")["redis_version"].encode()
    with Proxy(redis.port) as link:
        link.rewrite = (version, b"6.0" + version[3:])
        output = refusal("--redis", link.url)
        assert "6.2" in output and "6.0" in output, output


def test_another_number_of_streams_is_refused(redis, join, tmp_path):
    join([redis.url])[0].publish("a", 1)
    config = tmp_path / "corecast.toml"
    config.write_text("[redis]\nstreams = 4\n")
    output = refusal("--redis", redis.url, "--config", str(config))
    assert "streams" in output and "8" in output and "4" in output, output
    assert redis.client.type("corecast:config") == b"hash"


def test_another_number_of_streams_is_refused_though_redis_was_emptied(redis, join, tmp_path):
    nodes = join([redis.url])
    nodes[0].publish("a", 1)
    redis.client.flushall()
    eventually(lambda: redis.client.hget("corecast:config", "streams"), 5, "it is written anew")
    redis.client.hset("corecast:config", "streams", "4 (format 1)")
    redis.client.delete("corecast:{0}:meta", "corecast:{1}:meta")
    eventually(lambda: "bus of 4 streams" in nodes[0].log(), 5, "another node was first")
    eventually(lambda: "degraded" in _ready(nodes[0]).text, 5)


@pytest.mark.parametrize("streams, format", [("8", 0), ("8 (format 2)", 2)])
def test_a_bus_of_another_format_is_refused(redis, streams, format):
    redis.client.hset("corecast:config", "streams", streams)
    output = refusal("--redis", redis.url)
    assert f"bus of format {format}" in output and "needs format 1" in output, output
    assert "'corecast:{*}:*'" in output and "redis.prefix" in output, output
    assert redis.client.keys("*") == [b"corecast:config"], "nothing was written"


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:6379", "redis//127.0.0.1", "127.0.0.1", "redis://127.0.0.1:66666",
])
def test_what_is_no_url_of_redis_is_refused(url):
    assert "redis" in refusal("--redis", url).lower()


def test_a_node_waits_for_redis_and_is_ready_when_it_comes(join, driver):
    redis = Redis(start=False)
    try:
        nodes = join([redis.url] * 2, await_ready=False)
        for server in nodes:
            ready = eventually(lambda: _ready(server), what="it answers")
            assert ready.status_code == 503 and "starting" in ready.text, ready.text
            for request in (upgrade(), b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"):
                with Wire(server) as wire:
                    wire.send(request)
                    status, headers, body = wire.response()
                    assert (status, headers["retry-after"]) == (503, "5") and b"starting" in body
            eventually(lambda: f"starting: Redis at 127.0.0.1:{redis.port}" in _ready(server).text,
                       what="it says what it waits for")
        used = [server.cpu_seconds() for server in nodes]
        with pytest.raises(AssertionError):
            eventually(lambda: _ready(nodes[0]).status_code == 200, 2)
        for server, before in zip(nodes, used):
            assert server.cpu_seconds() - before < 0.5, "it waits, and does not spin"
            assert f"127.0.0.1:{redis.port}" in server.log(), "the log names what it waits for"
        redis.start()
        for server in nodes:
            eventually(lambda: _ready(server).status_code == 200, 10, "ready")
        works(nodes)
    finally:
        redis.stop()


def _ready(server):
    try:
        return server.http.get("/ready")
    except Exception:  # noqa: B902: not yet listening
        return None


def test_a_wrong_password_is_told_and_a_right_one_later_is_enough(join):
    with Redis(password="right") as redis:
        wrong = join([redis.url.replace("right", "mistaken")], await_ready=False)[0]
        eventually(lambda: "WRONGPASS" in wrong.log() or "password" in wrong.log(), 5, "it is told")
        assert "mistaken" not in wrong.log(), "no secret is logged"
        assert _ready(wrong).status_code == 503
        eventually(lambda: "WRONGPASS" in _ready(wrong).text, 5, "it says why")
        redis.client.config_set("requirepass", "mistaken")
        eventually(lambda: _ready(wrong).status_code == 200, 15, "ready")
        assert wrong.publish("a", 1)["offset"] == 1


def test_a_password_is_taken_from_the_url(join):
    with Redis(password="secret-of-redis") as redis:
        nodes = join([redis.url] * 2)
        works(nodes)
        assert all("secret-of-redis" not in server.log() for server in nodes)


def test_a_user_and_a_database_are_taken_from_the_url(redis, join):
    redis.client.execute_command("ACL", "SETUSER", "bus", "on", ">open", "~*", "+@all")
    works(join([f"redis://bus:open@127.0.0.1:{redis.port}/3"] * 2))
    assert redis.connect(db=3).exists("corecast:config")
    assert not redis.client.exists("corecast:config")


def test_a_unix_socket_works(join):
    with Redis(unix=True) as redis:
        works(join([redis.url] * 2))


def test_tls_works_with_an_authority_that_the_machine_trusts(join, certificates):
    with Redis(tls=certificates) as redis:
        works(join([redis.url] * 2, env={"SSL_CERT_FILE": str(certificates.ca)}))


def test_tls_with_an_unknown_authority_is_not_used(join, certificates):
    with Redis(tls=certificates) as redis:
        server = join([redis.url], await_ready=False)[0]
        eventually(lambda: "certificate" in server.log().lower(), 10, "the log says why")
        assert _ready(server).status_code == 503
        assert not redis.client.keys("*")


def test_the_environment_and_the_file_name_redis_too(redis, driver):
    file = f'[redis]\nurl = "{redis.url}"\n'
    with Server(driver, env={"CORECAST_REDIS_URL": redis.url}) as one, \
            Server(driver, config=file) as other, Client(other) as client:
        client.subscribe("named")
        one.publish("named", 1)
        assert client.publication("named")["data"] == 1


def test_a_sentinel_tells_the_primary(join):
    with Redis() as redis, Sentinel(redis) as sentinel:
        works(join([sentinel.url] * 2))


@pytest.mark.parametrize("password", [None, "secret-of-sentinel"])
def test_a_sentinel_and_its_redis_have_passwords_of_their_own(join, password):
    with Redis(password="secret-of-redis") as redis, Sentinel(redis, password) as sentinel:
        nodes = join([sentinel.url.replace("//", "//:secret-of-redis@")] * 2)
        works(nodes)
        assert all("secret-of" not in server.log() for server in nodes)


def test_a_wrong_password_of_a_sentinel_is_no_secret_told(join):
    with Redis() as redis, Sentinel(redis, "right") as sentinel:
        wrong = join([sentinel.url.replace("right", "mistaken")], await_ready=False)[0]
        eventually(lambda: "mymaster" in wrong.log(), 10, "the log names what it waits for")
        assert "mistaken" not in wrong.log() and _ready(wrong).status_code == 503


def test_a_cluster_works_with_the_streams_on_all_its_masters(join):
    with Cluster() as cluster:
        nodes = join([cluster.url] * 2)
        clients = [nodes.subscribe(1, f"c-{n}") for n in range(40)]
        for n in range(40):
            assert nodes[0].publish(f"c-{n}", n)["offset"] == 1
        for n, client in enumerate(clients):
            assert client.publication(f"c-{n}")["data"] == n
        kept = [list(node.client.scan_iter("corecast:{*}:bus")) for node in cluster.nodes]
        assert sum(map(len, kept)) == 8 and all(kept), kept
