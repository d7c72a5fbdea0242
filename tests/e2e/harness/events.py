"""Events as the application reads them: entries of a Redis stream."""

from harness.server import eventually

EVENTS = """
[events]
connect = true
disconnect = true
subscribe = true
unsubscribe = true
message = true
"""
STREAM = "corecast:events"
# Nodes hold leases. The lease of a dead node expires after about 10 s, and the node is declared
# lost 9 s later. A node that has just started declares no other node lost for 10 s, and one that
# was cut off itself for 20 s.
LEASES = "corecast:nodes"
LOST_SECONDS_MAX = 60


def events(redis, stream=STREAM, **wanted):
    """Returns the events that have these fields, oldest first."""
    found = []
    for _, fields in redis.client.xrange(stream):
        event = {key.decode(): value.decode() for key, value in fields.items()}
        if wanted.items() <= event.items():
            found.append(event)
    return found


def wait_events(redis, count, seconds=10.0, **wanted):
    eventually(lambda: len(events(redis, **wanted)) >= count, seconds, f"{count} of {wanted}")
    return events(redis, **wanted)


def once(found):
    """Removes repeated events, because events are delivered at least once."""
    seen = []
    for event in found:
        if event not in seen:
            seen.append(event)
    return seen
