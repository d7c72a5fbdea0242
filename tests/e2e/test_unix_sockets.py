"""Unix sockets to listen on: their files, and the clients of all shards on one of them."""

import os
import pathlib
import socket
import stat
import tempfile

import pytest

from harness.client import Client, Closed, Plain
from harness.command import run
from harness.server import Server, eventually

CLIENTS = 64


@pytest.fixture
def directory():
    with tempfile.TemporaryDirectory(prefix="corecast-unix-") as name:
        yield pathlib.Path(name)


def serve(driver, path, **options):
    return Server(driver, args=["--listen", f"unix:{path}"], **options)


def dial(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def plain(server, path):
    return Plain(server, "/ws?channels=news", sock=dial(path))


@pytest.mark.parametrize("tables", ["private", "shared"])
def test_clients_of_one_socket_are_spread_over_all_shards(driver, directory, tables):
    path = directory / "clients.sock"
    config = f"[server]\nprivate_fd_tables = {str(tables == 'private').lower()}\n"
    with serve(driver, path, config=config) as server:
        clients = [plain(server, path) for _ in range(CLIENTS)]
        server.publish("news", {"n": 1})
        assert {client.receive() for client in clients} == {'{"n":1}'}
        metrics = server.settled_metrics("corecast_connections")
        for shard in ("0", "1"):
            assert metrics.total("corecast_connections", shard=shard) >= 1, metrics.text
        for client in clients:
            client.close()
        eventually(lambda: server.connections() == 0)


def test_a_full_server_refuses_and_serves_again(driver, directory):
    path = directory / "clients.sock"
    with serve(driver, path, config="[server]\nmax_connections = 4\n") as server:
        clients = [plain(server, path) for _ in range(4)]
        with dial(path) as refused:
            assert refused.recv(100).startswith(b"HTTP/1.1 503")
        clients.pop().close()
        eventually(lambda: server.settled_connections() == 3)
        clients.append(plain(server, path))
        server.publish("news", 1)
        assert {client.receive() for client in clients} == {"1"}


def test_a_clean_stop_closes_the_clients_and_removes_the_file(driver, directory):
    path = directory / "clients.sock"
    config = '[server]\ndrain_delay = "0s"\ndrain = "4s"\nunix_mode = "0640"\n'
    with serve(driver, path, config=config) as server:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        client = plain(server, path)
        server.terminate()
        with pytest.raises(Closed) as closed:
            client.receive(10)
        assert closed.value.code == 3001
        server.wait(10)
        assert not path.exists()


def test_only_a_file_that_nobody_listens_on_is_replaced(driver, directory):
    path = directory / "clients.sock"
    with serve(driver, path) as server:
        second = serve(driver, path, await_ready=False)
        assert second.wait(10) == 1
        assert f"can't listen on unix:{path}" in second.log() and "in use" in second.log()
        second.stop()
        plain(server, path).close()
        server.kill()
        assert path.exists()
        server.start()
        plain(server, path).close()
    path.unlink(missing_ok=True)
    path.write_text("precious")
    third = serve(driver, path, await_ready=False)
    assert third.wait(10) == 1 and "not a socket" in third.log()
    third.stop()
    assert path.read_text() == "precious"


def test_the_api_may_be_on_a_socket(driver, directory):
    path = directory / "api.sock"
    with Server(driver, api_socket=path, config='[server]\ndrain_delay = "0s"\n') as server:
        server.publish("news", 1)
        assert f"--unix-socket {path}" in server.log()
        done = run("info", "--json", "--api", f"unix:{path}")
        assert done.returncode == 0 and '"nodes"' in done.stdout, done.stderr
        with Client(server) as client:
            client.subscribe("news")
            done = run("publish", "news", "Hello", "--api", f"unix:{path}")
            assert done.returncode == 0, done.stderr
            assert client.publication("news")["data"] == "Hello"
        server.terminate()
        server.wait(10)
        assert not path.exists()
