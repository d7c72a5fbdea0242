"""Publishers and followers on several nodes, and a check of their observations.

These guarantees hold despite all faults: no publication is invented, repeated, out of order, or
missing without notice. All nodes agree on each position. A certainly refused publication is never
seen, and no answer is late.
"""

import collections
import contextlib
import dataclasses
import threading
import time

import httpx
import websockets.exceptions

from harness.client import Client, Closed
from harness.server import eventually

ANSWER_SECONDS_MAX = 4.0
# The tests' own threads need processor time, too.
SLACK_SECONDS = 1.0

# Beginnings of error messages, and the outcome: certainly not published, or unknown.
ERRORS = [("bus unavailable", "unavailable"), ("result unknown", "unknown")]

# The channels keep enough for a follower that is away during a whole test. One recovery returns
# 300 publications.
CONFIG = """
[[channel.namespaces]]
name = "t"
history_size = 1000
history_ttl = "300s"
force_recovery = true
"""

_numbers = iter(range(1_000_000))


@dataclasses.dataclass
class Attempt:
    """One publication. `outcome` is ok, unavailable, unknown, or gone if its node was killed."""

    id: str
    outcome: str
    message: str
    began: float
    seconds: float
    position: tuple = None


class Publisher(threading.Thread):
    """Publishes numbered messages through one node's API, one after another."""

    def __init__(self, server, channels, interval):
        super().__init__(daemon=True)
        self.server, self.channels, self.interval = server, channels, interval
        self.name, self.attempts, self.failure = f"p{next(_numbers)}", [], None
        self.stopping = threading.Event()

    def run(self):
        try:
            with httpx.Client(base_url=self.server.api_url, timeout=30, trust_env=False) as http:
                while not self.stopping.is_set():
                    self.publish(http, len(self.attempts))
                    self.stopping.wait(self.interval)
        except BaseException as failure:  # noqa: B902: told to the test's own thread
            self.failure = failure

    def publish(self, http, n):
        channel, id, began = self.channels[n % len(self.channels)], f"{self.name}-{n}", time.time()
        try:
            body = http.post("/api/publish", json={"channel": channel, "data": {"id": id}}).json()
        except (httpx.HTTPError, ValueError) as failure:
            self.keep(Attempt(id, "gone", repr(failure), began, 0.0))
            self.stopping.wait(0.1)
            return
        seconds = time.time() - began
        if "result" in body:
            position = (channel, body["result"]["epoch"], body["result"]["offset"])
            self.keep(Attempt(id, "ok", "", began, seconds, position))
            return
        error = body["error"]
        assert error["code"] == 100, f"a bus that is away is error 100, not {error}"
        for beginning, outcome in ERRORS:
            if error["message"].startswith(beginning):
                self.keep(Attempt(id, outcome, error["message"], began, seconds))
                return
        raise AssertionError(f"neither unavailable nor unknown: {error}")

    def keep(self, attempt):
        self.attempts.append(attempt)

    def outcomes(self, *which):
        return [attempt for attempt in self.attempts if attempt.outcome in which]


