# SPDX-License-Identifier: MIT
"""Roots: private directories of unpacked Debian packages, whose programs run in place.

What is in a root is in kernels/roots.yaml. A root is made once, from the versions of that day, and stays.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.arch import Architecture, host
from lab.errors import FetchError, LabError, UsageError
from lab.kernels import tables
from lab.parts import part
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.kernels.debian.archive import Package
    from lab.kernels.debian.fetch import Item
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

DATA = part("kernels") / "roots.yaml"
MAKER = 2  # to be raised when roots are to be made anew, since this file makes them otherwise
_ABOUT = ".root.json"
_DRIVER = re.compile(r"(\w+-linux-gnu\w*-)?(cc|gcc|g\+\+|c\+\+|cpp)(-\d+)?")


@dataclass(frozen=True)
class Root:
    """A root in the cache."""

    path: Path
    digest: str  # of what went into it
    packages: Mapping[str, str]  # name -> version

    def command(self, program: str) -> list[str]:
        """Return the start of an argv that runs a program of the root: it finds its own loader by itself."""
        return [str(self.path / "usr/bin" / program)]

    def environment(self) -> dict[str, str]:
        """Return a whole environment for programs that start others: nothing of the host's is on the PATH."""
        environment = {"PATH": f"{self.path}/usr/bin:{self.path}/usr/sbin", "LC_ALL": "C"}
        # What these would look for under the host's /usr otherwise.
        for name, place in (("PERL5LIB", "perl-base"), ("QEMU_MODULE_DIR", "qemu")):
            for found in self.path.glob(f"usr/lib/*/{place}"):
                environment[name] = str(found)
        for name, path in (
            ("BISON_PKGDATADIR", "share/bison"),
            ("M4", "bin/m4"),
            ("GIT_EXEC_PATH", "lib/git-core"),
        ):
            if (self.path / "usr" / path).exists():
                environment[name] = str(self.path / "usr" / path)
        if "TMPDIR" in os.environ:
            environment["TMPDIR"] = os.environ["TMPDIR"]
        return environment


def root(
    name: str, settings: Settings, cache: Cache, progress: Progress, *, target: Architecture | None = None
) -> Root:
    """Return a root, made if it is not in the cache; `target`: what its programs are for, None for the host.

    Raises UsageError for a root that kernels/roots.yaml does not have, FetchError where packages cannot be
    had, CacheError for a full or unwritable disk.
    """
    arch = host()
    spec, called = _spec(name, target or arch, arch)
    return _root(spec, called, settings, cache, progress)


def tools(
    compiler: str, packages: Sequence[str], settings: Settings, cache: Cache, progress: Progress
) -> Root:
    """Return a root with packages for the host, of the release that a compiler's root is of.

    Their programs run beside that root's, so it stays what it is. Raises UsageError for a package that the
    release does not have, and what root() does.
    """
    arch = host()
    base, _ = _spec(compiler, arch, arch)
    asked = sorted(set(packages))
    spec = {
        "suites": base["suites"],
        "packages": ["libc6", *asked],  # where all are scripts: a root has a loader
        "without": [one for one in base["without"] if one not in asked],
        "skip": base.get("skip"),
        "asked": asked,
    }
    return _root(spec, f"tools-{compiler}-{digest(asked)[:12]}", settings, cache, progress)


def _root(spec: dict[str, Any], called: str, settings: Settings, cache: Cache, progress: Progress) -> Root:
    there = _held(called, cache)
    if there is not None:
        return there
    with cache.alone(f"root-{called}", f"root {called}"):
        return _held(called, cache) or _make(
            called, spec, host(), settings=settings, cache=cache, progress=progress
        )


def _held(called: str, cache: Cache) -> Root | None:
    """Return a root that is there, held for as long as this process lives."""
    key = _known_key(called, cache)
    try:
        return _load(cache.entry("root", key, _vanished)) if key else None
    except _Vanished:  # or was damaged, which was told
        return None


def _make(
    name: str,
    spec: dict[str, Any],
    arch: Architecture,
    *,
    settings: Settings,
    cache: Cache,
    progress: Progress,
) -> Root:
    with _ONE_AT_A_TIME:  # two roots out of the same suites: let the second find the indexes
        packages, fetch = _resolve(name, spec, arch, settings=settings, cache=cache, progress=progress)
    what = digest(MAKER, name, spec, [[package.name, package.item.sha256] for package in packages])
    key = f"{name}-{digest(what, str(cache.root))[:16]}"
    about = {
        "name": name,
        "digest": what,
        "packages": {package.name: package.version for package in packages},
    }

    def make(building: Path, final: Path) -> None:
        fetch(building)
        _finish(building, final, spec, arch)
        (building / _ABOUT).write_text(json.dumps(about))

    path = cache.entry("root", key, make, progress_text=f"root {name}")
    cache.remember(f"root-{name}", {"for": _made_for(arch, cache), "key": key})
    return _load(path)


