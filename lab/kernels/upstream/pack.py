# SPDX-License-Identifier: MIT
"""What a guest, a report and a module's build need of a kernel that was built, without the rest.

What modules are built against is a tree and what its make made, put together as the kernel's own packages do
(scripts/package/install-extmod-build): Makefiles, Kconfig files, scripts, headers, and Module.symvers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import BuildFailed
from lab.kernels.modules_dep import write_modules_dep
from lab.kernels.process import run
from lab.kernels.toolchain import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.arch import Architecture
    from lab.kernels.roots import Root

ABOUT = "kernel.json"
_BATCH = 200  # modules that one strip is given
_MAKEFILE = re.compile(r"(Makefile|Kbuild|Kconfig)")
_OF_ARCH = re.compile(r"(module\.lds.*|Kbuild\.platforms|Platform)")
_OBJECTS = re.compile(r".*\.(o|a|cmd|d)|\.tmp.*")
_LISTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
_TOOLS = ("tools/objtool/objtool", "tools/bpf/resolve_btfids/resolve_btfids")


@dataclass(frozen=True)
class Packed:
    """A built kernel in a directory."""

    path: Path
    release: str  # `uname -r`

    @property
    def image(self) -> Path:
        """What a guest boots."""
        return self.path / "vmlinuz"

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.path / "config"

    @property
    def system_map(self) -> Path:
        """Its symbols."""
        return self.path / "System.map"

    @property
    def modules(self) -> Path:
        """Its lib/modules/RELEASE."""
        return self.path / "lib/modules" / self.release

    @property
    def kdir(self) -> Path:
        """What modules are built against."""
        return self.path / "kdir"


def load(path: Path) -> Packed:
    """Return what pack() made."""
    return Packed(path, json.loads((path / ABOUT).read_text())["release"])


def pack(source: Path, build: Path, image: Path, arch: Architecture, root: Root, to: Path) -> None:
    """Put together in a directory what is needed of a build, which may be in the tree itself.

    Raises BuildFailed where something of it is missing.
    """
    try:
        release = (build / "include/config/kernel.release").read_text().strip()
        shutil.copyfile(image, to / "vmlinuz")
        shutil.copyfile(build / ".config", to / "config")
        shutil.copyfile(build / "System.map", to / "System.map")
        _modules(build, to / "lib/modules" / release, arch, root)
        _headers(source, build, arch, to / "kdir")
    except FileNotFoundError as error:
        raise BuildFailed(
            f"{build} holds no kernel that was built: {error.filename} is missing",
            "wanted are its image, include/config/kernel.release, .config, System.map, modules.order and "
            "Module.symvers: `make` and `make modules` make them",
        ) from error
    (to / ABOUT).write_text(json.dumps({"release": release}))


def copy(
    image: Path, config: str, system_map: Path, modules: Path, headers: Path, to: Path, release: str
) -> None:
    """Put together in a directory what packages hold in places of their own."""
    shutil.copyfile(image, to / "vmlinuz")
    (to / "config").write_text(config)
    shutil.copyfile(system_map, to / "System.map")
    leave = shutil.ignore_patterns("build", "source")
    shutil.copytree(modules, to / "lib/modules" / release, ignore=leave)
    shutil.copytree(headers.parent, to / "src", symlinks=True)  # those of a flavour point to the others
    (to / "kdir").symlink_to(f"src/{headers.name}")
    (to / ABOUT).write_text(json.dumps({"release": release}))


def _modules(build: Path, to: Path, arch: Architecture, root: Root) -> None:
    """Copy the modules to where modules_install would, without what only a debugger reads."""
    to.mkdir(parents=True)
    copies = []
    for line in (build / "modules.order").read_text().split():
        name = str(Path(line).with_suffix(".ko"))
        copy = to / "kernel" / name.removeprefix("kernel/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(build / name, copy)
        copies.append(copy)
    for at in range(0, len(copies), _BATCH):
        _strip(copies[at : at + _BATCH], to, arch, root)
    for name in _LISTS:
        if (build / name).exists():
            shutil.copyfile(build / name, to / name)
    write_modules_dep(to)


def _strip(modules: Sequence[Path], cwd: Path, arch: Architecture, root: Root) -> None:
    argv = [*tool(root, arch, "strip"), "--strip-debug", *map(str, modules)]
    status, text = run(argv, cwd=cwd, env=root.environment())
    if status:
        raise BuildFailed("strip cannot read what was built", text)


def _headers(source: Path, build: Path, arch: Architecture, to: Path) -> None:
    to.mkdir()
    for name in dict.fromkeys(_sources(source, arch)):
        _copy(source / name, to / name)
    if build != source:
        for name in _made(build, arch):
            (to / name).unlink(missing_ok=True)
            _copy(build / name, to / name)
    for name in (".config", "Module.symvers"):
        shutil.copyfile(build / name, to / name)
    if (build / "vmlinux").exists() and "CONFIG_DEBUG_INFO_BTF_MODULES=y" in (build / ".config").read_text():
        shutil.copyfile(build / "vmlinux", to / "vmlinux")
    for name in _TOOLS:
        if (build / name).exists():
            _copy(build / name, to / name)


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and not path.readlink().is_absolute():
        to.symlink_to(path.readlink())
    else:
        shutil.copy2(path, to)


def _sources(source: Path, arch: Architecture) -> Iterator[str]:
    """Yield the files of a tree that a module's build reads."""
    at = Path("arch") / arch.kernel
    yield from (path.name for path in source.iterdir() if _MAKEFILE.match(path.name) and path.is_file())
    for place in ("include", "scripts"):
        yield from _below(source, place)
    for path in (source / at).iterdir():
        if path.is_file() and (_MAKEFILE.match(path.name) or _OF_ARCH.fullmatch(path.name)):
            yield str(at / path.name)
    for top, directories, files in os.walk(source / at):
        here = Path(top).relative_to(source)
        if Path(top).name in ("include", "scripts") or "include" in here.parts[2:]:
            yield from _below(source, str(here))
            directories.clear()
            continue
        yield from (str(here / name) for name in files if name == "Makefile" or _OF_ARCH.fullmatch(name))


def _made(build: Path, arch: Architecture) -> Iterator[str]:
    """Yield what make made of that, which stands above what the tree has."""
    for place in ("include", "scripts", f"arch/{arch.kernel}/include"):
        yield from _below(build, place)
    lds = Path("arch") / arch.kernel
    yield from (str(path.relative_to(build)) for path in (build / lds).rglob("module.lds") if path.is_file())


def _below(top: Path, place: str) -> Iterator[str]:
    for directory, _, files in os.walk(top / place):
        here = Path(directory).relative_to(top)
        yield from (str(here / name) for name in files if not _OBJECTS.fullmatch(name))


__all__ = ["Packed", "copy", "load", "pack"]
