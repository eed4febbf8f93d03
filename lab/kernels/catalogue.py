# SPDX-License-Identifier: MIT
"""Which kernels are on offer, and which of them a user means.

A line (6.12) means the newest kernel of it that modules can be built for. The newest line is whatever is on
offer that day: `newest` picks it, its number names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import ARCHITECTURES, architecture
from lab.errors import KernelNotOffered, UsageError
from lab.kernels.model import Kernel, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "all"
GRAMMAR = "a line (6.12), a version (6.12.107), `>=6.1`, oldest, newest or all"


@dataclass(frozen=True)
class Catalogue:
    """The kernels on offer."""

    kernels: tuple[Kernel, ...]  # newest first
    fetched: float  # when, in seconds since the epoch; 0 when nothing was fetched yet
    notes: tuple[str, ...] = ()  # what was left out, and why

    def lines(self, arch: str | None = None) -> list[str]:
        """Return the lines that modules can be built for, oldest first."""
        found = {kernel.line for kernel in self.kernels if kernel.buildable and arch in (None, kernel.arch)}
        return sorted(found, key=number)

    def select(self, specs: Sequence[str], arches: Sequence[str], flavours: Sequence[str]) -> list[Target]:
        """Return the targets that a user means, each kernel once, in the order asked for.

        `all` is every architecture, and every flavour of each: those that have what `specs` name.

        Raises UsageError for what is no kernel, architecture or flavour at all, KernelNotOffered for what
        nobody offers.
        """
        chosen: dict[Kernel, Target] = {}
        missing: list[KernelNotOffered] = []
        for spec in specs:
            for arch in arch_names(arches):
                for flavour in _flavours(flavours, arch, lenient=ALL in arches):
                    try:
                        found = self._select(spec.strip(), arch, flavour)
                    except KernelNotOffered as error:
                        if not {ALL} & {*arches, *flavours}:
                            raise
                        missing.append(error)
                        continue
                    for target in found:
                        chosen.setdefault(target.kernel, target)
        if not chosen and missing:
            raise missing[0]
        return list(chosen.values())

    def _select(self, spec: str, arch: str, flavour: str) -> list[Target]:
        own = [kernel for kernel in self.kernels if (kernel.arch, kernel.flavour) == (arch, flavour)]
        newest: dict[str, Kernel] = {}
        for kernel in own:
            if kernel.buildable:
                newest.setdefault(kernel.line, kernel)
        lines = sorted(newest, key=number)
        wanted: list[str] = []
        if spec == "all":
            wanted = lines
        elif spec in ("oldest", "newest"):
            wanted = lines[:1] if spec == "oldest" else lines[-1:]
        elif match := re.fullmatch(r">=\s*(\d+\.\d+)", spec):
            wanted = [line for line in lines if number(line) >= number(match[1])]
        elif re.fullmatch(r"\d+\.\d+", spec):
            wanted = [line for line in lines if line == spec]
        elif re.fullmatch(r"\d+\.\d+\.\d+", spec):
            return [Target(spec, self._exactly(spec, own, f"{arch}, {flavour}"))]
        else:
            raise UsageError(f"{spec!r} names no kernel", hint=f"write {GRAMMAR}")
        if not wanted:
            raise self._not_offered(spec, own, lines, f"{arch}, {flavour}")
        return [Target(line, newest[line]) for line in wanted]

    def _exactly(self, spec: str, own: Sequence[Kernel], what: str) -> Kernel:
        exact = [kernel for kernel in own if kernel.version == spec]
        line = spec.rpartition(".")[0]
        if not exact and not self.fetched:  # nobody knows yet: what runs later fetches first
            exact = [_renamed(kernel, spec) for kernel in own if kernel.line == line]
        if not exact:
            lines = sorted({kernel.line for kernel in own if kernel.buildable}, key=number)
            raise self._not_offered(spec, own, lines, what)
        return next((kernel for kernel in exact if kernel.buildable), exact[0])

    def _not_offered(
        self, spec: str, own: Sequence[Kernel], lines: Sequence[str], what: str
    ) -> KernelNotOffered:
        asked = spec.removeprefix(">=").strip()
        if not lines:
            said = f"; left out: {'; '.join(self.notes)}" if self.notes else ""
            return KernelNotOffered(
                f"no kernel is on offer for {what}{said}", hint="`lab kernels` lists them"
            )
        line = ".".join(asked.split(".")[:2])
        if line in lines:
            versions = sorted({kernel.version for kernel in own if kernel.line == line}, key=number)
            near = _nearest(asked, versions)
        else:
            near = _nearest(asked if asked[:1].isdigit() else lines[0], lines)
        hint = [f"nearest: {' and '.join(near)}", f"lines on offer: {', '.join(lines)}"]
        bare = sorted(
            {kernel.version for kernel in own if kernel.line == line and line not in lines}, key=number
        )
        if bare:
            hint.append(
                f"of {line} only kernels without headers, which no module can be built for: {', '.join(bare)}"
            )
        hint += [f"left out: {note}" for note in self.notes]
        if not self.fetched:
            hint.append("nothing was fetched yet: these are the lines to be expected")
        hint.append(f"ask for {GRAMMAR}; `lab kernels` lists all versions")
        return KernelNotOffered(f"no kernel {spec} is on offer for {what}", hint="\n  ".join(hint))


def arch_names(arches: Sequence[str]) -> list[str]:
    """Return the architectures that a user means by any name of theirs; `all`: each that the lab knows.

    Raises UsageError for what is none.
    """
    if ALL in arches:
        return list(ARCHITECTURES)
    return list(dict.fromkeys(architecture(name).name for name in arches))


def _flavours(wanted: Sequence[str], arch: str, *, lenient: bool) -> Sequence[str]:
    """Return those flavours that a user means; `lenient`: what only other architectures have is left out."""
    known = architecture(arch).flavours
    if ALL in wanted:
        return tuple(known)
    everywhere = {name for one in ARCHITECTURES.values() for name in one.flavours} if lenient else set(known)
    for flavour in wanted:
        if flavour not in everywhere:
            raise UsageError(f"no flavour {flavour!r} of {arch} kernels", hint=f"known: {', '.join(known)}")
    return [flavour for flavour in wanted if flavour in known]


def _renamed(kernel: Kernel, version: str) -> Kernel:
    from dataclasses import replace  # noqa: PLC0415 - for the one odd case only

    return replace(kernel, version=version)


def number(version: str) -> tuple[int, ...]:
    """Return a version as what can be compared: 6.9 is before 6.12."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _nearest(asked: str, known: Sequence[str]) -> list[str]:
    """Return the neighbours below and above, as far as there are any; `known` ascends."""
    below = [one for one in known if number(one) <= number(asked)]
    above = [one for one in known if number(one) > number(asked)]
    return [*below[-1:], *above[:1]]


def merged(catalogues: Sequence[Catalogue]) -> Catalogue:
    """Return all that several catalogues have, as old as the oldest."""
    notes = dict.fromkeys(note for one in catalogues for note in one.notes)
    return Catalogue(
        tuple(kernel for one in catalogues for kernel in one.kernels),
        min((one.fetched for one in catalogues), default=0.0),
        tuple(notes),
    )
