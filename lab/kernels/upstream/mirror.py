# SPDX-License-Identifier: MIT
"""A mirror of kernel.org's releases: its signed lists of sums, and the tarballs on them.

BASE/v6.x/sha256sums.asc is clear-signed, and has the sha256 of each BASE/v6.x/linux-6.6.17.tar.xz. Nothing
is used that is not on it; who may sign is said by CHANLAB_KERNEL_KEYS: see https://www.kernel.org/signature.html.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import FetchError, HostError, KernelNotOffered, SignatureError
from lab.kernels.catalogue import number
from lab.store.cache import digest

if TYPE_CHECKING:
    from lab.kernels.debian.fetch import Fetcher
    from lab.settings import Settings
    from lab.store.cache import Cache

TREE = "kernel"  # of lab.kernels.debian.fetch.Item
_SERIES = ("v7.x", "v6.x", "v5.x")
_SUM = re.compile(r"^([0-9a-f]{64}) [ *]linux-(\d+(?:\.\d+)+)\.tar\.xz$", re.MULTILINE)
_KEYS_HINT = (
    "CHANLAB_KERNEL_KEYS=FILE names a file with the OpenPGP key that signs the mirror's lists "
    "(kernel.org's is that of autosigner@kernel.org: www.kernel.org/signature.html)"
)


def series(version: str) -> str:
    """Return the directory of a release: 'v6.x'."""
    return f"v{version.partition('.')[0]}.x"


def sums(directory: str, settings: Settings, cache: Cache, *, fetch: bool = True) -> dict[str, str]:
    """Return the releases of a mirror's directory: version -> sha256 of its tarball, newest first.

    Out of the cache while that is young enough. Raises KernelNotOffered where no mirror or key is named,
    SignatureError, FetchError or HostError.
    """
    keys = _keys(settings)
    fact, wanted_for = f"releases-{directory}", digest(settings.kernel_mirror, keys)
    kept: Any = cache.recall(fact)
    if isinstance(kept, dict) and kept.get("for") == wanted_for:
        age = time.time() - float(kept["fetched"])
        if not fetch or settings.offline or 0 <= age < settings.index_hours * 3600:
            return dict(kept["sums"])
    if not fetch:
        return {}
    from lab.kernels.debian.fetch import Fetcher  # noqa: PLC0415 - a warm run asks nobody

    with Fetcher(settings, cache) as fetcher:
        found = _fetch(directory, keys, fetcher)
    cache.remember(fact, {"for": wanted_for, "fetched": time.time(), "sums": found})
    return found


def _keys(settings: Settings) -> bytes:
    """Return the keys that may sign; raises KernelNotOffered where nobody can be asked or believed."""
    if settings.kernel_mirror is None:
        raise KernelNotOffered(
            "other releases are built from source where CHANLAB_KERNEL_MIRROR names a mirror of kernel.org's",
            hint="set it to the URL of its tree `pub/linux/kernel`, https://HOST/pub/linux/kernel say; "
            "for a tree that is here: --kernel-tree DIR",
        )
    if settings.kernel_keys is None:
        raise KernelNotOffered(
            "no key is known that signs the releases of the mirror that CHANLAB_KERNEL_MIRROR names",
            hint=_KEYS_HINT,
        )
    try:
        return settings.kernel_keys.read_bytes()
    except OSError as error:
        raise HostError(
            f"CHANLAB_KERNEL_KEYS: {settings.kernel_keys} cannot be read: {error.strerror}", hint=_KEYS_HINT
        ) from error


def _fetch(directory: str, keys: bytes, fetcher: Fetcher) -> dict[str, str]:
    from pysequoia import Cert  # noqa: PLC0415 - as above
    from pysequoia import verify as check  # noqa: PLC0415 - as above

    path = f"{directory}/sha256sums.asc"
    url = fetcher.url(TREE, path)
    try:
        certificates = list(Cert.split_bytes(keys))
    except Exception as error:  # noqa: BLE001 - the library raises whatever it likes
        raise HostError(f"CHANLAB_KERNEL_KEYS names no OpenPGP key: {error}", hint=_KEYS_HINT) from None
    text = fetcher.read(TREE, path)
    try:
        result = check(bytes=text, store=lambda _ids: certificates)
        signed = bytes(result.bytes) if result.valid_sigs and result.bytes else b""
    except Exception as error:  # noqa: BLE001 - as above
        raise SignatureError(
            f"{url} is not signed by a key of CHANLAB_KERNEL_KEYS: {error}", hint=_SERVES
        ) from None
    if not signed:
        raise SignatureError(f"{url} is not signed by a key of CHANLAB_KERNEL_KEYS", hint=_SERVES)
    found = {match[2]: match[1] for match in _SUM.finditer(signed.decode(errors="replace"))}
    if not found:
        raise FetchError(f"{url} lists no release", hint=_SERVES)
    return dict(sorted(found.items(), key=lambda each: number(each[0]), reverse=True))


_SERVES = "the mirror or a proxy on the way serves something else: CHANLAB_KERNEL_MIRROR sets another one"


def lines(settings: Settings, cache: Cache) -> dict[str, str]:
    """Return the newest release of each line that a mirror has, from 5.x on; raises what sums() does."""
    from lab.kernels.debian.fetch import NotThere  # noqa: PLC0415 - a warm run asks nobody

    found: dict[str, str] = {}
    for directory in _SERIES:
        with suppress(NotThere):
            for version in sums(directory, settings, cache):
                found.setdefault(".".join(version.split(".")[:2]), version)
    return found


def newest(line: str, known: dict[str, str]) -> str | None:
    """Return the newest release of a line, 6.6.y of 6.6, or an exact one; None where there is none."""
    return next((version for version in known if version == line or version.startswith(f"{line}.")), None)


def tarball(version: str) -> Path:
    """Return where a release's sources are, below the mirror's tree."""
    return Path(series(version)) / f"linux-{version}.tar.xz"


__all__ = ["TREE", "lines", "newest", "series", "sums", "tarball"]
