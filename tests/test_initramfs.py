# SPDX-License-Identifier: MIT
"""The archive is one that the kernel unpacks, and modules come in an order in which they load."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from lab.errors import FetchError, Unsupported, UsageError
from lab.guest.initramfs import Entry, cpio, initramfs, needed_modules
from lab.kernels.images import Images
from lab.kernels.model import Kernel, KernelFiles
from lab.kernels.modules_dep import write_modules_dep
from lab.kernels.shipped_modules import ShippedModules
from lab.run.ready import with_needed
from lab.scenario import ModuleLoad
from lab.store.cache import Cache


def module(info: bytes) -> bytes:
    """Return the smallest ELF file that has a .modinfo section."""
    names = b"\0.modinfo\0.shstrtab\0"
    head = 64 + 3 * 64
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2
    )
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, head, len(info), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, head + len(info), len(names), 0, 0, 1, 0)
    return header + sections + info + names


def kernel(base: Path, modules: dict[str, bytes], builtin: str = "") -> KernelFiles:
    base.mkdir()
    for name, image in modules.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(image) if name.endswith(".xz") else image)
    write_modules_dep(base)
    (base / "modules.builtin").write_text(builtin)
    which = Kernel("6.1", "6.1.1", "6.1.1-1", "6.1.0-1-amd64", "x86_64", "stock", "a test", "gcc-12", True)
    return KernelFiles(which, base / "vmlinuz", base, base / "config", base / "System.map", digest="k")


MODULES = {
    "kernel/drivers/char/virtio_console.ko": module(b"license=GPL\0depends=virtio,virtio-ring\0"),
    "kernel/drivers/char/hw_random/virtio-rng.ko.xz": module(b"depends=virtio\0alias=x\0"),
    "kernel/drivers/virtio/virtio.ko": module(b"depends=virtio_ring\0"),
    "kernel/drivers/virtio/virtio_ring.ko": module(b"depends=\0"),
    "kernel/drivers/virtio/virtio_pci.ko": module(b"depends=virtio,virtio_ring\0"),
}


def unpack(archive: bytes) -> list[tuple[str, list[int], bytes]]:
    """Read newc as the kernel's init/initramfs.c does."""
    found: list[tuple[str, list[int], bytes]] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        data = at + 110 + name_size + -(at + 110 + name_size) % 4
        at = data + size + -(data + size) % 4
        if name == "TRAILER!!!":
            assert at == len(archive)
            return found
        found.append((name, numbers, archive[data : data + size]))


def test_cpio_is_what_the_kernel_reads() -> None:
    entries = [
        Entry("dev", 0o40755),
        Entry("dev/console", 0o20600, device=(5, 1)),
        Entry("init", 0o100755, b"agent"),
        Entry("helper", 0o100755, link_to="init"),
        Entry("odd", 0o100644, b"x"),
    ]
    found = unpack(cpio(entries))
    assert [(name, data) for name, _, data in found] == [
        ("dev", b""),
        ("dev/console", b""),
        ("init", b"agent"),
        ("helper", b""),
        ("odd", b"x"),
    ]
    assert found[1][1][9:11] == [5, 1]
    assert found[2][1][0] == found[3][1][0] != found[4][1][0]  # one inode
    assert found[2][1][4] == found[3][1][4] == 2
    assert found[0][1][4] == 1
    assert cpio(entries) == cpio(entries)


def test_modules_come_after_what_they_depend_on(tmp_path: Path) -> None:
    files = needed_modules(kernel(tmp_path / "k", MODULES))
    assert [path.name for path in files] == [
        "virtio_ring.ko",
        "virtio.ko",
        "virtio_pci.ko",
        "virtio_console.ko",
        "virtio-rng.ko.xz",
    ]


def test_what_is_built_in_is_not_loaded(tmp_path: Path) -> None:
    builtin = "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/virtio/virtio_ring.ko\n"
    only = {
        "kernel/drivers/char/virtio_console.ko": module(b"depends=virtio\0"),  # what is built in is not named
        "kernel/drivers/virtio/virtio.ko": module(b"depends=\0"),
    }
    files = needed_modules(kernel(tmp_path / "k", only, builtin))
    assert [path.name for path in files] == ["virtio.ko", "virtio_console.ko"]


def test_a_kernel_without_a_port_is_unsupported(tmp_path: Path) -> None:
    only = {name: image for name, image in MODULES.items() if "console" not in name}
    with pytest.raises(Unsupported, match=r"6\.1\.0-1-amd64 has no virtio_console"):
        needed_modules(kernel(tmp_path / "k", only))


def test_a_kernels_shipped_modules_are_known_by_name(tmp_path: Path) -> None:
    shipped = ShippedModules(kernel(tmp_path / "k", MODULES, "kernel/fs/configfs/configfs.ko\n").modules)
    assert shipped.order("virtio_console") == ("virtio_ring", "virtio", "virtio_console")
    assert shipped.order("virtio_ring") == ("virtio_ring",)
    assert shipped.builtin("configfs")
    assert not shipped.builtin("virtio_ring")
    assert "virtio_rng" in shipped
    assert "configfs" not in shipped
    assert shipped.image("virtio_rng") == MODULES["kernel/drivers/char/hw_random/virtio-rng.ko.xz"]