def known(name: str, cache: Cache, *, target: Architecture | None = None) -> Root | None:
    """Return a root if it is in the cache; nothing is fetched, made or held. Raises UsageError as root()."""
    arch = host()
    _, called = _spec(name, target or arch, arch)
    key = _known_key(called, cache)
    path = cache.peek("root", key) if key else None
    return _load(path) if path is not None else None


def _known_key(called: str, cache: Cache) -> str:
    """Return the key of a root that is in the cache, '' for one that is not.

    Which versions it was made of is not asked again: a root that is there needs no network.
    """
    arch = host()
    fact = cache.recall(f"root-{called}")
    if not fact or fact["for"] != _made_for(arch, cache) or cache.peek("root", fact["key"]) is None:
        return ""
    return str(fact["key"])


def _made_for(arch: Architecture, cache: Cache) -> str:
    return digest(MAKER, file_digest(DATA), arch.debian, str(cache.root))


_ONE_AT_A_TIME = threading.Lock()


class _Vanished(LabError):  # noqa: N818 - what happened
    """A root that was there is not there any more."""


def _vanished(_building: Path, final: Path) -> None:
    raise _Vanished(f"{final} was removed while it was wanted", hint="start again")


def _load(path: Path) -> Root:
    about = json.loads((path / _ABOUT).read_bytes())
    return Root(path, about["digest"], about["packages"])


def _spec(name: str, target: Architecture, ours: Architecture) -> tuple[dict[str, Any], str]:
    """Return the description of a root for an architecture, and what that root is called."""
    specs = _specs(DATA)
    if name not in specs:
        raise UsageError(
            f"no root is called {name!r}", hint=f"kernels/roots.yaml has {', '.join(sorted(specs))}"
        )
    spec = dict(specs[name])
    cross = target.name != ours.name
    native, other = spec.pop("native", None), spec.pop("cross", None)
    more = (other if cross else native) or {"packages": [], "links": {}}
    words = {
        "root": name,
        "gnu": target.gnu.replace("_", "-"),  # as package names have it
        "debian": target.debian,
        "qemu_package": target.qemu_package,
        "firmware_package": target.firmware_package,
    }
    wanted = (one.format_map(words) for one in _flat([*more["packages"], *spec["packages"]]))
    packages = [one for one in wanted if one]  # not every machine needs all of them
    links = {path: to.format_map(words) for path, to in {**more["links"], **spec.get("links", {})}.items()}
    without = _flat(spec["without"])
    name = spec.pop("called", name).format_map(words)
    if cross and other is not None:
        name = f"{name}-{target.name}"
        without += [f"{one}-{target.debian}-cross" for one in without]
    return {**spec, "packages": packages, "without": without, "links": links}, name


def _specs(data: Path) -> dict[str, dict[str, Any]]:
    roots: dict[str, dict[str, Any]] = tables.read(data)["roots"]
    return roots


def _flat(words: Sequence[str | list[str]]) -> list[str]:
    """Return a list whose parts may be lists that YAML put in for an alias."""
    return [each for word in words for each in (word if isinstance(word, list) else [word])]


def _resolve(
    name: str,
    spec: dict[str, Any],
    arch: Architecture,
    *,
    settings: Settings,
    cache: Cache,
    progress: Progress,
) -> tuple[list[Package], Callable[[Path], None]]:
    """Return the packages of a root and what fetches and unpacks them into a directory."""
    from lab.kernels.debian import archive  # noqa: PLC0415 - a root that is there needs no archive
    from lab.kernels.debian.fetch import Fetcher  # noqa: PLC0415 - the same
    from lab.kernels.debian.resolve import Resolver  # noqa: PLC0415 - the same

    known = {suite.name: suite for suite in archive.suites()}
    certificates = archive.keys()

    with Fetcher(settings, cache) as fetcher:

        def load(suite: str) -> archive.Index:
            found = archive.release(known[suite], fetcher, certificates)
            return archive.index(found, arch.debian, fetcher, progress)

        indexes = fetcher.each(spec["suites"], load)
    resolver = Resolver(indexes, spec["without"])
    for package in spec.get("asked", ()):
        if resolver.find(package) is None:
            raise UsageError(
                f"chanlab_tools names {package}, which {', '.join(spec['suites'])} does not have",
                hint="it takes names of Debian packages: python3, gawk, git",
            )
    packages = resolver.closure(spec["packages"])
    skip = re.compile(spec["skip"]) if spec.get("skip") else None

    def fetch(building: Path) -> None:
        fetch_packages(
            [package.item for package in packages],
            building,
            settings,
            cache,
            progress,
            text=name,
            wanted=lambda path: skip is None or skip.match(path) is None,
        )

    return packages, fetch


