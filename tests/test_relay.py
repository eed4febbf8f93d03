# SPDX-License-Identifier: MIT
"""What workers do, told by one process."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pytest

from lab import relay
from lab.progress import Progress
from lab.relay import Hub, Remote

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def hub(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(relay, "SOON", 0.02)
    monkeypatch.setattr(relay, "_WAITS_SECONDS", 0.1)
    hub = Hub(Progress(said))
    hub.patience = 0.0
    yield hub
    hub.close()


def until(said: io.StringIO, text: str) -> None:
    for _ in range(500):
        if said.getvalue() == text:
            return
        time.sleep(0.01)
    assert said.getvalue() == text


def test_two_workers_make_one_story(hub: Hub, said: io.StringIO) -> None:
    one, two = Remote(hub.address, "gw0"), Remote(hub.address, "gw1")
    with one.task("booting", 10) as task:
        until(said, "booting ...\n")
        task.advance(3)
        with two.task("waiting for another run: booting"):
            two.note("KVM is not there")
            one.note("KVM is not there")
            until(said, "booting ...\nKVM is not there\n")
    with two.task("waiting for another run: booting"):  # a run that is not ours
        until(said, "booting ...\nKVM is not there\nwaiting for another run: booting ...\n")
    one.close()
    two.close()


class Story(Progress):
    """Remembers what is under way."""

    def __init__(self) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        super().__init__(Terminal())

    def now(self) -> str:
        return self.line().partition(" s  ")[2]


def test_work_that_is_short_is_not_worth_a_word() -> None:
    story = Story()
    hub = Hub(story)
    hub._stop.set()  # its thread goes by the real time
    hub._thread.join()
    hub.patience = 3.0
    hub.take({"worker": "gw0", "number": 1, "text": "loading", "total": 8}, 10.0)
    hub.take({"worker": "gw1", "number": 1, "text": "booting", "total": None}, 12.0)
    hub.take({"worker": "gw0", "number": 1, "done": 2, "total": 8}, 12.0)
    hub.show(12.9)
    assert story.now() == ""
    hub.show(13.1)
    assert story.now() == "loading 25%"
    hub.take({"worker": "gw0", "number": 1, "done": 4, "total": 8}, 13.2)
    hub.show(15.1)
    assert story.now() == "loading 50%; booting"
    hub.take({"worker": "gw1", "gone": True}, 16.0)
    hub.take({"worker": "gw1", "number": 1, "end": True}, 16.0)
    assert story.now() == "loading 50%"
    hub.take({"worker": "gw0", "number": 1, "end": True}, 16.0)
    assert story.now() == ""
    hub.close()


def test_nobody_listens_any_more(said: io.StringIO) -> None:
    hub = Hub(Progress(said))
    worker = Remote(hub.address, "gw0")
    hub.close()
    worker.note("into the void")
    with worker.task("work", 3) as task:
        task.advance(1)
    worker.close()
    worker.note("after all")
    with pytest.raises(OSError, match="No such file"):
        Remote(hub.address, "gw1")
