"""Provides a server for each test module and each driver. A module sets its options in SERVER.
Tests of several nodes create them with `join`, or use the three `nodes` of their module."""

import itertools
import subprocess

import pytest

from harness.client import Client
from harness.netns import Sites
from harness.nodes import Nodes
from harness.redis import Redis
from harness.server import Server
from harness.skips import allowed

DRIVERS = ["io_uring", "epoll"]

_numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--driver", action="append", choices=DRIVERS,
                     help="drivers to test on; both where none is named")


def pytest_generate_tests(metafunc):
    if "driver" in metafunc.fixturenames:
        drivers = metafunc.config.getoption("--driver") or DRIVERS
        metafunc.parametrize("driver", drivers, scope="module")


@pytest.fixture(scope="session")
def user_namespaces():
    """Skips a test where the kernel refuses user namespaces, such as in a chroot."""
    made = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"],
                          capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a user namespace is needed: {made.stderr.strip()}")


@pytest.fixture(scope="module")
def module_server(request, driver):
    with Server(driver, **getattr(request.module, "SERVER", {})) as server:
        yield server


@pytest.fixture
def server(module_server):
    """The module's server. It must still run after the test, and must not have panicked."""
    yield module_server
    assert module_server.alive(), f"the server ended with {module_server.process.poll()}"
    assert "panicked at" not in module_server.log()


@pytest.fixture
def connect(server):
    """Creates clients of the module's server, and closes them after the test."""
    clients = []

    def make(**options):
        clients.append(Client(server, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def module_nodes(request, driver):
    with Redis() as redis:
        nodes = Nodes(driver, [redis.url] * 3, **getattr(request.module, "NODES", {}))
        nodes.redis = redis
        yield nodes
        nodes.stop()


@pytest.fixture
def nodes(module_nodes):
    """Three nodes on one Redis, `nodes.redis`. They must still run after the test."""
    yield module_nodes
    module_nodes.close_clients()
    module_nodes.check_alive()


@pytest.fixture
def redis():
    """A Redis for a single test."""
    with Redis() as redis:
        yield redis


@pytest.fixture
def sites():
    """Two sites with a link between them, which the test can cut."""
    with Sites() as sites:
        yield sites


@pytest.fixture
def join(request, driver):
    """Creates nodes for a single test: `join([url, url], config=…)`."""
    made = request.node.nodes_made = []

    def make(urls, **options):
        made.append(Nodes(driver, urls, **{**getattr(request.module, "NODES", {}), **options}))
        return made[-1]

    yield make
    try:
        for nodes in made:
            nodes.close_clients()
            nodes.check_alive()
    finally:
        for nodes in made:
            nodes.stop()


@pytest.fixture
def alone(redis, join):
    """Creates nodes with their own settings on the test's own Redis: `alone(config)`."""
    def make(config, count=1):
        return join([redis.url] * count, config=config)
    return make


@pytest.fixture
def channel():
    """A channel name for a single test, because the module's server keeps history."""
    return f"c{next(_numbers)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception):
        reason = str(call.excinfo.value)
        if not allowed(reason):
            report.outcome, report.longrepr = "failed", f"an unexpected skip: {reason}"
    of_module = getattr(item, "funcargs", {})
    if report.failed:
        if server := of_module.get("module_server"):
            report.sections.append(("the server's log, its end", server.log()[-6000:]))
        for nodes in [*getattr(item, "nodes_made", []), of_module.get("module_nodes")]:
            if nodes is not None:
                report.sections.append(("the nodes' logs, their ends", nodes.log()))
    return report
