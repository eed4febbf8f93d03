# SPDX-License-Identifier: MIT
"""The guest's first file system: the agent, and the modules that its port needs.

Debian's packages bring no modules.dep (that is made when they are installed), so what a module depends on
comes from the module itself.
"""

from __future__ import annotations

import gzip
import io
import lzma
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.cache import digest, file_digest
from lab.errors import FetchError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.cache import Cache
    from lab.kernels.model import KernelFiles

# Goes into the key: what this file makes of the same input.
_FORMAT = 1
# The agent's port. Built in from 6.12 on, modules before.
NEEDED = ("virtio_console",)
# s390: part of every kernel that can be a guest at all (CONFIG_S390_GUEST), and no module.
NEEDED_BY_BUS: dict[str, tuple[str, ...]] = {"pci": ("virtio_pci",), "ccw": ()}
# The guest works without them: entropy, and news of a panic and of a restored clone. The ACPI half of pvpanic
# and all of vmgenid are built in or missing depending on release and flavour.
WANTED = ("virtio_rng", "pvpanic_pci", "pvpanic", "vmgenid")
_ALIGN = 4
_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file of an archive; `link_to` is a name that holds the same file and comes before."""

    name: str  # without a leading slash
    mode: int  # type and permissions, as in stat
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    link_to: str = ""


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return a newc archive, the same bytes for the same entries: no times, owner root.

    Directories must come before what they hold: the kernel makes entries as it meets them.
    """
    entries = [*entries]
    links: dict[str, int] = {}
    for entry in entries:
        if entry.link_to:
            links[entry.link_to] = links.get(entry.link_to, 1) + 1
    numbers: dict[str, int] = {}
    out = io.BytesIO()
    for number, entry in enumerate(entries, 1):
        numbers[entry.name] = numbers[entry.link_to] if entry.link_to else number
        nlink = links.get(entry.link_to or entry.name, 1)
        _write(out, entry, numbers[entry.name], nlink)
    _write(out, Entry(_TRAILER, 0), 0, 1)
    return out.getvalue()


def _write(out: io.BytesIO, entry: Entry, number: int, nlink: int) -> None:
    name = entry.name.encode() + b"\0"
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    numbers = (number, entry.mode, 0, 0, nlink, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    out.write(_MAGIC + b"".join(b"%08X" % value for value in numbers) + name)
    out.write(bytes(-out.tell() % _ALIGN))
    out.write(entry.data)
    out.write(bytes(-out.tell() % _ALIGN))


def needed_modules(kernel: KernelFiles) -> list[Path]:
    """Return the module files that the guest loads first, in load order; empty where all is built in.

    Raises Unsupported when this kernel has no virtio-serial at all, FetchError for a damaged module.
    """
    builtin = {_plain(line) for line in _lines(kernel.modules / "modules.builtin")}
    files = {_plain(line): line for line in _lines(kernel.modules / "modules.order")}
    order: dict[str, Path] = {}
    needed = (*NEEDED_BY_BUS[architecture(kernel.kernel.arch).bus], *NEEDED)
    for name in (*needed, *WANTED):
        if name in builtin:
            continue
        if name in files:
            _add(name, files, builtin, kernel.modules, order)
        elif name in needed:
            raise Unsupported(
                f"{kernel.kernel.release} has no {name}, built in or as a module: no port for the agent"
            )
    return list(order.values())


def _add(name: str, files: dict[str, str], builtin: set[str], base: Path, order: dict[str, Path]) -> None:
    """Put a module behind all that it depends on."""
    if name in order or name in builtin:
        return
    if name not in files:
        raise FetchError(
            f"{base} has no module {name}, which another one needs",
            hint="`lab clean` removes it, the next run fetches it again",
        )
    path = _on_disk(base / files[name])
    for dependency in depends(module_image(path), path):
        _add(dependency, files, builtin, base, order)
    order[name] = path


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split()


def _plain(path: str) -> str:
    """Return a module's name, in which the kernel takes - and _ for the same."""
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def _on_disk(path: Path) -> Path:
    """Return a module as it is: modules.order leaves out how it is packed."""
    for packed in ("", ".xz", ".gz", ".zst"):
        candidate = path.with_name(path.name + packed)
        if candidate.exists():
            return candidate
    raise FetchError(
        f"{path} is listed in modules.order but is not there",
        hint="`lab clean` removes the kernel, the next run fetches it again",
    )


def module_image(path: Path) -> bytes:
    """Return a module's ELF file, unpacked.

    Raises FetchError when it is damaged, Unsupported for a packing that Python cannot undo.
    """
    data = path.read_bytes()
    try:
        match path.suffix:
            case ".ko":
                return data
            case ".xz":
                return lzma.decompress(data)
            case ".gz":
                return gzip.decompress(data)
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise FetchError(
            f"{path} is damaged: {error}",
            hint="`lab clean` removes the kernel, the next run fetches it again",
        ) from error
    raise Unsupported(f"{path.name}: the lab cannot unpack {path.suffix} modules")


def depends(image: bytes, path: Path) -> list[str]:
    """Return the names of the modules that a module's image says it depends on.

    Raises FetchError when it is no module; `path` is for that message.
    """
    # Importing pyelftools takes longer than all that a warm run has to do here.
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - see above
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - see above

    try:
        section = ELFFile(io.BytesIO(image)).get_section_by_name(".modinfo")
        info = section.data() if section is not None else None
    except ELFError:
        info = None
    if info is None:
        raise FetchError(f"{path} is no kernel module", hint="`lab clean`, then try again")
    for item in info.split(b"\0"):
        key, _, value = item.partition(b"=")
        if key == b"depends" and value:
            return [name.replace("-", "_") for name in value.decode().split(",")]
    return []


def initramfs(agent: Path, kernel: KernelFiles, cache: Cache) -> Path:
    """Return the archive that boots into the agent, made once for this agent and this kernel.

    It holds /init and /lab/helper (the agent), /lab/modules/*.ko and /lab/modules.list with their paths in
    load order, and the device nodes that exist before devtmpfs. Raises what needed_modules() does.
    """

    def make(building: Path, _final: Path) -> None:
        modules = [(f"{_plain(path.name)}.ko", module_image(path)) for path in needed_modules(kernel)]
        (building / "initramfs.cpio").write_bytes(cpio(_entries(agent.read_bytes(), modules)))

    key = digest("initramfs", _FORMAT, NEEDED_BY_BUS, NEEDED, WANTED, file_digest(agent), kernel.digest)
    return cache.entry("initramfs", key, make) / "initramfs.cpio"


def _entries(agent: bytes, modules: list[tuple[str, bytes]]) -> list[Entry]:
    directory, program, plain, device = (
        stat.S_IFDIR | 0o755,
        stat.S_IFREG | 0o755,
        stat.S_IFREG | 0o644,
        stat.S_IFCHR | 0o600,
    )
    listing = "".join(f"/lab/modules/{name}\n" for name, _ in modules)
    return [
        *(Entry(name, directory) for name in ("dev", "lab", "lab/modules", "proc", "sys", "tmp")),
        # The kernel opens /dev/console for /init before anything is mounted.
        Entry("dev/console", device, device=(5, 1)),
        Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
        Entry("init", program, agent),
        Entry("lab/helper", program, link_to="init"),
        *(Entry(f"lab/modules/{name}", plain, image) for name, image in modules),
        Entry("lab/modules.list", plain, listing.encode()),
    ]
