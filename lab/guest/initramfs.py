# SPDX-License-Identifier: MIT
"""The guest's first file system: the agent, and the modules that its port needs."""

from __future__ import annotations

import io
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.errors import Unsupported
from lab.kernels.modules_dep import module_name
from lab.kernels.shipped_modules import ShippedModules, module_image
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.kernels.model import KernelFiles
    from lab.store.cache import Cache

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

    Raises Unsupported when this kernel has no virtio-serial at all, FetchError for a damaged kernel.
    """
    shipped = ShippedModules(kernel.modules)
    order: dict[str, Path] = {}
    needed = (*NEEDED_BY_BUS[architecture(kernel.kernel.arch).bus], *NEEDED)
    for name in (*needed, *WANTED):
        if name in shipped:
            order.update((each, shipped.path(each)) for each in shipped.order(name))
        elif name in needed and not shipped.builtin(name):
            raise Unsupported(
                f"{kernel.kernel.release} has no {name}, built in or as a module: no port for the agent"
            )
    return list(order.values())


def initramfs(agent: Path, kernel: KernelFiles, cache: Cache) -> Path:
    """Return the archive that boots into the agent, made once for this agent and this kernel.

    It holds /init and /lab/helper (the agent), /lab/modules/*.ko and /lab/modules.list with their paths in
    load order, and the device nodes that exist before devtmpfs. Raises what needed_modules() does.
    """

    def make(building: Path, _final: Path) -> None:
        modules = [(f"{module_name(path)}.ko", module_image(path)) for path in needed_modules(kernel)]
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
