# SPDX-License-Identifier: MIT
"""Debian's archive: suites, their signed lists of files, and the packages in them.

The chain of trust is the archive's own: a key of Debian's signs InRelease, InRelease has the hash of
Packages.xz, Packages.xz has the hash of each package. Nothing is used that is not on it.
"""

from __future__ import annotations

import lzma
import re
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import FetchError, SignatureError
from lab.kernels import tables
from lab.kernels.debian.fetch import Item, NotThere, now
from lab.parts import part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.kernels.debian.fetch import Fetcher
    from lab.progress import Progress, Task

DATA = part("kernels")
KEYS = Path(__file__).parent / "keys"
# The host's own copy may know keys that are younger than this lab.
_HOST_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)


class Expired(SignatureError):  # noqa: N818 - what it is
    """A suite's list is signed, and past its date."""


@dataclass(frozen=True)
class Suite:
    """One suite of the archive, as kernels/debian.yaml describes it."""

    name: str
    tree: str  # 'debian' or 'security'
    lines: tuple[str, ...] | None  # the kernel lines to take from it, None for all
    expired: bool = False  # past its support: its signed list may be past its date


@dataclass(frozen=True)
class Package:
    """A stanza of an index."""

    name: str
    version: str
    item: Item
    depends: str  # Pre-Depends and Depends, joined


@dataclass(frozen=True)
class Release:
    """A suite's verified list of files."""

    suite: Suite
    date: str
    files: dict[str, tuple[str, int]]  # path -> sha256, size
    by_hash: bool
    note: str  # what the user should know of it, empty as a rule

    def item(self, path: str) -> Item:
        """Return what is known of a file; raises FetchError when the suite has none of that name."""
        try:
            sha256, size = self.files[path]
        except KeyError:
            raise FetchError(
                f"{self.suite.name} has no {path}", hint="this suite does not have that architecture"
            ) from None
        return Item(self.suite.tree, f"dists/{self.suite.name}/{path}", size, sha256)


def suites() -> tuple[Suite, ...]:
    """Return all suites, in the order of kernels/debian.yaml."""
    data = tables.read(DATA / "debian.yaml")
    return tuple(
        Suite(
            name=name,
            tree=fields.get("tree", "debian"),
            lines=None if fields.get("lines", []) == "all" else tuple(fields.get("lines", [])),
            expired=fields.get("expired", False),
        )
        for name, fields in data["suites"].items()
    )


def keys() -> list[Any]:
    """Return the OpenPGP certificates that may sign the archive: those shipped and the host's own."""
    from pysequoia import Cert  # noqa: PLC0415 - a warm run verifies nothing

    found = [cert for path in sorted(KEYS.glob("*.asc")) for cert in Cert.split_file(str(path))]
    host = next((path for path in _HOST_KEYRINGS if path.exists()), None)
    if host is not None:
        with suppress(OSError, RuntimeError, ValueError):  # what ships with the lab is enough
            found += Cert.split_file(str(host))
    return found


def verify(text: bytes, certificates: Sequence[Any], what: str) -> bytes:
    """Return what is signed in a clear-signed text; raises SignatureError without a valid signature."""
    from pysequoia import verify as check  # noqa: PLC0415 - see keys()

    try:
        result = check(bytes=text, store=lambda _ids: list(certificates))
    except Exception as error:  # noqa: BLE001 - the library raises whatever it likes; all of it means no
        reason = str(error).partition("\n")[0]
        raise SignatureError(f"{what} is not signed by a key of Debian's: {reason}", hint=_UNSIGNED) from None
    if not result.valid_sigs or not result.bytes:
        raise SignatureError(f"{what} is not signed by a key of Debian's", hint=_UNSIGNED)
    return bytes(result.bytes)


_UNSIGNED = "the mirror or a proxy on the way serves something else: try another (CHANLAB_DEBIAN_MIRROR)"


