"""A server for each module of tests and each driver; a module says what it needs in SERVER. What
is about several nodes makes them with `join`, or has three of its module's own in `nodes`."""

import itertools

import pytest

from harness.client import Client
from harness.netns import Sites
from harness.nodes import Nodes
from harness.redis import Redis
from harness.server import Server

DRIVERS = ["io_uring", "epoll"]

_numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--driver", action="append", choices=DRIVERS,
                     help="drivers to test on; both where none is named")


def pytest_generate_tests(metafunc):
    if "driver" in metafunc.fixturenames:
        drivers = metafunc.config.getoption("--driver") or DRIVERS
        metafunc.parametrize("driver", drivers, scope="module")


@pytest.fixture(scope="module")
def module_server(request, driver):
    with Server(driver, **getattr(request.module, "SERVER", {})) as server:
        yield server


@pytest.fixture
def server(module_server):
    """The module's server, which a test must leave alive and without a panic."""
    yield module_server
    assert module_server.alive(), f"the server ended with {module_server.process.poll()}"
    assert "panicked at" not in module_server.log()


@pytest.fixture
def connect(server):
    """Makes clients of the module's server and closes them after the test."""
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
    """Three nodes on one Redis, `nodes.redis`, which a test must leave alive."""
    yield module_nodes
    module_nodes.close_clients()
    module_nodes.check_alive()


@pytest.fixture
def redis():
    """A Redis that belongs to one test."""
    with Redis() as redis:
        yield redis


@pytest.fixture
def sites():
    """Two sites with a link between them, which the test can cut."""
    with Sites() as sites:
        yield sites


@pytest.fixture
def join(request, driver):
    """Makes nodes that belong to one test: `join([url, url], config=…)`."""
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
    """Makes nodes with settings of their own, on a Redis of the test's own: `alone(config)`."""
    def make(config, count=1):
        return join([redis.url] * count, config=config)
    return make


@pytest.fixture
def channel():
    """A channel name that no other test uses: the module's server keeps history."""
    return f"c{next(_numbers)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    of_module = getattr(item, "funcargs", {})
    if report.failed:
        if server := of_module.get("module_server"):
            report.sections.append(("the server's log, its end", server.log()[-6000:]))
        for nodes in [*getattr(item, "nodes_made", []), of_module.get("module_nodes")]:
            if nodes is not None:
                report.sections.append(("the nodes' logs, their ends", nodes.log()))
    return report
