# SPDX-License-Identifier: MIT
"""The constants and structs of a target, as its own compiler sees the headers that come with it.

The kernel's own uapi headers (linux-libc-dev) come first: they describe what a raw system call takes. The C
library's are only asked for what these leave to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.abi import Abi, Structs
from lab.abi.includes import included
from lab.errors import BuildFailed, ModuleFailed
from lab.kernels import uapi_headers
from lab.kernels.process import scratch_directory
from lab.kernels.toolchain import compiler, system_includes
from lab.store.cache import digest, tree_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.arch import Architecture
    from lab.kernels.probe import Found, Probe
    from lab.kernels.roots import Root
    from lab.progress import Progress
    from lab.store.cache import Cache

_FORMAT = 3  # goes into the keys: what this package makes of the same headers


def system_abi(toolchain: Root, arch: Architecture, cache: Cache, progress: Progress) -> Abi:
    """Return what the system headers of a compiler's root say; asked once, then read from the cache.

    Raises BuildFailed when they do not compile: a damaged root.
    """

    def make(building: Path, _final: Path) -> None:
        with progress.task(f"reading the system headers of {arch.name}"):
            (building / "abi.json").write_text(_system(toolchain, arch).to_json())

    key = digest("system-abi", _FORMAT, _headers_digest(), arch.name, toolchain.digest)
    return Abi.from_json((cache.entry("abi", key, make) / "abi.json").read_text(), arch)


def header_abi(
    headers: Sequence[Path],
    include: Path,
    toolchain: Root,
    arch: Architecture,
    cache: Cache,
    progress: Progress,
) -> Abi:
    """Return what a user's headers define, each of which must stand alone; `include` is where they lie.

    Raises ModuleFailed with the compiler's lines (a missing file is one, too).
    """
    names = [
        str(path.relative_to(include)) if path.is_relative_to(include) else str(path) for path in headers
    ]

    def make(building: Path, _final: Path) -> None:
        with progress.task(f"reading {', '.join(names)} for {arch.name}"):
            (building / "abi.json").write_text(_user(names, include, toolchain, arch).to_json())

    key = digest(
        "header-abi", _FORMAT, names, _taken_in(names, include, toolchain, arch), arch.name, toolchain.digest
    )
    return Abi.from_json((cache.entry("abi", key, make) / "abi.json").read_text(), arch)


def _taken_in(
    names: Sequence[str], include: Path, toolchain: Root, arch: Architecture
) -> str | dict[str, bytes]:
    """Return the files that headers are made of: all of the tree's where that cannot be told."""
    read = included(names, include)
    return tree_digest(include) if read is None or _hides(include, toolchain, arch) else read


def _hides(include: Path, toolchain: Root, arch: Architecture) -> bool:
    """Whether a file of a tree has a system header's name: those that include that one are given this."""
    root = toolchain.path / "usr"
    places = [root / "include", root / "include" / arch.gnu, root / arch.gnu / "include"]
    places += root.glob(f"lib/gcc*/{arch.gnu}/*/include*")
    own = {path.name for path in include.iterdir()}
    for place in filter(Path.is_dir, places):
        for name in own.intersection(path.name for path in place.iterdir()):
            files = [include / name, *(include / name).rglob("*")]
            if any(path.is_file() and (place / path.relative_to(include)).exists() for path in files):
                return True
    return False


def macros(headers: Sequence[str], toolchain: Root, arch: Architecture) -> list[str]:
    """Return the names of the macros without arguments that system headers define."""
    with scratch_directory("chanlab-probe-") as scratch:
        return _probe(_includes(headers), toolchain, arch, scratch).macros()


def _headers_digest() -> str:
    words = (uapi_headers.KERNEL, uapi_headers.KERNEL_WITH_LIBRARY, uapi_headers.LIBRARY)
    return digest(words, uapi_headers.EXTRA, uapi_headers.ALIASES)


def _includes(headers: Sequence[str]) -> str:
    return "".join(f"#if __has_include(<{name}>)\n#include <{name}>\n#endif\n" for name in headers)


def _probe(text: str, toolchain: Root, arch: Architecture, scratch: Path, *options: str) -> Probe:
    from lab.kernels.probe import Probe  # noqa: PLC0415 - brings pyelftools, which a warm run need not wait for

    argv = [*toolchain.command(compiler(toolchain, arch)), *system_includes(toolchain, arch), *options]
    return Probe(text, argv, toolchain, scratch)


def _system(toolchain: Root, arch: Architecture) -> Abi:
    with scratch_directory("chanlab-probe-") as scratch:
        text = "#include <stddef.h>\n" + _includes(uapi_headers.KERNEL) + uapi_headers.EXTRA
        kernel = _probe(text, toolchain, arch, scratch).find()
        text = _includes([*uapi_headers.LIBRARY, *uapi_headers.KERNEL_WITH_LIBRARY])
        library = _probe(text, toolchain, arch, scratch, "-D_GNU_SOURCE").find()
    constants = {**_public(library.constants), **kernel.constants}
    structs = {**_public(library.structs), **kernel.structs}
    structs.update({name: same for name, same in uapi_headers.ALIASES.items() if same in structs})
    calls = {name[5:]: constants.pop(name) for name in list(constants) if name.startswith("__NR_")}
    calls = {name: number for name, number in calls.items() if name not in _NO_CALLS}
    return Abi(arch, constants, {**_public(library.strings), **kernel.strings}, Structs(structs), calls)


# Limits and beginnings of the table, and what arm takes for another one: __NR_X all the same.
_NO_CALLS = frozenset(
    {"syscalls", "arch_specific_syscall", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "SYSCALL_MASK"}
)


def _public(names: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is the C library's private business, but not what its public structs are made of."""
    return {
        name: value for name, value in names.items() if not name.startswith("_") or isinstance(value, list)
    }


def _user(names: Sequence[str], include: Path, toolchain: Root, arch: Architecture) -> Abi:
    include = include.resolve()
    text = "".join(f'#include "{name}"\n' for name in names)
    with scratch_directory("chanlab-probe-") as scratch:
        probe = _probe(text, toolchain, arch, scratch, f"-I{include}")
        try:
            found: Found = probe.find(below=include)
        except BuildFailed as error:
            raise ModuleFailed(
                f"{', '.join(names)}: no program could include it on {arch.name}",
                error.output.replace(f"{include}/", f"{include.name}/"),
                hint="a uapi header includes <linux/types.h> for __u32 and nothing that programs do not have",
            ) from None
    return Abi(arch, found.constants, found.strings, Structs(found.structs))
