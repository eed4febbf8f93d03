# SPDX-License-Identifier: MIT
"""What the kernel printed, as /dev/kmsg gives it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class KernelMessage:
    """One record; a gap in `sequence` means that the kernel overwrote what nobody had read yet."""

    priority: int  # 0 emergency … 7 debug
    facility: int  # 0 the kernel; 1 what a process wrote to /dev/kmsg, unless it said otherwise
    sequence: int
    time_us: int  # since boot
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)  # the device dictionary: SUBSYSTEM, DEVICE
    continues: bool = False  # a fragment that belongs to the record before it


def parse_record(record: bytes) -> KernelMessage:
    """Parse one record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg).

    Raises AgentError when it is none.
    """
    head, semicolon, rest = record.partition(b";")
    parts = head.split(b",")
    try:
        prefix, sequence, time_us = (int(part) for part in parts[:3])
        flags = parts[3]
    except (ValueError, IndexError):
        raise AgentError(f"not a record of /dev/kmsg: {record[:80]!r}") from None
    if not semicolon:
        raise AgentError(f"not a record of /dev/kmsg: {record[:80]!r}")
    text, *dictionary = rest.removesuffix(b"\n").split(b"\n")
    # Lines of the dictionary begin with a space; a line of the text never does, its newlines are escaped.
    pairs = [line[1:].partition(b"=") for line in dictionary if line.startswith(b" ")]
    return KernelMessage(
        priority=prefix & 7,
        facility=prefix >> 3,
        sequence=sequence,
        time_us=time_us,
        text=_plain(text),
        fields={_plain(key): _plain(value) for key, _, value in pairs},
        continues=flags == b"c",
    )


def _plain(escaped: bytes) -> str:
    plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), escaped)
    return plain.decode(errors="backslashreplace")
