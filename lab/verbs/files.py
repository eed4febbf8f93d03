# SPDX-License-Identifier: MIT
"""Files and file descriptors: open, read, write, ioctl and their kin, as their manual pages have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from lab.values import TreeKind
from lab.verbs import (
    Call,
    Content,
    Data,
    Fd,
    Flags,
    Int,
    Memory,
    Outcome,
    Plan,
    Size,
    Text,
    Tree,
    verb,
    wire,
)


@dataclass(frozen=True, kw_only=True)
class Opened(Outcome):
    """A new file descriptor, of the actor that made the step."""

    bare: ClassVar[Mapping[str, str]] = {"fd": "returns", "int": "returns"}


@dataclass(frozen=True, kw_only=True)
class Got(Outcome):
    """Data that was read; `number` is the data as a decimal or 0x number, for files that hold one."""

    bare: ClassVar[Mapping[str, str]] = {"data": "data", "int": "returns"}

    data: Data | None = None
    number: Int | None = None


@dataclass(frozen=True, kw_only=True)
class Answered(Outcome):
    """What a request gave; `out` is its argument's memory after the call."""

    bare: ClassVar[Mapping[str, str]] = {"fd": "returns", "int": "returns"}

    out: Annotated[Tree, TreeKind("arg")] = None


def number_in(data: bytes | None) -> int | None:
    """Return the number that data is, as text files of the kernel hold it."""
    try:
        return int((data or b"").decode("ascii").strip(), 0)
    except (UnicodeDecodeError, ValueError):
        return None


def got(call: Call, index: int, take: object) -> Plan[Got]:
    """Return the plan of a call that reads: its data, and the number in it."""

    def decode(reply: wire.Reply) -> Got:
        assert callable(take)
        data = None if reply.exited is not None else take(reply)
        return Got(**call.result(reply, index), data=data, number=number_in(data))

    return Plan(decode)


@verb
def open_(call: Call, path: Text, *, flags: Flags = 0, mode: Int = 0o644) -> Plan[Opened]:
    """Open a file.

    open(2). `mode` matters when O_CREAT makes it.
    """
    return openat(call, call.constant("AT_FDCWD"), path=path, flags=flags, mode=mode)


@verb
def openat(call: Call, dirfd: Fd, *, path: Text, flags: Flags = 0, mode: Int = 0o644) -> Plan[Opened]:
    """Open a file below a directory.

    openat(2).
    """
    return call.plan(Opened, call.syscall("openat", dirfd, call.text(path), flags, mode))


@verb
def close(call: Call, fd: Fd) -> Plan[Outcome]:
    """Close a file descriptor.

    close(2).
    """
    return call.plan(Outcome, call.syscall("close", fd))


@verb
def read(call: Call, fd: Fd, *, size: Size | None = None, buffer: Memory | None = None) -> Plan[Got]:
    """Read from a file descriptor.

    read(2). `size` is the count asked for (default: the buffer's size, or one page), `buffer` where it goes.
    """
    into = call.room(buffer, size, default=call.abi.page_size)
    index = call.syscall("read", fd, into, into.size if size is None else size)
    return got(call, index, into.fetch(call, up_to_call=index))


@verb
def write(
    call: Call, fd: Fd, *, data: Content | None = None, buffer: Memory | None = None, size: Size | None = None
) -> Plan[Outcome]:
    """Write to a file descriptor.

    write(2). `data` is what is written (a text, a form, or memory such as {bad: unmapped}); `size` is the
    count when it is not the data's length. `buffer` is the same as `data`, for those who think of memory.
    """
    given = data if data is not None else buffer
    source = given if given is not None else call.place(b"")
    index = call.syscall("write", fd, source, source.size if size is None else size)
    return call.plan(Outcome, index)
