# SPDX-License-Identifier: MIT
"""What a dkms.conf says of a tree for one kernel.

It is shell, and has logic: so it is sourced, by the bash of the compiler's root, on a copy of the tree and
with the variables that dkms has by then; what it has set is read. What that means is in dkms(8), version 3.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lab.errors import ModuleFailed
from lab.kernels.process import run, scratch_directory
from lab.kernels.sources import write_sources
from lab.kernels.tree import DKMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.kernels.sources import File

TREE = "{tree}"  # stands for the copy that is built, in what is read
_SECONDS = 20.0  # sourcing takes some hundredths
_KNOWN = (
    "PACKAGE_NAME",
    "PACKAGE_VERSION",
    "BUILT_MODULE_NAME",
    "BUILT_MODULE_LOCATION",
    "DEST_MODULE_NAME",
    "DEST_MODULE_LOCATION",
    "MAKE",
    "MAKE_MATCH",
    "PATCH",
    "PATCH_MATCH",
    "PRE_BUILD",
    "OBSOLETE_BY",
    "BUILD_DEPENDS",
    "BUILD_EXCLUSIVE_KERNEL",
    "BUILD_EXCLUSIVE_KERNEL_MIN",
    "BUILD_EXCLUSIVE_KERNEL_MAX",
    "BUILD_EXCLUSIVE_ARCH",
    "BUILD_EXCLUSIVE_CONFIG",
)
# Regular expressions are the shell's, so the shell tells whether they match.
_MATCHED = {
    "MAKE_MATCH": "kernel",
    "PATCH_MATCH": "kernel",
    "BUILD_EXCLUSIVE_KERNEL": "kernel",
    "BUILD_EXCLUSIVE_ARCH": "arch",
}
# A trailing carriage return is an editor's, as dkms has it. The end is printed, since a dkms.conf may end the
# shell before.
_READER = r"""
__conf=$1 __to=$2
kernelver=$3 arch=$4 kernel_source_dir=$5 dkms_tree=$6 source_tree=$7
__kernel=$kernelver __arch=$arch __known=$8 __matched=$9
set --
"$BASH" -n "$__conf" || exit 1
. "$__conf" > /dev/null
set +eu
{
    for __name in $__known; do
        declare -n __of=$__name
        for __index in "${!__of[@]}"; do
            printf '%s\0%s\0%s\0' "$__name" "$__index" "${__of[$__index]%$'\r'}"
        done
        unset -n __of
    done
    for __pair in $__matched; do
        declare -n __of=${__pair%=*} __what=__${__pair#*=}
        for __index in "${!__of[@]}"; do
            if [[ $__what =~ ${__of[$__index]%$'\r'} ]]; then
                printf '%s\0%s\0%s\0' "${__pair%=*}?" "$__index" yes
            fi
        done
        unset -n __of __what
    done
    printf '%s\0' end 0 ''
} > "$__to"
"""
# As bash, dash, env and make say it.
_MISSING = re.compile(
    r": ([\w.+-]+): (?:command )?not found$"
    r"|\benv: '?([\w.+-]+)'?: No such file or directory$"
    r"|^make(?:\[\d+\])?: ([\w.+-]+): No such file or directory$",
    re.MULTILINE,
)
_LAST = 20  # lines of what a program said


@dataclass(frozen=True)
class Facts:
    """What dkms tells a dkms.conf of the kernel, and what the lab looks at for it."""

    release: str  # $kernelver
    machine: str  # $arch, as `uname -m` has it there
    kdir: Path  # $kernel_source_dir


@dataclass(frozen=True)
class Wanted:
    """A module that is to be built."""

    name: str  # the file's, without .ko
    location: str = ""  # where make leaves it, below the tree; with a / at its end
    excluded: str = ""  # why it is not for this kernel

    @property
    def kernel_name(self) -> str:
        """What the kernel calls it."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Conf:
    """What a dkms.conf says for one kernel."""

    package: str
    modules: tuple[Wanted, ...]
    make: str  # a line for the shell, in the tree's top; {tree} is where that is
    pre_build: str = ""  # the same, before it
    patches: tuple[str, ...] = ()  # files in patches/, in order
    depends: tuple[str, ...] = ()  # packages whose modules it uses

    @property
    def excluded(self) -> dict[str, str]:
        """The modules that are not for this kernel, by the kernel's names, and why."""
        return {each.kernel_name: each.excluded for each in self.modules if each.excluded}

    @property
    def made(self) -> tuple[Wanted, ...]:
        """The modules that make is to make."""
        return tuple(each for each in self.modules if not each.excluded)


def read(
    files: Mapping[str, File],
    name: str,
    facts: Facts,
    *,
    bash: Sequence[str],
    environment: Mapping[str, str],
) -> Conf:
    """Source the dkms.conf of a tree and return what it says; `name`: what the user calls the tree.

    `bash` is the start of an argv that runs a bash. Raises ModuleFailed for one that fails, does not come to
    its end, or says what dkms does not take.
    """
    where = f"{name}/{DKMS}"
    with scratch_directory("chanlab-dkms-") as scratch:
        copy, result = scratch / "source", scratch / "result"
        write_sources(copy, files)
        arguments = [copy / DKMS, result, facts.release, facts.machine, facts.kdir]
        arguments += [scratch / "dkms", scratch / "src"]
        words = [" ".join(_KNOWN), " ".join(f"{key}={of}" for key, of in _MATCHED.items())]
        argv = [*bash, "-c", _READER, "dkms", *map(str, arguments), *words]
        try:
            _, said = run(argv, cwd=copy, env=environment, seconds=_SECONDS)
        except subprocess.TimeoutExpired:
            raise ModuleFailed(
                f"{where} does not come to its end",
                f"it was sourced for {facts.release} and given {_SECONDS:.0f} s",
                hint="it may wait for something: it is a list of variables, and nobody answers",
            ) from None
        said = said.replace(f"{copy}/", f"{name}/").strip()
        values = _values(result.read_bytes() if result.exists() else b"")
        if values is None:
            raise ModuleFailed(
                f"{where} cannot be read for {facts.release}: sourcing it failed",
                tail(said) or "it ends the shell that sources it",
                hint=missing_program(said),
            )
        return _Reading(values, where, facts, said).conf(scratch)


def missing_program(said: str) -> str:
    """Return a hint about a program that the root lacks, by what a shell, env or make said; or ''."""
    found = _MISSING.search(said)
    if found is None:
        return ""
    program = next(name for name in found.groups() if name)
    return (
        f"the root of the kernel's compiler has no {program}: name Debian's package with it in the ini file, "
        f"`chanlab_tools = {program}`"
    )


def tail(said: str) -> str:
    """Return the last lines of what a program said."""
    return "\n".join(said.rstrip().splitlines()[-_LAST:])


class _Reading:
    """What the shell printed, and what it means."""

    def __init__(self, values: Mapping[tuple[str, int], str], where: str, facts: Facts, said: str) -> None:
        self._values = values
        self._where = where
        self._facts = facts
        self._said = said

    def conf(self, scratch: Path) -> Conf:
        """Return what it says; raises ModuleFailed."""
        package, version = self._one("PACKAGE_NAME"), self._one("PACKAGE_VERSION")
        for key, value in (("PACKAGE_NAME", package), ("PACKAGE_VERSION", version)):
            if not value:
                raise self._refused(f"it sets no {key}")
        places = {
            f"{scratch}/dkms/{package}/{version}/build": TREE,
            f"{scratch}/dkms/{package}/{version}/source": TREE,
            f"{scratch}/src/{package}-{version}": TREE,
            f"{scratch}/source": TREE,
        }

        def placed(text: str) -> str:
            for place, meant in places.items():
                text = text.replace(place, meant)
            return text

        script = placed(self._one("PRE_BUILD"))
        return Conf(
            package,
            tuple(self._modules(package)),
            self._make(placed),
            # Given relative to the tree's top, with arguments.
            script if not script or script.startswith(TREE) else f"./{script.removeprefix('./')}",
            tuple(self._patches()),
            tuple(value for _, value in self._all("BUILD_DEPENDS") if value),
        )

    def _one(self, key: str, index: int = 0) -> str:
        return self._values.get((key, index), "")

    def _all(self, key: str) -> list[tuple[int, str]]:
        return sorted((index, value) for (name, index), value in self._values.items() if name == key)

    def _refused(self, why: str) -> ModuleFailed:
        return ModuleFailed(
            f"{self._where}: {why}",
            tail(self._said) or "dkms refuses it too",
            hint=missing_program(self._said),
        )

    def _modules(self, package: str) -> Iterator[Wanted]:
        families = ("BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION")
        number = max((index for key in families for index, _ in self._all(key)), default=-1) + 1
        for index in range(number):
            name = self._one("BUILT_MODULE_NAME", index) or (package if number == 1 else "")
            if not name:
                raise self._refused(f"it sets no BUILT_MODULE_NAME[{index}]")
            if name.endswith((".o", ".ko")):
                raise self._refused(f"BUILT_MODULE_NAME[{index}] is {name}: it goes without a suffix")
            location = self._one("BUILT_MODULE_LOCATION", index).strip("/").removeprefix("./")
            yield Wanted(name, f"{location}/" if location else "", self._excluded(index))

    def _make(self, placed: Callable[[str], str]) -> str:
        """Return the line that makes them: the last that matches, else the first, else what dkms does."""
        line = "" if self._one("MAKE_MATCH") else self._one("MAKE")
        for index, value in self._all("MAKE"):
            if value and self._one("MAKE_MATCH", index) and self._one("MAKE_MATCH?", index):
                line = value
        line = placed(line) or f"make -C {self._facts.kdir} M={TREE}"
        # As dkms: not where the word is quoted.
        return re.sub(r"^make\b", f"make KERNELRELEASE={self._facts.release}", line)

    def _patches(self) -> Iterator[str]:
        for index, value in self._all("PATCH"):
            if value and (not self._one("PATCH_MATCH", index) or self._one("PATCH_MATCH?", index)):
                yield value

    def _excluded(self, module: int) -> str:
        """Return why a module is not for this kernel: what is set for the first one is so for all."""
        return next((why for index in dict.fromkeys((0, module)) for why in self._exclusions(index)), "")

    def _exclusions(self, index: int) -> Iterator[str]:
        release, machine = self._facts.release, self._facts.machine

        def of(key: str) -> str:
            return self._one(f"BUILD_EXCLUSIVE_{key}", index)

        def why(key: str, value: str, found: str) -> str:
            return f"its {DKMS} has BUILD_EXCLUSIVE_{key}={value!r}, and {found}"

        if (value := of("KERNEL")) and not self._one("BUILD_EXCLUSIVE_KERNEL?", index):
            yield why("KERNEL", value, f"{release} does not match it")
        if (value := of("KERNEL_MIN")) and _ordered(release) < _ordered(value):
            yield why("KERNEL_MIN", value, f"{release} is older")
        newest = of("KERNEL_MAX")
        if newest and _ordered(release) > _ordered(newest):
            yield why("KERNEL_MAX", newest, f"{release} is newer")
        obsolete = self._one("OBSOLETE_BY")
        if (
            obsolete
            and not self._all("BUILD_EXCLUSIVE_KERNEL_MAX")
            and _ordered(release) > _ordered(obsolete)
        ):
            yield f"its {DKMS} has OBSOLETE_BY={obsolete!r}, and {release} is newer"
        if (value := of("ARCH")) and not self._one("BUILD_EXCLUSIVE_ARCH?", index):
            yield why("ARCH", value, f"{machine} does not match it")
        for option in (value := of("CONFIG")).split():
            there = option.removeprefix("!") in self._options
            if there is option.startswith("!"):
                yield why(
                    "CONFIG", value, f"{release} is {'with' if there else 'without'} {option.strip('!')}"
                )

    @cached_property
    def _options(self) -> frozenset[str]:
        """The options that the kernel has, built in or as modules."""
        for name in ("include/config/auto.conf", ".config"):
            path = self._facts.kdir / name
            if path.exists():
                return frozenset(re.findall(r"^(CONFIG_\w+)=[ym]$", path.read_text(), re.MULTILINE))
        return frozenset()


def _ordered(version: str) -> str:
    """Return what versions are compared by, as text: dkms does it so, and 4.12-rc1 is newer than 4.12."""
    return re.sub(r"\d+", lambda number: number[0].zfill(10), version)


def _values(printed: bytes) -> dict[tuple[str, int], str] | None:
    """Return values by name and index; None where the shell did not come to its end."""
    words = printed.decode("utf-8", "replace").split("\0")
    if words[-4:] != ["end", "0", "", ""]:
        return None
    records = zip(words[:-4:3], words[1:-4:3], words[2:-4:3], strict=True)
    return {(name, int(index)): value for name, index, value in records if index.isdecimal()}


__all__ = ["TREE", "Conf", "Facts", "Wanted", "missing_program", "read", "tail"]
