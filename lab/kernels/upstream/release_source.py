# SPDX-License-Identifier: MIT
"""Releases of kernel.org's as a source of kernels: fetched from a mirror and built when one is named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.errors import KernelNotOffered, UsageError
from lab.kernels.catalogue import Catalogue, arch_names
from lab.kernels.upstream import mirror, trees
from lab.kernels.upstream.builder import Order
from lab.kernels.upstream.kmake import known
from lab.kernels.upstream.source import Built, Wanted, named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.kernels.model import Kernel, Target
    from lab.kernels.upstream.trees import Sources
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

_NAME = re.compile(r"\d+\.\d+(\.\d+)?")
_TARBALL_BYTES = 150_000_000  # of a tarball, where nobody has said
_TREE_MB = 1800  # of disk that sources take


class Release(Built):
    """See lab.kernels.source.Source."""

    def __init__(self, own: tuple[Path, ...], settings: Settings, cache: Cache, progress: Progress) -> None:
        """`own` are fragments of a configuration."""
        super().__init__(settings, cache, progress)
        self._own = own
        self._sums: dict[str, str] = {}

    def select(
        self, kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str], *, fetch: bool
    ) -> tuple[Target, ...]:
        """Return the targets that lines (6.6) and versions (6.6.17) mean, and nothing else does."""
        found: list[Target] = []
        for spec in kernels:
            if not _NAME.fullmatch(spec):
                raise KernelNotOffered(
                    "releases that are built from source are named one by one: 6.6, 6.6.17"
                )
            version = self._version(spec, fetch=fetch)
            records = tuple(self._record(version, arch) for arch in arch_names(arches) if known(arch))
            found += Catalogue(records, 1.0).select([spec], arches, flavours)
        return tuple(found)

    def _version(self, spec: str, *, fetch: bool) -> str:
        settings, cache, _ = self._have
        directory = mirror.series(spec)
        sums = mirror.sums(directory, settings, cache, fetch=fetch)
        version = mirror.newest(spec, sums)
        if version is None and not sums and not fetch:  # nobody knows yet: what runs later asks first
            return spec
        if version is None:
            lines = dict.fromkeys(".".join(each.split(".")[:2]) for each in sums)
            raise KernelNotOffered(
                f"the mirror of CHANLAB_KERNEL_MIRROR has no {spec}",
                hint=f"of {directory} it has {', '.join(list(lines)[:12])}",
            )
        self._sums[version] = sums[version]
        return version

    def _record(self, version: str, arch: str) -> Kernel:
        parts = version.split(".")
        number = ".".join([*parts, "0"][:3])
        sha256 = self._sums.get(version, "")
        return named(trees.Version(number, ""), arch, "kernel.org's release", sha256, ())

    def download_bytes(self, kernel: Kernel) -> int:
        """Return about how large the sources are."""
        return 0 if self.is_cached(kernel) else _TARBALL_BYTES

    def _wanted(self, kernel: Kernel) -> Wanted:
        version = next((each for each in self._sums if _same(each, kernel.version)), None)
        if version is None:
            raise UsageError(
                f"no release {kernel.version} was selected", hint="`lab kernels`, then start again"
            )
        order = Order(version, f"linux-{version}", architecture(kernel.arch), self._own, changes=False)
        return Wanted(order, self._sums[version], lambda: self._sources(version))

    def _sources(self, version: str) -> Sources:
        """Return a release's sources, fetched and unpacked if they are not there."""
        from lab.kernels.debian.fetch import Fetcher, Item  # noqa: PLC0415 - where it is built already, nobody asks
        from lab.kernels.debian.unpack import unpack_source  # noqa: PLC0415 - as above

        settings, cache, progress = self._have
        sha256 = self._sums[version]
        path = str(mirror.tarball(version))

        def wanted(_path: str) -> bool:
            cache.check_interrupt()  # asked for every file, and so often enough
            return True

        def make(building: Path, _: Path) -> None:
            with Fetcher(settings, cache) as fetcher:
                size = fetcher.size(mirror.TREE, path) or _TARBALL_BYTES
                item = Item(mirror.TREE, path, size, sha256)
                text = f"linux {version}: {size / 1e6:.0f} MB, some {_TREE_MB} MB of disk"
                with progress.task(text, size, unit="bytes") as task:
                    tarball = fetcher.file(item, task)
                with progress.task(f"unpacking linux {version}"):
                    unpack_source(tarball, building, wanted, strip=1)
                fetcher.drop([item])

        text = f"the sources of linux {version}"
        return trees.Sources(
            cache.entry("kernel-source", sha256, make, progress_text=text, fixed=False, durable=False), sha256
        )


def _same(release: str, number: str) -> bool:
    """Tell whether 6.6 is 6.6.0."""
    return [*release.split("."), "0"][:3] == number.split(".")


__all__ = ["Release"]
