# SPDX-License-Identifier: MIT
"""PCI devices that QEMU does not keep when it freezes a guest, made in a clone what they were.

QEMU's edu has nothing that would be migrated, not even what every PCI device has: in a clone it has lost its
configuration space, so that it is at no address and raises no interrupt, while the kernel believes that all
is as it was. The guest's own view of it is kept with the template and written back by each clone before
anything else happens there. The device's own registers are those of a machine that was just started: what a
module that is loaded ahead writes there as it is loaded is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.guest.agent import Agent

_SECONDS = 30.0
# As in pci_regs.h: vendor and device, the command register, what tells what it is, from here on addresses.
_COMMAND = slice(0x04, 0x06)
_ADDRESSES = 0x10


def find(listing: str, ids: Iterable[str]) -> list[str]:
    """Return the addresses, 0000:00:04.0, of the devices that are one of `ids`, out of /proc/bus/pci/devices.

    An id is vendor and device, 123411e8. All that QEMU's machines have is in domain 0.
    """
    wanted, found = set(ids), []
    for line in listing.splitlines():
        where, ident, *_ = line.split()
        if ident in wanted:
            bus, function = divmod(int(where, 16), 0x100)
            found.append(f"0000:{bus:02x}:{function >> 3:02x}.{function & 7}")
    return found


def read(agent: Agent, ids: Iterable[str]) -> dict[str, str]:
    """Return the configuration space of the devices that are one of `ids`, in hex, by their addresses.

    Raises HostError when the guest does not tell it.
    """
    try:
        listing = agent.read_file("/proc/bus/pci/devices", _SECONDS).decode()
        return {address: agent.read_file(_path(address), _SECONDS).hex() for address in find(listing, ids)}
    except OSError as error:
        raise HostError(f"what PCI devices are cannot be kept: {error}") from error


def write(agent: Agent, spaces: Mapping[str, str]) -> None:
    """Give devices their configuration space back; the command register, which turns them on, comes last.

    Raises HostError when the guest does not take it.
    """
    for address, space in spaces.items():
        data = bytes.fromhex(space)
        pieces = [(_ADDRESSES, data[_ADDRESSES:]), (_COMMAND.start, data[_COMMAND])]
        try:
            agent.write_file(_path(address), pieces, _SECONDS)
        except OSError as error:
            raise HostError(f"PCI device {address} is not what it was: {error}") from error


def _path(address: str) -> str:
    return f"/sys/bus/pci/devices/{address}/config"