class Follower(threading.Thread):
    """A subscriber like an SDK. After any failure it reconnects with its last position, to the next
    node if its own is not available. `log` has its observations in order:

    ("subscribed", epoch, offset, was_recovering, recovered), ("pub", offset, id), ("told", code),
    ("closed", code), ("refused", error).
    """

    def __init__(self, servers, channel, at):
        super().__init__(daemon=True)
        self.servers, self.channel, self.at = servers, channel, at
        self.log, self.epoch, self.offset, self.failure = [], None, 0, None
        self.subscribed, self.stopping = threading.Event(), threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.session()
        except BaseException as failure:  # noqa: B902: told to the test's own thread
            self.failure = failure

    def session(self):
        try:
            client = Client(self.servers[self.at % len(self.servers)])
        except (OSError, EOFError, Closed, websockets.exceptions.WebSocketException):
            self.at += 1
            self.stopping.wait(0.05)
            return
        try:
            self.subscribe(client)
            while not self.stopping.is_set():
                try:
                    message = client.next(0.2)
                except TimeoutError:
                    continue
                self.take(client, message)
        except Closed as closed:
            self.log.append(("closed", closed.code))
        finally:
            client.close()

    def subscribe(self, client):
        position = {"recover": True, "epoch": self.epoch, "offset": self.offset} \
            if self.epoch else {}
        while not self.stopping.is_set():
            reply = client.ask("subscribe", channel=self.channel, **position)
            if "error" not in reply:
                break
            self.log.append(("refused", reply["error"]))
            self.stopping.wait(0.1)
        else:
            return
        result = reply["subscribe"]
        recovering, recovered = bool(position), result.get("recovered", False)
        self.epoch, self.offset = result["epoch"], result.get("offset", 0)
        self.log.append(("subscribed", self.epoch, self.offset, recovering, recovered))
        for publication in result.get("publications", []):
            self.publication(publication)
        self.subscribed.set()

    def take(self, client, message):
        push = message["push"]
        assert push["channel"] == self.channel, push
        if "unsubscribe" in push:
            code = push["unsubscribe"]["code"]
            self.log.append(("told", code))
            assert code >= 2500, f"an SDK does not come back after {push}"
            self.subscribe(client)
        else:
            self.publication(push["pub"])

    def publication(self, publication):
        self.offset = publication["offset"]
        self.log.append(("pub", self.offset, publication["data"]["id"]))

    def told(self):
        """Returns notices of possible losses: unsubscribed with 2500, or closed with 3010."""
        return [entry for entry in self.log if entry in [("told", 2500), ("closed", 3010)]]

    def lost(self):
        """Returns the number of failed recoveries."""
        return sum(entry[0] == "subscribed" and entry[3] and not entry[4] for entry in self.log)

    def walk(self):
        """Returns every publication as (position, id), after a check of the order, and every
        announced hole as a pair of positions (epoch, offset)."""
        at, seen, holes = None, [], []
        for kind, *entry in self.log:
            if kind == "subscribed":
                epoch, offset, recovering, recovered = entry
                if recovering and recovered:
                    assert at == (epoch, offset), f"recovered from {offset}, but was at {at}"
                elif recovering:
                    holes.append((at, (epoch, offset)))
                at = (epoch, offset)
            elif kind == "pub":
                offset, id = entry
                assert offset == at[1] + 1, f"after {at} came {offset} without a word between"
                at = (at[0], offset)
                seen.append(((self.channel, *at), id))
        return seen, holes


