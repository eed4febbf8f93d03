# SPDX-License-Identifier: MIT
"""The cache: directories keyed by what went into them, made once, shared by all runs on a host.

::

    ROOT/v1/KIND/KEY/       an entry: what its maker put there and a manifest
    ROOT/v1/tmp/            entries being made; renamed whole into place
    ROOT/v1/locks/          one lock an entry: who makes or removes it holds it
    ROOT/v1/facts/          small JSON values by name
    ROOT/v1/records/        what became of scenarios (lab.run.results); clean() leaves it alone

Whoever uses an entry holds a shared lock on its manifest, and who removes one takes that lock alone. Locks
are flock(2): the kernel gives them up when a process dies, however it dies. An entry that is damaged is of no
use to its users: it is removed and made again also while they hold it (lab.store.inventory tells damage).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import CacheError, LabError
from lab.progress import Progress
from lab.store import inventory
from lab.store.disk import disk_usage, free_bytes, remove_tree, sync
from lab.store.locks import POLL_SECONDS, flock, is_free, lock_alone, lock_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

FORMAT = 1
MANIFEST = ".chanlab.json"
# What says that the place is the trouble, not the maker.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ROOMS = ("tmp", "locks", "facts", "records")  # beside the kinds of entries
_TOUCH_SECONDS = 600.0  # how exact "last used" is: a hit shall write nothing
_SOUND_SECONDS = 86400.0  # what was found sound is read again after that, unless it was written to
_RECENT_SECONDS = 60.0  # and not even looked at before that


_MAKING: set[Path] = set()  # locks that this process has


def digest(*parts: object) -> str:
    """Return the sha256 of the parts as canonical JSON; bytes count as their hex form.

    Raises TypeError for what JSON cannot say, a Path in particular: a key is made of contents, not of places.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_bytes_only)
    return hashlib.sha256(text.encode()).hexdigest()


def _bytes_only(part: object) -> str:
    if isinstance(part, bytes | bytearray):
        return part.hex()
    raise TypeError(f"{type(part).__name__} cannot be part of a key")


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(*paths: Path) -> str:
    """Return the sha256 of files and directories: names below each path, contents, links and execute bits."""
    parts: list[list[object]] = []
    for path in paths:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            name = file.name if file == path else str(file.relative_to(path))
            if file.is_symlink():
                parts.append([name, "link", str(file.readlink())])
            elif file.is_file():
                parts.append([name, "file", file_digest(file), bool(file.stat().st_mode & 0o100)])
        parts.append([])
    return digest(parts)


@dataclass(frozen=True)
class Usage:
    """One entry, for people."""

    kind: str
    key: str
    bytes: int  # on disk
    last_used: float  # seconds since the epoch, exact to some minutes
    held: bool  # somebody uses it now


@dataclass(frozen=True)
class Freed:
    """What a cleaning did."""

    bytes: int
    entries: int
    kept: int  # entries that are in use


