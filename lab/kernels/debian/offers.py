# SPDX-License-Identifier: MIT
"""The list of Debian's kernels: fetched when it is wanted, kept a while, and what to expect without it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lab.arch import DEFAULT, architecture, host
from lab.errors import FetchError, HashMismatch, HostError, LabError, SignatureError
from lab.kernels import tables
from lab.kernels.catalogue import Catalogue, merged, number
from lab.kernels.model import Kernel
from lab.parts import part
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.kernels.debian.archive import Release
    from lab.kernels.debian.fetch import Fetcher
    from lab.kernels.debian.kernels import Offer
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

DATA = part("kernels") / "debian.yaml"
FORMAT = 2  # of the cached list


def load(
    settings: Settings,
    cache: Cache,
    progress: Progress,
    *,
    fetch: bool = True,
    refresh: bool = False,
    arches: Sequence[str] = (DEFAULT,),
) -> Catalogue:
    """Return the kernels on offer for some architectures, from the cache while that is young enough.

    `fetch`: False takes whatever is cached, and the lines to be expected where nothing is; `refresh`: asks
    the archive in any case.

    Raises FetchError, SignatureError, HashMismatch or HostError where there is nothing to fall back on.
    """
    kept = {name: _recall(name, settings, cache) for name in dict.fromkeys(arches)}

    def stale() -> list[str]:
        still = settings.offline and not refresh
        return [
            name
            for name, known in kept.items()
            if known is None
            or refresh
            or not (
                still or (_age(known) < settings.index_hours * 3600 and known.get("from") == _from(settings))
            )
        ]

    if fetch and stale():
        # Workers that start side by side would all read the same indexes, seconds of CPU time each.
        with cache.alone("catalogue", "the list of kernels"):
            kept = {name: _recall(name, settings, cache) for name in kept}
            if wanted := stale():
                kept |= _renew(wanted, kept, settings, cache, progress, refresh=refresh)
    return merged([nominal(name) if known is None else _catalogue(known) for name, known in kept.items()])


def _renew(
    arches: Sequence[str],
    kept: Mapping[str, dict[str, Any] | None],
    settings: Settings,
    cache: Cache,
    progress: Progress,
    *,
    refresh: bool,
) -> dict[str, dict[str, Any]]:
    """Return what is on offer now; what was, and that it is said, where the archive cannot be asked."""
    try:
        fresh = _fetch(arches, settings, cache, progress)
    except SignatureError:
        raise
    except (FetchError, HostError) as error:
        old = {name: known for name in arches if (known := kept[name]) is not None}
        if len(old) < len(arches) or refresh:
            raise
        age = max(map(_age, old.values()))
        progress.note(f"the list of kernels is of {_ago(age)} ago and could not be renewed: {error.message}")
        return old
    for note in sorted({note for one in fresh.values() for note in one["notes"]}):
        progress.note(note)
    for name, one in fresh.items():
        cache.remember(_fact(name), {"for": _for(settings), "from": _from(settings), **one})
    return fresh


def _age(kept: dict[str, Any]) -> float:
    """Return the age of a list in seconds; one of the future is as old as can be."""
    age = time.time() - float(kept["fetched"])
    return age if age >= 0 else float("inf")


def is_cached(kernel: Kernel | Offer, cache: Cache) -> bool:
    """Whether a kernel is in the cache, unpacked."""
    name = entry_name(kernel)
    return bool(kernel.release) and any(key.startswith(name) for key in cache.keys("kernel"))


def entry_name(kernel: Kernel | Offer) -> str:
    """Return what the keys of a kernel's cache entries start with, for people who look there."""
    return f"{kernel.arch}-{kernel.release.replace('+', '_')}-"


def offer(kernel: Kernel, settings: Settings, cache: Cache) -> dict[str, Any]:
    """Return the packages of a kernel that load() gave: Offer.to_json().

    Raises LabError when the list that it came from is gone.
    """
    kept = _recall(kernel.arch, settings, cache)
    for one in kept["offers"] if kept is not None else ():
        if one["release"] == kernel.release:
            return dict(one)
    raise LabError(
        f"the packages of kernel {kernel.release or kernel.version} are not known any more",
        hint="`lab kernels --refresh`, then start again",
    )


def _fact(arch: str) -> str:
    return f"kernels-{arch}"


def _for(settings: Settings) -> str:
    """Return what a cached list depends on."""
    return digest(FORMAT, file_digest(DATA), settings.check_valid_until)


def _from(settings: Settings) -> str:
    """Return where a list is fetched from; one of another mirror is good where this one cannot be asked."""
    return digest(settings.debian_mirror, settings.security_mirror)


def _recall(arch: str, settings: Settings, cache: Cache) -> dict[str, Any] | None:
    kept = cache.recall(_fact(arch))
    return kept if isinstance(kept, dict) and kept.get("for") == _for(settings) else None


def _catalogue(kept: dict[str, Any]) -> Catalogue:
    fields = ("line", "version", "package_version", "release", "arch", "flavour", "origin", "compiler")
    kernels = (
        Kernel(**{field: one[field] for field in fields}, buildable=bool(one["headers"]))
        for one in kept["offers"]
    )
    return Catalogue(tuple(kernels), kept["fetched"], tuple(kept["notes"]))


