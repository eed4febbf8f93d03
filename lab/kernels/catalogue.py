# SPDX-License-Identifier: MIT
"""Which kernels are on offer, and which of them a user means.

A line (6.12) means the newest kernel of it that modules can be built for. The newest line is whatever the
suites offer that day: `newest` picks it, its number names it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.arch import ARCHITECTURES, architecture
from lab.cache import digest, file_digest
from lab.errors import FetchError, HostError, KernelNotOffered, LabError, SignatureError, UsageError
from lab.kernels.model import Kernel, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.cache import Cache
    from lab.kernels.debian_archive import Release
    from lab.kernels.debian_fetch import Fetcher
    from lab.kernels.debian_kernels import Offer
    from lab.progress import Progress
    from lab.settings import Settings

DATA = Path(__file__).parents[2] / "kernels" / "debian.yaml"
FORMAT = 1  # of the cached list
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
        return sorted(found, key=_number)

    def select(self, specs: Sequence[str], arches: Sequence[str], flavours: Sequence[str]) -> list[Target]:
        """Return the targets that a user means, each kernel once, in the order asked for.

        Raises UsageError for what is no kernel, architecture or flavour at all, KernelNotOffered for what
        nobody offers.
        """
        chosen: dict[Kernel, Target] = {}
        for spec in specs:
            for arch in arches:
                for flavour in flavours:
                    known = architecture(arch).flavours
                    if flavour not in known:
                        raise UsageError(
                            f"no flavour {flavour!r} of {arch} kernels", hint=f"known: {', '.join(known)}"
                        )
                    for target in self._select(spec.strip(), arch, flavour):
                        chosen.setdefault(target.kernel, target)
        return list(chosen.values())

    def _select(self, spec: str, arch: str, flavour: str) -> list[Target]:
        own = [kernel for kernel in self.kernels if (kernel.arch, kernel.flavour) == (arch, flavour)]
        newest: dict[str, Kernel] = {}
        for kernel in own:
            if kernel.buildable:
                newest.setdefault(kernel.line, kernel)
        lines = sorted(newest, key=_number)
        wanted: list[str] = []
        if spec == "all":
            wanted = lines
        elif spec in ("oldest", "newest"):
            wanted = lines[:1] if spec == "oldest" else lines[-1:]
        elif match := re.fullmatch(r">=\s*(\d+\.\d+)", spec):
            wanted = [line for line in lines if _number(line) >= _number(match[1])]
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
            lines = sorted({kernel.line for kernel in own if kernel.buildable}, key=_number)
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
            versions = sorted({kernel.version for kernel in own if kernel.line == line}, key=_number)
            near = _nearest(asked, versions)
        else:
            near = _nearest(asked if asked[:1].isdigit() else lines[0], lines)
        hint = [f"nearest: {' and '.join(near)}", f"lines on offer: {', '.join(lines)}"]
        bare = sorted(
            {kernel.version for kernel in own if kernel.line == line and line not in lines}, key=_number
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


def _renamed(kernel: Kernel, version: str) -> Kernel:
    from dataclasses import replace  # noqa: PLC0415 - for the one odd case only

    return replace(kernel, version=version)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _nearest(asked: str, known: Sequence[str]) -> list[str]:
    """Return the neighbours below and above, as far as there are any; `known` ascends."""
    below = [one for one in known if _number(one) <= _number(asked)]
    above = [one for one in known if _number(one) > _number(asked)]
    return [*below[-1:], *above[:1]]


def load(
    settings: Settings,
    cache: Cache,
    progress: Progress,
    *,
    fetch: bool = True,
    refresh: bool = False,
    arches: Iterable[str] | None = None,
) -> Catalogue:
    """Return the kernels on offer, from the cache while that is young enough.

    `fetch`: False takes whatever is cached, and the lines to be expected where nothing is; `refresh`: asks
    the archive in any case; `arches`: all that the lab knows when None.

    Raises FetchError, SignatureError, HashMismatch or HostError where there is nothing to fall back on.
    """
    names = tuple(ARCHITECTURES if arches is None else arches)
    kept = _recall(names, settings, cache)
    age = time.time() - kept["fetched"] if kept is not None else None
    young = age is not None and 0 <= age < settings.index_hours * 3600
    if kept is not None and not refresh and (young or not fetch or settings.offline):
        return _catalogue(kept)
    if not fetch:
        return _nominal(names)
    try:
        fresh = _fetch(names, settings, cache, progress, known=f"{_fact(names)}-indexes")
    except SignatureError:
        raise
    except (FetchError, HostError) as error:
        if kept is None or refresh:
            raise
        progress.note(
            f"the list of kernels is of {_ago(age or 0)} ago and could not be renewed: {error.message}"
        )
        return _catalogue(kept)
    for note in fresh["notes"]:
        progress.note(note)
    cache.remember(_fact(names), {"for": _for(settings), **fresh})
    return _catalogue(fresh)


def is_cached(kernel: Kernel, cache: Cache) -> bool:
    """Whether a kernel is in the cache, unpacked."""
    name = entry_name(kernel)
    return bool(kernel.release) and any(key.startswith(name) for key in cache.keys("kernel"))


def entry_name(kernel: Kernel) -> str:
    """Return what the keys of a kernel's cache entries start with, for people who look there."""
    return f"{kernel.arch}-{kernel.release.replace('+', '_')}-"


