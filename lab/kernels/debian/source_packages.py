# SPDX-License-Identifier: MIT
"""Source packages of Debian's archive, by the same chain of trust as binary ones.

InRelease has the hash of Sources.xz, which has the hash of each file of a source package. The signature in
a .dsc is its maintainer's and not asked: the archive vouches for the file as a whole.
"""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lab.errors import FetchError
from lab.kernels.debian import archive
from lab.kernels.debian.fetch import Fetcher, Item

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.progress import Progress, Task
    from lab.settings import Settings
    from lab.store.cache import Cache

_INDEX = "main/source/Sources.xz"


@dataclass(frozen=True)
class Source:
    """A source package: its description (.dsc), what upstream released (.orig) and Debian's changes."""

    name: str
    version: str
    items: tuple[Item, ...]

    def ending(self, end: str) -> Item:
        """Return the one file whose name has a part; raises FetchError where it is not exactly one."""
        found = [item for item in self.items if end in PurePosixPath(item.path).name]
        if len(found) != 1:
            raise FetchError(
                f"the source package {self.name} {self.version} has {len(found)} files *{end}*",
                hint="report this: the package has changed",
            )
        return found[0]


def source_version(binary: str) -> str:
    """Return the version of the source that a binary package's version is built from."""
    return re.sub(r"\+b\d+$", "", binary)  # a rebuild of the same source


def find_source(
    name: str, binary: str, suites: Sequence[str], settings: Settings, cache: Cache, progress: Progress
) -> Source:
    """Return the source of a binary package's version, or the newest there is where that one is gone.

    `binary` is the binary package's version. Suites are asked in turn until one has it. Raises FetchError
    where no suite has any, SignatureError, HashMismatch, CacheError.
    """
    wanted = source_version(binary)
    known = {suite.name: suite for suite in archive.suites()}
    certificates = archive.keys()
    found: list[Source] = []
    with Fetcher(settings, cache) as fetcher:
        for suite in suites:
            text = _index(archive.release(known[suite], fetcher, certificates), fetcher, progress)
            found += _named(text, name, known[suite].tree)
            if any(source.version == wanted for source in found):
                break
    if not found:
        raise FetchError(
            f"{', '.join(suites)} have no source package {name}",
            hint="the mirror may carry no sources: try another (CHANLAB_DEBIAN_MIRROR)",
        )
    return _best(found, wanted)


def _best(found: Sequence[Source], wanted: str) -> Source:
    from debian.debian_support import Version  # noqa: PLC0415 - only where sources are asked for

    exact = [source for source in found if source.version == wanted]
    return exact[0] if exact else max(found, key=lambda source: Version(source.version))


def fetch_source(source: Source, settings: Settings, cache: Cache, progress: Progress) -> dict[str, Path]:
    """Return the files of a source package by name, verified, in the cache.

    Raises HashMismatch, FetchError, CacheError.
    """
    total = sum(item.size for item in source.items)
    text = f"source of {source.name} {source.version}, {total / 1e6:.0f} MB"
    with progress.task(text, total, unit="bytes") as task, Fetcher(settings, cache) as fetcher:
        paths = fetcher.each(source.items, lambda item: _held(fetcher, item, task, cache))
    return {PurePosixPath(item.path).name: path for item, path in zip(source.items, paths, strict=True)}


def _held(fetcher: Fetcher, item: Item, task: Task, cache: Cache) -> Path:
    """Fetch a file, and keep it from being removed when the fetcher is gone."""
    path = fetcher.file(item, task)
    return cache.entry("download", item.sha256, _never, durable=False, fixed=False) / path.name


def _never(_building: Path, final: Path) -> None:
    raise FetchError(f"{final} was removed while it was wanted", hint="start again")


def _index(release: archive.Release, fetcher: Fetcher, progress: Progress) -> str:
    item = release.item(_INDEX)
    with progress.task(f"sources of {release.suite.name}", item.size, unit="bytes") as task:
        return lzma.decompress(archive.index_file(release, item, fetcher, task).read_bytes()).decode()


def _named(text: str, name: str, tree: str) -> list[Source]:
    """Return the source packages of a name in an index."""
    found = []
    for match in re.finditer(rf"(?:^|\n)Package: {re.escape(name)}\n", text):
        start = match.end() - len(match[0].lstrip("\n"))
        end = text.find("\n\n", match.end())
        found.append(_parse(text[start : end if end >= 0 else None], name, tree))
    return found


def _parse(stanza: str, name: str, tree: str) -> Source:
    from debian import deb822  # noqa: PLC0415 - see _best()

    fields = deb822.Sources(stanza)
    try:
        items = tuple(
            Item(tree, f"{fields['Directory']}/{each['name']}", int(each["size"]), each["sha256"])
            for each in fields["Checksums-Sha256"]
        )
        return Source(name, fields["Version"], items)
    except (KeyError, TypeError, ValueError) as error:
        raise FetchError(
            f"the index says nothing useful of the source {name}: {error}", hint="report this"
        ) from error