def nominal(arch: str) -> Catalogue:
    """Return what to expect for an architecture before anything was fetched."""
    rows = sorted(tables.read(DATA)["nominal"], key=lambda row: number(row[0]), reverse=True)
    kernels = (
        Kernel(line, line, "", "", arch, flavour, f"debian {suite}", compiler, buildable=True)
        for line, suite, compiler, *arches in rows
        for flavour in architecture(arch).flavours
        if not arches or arch in arches[0]
    )
    return Catalogue(tuple(kernels), 0.0)


def _fetch(
    arches: Sequence[str], settings: Settings, cache: Cache, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Return what the archive has for each architecture.

    Raises FetchError where it has nothing for any, and what the suites' lists are refused for.
    """
    from lab.kernels.debian import archive  # noqa: PLC0415 - a warm run needs none of this
    from lab.kernels.debian.fetch import Fetcher, NotThere  # noqa: PLC0415 - the same
    from lab.kernels.debian.kernels import newest_first  # noqa: PLC0415 - the same

    certificates, notes = archive.keys(), list[str]()
    wanted = [suite for suite in archive.suites() if suite.lines != ()]

    def ask(suite: archive.Suite) -> dict[str, list[Offer]]:
        try:
            found = archive.release(suite, fetcher, certificates)
        except (archive.Expired, NotThere) as error:
            notes.append(f"{error.message}; nothing is taken from {suite.name}")
            hints[error.hint] = None
            return {}
        if found.note:
            notes.append(found.note)
        return {name: listed for name in arches if (listed := of(found, name))}

    def of(found: Release, name: str) -> list[Offer]:
        try:
            return _offers(found, name, fetcher, progress, seen[name])
        except (HashMismatch, NotThere) as error:  # a mirror that is being updated, or a mirror of a part
            refused.append(error)
            said = "is not the one that was signed" if isinstance(error, HashMismatch) else "is not there"
            nothing = f"nothing is taken from {found.suite.name} for {name}"
            notes.append(f"{found.suite.name}: its list of packages for {name} {said}; {nothing}")
            return []

    hints = {"try another mirror (CHANLAB_DEBIAN_MIRROR, CHANLAB_DEBIAN_SECURITY_MIRROR)": None}
    refused: list[FetchError] = []
    seen = {name: _Seen(cache, f"{_fact(name)}-indexes") for name in arches}
    with Fetcher(settings, cache) as fetcher:
        suites = fetcher.each(wanted, ask, 2)
        listed = {
            name: newest_first([offer for suite in suites for offer in suite.get(name, ())])
            for name in arches
        }
        gone = {name: _gone(offers, fetcher, cache) for name, offers in listed.items()}
    fresh = {}
    for name, offers in listed.items():
        if gone[name]:
            versions = ", ".join(version for _, version in gone[name])
            notes.append(f"passed over for {name}, on the mirror's list but not on the mirror: {versions}")
        seen[name].save()
        kept = [one.to_json() for one in offers if (one.line, one.package_version) not in gone[name]]
        fresh[name] = {"fetched": time.time(), "notes": sorted(notes), "offers": kept}
    if not any(one["offers"] for one in fresh.values()):
        if refused:
            raise refused[0]
        raise FetchError(
            f"no suite of the mirror offers a kernel for {' or '.join(arches)}: {'; '.join(notes)}",
            hint="; ".join(filter(None, hints)),
        )
    return fresh


def _gone(offers: Sequence[Offer], fetcher: Fetcher, cache: Cache) -> list[tuple[str, str]]:
    """Return the newest kernels, line and package's version, that the mirror lists and does not have."""
    lines: dict[str, dict[str, Offer]] = {}
    for offer in offers:
        if offer.headers:  # the others are taken by their exact version alone
            lines.setdefault(offer.line, {}).setdefault(offer.package_version, offer)

    def of(line: str) -> list[tuple[str, str]]:
        missing = []
        for version, offer in lines[line].items():
            pieces = (*offer.image, *offer.headers)
            if is_cached(offer, cache) or not any(fetcher.lacks(piece.item) for piece in pieces):
                break
            missing.append((line, version))
        return missing

    return [each for found in fetcher.each(lines, of) for each in found]


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
    from lab.kernels.debian import archive  # noqa: PLC0415 - a warm run needs none of this
    from lab.kernels.debian.kernels import Offer, offers  # noqa: PLC0415 - the same

    arch, ours = architecture(arch_name), host()
    if not archive.has_index(found, arch.debian):
        return []
    place, sha256 = f"{found.suite.name} {arch.name}", archive.index_item(found, arch.debian).sha256
    known = seen.get(place, sha256)
    if known is not None:
        return [Offer.from_json(one) for one in known]
    index = archive.index(found, arch.debian, fetcher, progress)
    other = index if arch == ours else archive.index(found, ours.debian, fetcher, progress)
    listed = offers(index, other, arch, ours)
    seen.put(place, sha256, [one.to_json() for one in listed])
    return listed


def _ago(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
