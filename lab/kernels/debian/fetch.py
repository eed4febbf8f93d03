# SPDX-License-Identifier: MIT
"""Downloads from a Debian mirror: pooled, retried, resumed, and never used unless the hash is right."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote, urlsplit

from lab.errors import FetchError, HashMismatch, HostError
from lab.progress import Task
from lab.store.cache import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import httpx

    from lab.settings import Settings
    from lab.store.cache import Cache

T = TypeVar("T")
R = TypeVar("R")

STREAMS = 6  # downloads side by side
_TRIES = 5  # of one request that breaks off
_BACKOFF_SECONDS = 0.3  # doubled from try to try
_CHUNK = 1 << 18
_IDLE_SECONDS = 15.0  # without a byte: the connection counts as broken
_MAX_UNSIGNED = 16 << 20  # bytes that are read before anything vouches for them


class NotThere(FetchError):  # noqa: N818 - what the mirror said
    """The mirror answers, and does not have the file."""


@dataclass(frozen=True)
class Item:
    """A file of the archive and what the signed index says of it."""

    tree: str  # 'debian', 'security', or 'kernel': a mirror of kernel.org's
    path: str  # below the tree
    size: int  # bytes
    sha256: str


class Fetcher:
    """Fetches files of the mirror that the settings name; a context manager, safe to use from threads."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        self._settings = settings
        self.check_valid_until = settings.check_valid_until
        # Its own hold on what it fetched: drop() must not take a file from under another thread's fetcher.
        self._cache = cache.another()
        self._client: httpx.Client | None = None
        self._mutex = threading.Lock()
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with self._mutex:
            if self._client is not None:
                self._client.close()
        self._cache.close()

    def url(self, tree: str, path: str) -> str:
        """Return a file's address; raises HostError, naming the setting, where no mirror is known."""
        if tree == "kernel" and self._settings.kernel_mirror:
            return f"{self._settings.kernel_mirror}/{quote(path)}"
        security = tree == "security"
        base = self._settings.security_mirror if security else self._settings.debian_mirror
        if base is None:
            name = "CHANLAB_DEBIAN_SECURITY_MIRROR" if security else "CHANLAB_DEBIAN_MIRROR"
            what = "debian-security" if security else "debian"
            raise HostError(
                f"no Debian mirror is known for the `{what}` tree: the host's apt sources name none",
                hint=f"set {name} to the URL of a mirror's `{what}` tree, https://HOST/{what} say",
            )
        return f"{base}/{quote(path)}"

    def read(self, tree: str, path: str) -> bytes:
        """Return a small file that carries its own signature.

        Raises NotThere or FetchError.
        """
        url = self.url(tree, path)
        body = bytearray()
        for chunk in self._stream(url, body.__len__, body.clear):
            body.extend(chunk)
            if len(body) > _MAX_UNSIGNED:
                raise FetchError(f"{url} is larger than any signed list", hint=self._other_mirror(url))
        return bytes(body)

    def file(self, item: Item, task: Task | None = None) -> Path:
        """Return a file whose size and hash are what the item says, from the cache or the mirror.

        What does not fit is removed and fetched once more. Raises HashMismatch, NotThere or FetchError.
        """
        made: list[Path] = []

        def make(building: Path, _: Path) -> None:
            self._download(item, building / "file", task or Task())
            made.append(building)

        text = f"the download of {Path(item.path).name}"
        for _ in range(2):
            entry = self._cache.entry(
                "download", item.sha256, make, progress_text=text, durable=False, fixed=False
            )
            if made:
                return entry / "file"
            # Written by an earlier run, and maybe never brought to disk.
            if file_digest(entry / "file") == item.sha256:
                (task or Task()).advance(item.size)
                return entry / "file"
            self._cache.discard("download", item.sha256)
        raise HashMismatch(f"{entry} in the cache is not what it was", hint="`lab clean`, then start again")

    def size(self, tree: str, path: str) -> int:
        """Return how large a file is by what the mirror says, 0 where it does not; raises NotThere."""
        import httpx  # noqa: PLC0415 - see _stream()

        url = self.url(tree, path)
        self._check(url)
        try:
            response = self._http().head(url)
        except (httpx.TransportError, httpx.InvalidURL):
            return 0
        if response.status_code in _GONE_CODES:
            raise NotThere(f"{url}: the mirror does not have it", hint=self._other_mirror(url))
        return int(response.headers.get("Content-Length", 0))

    def lacks(self, item: Item) -> bool:
        """Return whether the mirror says that it does not have a file; what else it may say is for file()."""
        import httpx  # noqa: PLC0415 - see _stream()

        url = self.url(item.tree, item.path)
        self._check(url)
        try:
            return self._http().head(url).status_code in _GONE_CODES
        except (httpx.TransportError, httpx.InvalidURL):
            return False

    def drop(self, items: Iterable[Item]) -> None:
        """Forget downloads that have been unpacked."""
        for item in items:
            self._cache.discard("download", item.sha256)

    def each(self, items: Iterable[T], work: Callable[[T], R], workers: int = STREAMS) -> list[R]:
        """Return `work(item)` of all items, worked on side by side; the first error ends all of them."""
        pool = ThreadPoolExecutor(workers, "fetch")
        try:
            return [future.result() for future in [pool.submit(work, item) for item in items]]
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _download(self, item: Item, to: Path, task: Task) -> None:
        url = self.url(item.tree, item.path)
        got = self._attempt(item, url, to, task)
        if got != item.sha256:
            to.unlink()
            task.advance(-item.size)
            got = self._attempt(item, url, to, task, fresh=True)
        if got != item.sha256:
            size = to.stat().st_size
            to.unlink()
            raise HashMismatch(
                f"{url}, fetched twice: sha256 is {got} ({size} bytes), the signed index says {item.sha256}"
                f" ({item.size} bytes)",
                hint=f"something on the way changes files; {self._other_mirror(url)}",
            )

    def _attempt(self, item: Item, url: str, to: Path, task: Task, *, fresh: bool = False) -> str:
        """Download once, resuming as often as allowed; returns the sha256 of what came."""
        with to.open("wb") as file:
            seen = hashlib.sha256()

            def again() -> None:
                nonlocal seen
                task.advance(-file.tell())
                file.seek(0)
                file.truncate()
                seen = hashlib.sha256()

            for chunk in self._stream(url, file.tell, again, fresh=fresh):
                file.write(chunk)
                seen.update(chunk)
                task.advance(len(chunk))
                if file.tell() > item.size:  # whatever comes after that, it is not the file
                    break
        return seen.hexdigest()

    def _stream(
        self, url: str, have: Callable[[], int], again: Callable[[], None], *, fresh: bool = False
    ) -> Iterator[bytes]:
        """Yield a file's bytes; goes on where a connection broke off, or calls `again` and starts over.

        `fresh`: proxies shall not answer out of their own caches.
        """
        import httpx  # noqa: PLC0415 - a warm run fetches nothing, and must not pay for it

        if self._settings.offline:
            raise FetchError(f"{url} is not in the cache", hint="CHANLAB_OFFLINE is set: unset it to fetch")
        headers = {"Cache-Control": "no-cache"} if fresh else {}
        trouble: object = ""
        for attempt in range(_TRIES):
            self._stop.wait(0 if attempt == 0 else _BACKOFF_SECONDS * 2**attempt)
            self._check(url)
            start = have()
            ranged = {"Range": f"bytes={start}-"} if start else {}
            try:
                with self._http().stream("GET", url, headers=headers | ranged) as response:
                    if response.status_code in _GONE_CODES:
                        raise NotThere(f"{url}: the mirror does not have it", hint=self._gone(url))
                    if response.status_code == 416 or (start and not _goes_on(response, start)):
                        again()
                    if response.status_code in (200, 206):
                        for chunk in response.iter_raw(_CHUNK):
                            self._check(url)
                            yield chunk
                        return
                    trouble = f"HTTP {response.status_code} {response.reason_phrase}"
                    if response.status_code < 500 and response.status_code not in (408, 416, 425, 429):
                        break
            except (httpx.TransportError, httpx.InvalidURL) as error:
                trouble = str(error) or type(error).__name__
        raise FetchError(
            f"cannot fetch {url}: {trouble}", hint=f"is the network up? {self._other_mirror(url)}"
        )

    def _is_kernels(self, url: str) -> bool:
        return self._settings.kernel_mirror is not None and url.startswith(self._settings.kernel_mirror)

    def _other_mirror(self, url: str) -> str:
        name = "DEBIAN_SECURITY" if "debian-security" in urlsplit(url).path else "DEBIAN"
        return f"CHANLAB_{'KERNEL' if self._is_kernels(url) else name}_MIRROR sets another mirror"

    def _gone(self, url: str) -> str:
        return self._other_mirror(url) if self._is_kernels(url) else _GONE

    def _check(self, url: str) -> None:
        self._cache.check_interrupt()
        if self._stop.is_set():
            raise FetchError(f"{url}: given up, since another download failed")

    def _http(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 - see _stream()

        with self._mutex:
            if self._client is None:
                self._client = httpx.Client(
                    timeout=httpx.Timeout(_IDLE_SECONDS, connect=10.0, pool=None),
                    limits=httpx.Limits(max_connections=STREAMS * 2),
                    # As stored: a proxy's compression would break ranges.
                    headers={"User-Agent": "chanlab", "Accept-Encoding": "identity"},
                    follow_redirects=True,
                )
            return self._client


_GONE_CODES = (404, 410)
_GONE = "the cached list of packages may be older than the mirror: `lab kernels --refresh`, then start again"


def _goes_on(response: httpx.Response, start: int) -> bool:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status_code == 206 and match is not None and int(match[1]) == start


def now() -> float:
    """Return the seconds since the epoch, as one place for tests to change."""
    return time.time()