def fetch_packages(
    items: Sequence[Item],
    to: Path,
    settings: Settings,
    cache: Cache,
    progress: Progress,
    *,
    text: str,
    wanted: Callable[[str], bool] | None = None,
) -> None:
    """Fetch, verify and unpack packages into a directory, side by side.

    Raises HashMismatch, FetchError, CacheError.
    """
    from lab.kernels.debian.fetch import Fetcher  # noqa: PLC0415 - only what is missing is fetched
    from lab.kernels.debian.unpack import unpack  # noqa: PLC0415 - the same

    def take(path: str) -> bool:
        cache.check_interrupt()  # asked for every file, and so often enough
        return wanted is None or wanted(path)

    total = sum(item.size for item in items)
    with (
        progress.task(f"{text}: {len(items)} packages, {total / 1e6:.0f} MB", total, unit="bytes") as task,
        Fetcher(settings, cache) as fetcher,
    ):
        # The largest first: the last one alone decides when it is over.
        fetcher.each(
            sorted(items, key=lambda item: -item.size),
            lambda item: unpack(fetcher.file(item, task), to, take),
        )
        fetcher.drop(items)


def _finish(building: Path, final: Path, spec: dict[str, Any], arch: Architecture) -> None:
    """Make a directory of unpacked packages a root that runs in place."""
    from lab.kernels import inplace  # noqa: PLC0415 - only new roots are bound

    for name in ("bin", "sbin", "lib", "lib64"):
        (building / "usr" / name).mkdir(exist_ok=True)
        if not (building / name).exists():
            (building / name).symlink_to(f"usr/{name}")
    for path, target in spec.get("links", {}).items():
        link = building / path
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        if not link.exists():
            raise FetchError(f"{spec['packages'][0]}: the link {path} leads nowhere", hint="report this")
    libraries = find_libraries(building, arch)
    bind_programs(building, building, final, libraries)
    inplace.seal_loader(_loader(building, libraries), arch.gnu)
    _settle_gcc(building, final)


def _settle_gcc(building: Path, final: Path) -> None:
    """Let gcc look for headers and libraries in its root.

    It finds its own parts beside itself, but /usr/include and /usr/lib would be the host's without --sysroot,
    which only the command line can say: a specs file comes too late for some, and replaces others.
    """
    drivers = building / "usr/drivers"  # beside bin: the way to its parts stays the same
    found = [path for path in (building / "usr/bin").iterdir() if _DRIVER.fullmatch(path.name)]
    for path in found:
        drivers.mkdir(exist_ok=True)
        path.rename(drivers / path.name)
        driver, sysroot = shlex.quote(f"{final}/usr/drivers"), shlex.quote(f"--sysroot={final}")
        path.write_text(f'#!{final}/usr/bin/dash\nexec {driver}/"${{0##*/}}" {sysroot} "$@"\n')
        path.chmod(0o755)


def find_libraries(building: Path, arch: Architecture) -> list[str]:
    """Return a root's library directories, relative to it."""
    places = [f"usr/lib/{arch.gnu}", "usr/lib"]
    return [place for place in places if (building / place).is_dir()]


def loader(root: Path, arch: Architecture) -> Path:
    """Return the loader by which programs of a root are started; raises LabError where it has none."""
    return _loader(root, find_libraries(root, arch))


def _loader(building: Path, libraries: list[str]) -> Path:
    """Return the loader itself, behind the links to it."""
    found = sorted((building / libraries[0]).glob("ld-linux*.so.*"))
    if not found:
        raise LabError(f"{building} has no loader", hint="report this: libc6 has changed")
    return Path(os.path.realpath(found[0]))


def bind_programs(where: Path, building: Path, final: Path, libraries: list[str]) -> None:
    """Bind all programs below `where` to the root that is in `building` now and in `final` later.

    Raises LabError when a program needs a library that the root does not have.
    """
    from lab.kernels import inplace  # noqa: PLC0415 - only new roots are bound

    real = _loader(building, libraries)
    loader = inplace.Loader(
        final / real.relative_to(os.path.realpath(building)),
        tuple(final / place for place in libraries),
        inplace.machine(real),
    )
    programs, seen = [], set()
    for path in inplace.files(where):
        state = path.stat()
        if (state.st_dev, state.st_ino) in seen:  # a hard link to what was done
            continue
        seen.add((state.st_dev, state.st_ino))
        # libc.so.6 can be run, to say which it is. Nobody does, and bound it is nothing that a linker takes.
        library = ".so" in path.name
        if not library and inplace.bind(path, loader):
            programs.append(path)
        elif library:
            inplace.unbind_library(path)
        elif state.st_mode & 0o100:
            inplace.rewrite_shebang(path, building / "usr/bin", final / "usr/bin")
    missing = inplace.missing_libraries(programs, [building / place for place in libraries])
    if missing:
        said = ", ".join(f"{name} for {user}" for name, user in sorted(missing.items()))
        raise LabError(
            f"libraries are missing in {final.name}: {said}", hint="kernels/roots.yaml lacks a package"
        )
