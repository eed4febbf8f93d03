# SPDX-License-Identifier: MIT
"""The record of one run of a scenario: which, on what, and what became of it.

What pytest and its JUnit file show, what xdist's workers hand over, what is kept for `lab channels` and what
`--journal` writes are views of it: nobody else gathers the same facts again.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from lab import __version__
from lab.errors import BootFailed, BuildFailed, ModuleFailed, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from lab.errors import LabError
    from lab.kernels.model import Target
    from lab.language.steps import Step
    from lab.scenario import Scenario

FORMAT = 1  # of a record as JSON


class Verdict(enum.Enum):
    """The verdicts; what each means to pytest is the plugin's matter."""

    PASSED = "passed"
    STEP_FAILED = "step failed"
    SPLAT = "splat"
    UNCLEAN = "unclean"
    HUNG = "hung"
    LOST = "lost"
    UNSUPPORTED = "unsupported"
    BUILD_FAILED = "build failed"
    BOOT_FAILED = "boot failed"
    LAB_ERROR = "lab error"


# Say nothing about the module: the harness, the host, the target.
TROUBLE = frozenset({Verdict.BOOT_FAILED, Verdict.LAB_ERROR})


@dataclass(frozen=True)
class Place:
    """Where in a run: a step, or a part of the run that is none."""

    what: str = ""  # the step as written, or 'unloading the modules'
    file: str = ""
    line: int = 0

    @classmethod
    def of(cls, step: Step) -> Place:
        """Return the place of a step."""
        return cls(step.text, str(step.file), step.line)

    def __str__(self) -> str:
        return ": ".join(
            part for part in (f"{self.file}:{self.line}" if self.file else "", self.what) if part
        )


@dataclass(frozen=True)
class Finding:
    """One thing that was wrong. The first of a run is its verdict, the others follow from it."""

    verdict: Verdict
    title: str  # one line, stable across runs: what happened
    place: Place = Place()
    wanted: str = ""
    got: str = ""
    notes: tuple[str, ...] = ()  # further lines: where each CPU stands, the splat, the compiler's words
    hint: str = ""
    kind: str = ""  # of a splat: WARNING, BUG, …
    frames: tuple[str, ...] = ()  # of a splat: the functions of its call trace, the innermost first

    def lines(self) -> list[str]:
        """Return the finding as a person reads it."""
        head, place = f"{self.verdict.value}: {self.title}", str(self.place)
        out = [head, *([f"  at      {place}"] if place else [])]
        for label, text in (("wanted", self.wanted), ("got", self.got)):
            if text:
                first, *rest = text.splitlines() or [""]
                out += [f"  {label:<7} {first}", *(f"          {line}" for line in rest)]
        out += [f"  {line}" for note in self.notes for line in note.splitlines()]
        if self.hint:
            out += [
                f"  {label:<7} {line}"
                for label, line in zip(("hint", ""), self.hint.splitlines(), strict=False)
            ]
        return out


@dataclass(frozen=True)
class Identity:
    """Which scenario, on which target."""

    channel: str
    scenario: str  # its id: unique in its file
    file: str
    line: int
    target: str

    @classmethod
    def of(cls, scenario: Scenario, target: Target) -> Identity:
        """Return the identity of a scenario on a target."""
        return cls(scenario.channel, scenario.id, str(scenario.file), scenario.line, str(target))

    def __str__(self) -> str:
        return f"{self.channel}: {self.scenario} [{self.target}]"


@dataclass(frozen=True)
class Provenance:
    """What a guest was made of, as far as it decides how a scenario goes."""

    lab: str  # the lab's version
    kernel: str  # `uname -r`
    package: str  # its version
    origin: str  # where it was had
    compiler: str
    seed: int
    patches: tuple[str, ...] = ()  # that the modules were changed by
    # Of a guest, where there was one.
    qemu: str = ""  # its version
    accel: str = ""
    argv: tuple[str, ...] = ()  # of QEMU, but for what is another descriptor or file in each process
    digests: Mapping[str, str] = field(default_factory=dict)  # of kernel, headers, toolchain, modules …

    @classmethod
    def of(cls, target: Target, seed: int, patches: Sequence[Path]) -> Provenance:
        """Return what is known before there is a guest."""
        kernel = target.kernel
        return cls(
            lab=__version__,
            kernel=kernel.release,
            package=kernel.package_version,
            origin=kernel.origin,
            compiler=kernel.compiler,
            seed=seed,
            patches=tuple(path.stem for path in patches),
        )

    @property
    def id(self) -> str:
        """A digest of all of it."""
        from lab.store.cache import digest  # noqa: PLC0415 - pytest starts with this file, whatever it runs

        return digest(asdict(self))[:16]


@dataclass(frozen=True)
class Seconds:
    """How long the parts of a run took."""

    ready: float = 0.0  # what the target needs, made or found
    guest: float = 0.0  # until there was one
    steps: float = 0.0  # loading the modules, the steps, the health check