class Cache:
    """The cache below one directory; safe to use from several threads, processes and hosts' runs at once.

    Entries returned by entry() stay held until close(), so that nobody takes them away from this run.
    """

    def __init__(self, root: Path, progress: Progress | None = None) -> None:
        """Create the directory; raises CacheError where that or writing there is impossible."""
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolved below, once it is there
        self.progress = progress if progress is not None else Progress(quiet=True)
        self._base = root / f"v{FORMAT}"
        self._held: dict[Path, int] = {}  # entry -> the descriptor that holds its lock
        self._mutex = threading.Lock()
        self._interrupted = threading.Event()
        self._sound: dict[Path, float] = {}  # entry -> when it was found to be as it was made
        with self._explained():
            for name in _ROOMS:
                try:
                    (self._base / name).mkdir(parents=True, exist_ok=True)
                except FileNotFoundError as error:  # a place like /proc, where nobody can make anything
                    raise PermissionError(errno.EACCES, error.strerror, error.filename) from error
            if not os.access(self._base / "tmp", os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable", str(self._base / "tmp"))
        # A root knows its own path, so the path has to be one that does not depend on the working directory.
        self.root = self.root.resolve()
        self._base = self._base.resolve()

    def entry(
        self,
        kind: str,
        key: str,
        make: Callable[[Path, Path], None],
        *,
        progress_text: str = "",
        durable: bool = True,
        fixed: bool = True,
    ) -> Path:
        """Return the directory of an entry, made by `make(building, final)` if it is not there yet.

        `make` fills the directory `building`, which then becomes `final` in one step; whatever it raises
        passes through, and nothing stays. One process makes an entry, others wait for it. `durable`: on disk
        before it is in place (not worth its time for what is checked again when it is used). `fixed`: nobody
        writes to it any more, so that damage is told, here what a glance shows, by verify() the rest; such an
        entry is made again.

        Raises CacheError for a full or unwritable disk.
        """
        final = self._place(kind, key)
        if self._hold(final):
            return final
        with self._explained(), self._lock(kind, key, progress_text):
            if self._hold(final, patient=True):
                return final
            self._throw_away_damaged(final)
            self._sweep(kind, key)
            building = Path(tempfile.mkdtemp(prefix=f"{kind}+{key}+", dir=self._base / "tmp"))
            try:
                building.chmod(0o755)
                make(building, final)
                self._seal(kind, key, building, durable=durable, fixed=fixed)
                self._discard_foreign(final)
                final.parent.mkdir(exist_ok=True)
                building.rename(final)
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
            if durable:
                sync(final.parent, whole=False)
            if not self._hold(final, patient=True):
                raise CacheError(f"the cache entry {final} vanished while it was made", hint="start again")
        return final

    @contextmanager
    def alone(self, name: str, text: str) -> Iterator[None]:
        """Do what only one process should at a time, called `text`, while the block runs; others wait for it.

        For what ends in facts: whoever waited looks whether they are there now. Raises CacheError.
        """
        with self._explained(), self._lock("alone", digest(name), text):
            yield

    def peek(self, kind: str, key: str) -> Path | None:
        """Return an entry's directory if it is there; nothing is made or held."""
        final = self._place(kind, key)
        try:
            wrong, _ = inventory.glance(final, _manifest(final / MANIFEST))
        except (OSError, ValueError):
            return None
        return None if wrong else final

    def verify(self) -> list[str]:
        """Look whether what this run uses is still what was made, and throw away what is not.

        To be asked before anybody is blamed for what went wrong; returns what was thrown away and why. What
        was found sound within a day is read again only if it was written to. Raises CacheError.
        """
        if self._interrupted.is_set():
            return []
        found = []
        with self._mutex:
            held = list(self._held.items())
        for final, descriptor in held:
            if time.monotonic() - self._sound.get(final, -_RECENT_SECONDS) < _RECENT_SECONDS:
                continue
            wrong = self._damage(final, descriptor)
            if not wrong:
                self._sound[final] = time.monotonic()
                continue
            found.append(f"{final.parent.name} {final.name}: {wrong}")
            with self._mutex:
                self._held.pop(final, None)
            with self._explained(), self._lock(final.parent.name, final.name, f"removing {final}"):
                if _is_still(descriptor, final):
                    self._throw_away(final)
            os.close(descriptor)
        return found

    def keys(self, kind: str) -> list[str]:
        """Return the keys of a kind's entries."""
        place = self._base / kind
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []

    @contextmanager
    def hold(self, entry: Path) -> Iterator[None]:
        """Keep an entry from being removed while the block runs; raises CacheError when it is gone."""
        descriptor = lock_shared(entry / MANIFEST)
        if descriptor is None:
            raise CacheError(f"the cache entry {entry} is gone or being removed", hint="start again")
        try:
            yield
        finally:
            os.close(descriptor)

    def discard(self, kind: str, key: str) -> bool:
        """Remove an entry unless somebody else uses it; returns whether it is gone."""
        final = self._place(kind, key)
        with self._mutex:
            descriptor = self._held.pop(final, None)
        if descriptor is not None:
            os.close(descriptor)
        return self._remove(kind, key)

    def close(self) -> None:
        """Let go of all entries."""
        with self._mutex:
            for descriptor in self._held.values():
                os.close(descriptor)
            self._held.clear()

    def interrupt(self) -> None:
        """Let all threads that wait for another run, fetch or unpack end with a LabError, for good.

        Ctrl+C reaches the main thread only, which then waits for the others.
        """
        self._interrupted.set()

    def check_interrupt(self) -> None:
        """Raise LabError after interrupt(); long work asks now and then."""
        if self._interrupted.is_set():
            raise LabError("interrupted", hint="start again: what was complete is kept")

    def another(self) -> Cache:
        """Return the same cache with holds of its own, interrupted together with this one."""
        other = Cache(self.root, self.progress)
        other._interrupted = self._interrupted
        return other

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value under a name; raises CacheError for a full or unwritable disk."""
        path = self._fact(name)
        with self._explained():
            descriptor, temporary = tempfile.mkstemp(prefix="fact+", dir=self._base / "tmp")
            try:
                with os.fdopen(descriptor, "w") as file:
                    os.fchmod(descriptor, 0o644)  # a cache may serve several users
                    json.dump({"name": name, "value": value, "digest": _digest_of(value)}, file)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    def recall(self, name: str) -> Any | None:
        """Return the value under a name, None where there is none or it cannot be read."""
        try:
            fact = json.loads(self._fact(name).read_bytes())
            good = fact["name"] == name and fact.get("digest") in (None, _digest_of(fact["value"]))
            return fact["value"] if good else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def forget(self, name: str) -> None:
        """Drop the value under a name, if any."""
        with self._explained():
            self._fact(name).unlink(missing_ok=True)

    def usage(self) -> list[Usage]:
        """Return all entries, the biggest first."""
        found = []
        for final in sorted(self._entries()):
            with suppress(OSError, ValueError):
                manifest = _manifest(final / MANIFEST)
                used = (final / MANIFEST).stat().st_mtime
                held = not is_free(final / MANIFEST)
                # What others write to has grown since it was made.
                size = manifest["bytes"] if inventory.is_known(manifest) else disk_usage(final)
                found.append(Usage(final.parent.name, final.name, size, used, held))
        return sorted(found, key=lambda usage: -usage.bytes)

    def clean(
        self, *, kinds: Collection[str] | None = None, unused_seconds: float = 0.0, facts: bool = True
    ) -> Freed:
        """Remove entries that nobody uses, what killed runs left half-made, and facts.

        `kinds`: only these kinds; `unused_seconds`: only what was not used for so long.
        """
        size = entries = kept = 0
        for final in self._entries():
            kind, key = final.parent.name, final.name
            if kinds is not None and kind not in kinds:
                continue
            try:
                used, was = (final / MANIFEST).stat().st_mtime, _manifest(final / MANIFEST)["bytes"]
            except (OSError, ValueError):
                used, was = 0.0, disk_usage(final)
            if time.time() - used < unused_seconds:
                continue
            if self._remove(kind, key):
                size, entries = size + was, entries + 1
            else:
                kept += 1
        size += self._sweep_all()
        if facts and kinds is None:
            for fact in (self._base / "facts").iterdir():
                fact.unlink(missing_ok=True)
        return Freed(size, entries, kept)

    def shrink(self, most: float) -> Freed:
        """Remove what was not used for longest until `most` bytes are left at most; never what is in use."""
        entries = sorted(self.usage(), key=lambda usage: usage.last_used)
        size, freed, removed, kept = sum(usage.bytes for usage in entries), 0, 0, 0
        for usage in entries:
            if size - freed <= most:
                break
            if self._remove(usage.kind, usage.key):
                freed, removed = freed + usage.bytes, removed + 1
            else:
                kept += 1
        return Freed(freed, removed, kept)

    @property
    def records(self) -> Path:
        """Where files of records are, which nothing here writes or removes."""
        return self._base / "records"

    def _place(self, kind: str, key: str) -> Path:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", kind) or kind in _ROOMS:
            raise ValueError(f"not a kind of cache entry: {kind!r}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]*", key):
            raise ValueError(f"not a key of a cache entry: {key!r}")
        return self._base / kind / key

    def _fact(self, name: str) -> Path:
        plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", name)
        return self._base / "facts" / f"{name if plain else digest(name)}.json"

    def _entries(self) -> list[Path]:
        kinds = [path for path in self._base.iterdir() if path.name not in _ROOMS]
        return [entry for kind in kinds if kind.is_dir() for entry in kind.iterdir()]

    def _hold(self, final: Path, *, patient: bool = False) -> bool:
        """Hold a good entry for as long as this object lives; False where there is none.

        `patient`: the caller has the entry's lock, so that whoever is in the way only looks, see usage().
        """
        with self._mutex:
            if final in self._held:
                return True
            descriptor = lock_shared(final / MANIFEST, patient=patient)
            if descriptor is None:
                return False
            if self._glance(final):
                os.close(descriptor)
                return False
            self._held[final] = descriptor
        with suppress(OSError):  # a read-only cache that is complete is good enough
            if time.time() - os.fstat(descriptor).st_mtime > _TOUCH_SECONDS:
                os.utime(final / MANIFEST)
        return True

    def _glance(self, final: Path) -> str:
        """Return why an entry is not good, as far as that can be told at once: '' where it is."""
        try:
            manifest = _manifest(final / MANIFEST)
            wrong, touched = inventory.glance(final, manifest)
        except (OSError, ValueError, TypeError, AttributeError):
            return "its manifest cannot be read"
        return wrong or (self._changed(final, manifest) if touched else "")

    def _damage(self, final: Path, descriptor: int) -> str:
        """Return why an entry that was held is not good any more."""
        if not _is_still(descriptor, final):
            return "another run threw it away"
        try:
            manifest = _manifest(final / MANIFEST)
            return inventory.glance(final, manifest)[0] or self._changed(final, manifest)
        except (OSError, ValueError, TypeError, AttributeError):
            return "its manifest cannot be read"

    def _changed(self, final: Path, manifest: dict[str, Any]) -> str:
        """Return in what an entry's contents are not what they were; read once a day, and when written to."""
        if not inventory.is_known(manifest):
            return ""  # others write there: not even what files there are can be told
        fact = f"sound-{final.parent.name}-{digest(final.name)[:16]}"
        state = inventory.state(final, MANIFEST)
        known = self.recall(fact)
        if isinstance(known, list) and known[0] == state and 0 <= time.time() - known[1] < _SOUND_SECONDS:
            return ""
        wrong = inventory.damage(final, manifest)
        if not wrong:
            with suppress(LabError):
                self.remember(fact, [state, time.time()])
        return wrong

    def _throw_away_damaged(self, final: Path) -> None:
        """Remove what is in an entry's place and is none, and tell; the caller has its lock."""
        if (final / MANIFEST).exists():
            wrong = self._glance(final)
            if wrong and not self._is_foreign(final):
                self.progress.note(f"{final} was damaged, it is made again: {wrong}")
                self._throw_away(final)

    @staticmethod
    def _is_foreign(final: Path) -> bool:
        """Return whether another version of the lab made something, which it may be using."""
        try:
            manifest = json.loads((final / MANIFEST).read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(manifest, dict) and manifest.get("format") != FORMAT

    def _throw_away(self, final: Path) -> None:
        """Remove an entry, whoever uses it: it is of no use to them. The caller has its lock."""
        gone = Path(tempfile.mkdtemp(prefix=f"{final.parent.name}+{final.name}+", dir=self._base / "tmp"))
        with suppress(FileNotFoundError):
            final.rename(gone / "gone")
        remove_tree(gone)

    @contextmanager
    def _lock(self, kind: str, key: str, text: str) -> Iterator[None]:
        """Be the only one who makes or removes an entry."""
        path = self._base / "locks" / f"{kind}+{key}"
        descriptor = lock_alone(path)
        if descriptor is None:
            # What another thread of this run makes is announced by that.
            own = path in _MAKING
            said = nullcontext() if own else self.progress.task(f"waiting for another run: {text or kind}")
            with said:
                while (descriptor := lock_alone(path)) is None:
                    self.check_interrupt()
                    time.sleep(POLL_SECONDS)
        _MAKING.add(path)
        try:
            yield
        finally:
            _MAKING.discard(path)
            path.unlink(missing_ok=True)  # while it is held: lock_alone() looks whether the name still is it
            os.close(descriptor)

    def _seal(self, kind: str, key: str, building: Path, *, durable: bool, fixed: bool) -> None:
        manifest = {"format": FORMAT, "kind": kind, "key": key, "bytes": disk_usage(building)}
        if fixed:
            manifest |= inventory.write(building, MANIFEST)
        (building / MANIFEST).write_text(json.dumps(manifest))
        if durable:
            sync(building)

    def _remove(self, kind: str, key: str) -> bool:
        final = self._place(kind, key)
        lock = lock_alone(self._base / "locks" / f"{kind}+{key}")
        if lock is None:
            return False
        try:
            return self._discard_unheld(final)
        finally:
            (self._base / "locks" / f"{kind}+{key}").unlink(missing_ok=True)
            os.close(lock)

    def _discard_unheld(self, final: Path) -> bool:
        """Remove an entry, whose lock the caller has, unless it is held."""
        try:
            descriptor = os.open(final / MANIFEST, os.O_RDONLY)
        except FileNotFoundError:
            descriptor = -1  # not an entry of ours, or none at all: nobody can hold it
        try:
            if descriptor >= 0 and not flock(descriptor, fcntl.LOCK_EX):
                return False
            if final.exists():
                gone = Path(
                    tempfile.mkdtemp(prefix=f"{final.parent.name}+{final.name}+", dir=self._base / "tmp")
                )
                final.rename(gone / "gone")
                remove_tree(gone)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return True

    def _discard_foreign(self, final: Path) -> None:
        """Make room where something is that is no entry of this version of the lab."""
        if not self._discard_unheld(final):
            raise CacheError(
                f"{final} is not what this version of the lab keeps there, and in use",
                hint="end the other run, or set CHANLAB_CACHE to another directory",
            )

    def _sweep(self, kind: str, key: str) -> None:
        """Remove what a killed maker of this entry left; the caller has its lock."""
        for left in (self._base / "tmp").glob(f"{kind}+{key}+*"):
            remove_tree(left)

    def _sweep_all(self) -> int:
        size = 0
        for left in (self._base / "tmp").iterdir():
            kind, _, rest = left.name.partition("+")
            key, _, _ = rest.rpartition("+")
            if not key:  # a fact: written in an instant, so an old one is nobody's
                with suppress(OSError):
                    if time.time() - left.stat().st_mtime > 60:
                        left.unlink()
                continue
            path = self._base / "locks" / f"{kind}+{key}"
            lock = lock_alone(path)
            if lock is None:
                continue
            try:
                size += disk_usage(left)
                remove_tree(left)
            finally:
                path.unlink(missing_ok=True)
                os.close(lock)
        return size

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the disk's refusals below the cache into a CacheError."""
        try:
            yield
        except OSError as error:
            where = error.filename if isinstance(error.filename, str | Path) else None
            if error.errno not in _DISK or (where is not None and not self._is_ours(Path(where))):
                raise
            free = free_bytes(self.root)
            if error.errno in _FULL:
                raise CacheError(
                    f"no space for the cache in {self.root} ({free / 1e6:.0f} MB free): {error.strerror}",
                    hint="free some there (`lab clean` frees the cache) or set CHANLAB_CACHE elsewhere",
                ) from error
            raise CacheError(
                f"cannot write the cache in {self.root}: {where or ''} {error.strerror}".replace("  ", " "),
                hint="make it writable, or set CHANLAB_CACHE to a directory that is",
            ) from error

    def _is_ours(self, path: Path) -> bool:
        return (
            path.is_relative_to(self.root)
            or path.is_relative_to(self._base)
            or self.root.is_relative_to(path)
        )


def _is_still(descriptor: int, final: Path) -> bool:
    """Return whether an entry is the one that was held."""
    try:
        return os.path.samestat(os.fstat(descriptor), (final / MANIFEST).stat())
    except OSError:
        return False


def _digest_of(value: Any) -> str:
    """Return a digest of a value that is the same after it was written and read."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _manifest(path: Path) -> dict[str, Any]:
    """Return a good manifest; raises OSError or ValueError."""
    manifest = json.loads(path.read_bytes())
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError("a manifest of another version")
    return manifest
