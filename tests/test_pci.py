# SPDX-License-Identifier: MIT
"""What a clone is given back of PCI devices that QEMU does not keep."""

import pytest

from lab.errors import HostError
from lab.guest import pci
from lab.guest.argv import DEVICES

LISTING = "0000\t808629c0\t0\t0\t0\n0020\t123411e8\t1f\tfea00000\t0\n01fa\t123411e8\t0\t0\tlab_uio\n"


class Guest:
    """Has files, and notes what is written to them."""

    def __init__(self, **files: bytes) -> None:
        self.files = {name.replace("_", "/"): data for name, data in files.items()}
        self.written: list[tuple[str, int, bytes]] = []

    def read_file(self, path: str, timeout: float) -> bytes:
        assert timeout > 0
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def write_file(self, path: str, pieces: list[tuple[int, bytes]], timeout: float) -> None:
        assert timeout > 0
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        self.written += [(path, offset, data) for offset, data in pieces]


def test_devices_are_found_by_vendor_and_device() -> None:
    assert pci.find(LISTING, ["123411e8"]) == ["0000:00:04.0", "0000:01:1f.2"]
    assert pci.find(LISTING, [DEVICES["edu"].forgotten]) == pci.find(LISTING, ["123411e8"])
    assert pci.find(LISTING, []) == []


def test_what_was_read_is_written_back_and_the_command_last() -> None:
    config, space = "/sys/bus/pci/devices/0000:00:04.0/config", bytes(range(64))
    guest = Guest(_proc_bus_pci_devices=LISTING.splitlines()[1].encode())
    guest.files[config] = space
    kept = pci.read(guest, ["123411e8"])  # type: ignore[arg-type]  # an agent, as far as it is used
    assert kept == {"0000:00:04.0": space.hex()}
    pci.write(guest, kept)  # type: ignore[arg-type]  # as above
    assert guest.written == [(config, 0x10, space[0x10:]), (config, 4, space[4:6])]


def test_a_guest_that_does_not_tell_or_take_it_is_the_hosts_matter() -> None:
    with pytest.raises(HostError, match="cannot be kept"):
        pci.read(Guest(), ["123411e8"])  # type: ignore[arg-type]  # as above
    with pytest.raises(HostError, match="0000:00:04"):
        pci.write(Guest(), {"0000:00:04.0": "00" * 64})  # type: ignore[arg-type]  # as above