def release(suite: Suite, fetcher: Fetcher, certificates: Sequence[Any]) -> Release:
    """Fetch and verify a suite's InRelease.

    Raises SignatureError when it is unsigned, of another suite, or past its date where the suite is alive.
    """
    from debian import deb822  # noqa: PLC0415 - see keys()

    path = f"dists/{suite.name}/InRelease"
    what = fetcher.url(suite.tree, path)
    text = verify(fetcher.read(suite.tree, path), certificates, what).decode()
    fields = deb822.Release(text)
    if fields.get("Codename") != suite.name:
        raise SignatureError(f"{what} is signed, but for {fields.get('Codename')!r}", hint=_UNSIGNED)
    note = ""
    until = fields.get("Valid-Until")
    if until is not None and parsedate_to_datetime(until).timestamp() < now():
        note = f"{suite.name}: its signed list of {fields.get('Date')} was valid until {until}"
        if suite.expired:
            note += "; accepted, since the suite is past its support"
        elif not fetcher.check_valid_until:
            note += "; accepted, since CHANLAB_CHECK_VALID_UNTIL is 0"
        else:
            raise Expired(
                f"{note}: the mirror is behind, or this host's clock is wrong",
                hint="CHANLAB_CHECK_VALID_UNTIL=0 accepts a list that is old and signed",
            )
    files = {each["name"]: (each["sha256"], int(each["size"])) for each in fields.get("SHA256", ())}
    return Release(suite, fields.get("Date", ""), files, fields.get("Acquire-By-Hash") == "yes", note)


class Index:
    """The packages of one suite and architecture; only the stanzas that are asked for are parsed."""

    def __init__(self, suite: Suite, text: bytes) -> None:
        self.suite = suite
        self._text = b"\n" + text

    def matching(self, prefix: str) -> Iterator[Package]:
        """Yield the packages whose name starts with a literal prefix."""
        mark = b"\nPackage: " + prefix.encode()
        at = self._text.find(mark)
        while at >= 0:
            yield self._package(at)
            at = self._text.find(mark, at + 1)

    def named(self, name: str) -> list[Package]:
        """Return the packages of exactly this name."""
        return [self._package(at) for at in self._names.get(name.encode(), ())]

    def providing(self, name: str) -> list[Package]:
        """Return the packages that provide a virtual one."""
        word = re.compile(rb"(?:^|, *)" + re.escape(name.encode()) + rb"(?: *[(,]|$)")
        return [
            self._package(self._text.rfind(b"\nPackage: ", 0, match.start() + 1))
            for match in self._provides
            if word.search(match[1])
        ]

    @cached_property
    def _names(self) -> dict[bytes, list[int]]:
        names: dict[bytes, list[int]] = {}
        for match in re.finditer(rb"\nPackage: (\S+)", self._text):
            names.setdefault(match[1], []).append(match.start())
        return names

    @cached_property
    def _provides(self) -> list[re.Match[bytes]]:
        return list(re.finditer(rb"\nProvides: ([^\n]*)", self._text))

    def _package(self, at: int) -> Package:
        from debian import deb822  # noqa: PLC0415 - see keys()

        end = self._text.find(b"\n\n", at + 1)
        fields = deb822.Packages(self._text[at + 1 : end if end >= 0 else None])
        depends = ", ".join(fields[name] for name in ("Pre-Depends", "Depends") if fields.get(name))
        item = Item(self.suite.tree, fields["Filename"], int(fields["Size"]), fields["SHA256"])
        return Package(fields["Package"], fields["Version"], item, depends)


def has_index(found: Release, arch: str) -> bool:
    """Whether a suite has packages of one of Debian's architectures."""
    return _index_path(arch) in found.files


def _index_path(arch: str) -> str:
    return f"main/binary-{arch}/Packages.xz"


def index_item(found: Release, arch: str) -> Item:
    """Return the index of a suite for one of Debian's architectures; raises FetchError when it has none."""
    return found.item(_index_path(arch))


def index(found: Release, arch: str, fetcher: Fetcher, progress: Progress) -> Index:
    """Return the packages of a suite.

    Raises HashMismatch when the index is not what InRelease says, FetchError when it cannot be had.
    """
    item = index_item(found, arch)
    with progress.task(f"packages of {found.suite.name}", item.size, unit="bytes") as task:
        return Index(found.suite, lzma.decompress(index_file(found, item, fetcher, task).read_bytes()))


def index_file(found: Release, item: Item, fetcher: Fetcher, task: Task) -> Path:
    """Return one of a suite's indexes, verified; raises HashMismatch or FetchError."""
    if found.by_hash:  # a mirror that is being updated still has what the signed list names
        by_hash = f"{item.path.rpartition('/')[0]}/by-hash/SHA256/{item.sha256}"
        with suppress(NotThere):
            return fetcher.file(Item(item.tree, by_hash, item.size, item.sha256), task)
    return fetcher.file(item, task)
