"""Ports that stay free for whoever is to listen on them.

    python3 tests/e2e/harness/ports.py 4    prints four, and holds them until its input ends

A port that was found free and let go again may be taken before the server that is to have it
listens: by an outgoing connection, or by somebody else who looks for one. So a port is held: a
socket has its name and does not listen. The kernel then gives it to no outgoing connection and to
nobody who asks for any port; who names it may listen on it, again and again, with SO_REUSEADDR as
Redis and most servers do, or with SO_REUSEPORT as Corecast's shards do.
"""

import collections
import socket
import sys

# A server needs its hold until it listens, and once more where a test restarts it.
HELD_MAX = 1_000

_held = collections.deque()


def free_port():
    """A port that nobody else gets while this process lives, or takes a thousand more."""
    holder = socket.socket()
    # Without options, so that the kernel finds one that nobody has on any address.
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
