# SPDX-License-Identifier: MIT
"""Finds the kernels in a suite's index, with the packages that make up each and its headers.

Up to 6.18 `linux-image-V` holds a kernel; since 6.19 it is empty over `linux-binary-V`, `linux-modules-V` and
`linux-base-V`. Binaries of old point releases stay listed long after their headers are gone: those are
kernels that can be booted and not built for. What lacks even its modules is no kernel here.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.kernels.debian.fetch import Item
from lab.kernels.debian.resolve import Resolver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.arch import Architecture
    from lab.kernels.debian.archive import Index, Package

_RELEASE = r"\d+\.\d+[.~]\S+"
_COMPILER = re.compile(r"\b(gcc-\d+)(?:-x86|-arm|-s390|-for-host|\b)")


@dataclass(frozen=True)
class Piece:
    """One package, as far as fetching it needs."""

    name: str
    version: str
    item: Item

    def to_json(self) -> list[Any]:
        """Return what from_json() takes."""
        item = self.item
        return [self.name, self.version, item.tree, item.path, item.size, item.sha256]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Piece:
        """Return the piece that to_json() gave."""
        return cls(value[0], value[1], Item(*value[2:]))


@dataclass(frozen=True)
class Offer:
    """A kernel and the packages it is made of; `headers` is empty where nothing can be built for it."""

    line: str
    version: str
    package_version: str
    release: str
    arch: str
    flavour: str
    origin: str
    compiler: str
    image: tuple[Piece, ...]
    headers: tuple[Piece, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value; catalogue.py reads it."""
        plain = asdict(self)
        plain["image"] = [piece.to_json() for piece in self.image]
        plain["headers"] = [piece.to_json() for piece in self.headers]
        return plain

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Offer:
        """Return the offer that to_json() gave."""
        pieces = {name: tuple(map(Piece.from_json, value[name])) for name in ("image", "headers")}
        return cls(**{**value, **pieces})


def offers(index: Index, host: Index, arch: Architecture, host_arch: Architecture) -> list[Offer]:
    """Return the kernels of a suite; `host` is its index for the architecture that compiles."""
    found = [_offer(package, index, host, arch, host_arch) for package in index.matching("linux-image-")]
    return [offer for offer in found if offer is not None]


def newest_first(found: Sequence[Offer]) -> list[Offer]:
    """Return offers, newest version first, each release once: where it can be built for, if at all."""
    from debian.debian_support import Version  # noqa: PLC0415 - a warm run compares nothing

    best: dict[tuple[str, str], Offer] = {}
    for offer in found:
        known = best.get((offer.arch, offer.release))
        if known is None or (not known.headers and offer.headers):
            best[offer.arch, offer.release] = offer
    order = sorted(best.values(), key=lambda offer: offer.flavour)
    return sorted(order, key=lambda offer: Version(offer.package_version), reverse=True)


def _offer(
    package: Package, index: Index, host: Index, arch: Architecture, host_arch: Architecture
) -> Offer | None:
    release = package.name.removeprefix("linux-image-")
    flavour = next((name for name, tail in arch.flavours.items() if _is_of(release, tail, arch)), None)
    if flavour is None:
        return None
    image = _image(package, release, index)
    upstream = re.match(r"(\d+\.\d+)[^-]*", package.version)
    if image is None or upstream is None or (index.suite.lines and upstream[1] not in index.suite.lines):
        return None
    headers, compiler = _headers(release, index, host, arch, host_arch)
    return Offer(
        line=upstream[1],
        version=upstream[0],
        package_version=package.version,
        release=release,
        arch=arch.name,
        flavour=flavour,
        origin=f"debian {index.suite.name}",
        compiler=compiler,
        image=tuple(image),
        headers=tuple(headers),
    )


def _is_of(release: str, tail: str, arch: Architecture) -> bool:
    """Whether a release is of the flavour with this tail, and of none with a longer one."""
    longer = [other for other in arch.flavours.values() if other.endswith(f"-{tail}")]
    fits = re.fullmatch(rf"{_RELEASE}-{re.escape(tail)}", release) is not None
    return fits and not any(release.endswith(f"-{other}") for other in longer)


def _image(package: Package, release: str, index: Index) -> list[Piece] | None:
    """Return the packages of a kernel itself, None when some are gone."""
    names = [f"linux-binary-{release}", f"linux-modules-{release}", f"linux-base-{release}"]
    if not index.named(names[0]):
        # Signed like the others; since 6.19 an image package without a binary beside it is empty.
        return [_piece(package)] if f"linux-binary-{release}" not in package.depends else None
    parts = [index.named(name) for name in names]
    return [_piece(part[-1]) for part in parts] if all(parts) else None


def _headers(
    release: str, index: Index, host: Index, arch: Architecture, host_arch: Architecture
) -> tuple[list[Piece], str]:
    """Return the packages to build with, none when some are gone, and the compiler they ask for."""
    flavour = next(iter(index.named(f"linux-headers-{release}")), None)
    if flavour is None:
        return [], ""
    compiler = _COMPILER.search(flavour.depends)
    common = _needed(flavour, r"linux-headers-\S*-common\S*", Resolver([index]))
    kbuild = _needed(flavour, r"linux-kbuild-\S+", Resolver([host if arch != host_arch else index]))
    if common is None or kbuild is None or compiler is None:
        return [], ""
    return [_piece(flavour), _piece(common), _piece(kbuild)], compiler[1]


def _needed(package: Package, name: str, resolver: Resolver) -> Package | None:
    """Return the package that another one depends on by a name of this form, in a version that will do."""
    match = re.search(rf"(?:^|, *)({name})(?::\w+)?(?: \(([<>=]+) ([^)]+)\))?(?=,|$)", package.depends)
    if match is None:
        return None
    return resolver.find(match[1], (match[2], match[3]) if match[2] else None)


def _piece(package: Package) -> Piece:
    return Piece(package.name, package.version, package.item)
