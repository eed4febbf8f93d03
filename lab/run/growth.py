# SPDX-License-Identifier: MIT
"""What grows each time a scenario is made: `pytest --leaks`.

A few objects that nobody gives back are lost among what a kernel takes and gives back while a scenario runs.
Made again and again in the same guest, with its modules loaded and unloaded each time, a scenario takes what
it took before; what is more each time is leaked.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from lab.errors import GuestError, GuestHung, GuestLost
from lab.guest.counts import PAGES, Counter
from lab.guest.outside import Outside
from lab.run.record import Finding, Place, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.guest.machine import Guest
    from lab.run.record import Record
    from lab.scenario import Scenario

# So many times between two counts; mostly the first round shows that nothing grows.
_ROUNDS = (6, 6, 8)
_SHARE = 2 / 3  # of the times: an area less, which the kernel keeps for the next stack, hides no leak
_PAGES = 12  # fewer come and go: what they are for is counted by CPUs apart, and at different times
_BLANKS = 5  # processes that the agent has forked in advance, see rootfs/peers.c
_LOOK = 10  # times a step's deadline: some hundred caches are gone through, by a guest that may be slow
_LATE_SECONDS = (0.1, 0.4, 1.5, 6.0)  # kfree_rcu() may keep objects for five seconds
_MOST_SHOWN = 12
_ITS_OWN = "what it sets of the kernel's it must set back; where that cannot be: `once: why`"
PLACE = Place("the same again and again, in one guest")


def repeatable(scenario: Scenario) -> bool:
    """Tell whether a scenario can be made again in its guest, as it was written."""
    meant = scenario.meant
    return not (
        scenario.expect_splat or scenario.expect_verdict or meant.leaves or meant.loses_messages or meant.once
    )


class Growth:
    """What a guest's kernel has in use, watched while a scenario is made in it again and again."""

    def __init__(self, guest: Guest, patience: float) -> None:
        """Take a guest in which nothing was made yet; `patience` is a step's deadline. Raises GuestError."""
        self._guest = guest
        self._patience = patience
        self._outside = Outside(guest.agent, patience)

    def look(self, again: Callable[[], Record]) -> list[Finding]:
        """Make a scenario that passed several times more in its guest; return what leaks, or else differs.

        `again` makes it once. Raises OSError where this kernel does not tell how much it has in use.
        """
        try:
            return self._look(again)
        except _Different as different:
            first, *rest = different.findings
            title = f"{first.title}, when it is made again in the same guest"
            return [replace(first, title=title, hint=first.hint or _ITS_OWN), *rest]
        except GuestError as error:
            kinds = ((GuestHung, Verdict.HUNG), (GuestLost, Verdict.LOST))
            verdict = next((each for kind, each in kinds if isinstance(error, kind)), Verdict.LAB_ERROR)
            return [Finding(verdict, error.message, PLACE, hint=error.hint)]

    def _look(self, again: Callable[[], Record]) -> list[Finding]:
        hello = self._guest.hello
        assert hello is not None
        self._outside.restore()
        self._use_up_blanks()
        self._make(again, 1)  # what the kernel takes at the first time and keeps is none of the scenario's
        counter = Counter(
            self._guest.agent, hello.page_size, self._guest.per_cpu_bytes, self._patience * _LOOK
        )
        first = counter.look()
        self._make(again, 1)
        # What was about to go is not missed afterwards.
        counts = [{name: min(count, first.get(name, count)) for name, count in counter.look().items()}]
        for times in _ROUNDS:
            self._make(again, times)
            counts.append(counter.look())
            perhaps = _may_leak(counts, _ROUNDS)
            if not perhaps:
                return []
        grown, before, made = _grown(counts, _ROUNDS), counts[0], sum(_ROUNDS)
        if not grown:
            # More of what is freed late was under way at one count than at the next: it hides a leak.
            time.sleep(sum(_LATE_SECONDS))
            before, made = counter.look(), _ROUNDS[-1]
            self._make(again, made)
            still = _grown([before, counter.look()], [made])
            grown = {name: each for name, each in still.items() if name in perhaps}
        for seconds in _LATE_SECONDS:
            if not grown:
                return []
            time.sleep(seconds)
            still = _grown([before, counter.look()], [made])
            grown = {name: each for name, each in grown.items() if name in still}
        return _leaked(grown, counter.sizes) if grown else []

    def _use_up_blanks(self) -> None:
        """Let there be no processes that wait to be actors: each would be one less when it was one."""
        agent = self._guest.agent
        for number in range(_BLANKS):
            agent.spawn(f"blank {number}", timeout=self._patience)
        agent.reap(self._patience)

    def _make(self, again: Callable[[], Record], times: int) -> None:
        for _ in range(times):
            self._guest.agent.exits.clear()  # who died the last time had the same names
            # What the template had is not so any more: of the kernel's own modules, some stay.
            self._guest.names, self._guest.sections = None, ()
            record = again()
            if record.findings:
                raise _Different(record.findings)
            self._outside.restore()


class _Different(Exception):  # noqa: N818 - what happened
    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = findings


def _may_leak(counts: Sequence[Mapping[str, int]], times: Sequence[int]) -> set[str]:
    """Return what there is enough more of since the first count for something to leak each time.

    What is freed late is counted with it, at some counts more of it than at others.
    """
    made = sum(times[: len(counts) - 1])
    found = set()
    for name, last in counts[-1].items():
        each = [count.get(name, 0) for count in counts]
        more = all(later > earlier for earlier, later in pairwise(each))
        if more and last - each[0] >= _SHARE * _least(name) * made:
            found.add(name)
    return found


def _least(name: str) -> int:
    return _PAGES if name == PAGES else 1


def _grown(counts: Sequence[Mapping[str, int]], times: Sequence[int]) -> dict[str, float]:
    """Return of what there was more at each count than at the one before it, and how much each time.

    `times` says how often the scenario was made between two counts.
    """
    found = {}
    made = times[: len(counts) - 1]
    for name, last in counts[-1].items():
        each = [count.get(name, 0) for count in counts]
        least = _least(name)
        steps = [later - earlier for earlier, later in pairwise(each)]
        if all(step >= _SHARE * least * count for step, count in zip(steps, made, strict=True)):
            since = min(1, len(made) - 1)  # before, it was made once more
            found[name] = (last - each[since]) / sum(made[since:])
    return found


def _leaked(grown: Mapping[str, float], sizes: Mapping[str, int]) -> list[Finding]:
    largest = sorted(grown, key=lambda name: (-sizes.get(name, 0) * grown[name], name))
    lines = [_line(name, grown[name], sizes.get(name)) for name in largest[:_MOST_SHOWN]]
    more = f" and {len(largest) - 1} more" if len(largest) > 1 else ""
    return [
        Finding(
            Verdict.UNCLEAN,
            f"{largest[0]}{more} grows each time the scenario is made",
            PLACE,
            got="\n".join([*lines, *(["…"] if len(largest) > _MOST_SHOWN else [])]),
            hint="what is taken is given back by release or exit, and by a call that fails after it took it",
        )
    ]


def _line(name: str, each: float, size: int | None) -> str:
    """Return '2 objects of kmalloc-64 (64 bytes) more each time'."""
    number = f"{each:.2f}".rstrip("0").rstrip(".")
    if size is None:
        return f"{number} {name} more each time"
    return f"{number} object{'s' * (number != '1')} of {name} ({size} bytes) more each time"


__all__ = ["Growth", "repeatable"]