def test_a_scenarios_modules_bring_what_they_need(tmp_path: Path) -> None:
    shipped = ShippedModules(kernel(tmp_path / "k", MODULES, "kernel/fs/configfs/configfs.ko\n").modules)
    mine = ModuleLoad("lab_core", (("depth", "4"),))
    wanted = (ModuleLoad("virtio-console"), ModuleLoad("configfs"), mine, ModuleLoad("virtio"))
    assert with_needed(wanted, {"lab_core": ()}, shipped, "6.1") == (
        ModuleLoad("virtio_ring", shipped=True),
        ModuleLoad("virtio", shipped=True),
        ModuleLoad("virtio_console", shipped=True),
        mine,
    )
    with pytest.raises(UsageError, match=r"6\.1 has no module 'virtio_cnsole'; did .* 'virtio_console'"):
        with_needed((ModuleLoad("virtio_cnsole"),), {"lab_core": ()}, shipped, "6.1")


def test_what_a_module_asks_for_when_it_begins_comes_before_it(tmp_path: Path) -> None:
    modules = {
        "kernel/crypto/crc32c_generic.ko": module(b"alias=crypto-crc32c\0alias=crc32c\0"),
        "kernel/arch/crc32c-intel.ko": module(b"alias=crc32c\0"),
        "kernel/lib/libcrc32c.ko": module(b"softdep=pre: crc32c post: later\0"),
        "kernel/fs/xfs.ko": module(b"depends=libcrc32c\0softdep=pre: xfs-more nowhere\0alias=fs-*\0"),
        "kernel/fs/xfs_more.ko": module(b"softdep=pre: xfs\0"),
    }
    shipped = ShippedModules(kernel(tmp_path / "k", modules).modules)
    assert shipped.order("libcrc32c") == ("crc32c_generic", "libcrc32c")
    assert shipped.order("xfs") == ("crc32c_generic", "libcrc32c", "xfs_more", "xfs")
    with pytest.raises(KeyError):
        shipped.order("later")


def test_the_rest_is_unpacked_when_somebody_asks_for_it(tmp_path: Path) -> None:
    few = kernel(tmp_path / "few", MODULES, "kernel/fs/configfs/configfs.ko\n").modules
    rest = {
        "kernel/drivers/media/videodev.ko": module(b"depends=mc\0"),
        "kernel/drivers/media/mc.ko": module(b""),
    }
    asked = []

    def all_of_them() -> Path:
        asked.append(1)
        return kernel(tmp_path / "all", MODULES | rest).modules

    shipped = ShippedModules(few, all_of_them)
    assert "virtio" in shipped
    assert "configfs" not in shipped  # built in
    assert asked == []
    assert "nowhere" not in shipped
    assert shipped.order("videodev") == ("mc", "videodev")
    assert shipped.image("mc") == module(b"")
    assert asked == [1]


def test_what_is_built_brings_what_it_needs(tmp_path: Path) -> None:
    shipped = ShippedModules(kernel(tmp_path / "k", MODULES, "kernel/fs/configfs/configfs.ko\n").modules)
    built = {"top_door": ("base", "virtio"), "base": ("configfs",), "other": ()}
    base = ModuleLoad("base", (("depth", "4"),))
    assert with_needed((ModuleLoad("other"), ModuleLoad("top-door"), base), built, shipped, "6.1") == (
        ModuleLoad("other"),
        base,  # with the parameters that are given to it further down
        ModuleLoad("virtio_ring", shipped=True),
        ModuleLoad("virtio", shipped=True),
        ModuleLoad("top_door"),
    )


def test_images_are_unpacked_when_asked_for(tmp_path: Path) -> None:
    shipped = ShippedModules(kernel(tmp_path / "k", MODULES).modules)
    images = Images({"lab_core": b"built"}, shipped)
    assert "virtio_rng" in images
    assert images["lab_core"] == b"built"
    assert images["virtio_rng"] == MODULES["kernel/drivers/char/hw_random/virtio-rng.ko.xz"]
    assert "evdev" not in images
    assert len(images) == 6
    with pytest.raises(KeyError):
        images["evdev"]


def test_damaged_modules_are_named(tmp_path: Path) -> None:
    files = kernel(tmp_path / "k", MODULES)
    shipped = ShippedModules(files.modules)
    path = tmp_path / "k/kernel/drivers/char/hw_random/virtio-rng.ko.xz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FetchError, match=r"virtio-rng\.ko\.xz is damaged"):
        shipped.image("virtio_rng")
    path.unlink()
    with pytest.raises(FetchError, match=r"virtio-rng\.ko\.xz is damaged: .*No such file"):
        shipped.image("virtio_rng")
    (files.modules / "modules.dep").unlink()
    with pytest.raises(FetchError, match=r"modules\.dep is damaged"):
        needed_modules(files)


def test_the_whole_archive(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.write_bytes(b"\x7fELF agent")
    files = kernel(tmp_path / "k", MODULES)
    cache = Cache(tmp_path / "cache")
    path = initramfs(agent, files, cache)
    found = {name: data for name, _, data in unpack(path.read_bytes())}
    assert found["init"] == b"\x7fELF agent"
    assert found["lab/modules.list"].decode().split() == [
        f"/lab/modules/{name}.ko"
        for name in ("virtio_ring", "virtio", "virtio_pci", "virtio_console", "virtio_rng")
    ]
    assert found["lab/modules/virtio_rng.ko"] == MODULES["kernel/drivers/char/hw_random/virtio-rng.ko.xz"]
    names = [name for name, _, _ in unpack(path.read_bytes())]
    assert all(names.index(str(Path(name).parent)) < names.index(name) for name in names if "/" in name)
    assert initramfs(agent, files, cache) == path
    agent.write_bytes(b"another")
    assert initramfs(agent, files, cache) != path
    cache.close()