class Traffic:
    """While the block runs, each node of `publish_on` (default: all) publishes, and each of
    `follow_on` (default: all) has a follower of each channel. `check` runs after the block."""

    def __init__(self, nodes, channels=("t:traffic",), *, interval=0.1, publish_on=None,
                 follow_on=None):
        self.nodes, self.channels = nodes, list(channels)
        every = range(len(nodes))
        self.followers = [Follower(nodes.servers, channel, n) for channel in self.channels
                          for n in (every if follow_on is None else follow_on)]
        self.publishers = [Publisher(nodes[n], self.channels, interval)
                           for n in (every if publish_on is None else publish_on)]

    def __enter__(self):
        for follower in self.followers:
            follower.start()
        for follower in self.followers:
            assert follower.subscribed.wait(10), f"not subscribed: {follower.failure!r}"
        for publisher in self.publishers:
            publisher.start()
        self.flows()
        return self

    def flows(self, seconds=5.0, count=3):
        """Waits until every publisher has got `count` more positions, and every follower has passed
        the first of them."""
        publishers = [one for one in self.publishers if one.server.alive()]
        before = {one: len(one.outcomes("ok")) for one in publishers}
        for one in publishers:
            eventually(lambda: len(one.outcomes("ok")) >= before[one] + count or one.failure,
                       seconds, f"publishing through {one.server.api_url} works "
                                f"(last: {one.attempts[-1:]})")
            assert one.failure is None, one.failure
        for one in publishers:
            first = one.outcomes("ok")[before[one]]
            for follower in self.followers:
                if follower.channel == first.position[0]:
                    eventually(lambda: follower.failure or _past(follower, first.position),
                               seconds, f"{first} reaches a follower of node {follower.at}")

    def wait_outcome(self, *which, seconds=10.0, count=1):
        """Waits until every publisher has had `count` more of these outcomes."""
        before = {one: len(one.outcomes(*which)) for one in self.publishers}
        for one in self.publishers:
            eventually(lambda: len(one.outcomes(*which)) >= before[one] + count or one.failure,
                       seconds, f"an outcome {which} (last: {one.attempts[-1:]})")

    def wait_told(self, seconds=10.0, channels=None, at=None):
        """Waits until every follower of these channels (default: all) at these nodes (default: all)
        has been told of a possible loss."""
        for follower in self.followers:
            if (channels is None or follower.channel in channels) \
                    and (at is None or follower.at in at):
                eventually(follower.told, seconds, f"a follower of {follower.channel} is told")

    def __exit__(self, kind, *_):
        for publisher in self.publishers:
            publisher.stopping.set()
        for publisher in self.publishers:
            publisher.join(30)
        try:
            if kind is None:
                self.settle()
        finally:
            for follower in self.followers:
                follower.stopping.set()
            for follower in self.followers:
                follower.join(15)

    def settle(self):
        """Waits until every follower is at the top of its channel on every node, and not before the
        last acknowledged publication, because nodes that return first report an old top."""
        for follower in self.followers:
            eventually(lambda: follower.failure
                       or self.at_top(follower) and not self.acknowledged_after(follower),
                       5 + SLACK_SECONDS,
                       f"a follower of {follower.channel} is where every node is")

    def at_top(self, follower):
        tops = [server.result("history", channel=follower.channel, limit=0)
                for server in self.nodes if server.alive()]
        return all((top["epoch"], top["offset"]) == (follower.epoch, follower.offset)
                   for top in tops)

    def acknowledged_after(self, follower):
        """Whether the last acknowledged publication of the channel is after the follower's
        position, or in an epoch that the follower does not know yet."""
        acknowledged = [attempt for attempt in self.attempts
                        if attempt.position and attempt.position[0] == follower.channel]
        if not acknowledged:
            return False
        _, epoch, offset = max(acknowledged, key=lambda attempt: attempt.began).position
        if epoch == follower.epoch:
            return offset > follower.offset
        return epoch not in {entry[1] for entry in follower.log if entry[0] == "subscribed"}

    # The checks

    @property
    def attempts(self):
        return [attempt for publisher in self.publishers for attempt in publisher.attempts]

    def outcomes(self):
        return collections.Counter(attempt.outcome for attempt in self.attempts)

    def check(self, told=None, lost=None):
        """Raises an error if a guarantee was broken. `told` and `lost`, if given, say whether
        followers must have been told of a loss, and must have lost publications."""
        for one in [*self.publishers, *self.followers]:
            assert one.failure is None, f"{one}: {one.failure!r}"
        attempts = {attempt.id: attempt for attempt in self.attempts}
        for attempt in attempts.values():
            assert attempt.seconds <= ANSWER_SECONDS_MAX + SLACK_SECONDS, f"late: {attempt}"
        at = {attempt.position: attempt.id for attempt in attempts.values() if attempt.position}
        assert len(at) == sum(1 for one in attempts.values() if one.position), "a position twice"
        for follower in self.followers:
            self.check_follower(follower, attempts, at)
            if told is not None:
                assert bool(follower.told()) == told, f"told {follower.told()}: {follower.log[-9:]}"
            if lost is not None:
                assert bool(follower.lost()) == lost, follower.log
        for publisher in self.publishers:
            _check_order(publisher)

    def check_follower(self, follower, attempts, at):
        seen, holes = follower.walk()
        where = collections.defaultdict(list)
        for position, id in seen:
            assert id in attempts, f"nobody published {id}"
            assert attempts[id].outcome != "unavailable", f"refused, but seen: {attempts[id]}"
            assert at.setdefault(position, id) == id, f"{position} is {at[position]} and {id}"
            where[id].append(position)
        for id, positions in where.items():
            assert len(positions) == 1, f"{id} came as {positions}"
            expected = attempts[id].position
            assert expected in (None, positions[0]), f"{id}: {expected}, but came at {positions}"
        for attempt in attempts.values():
            if attempt.outcome == "ok" and attempt.position[0] == follower.channel:
                assert attempt.id in where or _in_a_hole(attempt.position[1:], holes), \
                    f"{attempt} was missed without a word; told of {holes}"


@contextlib.contextmanager
def resuming(nodes, *, told, lost=None, **options):
    """Runs traffic that must continue after the faults of the block, and checks it then."""
    with Traffic(nodes, **options) as traffic:
        yield traffic
        traffic.flows(10)
    traffic.check(told, lost)


def _past(follower, position):
    """Whether a follower has reached this position in its epoch."""
    _, epoch, offset = position
    return follower.epoch == epoch and follower.offset >= offset


def _in_a_hole(position, holes):
    """Whether one of the holes covers this position: after the start of a hole, or before its end.
    In an epoch that the follower never saw, any hole covers it."""
    epoch, offset = position
    known = {end[0] for hole in holes for end in hole}
    return any(epoch == start[0] and offset > start[1] and (end[0] != epoch or offset <= end[1])
               or epoch == end[0] and offset <= end[1] and start[0] != epoch
               or epoch not in known for start, end in holes)


def _check_order(publisher):
    """Checks that publications of one publisher that were acknowledged in turn are in this
    order."""
    last = {}
    for attempt in publisher.outcomes("ok"):
        channel, epoch, offset = attempt.position
        assert last.get((channel, epoch), 0) < offset, f"{attempt} after {last}"
        last[channel, epoch] = offset