def offer(kernel: Kernel, settings: Settings, cache: Cache) -> dict[str, Any]:
    """Return the packages of a kernel that load() gave: Offer.to_json().

    Raises LabError when the list that it came from is gone.
    """
    for names in (tuple(ARCHITECTURES), (kernel.arch,)):
        kept = _recall(names, settings, cache)
        for one in kept["offers"] if kept is not None else ():
            if (one["arch"], one["release"]) == (kernel.arch, kernel.release):
                return dict(one)
    raise LabError(
        f"the packages of kernel {kernel.release or kernel.version} are not known any more",
        hint="`lab kernels --refresh`, then start again",
    )


def _fact(arches: Sequence[str]) -> str:
    return f"kernels-{'-'.join(arches)}"


def _for(settings: Settings) -> str:
    """Return what a cached list depends on."""
    return digest(FORMAT, file_digest(DATA), settings.debian_mirror, settings.security_mirror)


def _recall(arches: Sequence[str], settings: Settings, cache: Cache) -> dict[str, Any] | None:
    kept = cache.recall(_fact(arches))
    return kept if isinstance(kept, dict) and kept.get("for") == _for(settings) else None


def _catalogue(kept: dict[str, Any]) -> Catalogue:
    fields = ("line", "version", "package_version", "release", "arch", "flavour", "origin", "compiler")
    kernels = (
        Kernel(**{field: one[field] for field in fields}, buildable=bool(one["headers"]))
        for one in kept["offers"]
    )
    return Catalogue(tuple(kernels), kept["fetched"], tuple(kept["notes"]))


def _nominal(arches: Sequence[str]) -> Catalogue:
    import yaml  # noqa: PLC0415 - only until something was fetched

    rows = sorted(yaml.safe_load(DATA.read_text())["nominal"], key=lambda row: _number(row[0]), reverse=True)
    kernels = (
        Kernel(line, line, "", "", arch, flavour, f"debian {suite}", compiler, buildable=True)
        for line, suite, compiler in rows
        for arch in arches
        for flavour in architecture(arch).flavours
    )
    return Catalogue(tuple(kernels), 0.0)


def _fetch(
    arches: Sequence[str], settings: Settings, cache: Cache, progress: Progress, *, known: str
) -> dict[str, Any]:
    from lab.kernels import debian_archive as archive  # noqa: PLC0415 - a warm run needs none of this
    from lab.kernels.debian_fetch import Fetcher, NotThere  # noqa: PLC0415 - the same
    from lab.kernels.debian_kernels import newest_first  # noqa: PLC0415 - the same

    certificates, notes = archive.keys(), list[str]()
    wanted = [suite for suite in archive.suites() if suite.lines != ()]

    def ask(suite: archive.Suite) -> list[Offer]:
        try:
            found = archive.release(suite, fetcher, certificates)
        except archive.Expired as error:
            notes.append(f"{error.message}; nothing is taken from {suite.name}")
            return []
        except NotThere as error:
            notes.append(f"{error.message}; nothing is taken from {suite.name}")
            return []
        if found.note:
            notes.append(found.note)
        return [one for name in arches for one in _offers(found, name, fetcher, progress, seen)]

    seen = _Seen(cache, known)
    with Fetcher(settings, cache) as fetcher:
        offers = [offer for group in fetcher.each(wanted, ask, 2) for offer in group]
    if not offers:
        raise FetchError(
            "no suite of the mirror offers a kernel: " + "; ".join(notes),
            hint="try another mirror (CHANLAB_DEBIAN_MIRROR, CHANLAB_DEBIAN_SECURITY_MIRROR)",
        )
    seen.save()
    ordered = [one.to_json() for one in newest_first(offers)]
    return {"fetched": time.time(), "notes": sorted(notes), "offers": ordered}


class _Seen:
    """What was found in indexes, so that one that did not change is neither fetched nor searched again."""

    def __init__(self, cache: Cache, fact: str) -> None:
        self._cache = cache
        self._fact = fact
        old = cache.recall(fact) or {}
        self._for = digest(FORMAT, file_digest(DATA))
        self._old: dict[str, Any] = old.get("places", {}) if old.get("for") == self._for else {}
        self._new: dict[str, Any] = {}

    def get(self, place: str, sha256: str) -> list[dict[str, Any]] | None:
        kept = self._old.get(place)
        if kept is None or kept["sha256"] != sha256:
            return None
        self._new[place] = kept
        return list(kept["offers"])

    def put(self, place: str, sha256: str, offers: list[dict[str, Any]]) -> None:
        self._new[place] = {"sha256": sha256, "offers": offers}

    def save(self) -> None:
        current = {kept["sha256"] for kept in self._new.values()}
        for kept in self._old.values():
            if kept["sha256"] not in current:
                self._cache.discard("download", kept["sha256"])
        self._cache.remember(self._fact, {"for": self._for, "places": self._new})


def _offers(found: Release, arch_name: str, fetcher: Fetcher, progress: Progress, seen: _Seen) -> list[Offer]:
    """Return a suite's kernels of one architecture."""
    from lab.kernels import debian_archive as archive  # noqa: PLC0415 - a warm run needs none of this
    from lab.kernels.debian_kernels import Offer, offers  # noqa: PLC0415 - the same
    from lab.kernels.roots import host_architecture  # noqa: PLC0415 - the same

    arch, host = architecture(arch_name), host_architecture()
    place, sha256 = f"{found.suite.name} {arch.name}", archive.index_item(found, arch.debian).sha256
    known = seen.get(place, sha256)
    if known is not None:
        return [Offer.from_json(one) for one in known]
    index = archive.index(found, arch.debian, fetcher, progress)
    other = index if arch == host else archive.index(found, host.debian, fetcher, progress)
    listed = offers(index, other, arch, host)
    seen.put(place, sha256, [one.to_json() for one in listed])
    return listed


def _ago(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
