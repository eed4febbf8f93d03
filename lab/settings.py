# SPDX-License-Identifier: MIT
"""What a user can set, by environment or by pytest ini, under the same names.

The environment wins over the ini file, which wins over what the host tells (its apt sources) and the
defaults. Nothing here reads the network.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Setting:
    """One name that a user can set."""

    name: str
    meaning: str
    default: str  # for people


SETTINGS: tuple[Setting, ...] = (
    Setting("CHANLAB_CACHE", "directory of everything fetched and built", "the user's cache directory"),
    Setting(
        "CHANLAB_CACHE_GB",
        "how large the cache may be after a run: what was not used for longest goes first; 0: no limit",
        "0",
    ),
    Setting("CHANLAB_DEBIAN_MIRROR", "URL of a Debian mirror's `debian` tree", "the host's apt sources"),
    Setting(
        "CHANLAB_DEBIAN_SECURITY_MIRROR",
        "URL of a Debian mirror's `debian-security` tree",
        "the host's apt sources, else beside the `debian` tree",
    ),
    Setting(
        "CHANLAB_KERNEL_MIRROR",
        "URL of a mirror of kernel.org's `pub/linux/kernel`: for releases that Debian does not have",
        "none",
    ),
    Setting("CHANLAB_KERNEL_KEYS", "file with the OpenPGP keys that sign that mirror's lists", "none"),
    Setting(
        "CHANLAB_CHECK_VALID_UNTIL",
        "0: accept a suite's signed list past its date, as of a mirror that is behind",
        "1",
    ),
    Setting("CHANLAB_INDEX_HOURS", "hours before the list of kernels is fetched again", "24"),
    Setting("CHANLAB_OFFLINE", "1: never ask the network, use what is cached", "0"),
    Setting("CHANLAB_ACCEL", "QEMU's accelerator: auto, tcg or kvm", "auto"),
    Setting("CHANLAB_QEMU", "a qemu-system-* to use instead of the lab's own", "the lab's own"),
    Setting(
        "CHANLAB_TURBO",
        "the QEMU that `lab turbo` builds: auto uses it where it is built or installed, 0 never",
        "auto",
    ),
    Setting("CHANLAB_JOBS", "jobs side by side when compiling", "the CPUs this process may use"),
)

ACCELERATORS = ("auto", "tcg", "kvm")


@dataclass(frozen=True)
class Settings:
    """What holds for this run."""

    cache: Path
    debian_mirror: str | None  # None: neither set nor named by the host's apt sources
    security_mirror: str | None
    accel: str  # one of ACCELERATORS
    qemu: Path | None
    check_valid_until: bool
    index_hours: float
    offline: bool
    jobs: int
    cache_gb: float = 0.0  # 0: as large as it gets
    kernel_mirror: str | None = None
    kernel_keys: Path | None = None
    turbo: bool = True  # whether a QEMU that `lab turbo` built is used
    sources: tuple[tuple[str, str], ...] = ()  # setting name -> where its value comes from, for `lab doctor`

    def value(self, name: str) -> str:
        """Return a setting's value for people; `name` is one of SETTINGS."""
        values: dict[str, object] = {
            "CHANLAB_CACHE": self.cache,
            "CHANLAB_CACHE_GB": f"{self.cache_gb:g}",
            "CHANLAB_DEBIAN_MIRROR": self.debian_mirror,
            "CHANLAB_DEBIAN_SECURITY_MIRROR": self.security_mirror,
            "CHANLAB_KERNEL_MIRROR": self.kernel_mirror,
            "CHANLAB_KERNEL_KEYS": self.kernel_keys,
            "CHANLAB_CHECK_VALID_UNTIL": int(self.check_valid_until),
            "CHANLAB_INDEX_HOURS": f"{self.index_hours:g}",
            "CHANLAB_OFFLINE": int(self.offline),
            "CHANLAB_ACCEL": self.accel,
            "CHANLAB_QEMU": self.qemu,
            "CHANLAB_TURBO": "auto" if self.turbo else 0,
            "CHANLAB_JOBS": self.jobs,
        }
        value = values[name]
        return "none" if value is None else str(value)


def load(
    ini: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    apt: Path = Path("/etc/apt"),
) -> Settings:
    """Return the settings of this run; an empty value counts as not set.

    Raises UsageError, naming the setting, for a value that cannot be.
    """
    given = _Given(ini or {}, environ)
    cache = given.text("CHANLAB_CACHE")
    debian = given.url("CHANLAB_DEBIAN_MIRROR")
    security = given.url("CHANLAB_DEBIAN_SECURITY_MIRROR")
    if debian is None or security is None:
        found = apt_mirrors(apt)
        if debian is None and found.debian:
            debian = given.note("CHANLAB_DEBIAN_MIRROR", found.debian, "apt sources")
            if security is None and found.security:
                security = given.note("CHANLAB_DEBIAN_SECURITY_MIRROR", found.security, "apt sources")
    if security is None and debian and debian.endswith("/debian"):
        security = given.note(
            "CHANLAB_DEBIAN_SECURITY_MIRROR", f"{debian}-security", "beside CHANLAB_DEBIAN_MIRROR"
        )
    qemu = given.text("CHANLAB_QEMU")
    keys = given.text("CHANLAB_KERNEL_KEYS")
    jobs = given.number("CHANLAB_JOBS", 0)
    return Settings(
        cache=_directory(cache) if cache else _user_cache(),
        debian_mirror=debian,
        security_mirror=security,
        accel=given.choice("CHANLAB_ACCEL", ACCELERATORS),
        qemu=_directory(qemu) if qemu else None,
        check_valid_until=given.choice("CHANLAB_CHECK_VALID_UNTIL", ("1", "0")) == "1",
        index_hours=given.number("CHANLAB_INDEX_HOURS", 24),
        offline=given.choice("CHANLAB_OFFLINE", ("0", "1")) == "1",
        jobs=int(jobs) or cpus(),
        cache_gb=given.number("CHANLAB_CACHE_GB", 0),
        kernel_mirror=given.url("CHANLAB_KERNEL_MIRROR"),
        kernel_keys=_directory(keys) if keys else None,
        turbo=given.choice("CHANLAB_TURBO", ("auto", "0")) == "auto",
        sources=tuple(given.sources.items()),
    )


