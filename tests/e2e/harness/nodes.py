"""Several nodes that clients see as one server."""

import contextlib

from harness.client import Client, Plain
from harness.netns import DOOR
from harness.server import Server, eventually

# --dev alone listens on no address that other sites can reach. The configuration of nodes with
# one away ends with the namespace of their channels, so OPEN_NAMESPACE can be appended.
OPEN = "[auth]\ninsecure = false\nanonymous = true\n"
OPEN_NAMESPACE = "allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n"


class Nodes:
    """One node for each of `urls`, which is the URL of Redis for that node."""

    def __init__(self, driver, urls, *, await_ready=True, config="", **options):
        self.driver, self.config, self.options = driver, config, options
        self.servers, self.made = [], []
        for url in urls:
            self.add(url, await_ready=False)
        if await_ready:
            for server in self.servers:
                server.wait_ready()

    def add(self, url, *, await_ready=True, config=None, **options):
        """Adds a node."""
        args = [*({**self.options, **options}.get("args", ())), "--redis", url]
        server = Server(self.driver, config=self.config if config is None else config,
                        await_ready=await_ready, **{**self.options, **options, "args": args})
        self.servers.append(server)
        return server

    def add_away(self, sites, url, **options):
        """Adds a node at the site away."""
        args = ["--expose", *({**self.options, **options}.get("args", ()))]
        return self.add(url, config=OPEN + self.config + OPEN_NAMESPACE, host=DOOR,
                        prefix=sites.away, **{**options, "args": args})

    def __getitem__(self, n):
        return self.servers[n]

    def __iter__(self):
        return iter(self.servers)

    def __len__(self):
        return len(self.servers)

    def connect(self, n, **options):
        """Returns a client of node `n`, which is closed with the nodes."""
        self.made.append(Client(self.servers[n], **options))
        return self.made[-1]

    def subscribe(self, n, channel):
        """Returns a client of node `n` that is subscribed to this channel."""
        client = self.connect(n)
        client.subscribe(channel)
        return client

    def here(self, n, channel):
        """Returns the path of a `/ws` request with the present position. So the client misses no
        later publication, even if it is subscribed some time later."""
        position = _position(self.servers[n], channel)
        return f"/ws?channels={channel}&since={position['epoch']}:{position['offset']}"

    def plain(self, n, channel, query=""):
        """Returns a plain WebSocket to node `n`, which is closed with the nodes."""
        self.made.append(Plain(self.servers[n], self.here(n, channel) + query))
        return self.made[-1]

    def at(self, channel, position, seconds=5.0):
        """Waits until every running node has reached this position, which a publish returned."""
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
        """Checks that all nodes run, unless a test has ended them, and that none has panicked."""
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
