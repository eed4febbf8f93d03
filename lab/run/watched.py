# SPDX-License-Identifier: MIT
"""One scenario's modules, watched as they come and go: whether what uses them keeps them, what they leave."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from lab.guest import timers
from lab.language.meant import MEMORY
from lab.language.outcome import Outcome
from lab.language.steps import all_steps
from lab.language.values import Fixed
from lab.run import leftovers
from lab.run.record import Finding, Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.guest.machine import Guest
    from lab.guest.names import Names, Thread
    from lab.guest.pointers import Section
    from lab.guest.timers import Armed
    from lab.language.steps import Step
    from lab.run.session import Session
    from lab.scenario import Scenario

_OPENS = ("open", "openat")
# A thread that ends by itself tells exit so, and has some way to go then; a queue's cache of requests goes
# when RCU lets it.
_ENDING_SECONDS = 0.3
_PAUSE = 0.003  # between two looks at it


@dataclass
class Watch:
    """What was looked at already, by one process for one target."""

    off: bool = False  # whether nothing is to be looked at
    everywhere: set[object] = field(default_factory=set)  # lists of modules
    counted: set[tuple[object, str]] = field(default_factory=set)  # and nodes that keep them
    asleep: set[int] = field(default_factory=set)  # timers of threads that were read


class Watched:
    """The modules of one scenario, in one guest."""

    def __init__(
        self, scenario: Scenario, guest: Guest, session: Session, images: Mapping[str, bytes], watch: Watch
    ) -> None:
        self._scenario = scenario
        self._guest = guest
        self._session = session
        self._images = images
        self._watch = watch
        self._armed: dict[int, Armed] = {}  # timers, with what they call
        self._left: list[Finding] = []  # timers and pointers that stay although their module has gone
        self._told = False  # some of these, while the scenario went on
        self._there = 0  # so many modules were loaded when that was looked at
        self._where: dict[str, list[Section]] = {}  # the modules that are loaded
        self._learned: list[str] = []  # the modules whose places are known

    @cached_property
    def tested(self) -> tuple[str, ...]:
        """The modules that the scenario is about, which are not the kernel's own."""
        shipped = {module.name for module in self._scenario.modules if module.shipped}
        return tuple(name for name in self._scenario.loads if name not in shipped)

    @cached_property
    def _key(self) -> object:
        """What tells which modules come and go, and how: loaded by steps, a scenario is like no other."""
        modules = self._scenario.modules
        alike = {module.name for module in modules} >= set(self.tested)
        return modules if alike else (modules, self._scenario.file, self._scenario.id)

    @property
    def _everywhere(self) -> bool:
        """Whether nothing is known yet of what is left when these modules go."""
        return bool(self.tested) and self._key not in self._watch.everywhere

    def begun(self) -> None:
        """Take note of what is there after the modules of the scenario's head were loaded."""
        for section in self._guest.sections:
            self._where.setdefault(section.module, []).append(section)
        self._look_at_memory()

    def after(self, step: Step, outcome: object) -> list[Finding]:
        """Return what is wrong with the modules after a step, and take note of what is there."""
        found = self._kept(step, outcome)
        self._look_at_memory()
        self._told = self._told or bool(self._left)
        left, self._left = self._left, []  # at once: what was left may be the death of the guest
        return found + left

    def remains(self) -> list[Finding]:
        """Return what of the kernel's still leads into modules that have gone: the guest may die of it."""
        self._look_at_memory()
        return list(self._left)

    def gone(self) -> list[Finding]:
        """Return what else the modules have left, after remains(); raises what Session.look() does."""
        before, hello, meant = self._session.names, self._guest.hello, self._scenario.meant.leaves
        assert before is not None  # taken before the first of them was loaded
        now, found = self._names(before, meant)
        found += leftovers.still_running(self._threads(before, now))
        if not (found or self._left or self._told):
            self._watch.everywhere.add(self._key)
        # A kernel that has just booted takes memory for itself for a while.
        if self._guest.restored and hello is not None and MEMORY not in meant:
            found += leftovers.grown(hello.free_kib, now.free_kib, narrow=self._scenario.narrow)
        return found

    def _names(self, before: Names, meant: Sequence[str]) -> tuple[Names, list[Finding]]:
        """Return what has a name now, and findings about it; what is being given back has its time to go."""
        session, wide, takes = self._session, self._everywhere, self._takes()
        left = session.agent.deadline(_ENDING_SECONDS)
        while True:
            now = session.look(wide=wide)
            found = leftovers.left_behind(before, now, meant, takes=takes)
            if not found or left() <= 0:
                return now, found
            time.sleep(_PAUSE)

    def _threads(self, before: Names, now: Names) -> list[Thread]:
        """Return the threads that stay, not those that only have not ended yet."""
        session = self._session
        left = session.agent.deadline(_ENDING_SECONDS)
        threads = self._of_modules(now.threads_since(before))
        while threads and left() > 0:
            time.sleep(_PAUSE)
            threads = self._of_modules(session.look(wide=False).threads_since(before))
        return threads

    def _of_modules(self, threads: Sequence[Thread]) -> list[Thread]:
        """Leave out those that the kernel has made for itself meanwhile."""
        found = []
        for each in threads:
            try:
                stack = self._session.agent.read_file(f"/proc/{each.pid}/stack", self._session.patience)
            except OSError:  # nobody can tell
                stack = b""
            if not each.of_the_kernel(stack.decode(errors="replace")):
                found.append(each)
        return found

    def _kept(self, step: Step, outcome: object) -> list[Finding]:
        """See whether a file that was opened keeps its module, once for each of its nodes."""
        path, session = step.arguments.get("path"), self._session
        if step.verb not in _OPENS or not isinstance(path, Fixed) or not session.loaded:
            return []
        key = (self._key, str(path.value))
        if key in self._watch.counted or not isinstance(outcome, Outcome) or outcome.returns is None:
            return []
        assert session.names is not None
        tested = [name for name in self.tested if name in session.loaded]
        found = leftovers.not_counted(key[1], session.names, session.agent, tested, session.patience)
        if found is None:
            self._watch.counted.add(key)
            return []
        return [replace(found, place=Place.of(step))]

    def _look_at_memory(self) -> None:
        """Look at timers and pointers where modules came or went: what one leaves may be used any moment."""
        unknown = self._everywhere and self._session.loaded
        armed = self._guest.armed() if unknown else None  # first, before one of them expires
        gone = [name for name in self._where if name not in self._session.loaded]
        where = [section for name in gone for section in self._where.pop(name)]
        came = [name for name in self._session.loaded if name in self.tested and name not in self._where]
        if came:
            self._where |= {name: [] for name in came}
            for section in self._guest.where(came, self._images, self._session.patience):
                self._where[section.module].append(section)
        if len(self._session.loaded) < self._there:
            self._left += leftovers.still_armed(
                self._guest, self._armed, self._images, self._watch.asleep
            ) or leftovers.left_to_chance(self._guest, gone, self._armed, self._images)
        if where:
            there = [section for sections in self._where.values() for section in sections]
            self._left += leftovers.still_pointed_at(self._guest, where, there, self._images)
        self._there = len(self._session.loaded)
        with suppress(OSError):  # without it, what they call has no name
            self._learn(armed or {})

    def _learn(self, armed: Mapping[int, Armed]) -> None:
        """Note what timers will call while the modules are there, that have their names then."""
        guest, session = self._guest, self._session
        if guest.timers is None:
            return
        armed = timers.not_the_kernels(armed, guest.timers, self._watch.asleep)
        if armed.keys() <= self._armed.keys():
            return
        if session.loaded != self._learned:
            guest.learn_modules(session.patience)
            self._learned = list(session.loaded)
        self._armed |= timers.named(armed, guest.timers, session.arch, session.agent)

    def _takes(self) -> bool:
        """Tell whether the scenario unloads modules that are not the tested ones: names go with them."""
        unloads = (
            step.arguments.get("module") for step in all_steps(self._scenario.steps) if step.verb == "unload"
        )
        return any(not isinstance(name, Fixed) or name.value not in self.tested for name in unloads)


class Unwatched(Watched):
    """Modules that nobody looks after: what watching costs is what this one does not."""

    tested = ()

    def begun(self) -> None:
        """Take note of nothing."""

    def after(self, step: Step, outcome: object) -> list[Finding]:  # noqa: ARG002 - as the other one
        """Find nothing."""
        return []


__all__ = ["Unwatched", "Watch", "Watched"]
