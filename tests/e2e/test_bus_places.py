"""A client returns with a position that its new node has not reached, while the node is already
requesting the channel's place for another client. The reply is older than the client's position."""

import threading
import time

from harness import proxy
from harness.traffic import CONFIG

NODES = {"config": CONFIG}
QUESTION = b"\r\nt:x\r\n"  # What a question for the place of t:x has, and nothing else here.


class HoldingLink(proxy.Link):
    def pieces(self, source):
        for data in super().pieces(source):
            if source is self.client and QUESTION in data and self.proxy.holding:
                self.proxy.asker = self
                self.proxy.asked.set()
            while source is self.server and self.open and self.proxy.holding \
                    and not (self.proxy.answered and self.proxy.asker is self):
                time.sleep(0.001)
            yield data


class Holding(proxy.Proxy):
    """While `holding`, answers wait; `answered` lets those to the question through."""

    def __init__(self, target):
        self.holding, self.answered, self.asker = False, False, None
        self.asked = threading.Event()
        super().__init__(target)


def test_a_question_that_was_asked_before_says_nothing_of_who_comes_later(
        join, redis, monkeypatch):
    monkeypatch.setattr(proxy, "Link", HoldingLink)
    with Holding(redis.port) as link:
        nodes = join([link.url, redis.url])
        for n in range(5):
            position = nodes[1].publish("t:x", n)
        nodes.at("t:x", position)
        staying, ahead = nodes.subscribe(0, "t:x"), nodes.subscribe(1, "t:x")
        # Redis has the script of the question from now on.
        nodes.connect(0).subscribe("t:x", recover=True, epoch="0123456789abcdef", offset=3)
        stranger, back = nodes.connect(0), nodes.connect(0)
        link.holding = True
        stranger.send_commands(stranger.command(
            "subscribe", channel="t:x", recover=True, epoch="0123456789abcdef", offset=3))
        assert link.asked.wait(2)
        time.sleep(0.1)
        latest = nodes[1].publish("t:x", 5)
        assert ahead.publication("t:x")["offset"] == latest["offset"]
        answers = []
        joining = threading.Thread(target=lambda: answers.append(
            back.subscribe("t:x", recover=True, **latest)))
        joining.start()
        time.sleep(0.3)
        link.answered = True
        time.sleep(0.3)
        link.holding = False
        joining.join()
        (result,) = answers
        assert result["recovered"] is True and result["offset"] == latest["offset"], result
        assert staying.publication("t:x")["offset"] == latest["offset"]
        back.silent(2)
