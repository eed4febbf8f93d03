# SPDX-License-Identifier: MIT
"""Values as a report shows them: names beside numbers, and of long data the place where it differs."""

from __future__ import annotations

import errno as host_errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lab.language.kinds import AddressKind, DurationKind, ErrnoKind, Kind, SignalKind, TimeKind

if TYPE_CHECKING:
    from lab.language.context import Context

_SHORT = 48  # bytes that are shown whole


def show(value: Any, kind: Kind, context: Context, written: str = "") -> str:
    """Return a value for a report; `written` is how the scenario names it, shown with what it is here."""
    if value is None:
        return "nothing"
    text = _named(value, kind, context)
    if written and written not in (str(value), text.split(" ")[0]) and isinstance(value, int):
        return f"{written} = {text}"
    return text


def show_value(value: Any, kind: Kind, context: Context) -> str:
    """Return the bare text that a regular expression is matched against."""
    if isinstance(kind, ErrnoKind) and isinstance(value, int):
        return context.abi.errno_name(value)
    if isinstance(kind, SignalKind) and isinstance(value, int):
        return context.abi.signal_name(value)
    return str(value)


def _named(value: Any, kind: Kind, context: Context) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _number(value, kind, context)
    if isinstance(value, float):
        return f"{value:g}s" if isinstance(kind, DurationKind) else f"{value:g}"
    if isinstance(value, (bytes, bytearray)):
        return show_data(bytes(value))
    if isinstance(value, str):
        return repr(value) if len(value) < 200 else repr(value[:200]) + "…"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_named(item, Kind(), context)}' for key, item in value.items())}}}"
    if is_dataclass(value):
        parts = {each.name: getattr(value, each.name) for each in fields(value)}
        return _named({key: part for key, part in parts.items() if part is not None}, kind, context)
    if isinstance(value, Sequence):
        return f"[{', '.join(_named(item, Kind(), context) for item in value)}]"
    return str(value)


def _number(value: int, kind: Kind, context: Context) -> str:
    if isinstance(kind, ErrnoKind):
        name = context.abi.errno_name(value)
        return f"{name} ({meaning(name, value)})" if value else "no error"
    if isinstance(kind, SignalKind):
        return f"{context.abi.signal_name(value)} ({value})"
    if isinstance(kind, AddressKind):
        return hex(value)
    if isinstance(kind, TimeKind):
        return _time(value)
    return f"{value} ({value:#x})" if abs(value) > 255 else str(value)


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        day = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # not of a year that has four digits
        return str(nanoseconds)
    return f"{nanoseconds} ({day:%Y-%m-%d %H:%M:%S}.{rest:09d})"


def meaning(name: str, number: int) -> str:
    """Return what the host's library says an error of this name means; numbers differ by architecture."""
    known = getattr(host_errno, name, None)
    return f"{number}: {os.strerror(known)}" if isinstance(known, int) else str(number)


def show_data(data: bytes) -> str:
    """Return data in one line: as text where it is one, else in hex; long data is cut."""
    if len(data) > _SHORT:
        return f"{len(data)} bytes: {_piece(data[:_SHORT])}…"
    return _piece(data) if data else "no data"


def _piece(data: bytes) -> str:
    if all(32 <= byte < 127 or byte in (9, 10, 13) for byte in data):
        return repr(data.decode("ascii"))
    return f"hex {data.hex(' ')}"


def compare_data(wanted: bytes, got: bytes) -> tuple[str, str]:
    """Return two texts that show how data differs: whole when short, else around the first difference."""
    if len(wanted) <= _SHORT and len(got) <= _SHORT:
        return show_data(wanted), show_data(got)
    at = first_difference(wanted, got)
    head = f"first difference at offset {at} ({at:#x})"
    return f"{len(wanted)} bytes; {head}\n{dump(wanted, at)}", f"{len(got)} bytes; {head}\n{dump(got, at)}"


def first_difference(one: bytes, other: bytes) -> int:
    """Return the offset where two pieces of data part; the shorter's length when it begins the longer."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # halving compares at C's speed, also megabytes
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def dump(data: bytes, at: int, *, rows: int = 4) -> str:
    """Return hex dump lines around an offset, the row that holds it marked."""
    start = max(0, (at // 16 - 1) * 16)
    out = []
    for row in range(start, min(len(data), start + 16 * rows), 16):
        piece = data[row : row + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        mark = ">" if row <= at < row + 16 else " "
        out.append(f"{mark} {row:08x}  {piece.hex(' '):<47}  |{text}|")
    return "\n".join(out) if out else "  (ends before)"