def cpus() -> int:
    """Return how many CPUs this process may keep busy: affinity and the cgroup's cpu.max."""
    count = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return max(1, min(count, int(quota))) if quota is not None else max(1, count)


def cpu_quota() -> float | None:
    """Return the CPUs that cpu.max of this process' cgroup (v2) and those above it leave, None for all."""
    quotas = []
    for text in cgroup_values("cpu.max"):
        quota, _, period = text.partition(" ")
        if quota != "max":
            quotas.append(int(quota) / int(period or "100000"))
    return min(quotas, default=None)


def cgroup_values(name: str) -> list[str]:
    """Return what a cgroup v2 file says for this process' group and all groups above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::/")), None)
    if own is None:
        return []
    group = Path("/sys/fs/cgroup") / own.lstrip("/")
    values = []
    for directory in (group, *group.parents):
        if not directory.is_relative_to("/sys/fs/cgroup"):
            break
        try:
            values.append((directory / name).read_text().strip())
        except OSError:
            continue
    return values


class _Given:
    """The values that the user gave, and where each came from."""

    def __init__(self, ini: Mapping[str, str], environ: Mapping[str, str]) -> None:
        known = {setting.name for setting in SETTINGS}
        for name in environ:
            if name.startswith("CHANLAB_") and name not in known:
                raise UsageError(f"unknown setting {name}", hint=f"known: {', '.join(sorted(known))}")
        self._layers = (("environment", environ), ("pytest ini", ini))
        self.sources: dict[str, str] = {}

    def text(self, name: str) -> str | None:
        for layer, values in self._layers:
            value = values.get(name, "").strip()
            if value:
                self.sources[name] = layer
                return value
        return None

    def note(self, name: str, value: str, source: str) -> str:
        self.sources[name] = source
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not re.match(r"https?://[^/\s]+", value):
            raise UsageError(f"{name}={value!r} is no http or https URL", hint="https://HOST/debian, say")
        return value.rstrip("/") if value else None

    def number(self, name: str, default: float) -> float:
        value = self.text(name)
        if value is None:
            return default
        if not re.fullmatch(r"\d+(\.\d+)?", value):
            raise UsageError(f"{name}={value!r} is no number", hint="a number from 0 upwards")
        return float(value)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name) or allowed[0]
        if value not in allowed:
            raise UsageError(f"{name}={value!r} is not allowed", hint=f"one of {', '.join(allowed)}")
        return value


def _directory(text: str) -> Path:
    return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - no link resolved: a user's name for it


def _user_cache() -> Path:
    from platformdirs import user_cache_path  # noqa: PLC0415 - only where CHANLAB_CACHE is not set

    return user_cache_path("chanlab")


@dataclass(frozen=True)
class Mirrors:
    """What the host's apt sources name."""

    debian: str | None
    security: str | None


_CODENAMES = re.compile(
    r"(stable|oldstable|oldoldstable|testing|unstable|sid|buster|bullseye|bookworm|trixie|forky|duke)"
    r"(?P<tail>-updates|-backports|-backports-sloppy|-proposed-updates|-security|/updates)?"
)


def apt_mirrors(apt: Path) -> Mirrors:
    """Return the Debian mirror that apt's sources under `apt` name; unreadable files say nothing."""
    found: dict[bool, list[str]] = {False: [], True: []}
    for uri, suite, components in _apt_sources(apt):
        match = _CODENAMES.fullmatch(suite.rstrip("/"))
        # Others use Debian's suite names too, but not its component `main` under a tree of that name.
        if match and "main" in components and re.match(r"https?://", uri):
            found[match["tail"] in ("-security", "/updates")].append(uri.rstrip("/"))
    return Mirrors(
        next((uri for uri in found[False] if uri.endswith("/debian")), next(iter(found[False]), None)),
        next(iter(found[True]), None),
    )


def _apt_sources(apt: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (URI, suite, components) of every enabled `deb` source, in apt's order."""
    parts = sorted((apt / "sources.list.d").glob("*"))
    for path in (apt / "sources.list", *parts):
        if path.suffix not in (".list", ".sources"):
            continue
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        yield from _one_line(text) if path.suffix == ".list" else _deb822(text)


def _one_line(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            yield words[1], words[2], words[3:]


def _deb822(text: str) -> Iterator[tuple[str, str, list[str]]]:
    # Not by python-debian: every run comes by here, and importing that takes longer than all of settings.
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields.setdefault(name, []).extend(line.split())
            else:
                key, _, value = line.partition(":")
                name = key.strip().lower()
                fields[name] = value.split()
        if "deb" not in fields.get("types", []) or fields.get("enabled") in (["no"], ["false"]):
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield uri, suite, fields.get("components", [])
