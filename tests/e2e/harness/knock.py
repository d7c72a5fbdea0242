"""Clients with their own address, as a process in a network namespace.

    knock.py flood HOST PORT RATE KEPT    connects RATE times a second; resets each connection when
                                          KEPT later ones are open, and prints how many there were
    knock.py visit HOST PORT COUNT RATE   COUNT clients open WebSockets, RATE of them a second;
                                          prints the seconds that each one took, or null for
                                          those that were refused
"""

import asyncio
import collections
import json
import pathlib
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.wire import upgrade  # noqa: E402

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
VISIT_SECONDS_MAX = 10


def flood(address, rate, kept):
    """Ends when its input ends."""
    import threading
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    began, count, opened = time.monotonic(), 0, collections.deque()
    while not over.is_set():
        if count > rate * (time.monotonic() - began):
            time.sleep(0.001)
            continue
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        stranger.connect_ex(address)
        opened.append(stranger)
        count += 1
        if count == 1:
            print("begun", flush=True)
        if len(opened) > kept:
            opened.popleft().close()
    print(count / (time.monotonic() - began), flush=True)


async def visit(address, count, rate):
    began = time.monotonic()

    async def one(number):
        await asyncio.sleep(max(0, began + number / rate - time.monotonic()))
        started = time.monotonic()
        try:
            async with asyncio.timeout(VISIT_SECONDS_MAX):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(upgrade(host=address[0]))
                head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError):
            return None
        writer.transport.abort()
        return time.monotonic() - started if head.startswith(b"HTTP/1.1 101 ") else None

    print(json.dumps(await asyncio.gather(*map(one, range(count)))), flush=True)


if __name__ == "__main__":
    kind, host, port, *numbers = sys.argv[1:]
    address = host, int(port)
    if kind == "flood":
        flood(address, *map(int, numbers))
    else:
        asyncio.run(visit(address, *map(int, numbers)))
