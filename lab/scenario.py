# SPDX-License-Identifier: MIT
"""What a scenario is: records. How one is had from a file: lab/language/reader.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - a record's field
from typing import TYPE_CHECKING, Literal

from lab.language.choice import Needs
from lab.language.meant import Meant
from lab.language.requires import Machine, Requires
from lab.language.steps import Step, all_steps
from lab.language.values import Fixed, Value

if TYPE_CHECKING:
    from lab.abi import Abi

__all__ = [
    "ActorSpec",
    "BootOptions",
    "ModuleLoad",
    "Requires",
    "Scenario",
    "ScenarioFile",
    "SplatWanted",
    "Step",
    "Trip",
]

ROOT = Fixed(0)


@dataclass(frozen=True)
class ModuleLoad:
    """A module to load before the first step, with its parameters as text."""

    name: str
    params: tuple[tuple[str, str], ...] = ()
    shipped: bool = False  # with the kernel, known on a target: it stays, and may be there already

    @property
    def text(self) -> str:
        """The parameters as the kernel takes them: ``depth=4 name="a b"`` (next_arg() in lib/cmdline.c)."""
        return " ".join(
            f'{key}="{value}"' if any(each.isspace() for each in value) else f"{key}={value}"
            for key, value in self.params
        )


@dataclass(frozen=True)
class ActorSpec:
    """A process (or thread) of the guest that makes steps. Values are resolved against the target."""

    name: str
    uid: Value = ROOT
    gid: Value = ROOT
    caps: tuple[Value, ...] | None = None  # None: what its uid has; (): none
    sigmask: tuple[Value, ...] = ()
    word: int | None = None  # 32: a 32-bit process on a 64-bit kernel; None: the kernel's own
    thread_of: str | None = None


@dataclass(frozen=True)
class SplatWanted:
    """A report by the kernel that must come."""

    kind: str
    matches: str = ""

    def __str__(self) -> str:
        return f"{self.kind} that matches {self.matches!r}" if self.matches else self.kind


@dataclass(frozen=True)
class BootOptions:
    """What the machine must have; part of the template's key."""

    cmdline: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A named list of steps; one of a file's `with` values already put in."""

    name: str
    id: str  # the name and the `with` values as written: 'sizes (size=PAGE_SIZE-1)'
    file: Path
    line: int
    channel: str
    about: str = ""
    modules: tuple[ModuleLoad, ...] = ()
    uapi: tuple[str, ...] = ()
    actors: tuple[ActorSpec, ...] = ()
    steps: tuple[Step, ...] = ()
    requires: Requires = field(default_factory=Requires)
    expect_splat: SplatWanted | None = None
    expect_verdict: Literal["lost", "hung"] | None = None
    boot: BootOptions = field(default_factory=BootOptions)
    within: float | None = None  # the default of its steps, seconds
    meant: Meant = field(default_factory=Meant)
    parameters: tuple[tuple[str, str], ...] = ()
    needs: Needs = field(default_factory=Needs)  # what it uses of headers

    @property
    def loads(self) -> tuple[str, ...]:
        """The modules that it loads, before its first step or by one."""
        found = [module.name for module in self.modules]
        for step in all_steps(self.steps):
            value = step.arguments.get("module")
            if step.verb == "load_module" and isinstance(value, Fixed) and isinstance(value.value, str):
                found.append(value.value)
        return tuple(dict.fromkeys(found))

    @property
    def words(self) -> frozenset[int]:
        """The word sizes, in bits, that its actors ask for."""
        return frozenset(actor.word for actor in self.actors if actor.word is not None)

    @property
    def narrow(self) -> bool:
        """Whether it has 32-bit actors, where its kernel is one of 64 bits."""
        return 32 in self.words

    def missing(self, *abis: Abi, machine: Machine | None = None) -> list[str]:
        """Return what it uses that no headers of a target have: reasons for `unsupported`."""
        needed_constants, needed_structs = self.needs.on(machine)
        # Not difference(): that walks through all the thousands that the headers have.
        constants = (name for name in needed_constants if not any(name in abi.constants for abi in abis))
        structs = (name for name in needed_structs if not any(name in abi.structs for abi in abis))
        return [
            *(f"constant {name}" for name in sorted(constants)),
            *(f"struct {name}" for name in sorted(structs)),
        ]


@dataclass(frozen=True)
class Trip:
    """A channel's round trip, whose price lab.measure.price tells: steps that can be made again and again."""

    about: str
    bytes: int  # that it carries
    scenario: Scenario  # what it needs, and the steps that come before
    steps: tuple[Step, ...]  # of one round, all by one actor
    after: tuple[Step, ...]  # what comes when all rounds are done
    text: str  # as written, with what `before` has


@dataclass(frozen=True)
class ScenarioFile:
    """One channel's scenarios and what the head of its file says."""

    path: Path
    channel: str
    about: str
    modules: tuple[ModuleLoad, ...]
    uapi: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    not_applicable: tuple[tuple[str, str], ...] = ()  # what each row wants but this cannot have, and why
    choose: str = ""  # when a module should have such a channel
    price: str = ""  # what it costs
    read: str = ""  # what to read of it elsewhere
    trips: tuple[Trip, ...] = ()  # one for each number of bytes
    no_trip: str = ""  # why it has none
