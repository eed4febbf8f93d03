# SPDX-License-Identifier: MIT
"""Clocks, and the times of files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lab.verbs import Call, Flags, Int, Outcome, Placed, Plan, Text, Time, verb, wire

_NANO = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Clock(Outcome):
    """What a clock shows; `$name` is its `time`."""

    bare: ClassVar[Mapping[str, str]] = {"int": "time"}

    time: Time | None = None


def point(stamp: Mapping[str, Any]) -> int:
    """Return the point in time that a struct statx_timestamp is, in nanoseconds."""
    return int(stamp["tv_sec"]) * _NANO + int(stamp["tv_nsec"])


@verb
def clock(call: Call, clock: Int) -> Plan[Clock]:
    """Ask a clock for its time.

    clock_gettime(2). The times of files are CLOCK_REALTIME_COARSE's, which follows CLOCK_REALTIME in steps of
    some milliseconds: a change between `{clock: CLOCK_REALTIME_COARSE, as: before}` and
    `{clock: CLOCK_REALTIME, as: after}` is `mtime: {min: $before, max: $after}` of `stat`.
    """
    into = call.place(b"", 16)
    name = "clock_gettime64" if call.has("clock_gettime64") else "clock_gettime"
    index = call.syscall(name, clock, into)
    take = into.fetch(call)

    def time(reply: wire.Reply) -> int | None:
        if call.result(reply, index).get("returns") is None:
            return None
        data, order = take(reply), call.abi.arch.byteorder
        seconds, nanoseconds = (int.from_bytes(data[at : at + 8], order, signed=True) for at in (0, 8))
        return seconds * _NANO + nanoseconds

    return call.plan(Clock, index, time=time)


@verb
def utimensat(
    call: Call, path: Text, *, atime: Time | None = None, mtime: Time | None = None, flags: Flags = 0
) -> Plan[Outcome]:
    """Set when a file was read and written.

    utimensat(2). What is not given stays; without both, both become the time that it is. `flags`:
    AT_SYMLINK_NOFOLLOW …
    """
    name = "utimensat_time64" if call.has("utimensat_time64") else "utimensat"
    stamps: Placed | int = 0
    if atime is not None or mtime is not None:
        stamps = call.place(b"".join(_timespec(call, each) for each in (atime, mtime)))
    return call.plan(Outcome, call.syscall(name, call.constant("AT_FDCWD"), call.text(path), stamps, flags))


def _timespec(call: Call, time: int | None) -> bytes:
    """Return a struct __kernel_timespec; None: UTIME_OMIT of include/linux/stat.h."""
    seconds, nanoseconds = (0, (1 << 30) - 2) if time is None else divmod(time, _NANO)
    order = call.abi.arch.byteorder
    return b"".join(part.to_bytes(8, order, signed=True) for part in (seconds, nanoseconds))
