"""Events as the application reads them: entries of a stream of Redis."""

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
# Nodes hold leases. That of a dead node runs out after about ten seconds, and nine later it is
# missed; but who has just started takes nobody for dead for ten, and who was cut off itself for
# twenty.
LEASES = "corecast:nodes"
LOST_SECONDS_MAX = 60


def events(redis, stream=STREAM, **wanted):
    """The events that have these fields, oldest first."""
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
    """At least once: a repeated event is the same event."""
    seen = []
    for event in found:
        if event not in seen:
            seen.append(event)
    return seen