@dataclass(frozen=True)
class Record:
    """One run of one scenario on one target."""

    identity: Identity
    findings: tuple[Finding, ...] = ()
    unsupported: str = ""  # why this target cannot do it, if it cannot
    messages: tuple[str, ...] = ()  # what the kernel printed while it ran, where something was found
    remarks: tuple[str, ...] = ()  # what the reader should know although nothing is wrong
    run: str = ""  # the id of the run that it was part of
    began: float = 0.0  # seconds since the epoch
    seconds: Seconds = Seconds()
    guest: str = ""  # 'booted', 'clone' or 'in place'; '': there was none
    provenance: Provenance | None = None  # None: nobody asked
    # What only the process that ran it knows.
    well: bool = False  # the guest was, at the end, and never was otherwise
    outcomes: tuple[object, ...] = ()  # of the steps that were made, in order
    said: tuple[str, ...] = ()  # all that the kernel printed, without times

    @property
    def verdict(self) -> Verdict:
        """The first finding's, or passed."""
        if self.findings:
            return self.findings[0].verdict
        return Verdict.UNSUPPORTED if self.unsupported else Verdict.PASSED

    @property
    def title(self) -> str:
        """One line: what happened, or why it cannot."""
        return self.findings[0].title if self.findings else self.unsupported

    def report(self, again: str = "", *, most_messages: int = 60) -> str:
        """Return the whole story: the findings, the kernel's words, how to see it again."""
        out: list[str] = []
        if self.findings:
            first, *rest = self.findings
            out += first.lines()
            for finding in rest:
                out += ["and then", *(f"  {line}" for line in finding.lines())]
        told = {line for each in self.findings for note in each.notes for line in note.splitlines()}
        out += _messages(self.messages, told, most_messages)
        out += [f"note: {remark}" for remark in self.remarks]
        if again:
            out += ["see it again:", f"  {again}"]
        return "\n".join(out)

    def properties(self) -> list[tuple[str, str]]:
        """Return what a JUnit file says of it."""
        found = {
            "target": self.identity.target,
            "channel": self.identity.channel,
            "scenario": self.identity.scenario,
            "run": self.run,
            "kernel": self.provenance.kernel if self.provenance is not None else "",
            "seed": str(self.provenance.seed) if self.provenance is not None else "",
            "guest": self.guest,
            "verdict": self.verdict.value,
            "title": self.title,
        }
        return [(name, value) for name, value in found.items() if value]

    def to_json(self) -> dict[str, Any]:
        """Return it for another process or a file; what is empty is left out."""
        found = {
            **asdict(self.identity),
            "format": FORMAT,
            "run": self.run,
            "began": self.began,
            "verdict": self.verdict.value,
            "unsupported": self.unsupported,
            "findings": [_finding_json(each) for each in self.findings],
            "messages": list(self.messages),
            "remarks": list(self.remarks),
            "seconds": asdict(self.seconds),
            "guest": self.guest,
            "provenance": asdict(self.provenance) if self.provenance is not None else None,
        }
        return {name: value for name, value in found.items() if value}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Record:
        """Return what to_json() made; raises ValueError, KeyError or TypeError for anything else."""
        if found["format"] != FORMAT:
            raise ValueError(f"a record of format {found['format']}, not {FORMAT}")
        provenance = found.get("provenance")
        return cls(
            Identity(**{each.name: found[each.name] for each in fields(Identity)}),
            tuple(_finding(each) for each in found.get("findings", ())),
            found.get("unsupported", ""),
            tuple(found.get("messages", ())),
            tuple(found.get("remarks", ())),
            found.get("run", ""),
            found.get("began", 0.0),
            Seconds(**found.get("seconds", {})),
            found.get("guest", ""),
            Provenance(**_tuples(provenance)) if provenance else None,
        )


def refused(identity: Identity, error: LabError | Unsupported) -> Record:
    """Return the record of a scenario that came to no guest."""
    if isinstance(error, Unsupported):
        return Record(identity, unsupported=error.reason)
    verdict = Verdict.LAB_ERROR
    notes: tuple[str, ...] = ()
    if isinstance(error, BuildFailed):
        verdict = Verdict.BUILD_FAILED if isinstance(error, ModuleFailed) else Verdict.LAB_ERROR
        notes = (error.output,)
    elif isinstance(error, BootFailed):
        verdict, notes = Verdict.BOOT_FAILED, ("the console's last lines:", error.console)
    return Record(identity, (Finding(verdict, error.message, notes=notes, hint=error.hint),))


def _finding_json(finding: Finding) -> dict[str, Any]:
    found = asdict(finding) | {"verdict": finding.verdict.value}
    return {name: value for name, value in found.items() if value}


def _finding(found: Mapping[str, Any]) -> Finding:
    given = _tuples(found)
    place = Place(**given.pop("place", {}))
    return Finding(Verdict(given.pop("verdict")), given.pop("title", ""), place, **given)


def _tuples(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON's lists as the tuples that they were."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _messages(messages: Sequence[str], told: AbstractSet[str], most: int) -> list[str]:
    """Return the kernel's messages, without a report that was told already."""
    left = [each for each in messages if each not in told and each.partition("] ")[2] not in told]
    if not left:
        return []
    head = "other kernel messages" if len(left) < len(messages) else "kernel messages"
    tail = f" (the last {most} of {len(left)})" if len(left) > most else ""
    return [f"{head}{tail}:", *(f"  {message}" for message in left[-most:])]
