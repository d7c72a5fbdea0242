"""Several nodes that are one server to their clients."""

import contextlib

from harness.client import Client, Plain
from harness.netns import DOOR
from harness.server import Server, eventually

# --dev alone opens no address that others could reach. What the configuration of nodes with one
# away ends with is the namespace of what is subscribed there.
OPEN = "[auth]\ninsecure = false\nanonymous = true\n"
OPEN_NAMESPACE = "allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n"


class Nodes:
    """One node for each of `urls`, each the way by which that node reaches Redis."""

    def __init__(self, driver, urls, *, await_ready=True, config="", **options):
        self.driver, self.config, self.options = driver, config, options
        self.servers, self.made = [], []
        for url in urls:
            self.add(url, await_ready=False)
        if await_ready:
            for server in self.servers:
                server.wait_ready()

    def add(self, url, *, await_ready=True, config=None, **options):
        """One more node."""
        args = [*({**self.options, **options}.get("args", ())), "--redis", url]
        server = Server(self.driver, config=self.config if config is None else config,
                        await_ready=await_ready, **{**self.options, **options, "args": args})
        self.servers.append(server)
        return server

    def add_away(self, sites, url, **options):
        """One more node, at the site away."""
        return self.add(url, config=OPEN + self.config + OPEN_NAMESPACE, host=DOOR,
                        prefix=sites.away, **options)

    def __getitem__(self, n):
        return self.servers[n]

    def __iter__(self):
        return iter(self.servers)

    def __len__(self):
        return len(self.servers)

    def connect(self, n, **options):
        """A client of node `n` that is closed with the nodes."""
        self.made.append(Client(self.servers[n], **options))
        return self.made[-1]

    def subscribe(self, n, channel):
        """A client of node `n` that is subscribed to that channel."""
        client = self.connect(n)
        client.subscribe(channel)
        return client

    def here(self, n, channel):
        """The query of `/ws` with which nothing that is published from now on can be missed, even
        if the connection is subscribed only later."""
        position = _position(self.servers[n], channel)
        return f"/ws?channels={channel}&since={position['epoch']}:{position['offset']}"

    def plain(self, n, channel, query=""):
        """A plain WebSocket to node `n` that is closed with the nodes."""
        self.made.append(Plain(self.servers[n], self.here(n, channel) + query))
        return self.made[-1]

    def at(self, channel, position, seconds=5.0):
        """Waits until every running node has that position, the answer to a publish."""
        for server in self.servers:
            if server.alive():
                eventually(lambda: _position(server, channel) == position, seconds,
                           f"{channel} is at {position}")

    def log(self):
        return "\n".join(f"-- node {n}\n{server.log()[-6000:]}"
                         for n, server in enumerate(self.servers))

    def close_clients(self):
        for client in self.made:
            with contextlib.suppress(OSError):
                client.close()
        self.made.clear()

    def check_alive(self):
        """Every node that no test has ended runs, and none has panicked."""
        for server in self.servers:
            assert server.killed or server.alive(), f"a node ended: {server.process.poll()}"
            assert "panicked at" not in server.log(), server.log()[-4000:]

    def stop(self):
        self.close_clients()
        for server in self.servers:
            server.stop()


def _position(server, channel):
    result = server.result("history", channel=channel, limit=0)
    return {"offset": result["offset"], "epoch": result["epoch"]}
