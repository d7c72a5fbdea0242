"""A server for each module of tests and each driver; a module says what it needs in SERVER."""

import itertools

import pytest

from harness.client import Client
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


@pytest.fixture
def channel():
    """A channel name that no other test uses: the module's server keeps history."""
    return f"c{next(_numbers)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    server = getattr(item, "funcargs", {}).get("module_server")
    if report.failed and server is not None:
        report.sections.append(("the server's log, its end", server.log()[-6000:]))
    return report
