"""Reserved ports for servers that will listen on them.

    python3 tests/e2e/harness/ports.py 4    prints four, and reserves them until its input ends

If a port is only checked and then released, an outgoing connection or another process may take it
before the server listens. So a port is reserved by a socket that is bound to it and does not
listen. The kernel then gives it to no outgoing connection, and to no process that requests any free
port. A process that names the port may listen on it repeatedly, with SO_REUSEADDR like Redis and
most servers, or with SO_REUSEPORT like Corecast's shards.
"""

import collections
import socket
import sys

# A server needs its port until it listens, and again if a test restarts it.
HELD_MAX = 1_000

_held = collections.deque()


def free_port():
    """Returns a port that nobody else gets while this process runs, or until it takes 1000 more."""
    holder = socket.socket()
    # Without options, so that the kernel chooses a port that is free on all addresses.
    holder.bind(("0.0.0.0", 0))
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        holder.setsockopt(socket.SOL_SOCKET, option, 1)
    _held.append(holder)
    if len(_held) > HELD_MAX:
        _held.popleft().close()
    return holder.getsockname()[1]


if __name__ == "__main__":
    print(*(free_port() for _ in range(int(sys.argv[1]))), flush=True)
    sys.stdin.read()
