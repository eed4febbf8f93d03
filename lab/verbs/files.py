# SPDX-License-Identifier: MIT
"""Files and file descriptors: open, read, write, ioctl and their kin, as their manual pages have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from lab.language.composites import TreeKind
from lab.verbs import (
    Call,
    Content,
    Data,
    Fd,
    Flags,
    Int,
    Memory,
    Outcome,
    Placed,
    Plan,
    Size,
    Text,
    Tree,
    Wide,
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


@dataclass(frozen=True, kw_only=True)
class Piped(Outcome):
    """The two ends of a pipe."""

    read: Fd | None = None
    write: Fd | None = None


def number_in(data: bytes | None) -> int | None:
    """Return the number that data is, as text files of the kernel hold it."""
    try:
        return int((data or b"").decode("ascii").strip(), 0)
    except (UnicodeDecodeError, ValueError):
        return None


def taken(count: int) -> tuple[int, int]:
    """Return what a call may say that it took of `count` bytes: one that takes nothing is made for ever."""
    return (min(count, 1), count)


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
    count = into.size if size is None else size
    index = call.syscall("read", fd, into, count, gives=into, moves=(0, count))
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
    count = source.size if size is None else size
    index = call.syscall("write", fd, source, count, moves=taken(count))
    return call.plan(Outcome, index)


@verb
def pread(
    call: Call, fd: Fd, *, offset: Int, size: Size | None = None, buffer: Memory | None = None
) -> Plan[Got]:
    """Read at an offset, wherever the file's position is.

    pread(2). `size` and `buffer` are as in `read`.
    """
    into = call.room(buffer, size, default=call.abi.page_size)
    count = into.size if size is None else size
    index = call.syscall("pread64", fd, into, count, Wide(offset), gives=into, moves=(0, count))
    return got(call, index, into.fetch(call, up_to_call=index))


@verb
def pwrite(call: Call, fd: Fd, *, data: Content, offset: Int, size: Size | None = None) -> Plan[Outcome]:
    """Write at an offset, wherever the file's position is.

    pwrite(2). `data` and `size` are as in `write`.
    """
    count = data.size if size is None else size
    return call.plan(Outcome, call.syscall("pwrite64", fd, data, count, Wide(offset), moves=taken(count)))


@verb
def readv(call: Call, fd: Fd, *, sizes: list[Size]) -> Plan[Got]:
    """Read into several pieces of memory.

    readv(2). `sizes` are the pieces' sizes; `data` of the result is all that came, one piece after the other.
    """
    pieces = [call.place(b"", size) for size in sizes]
    index = call.syscall("readv", fd, vector(call, pieces), len(pieces), moves=(0, sum(sizes)))
    takes = [piece.fetch(call) for piece in pieces]

    def take(reply: wire.Reply) -> bytes | None:
        count = reply.calls[index].value
        return b"".join(each(reply) for each in takes)[:count] if count >= 0 else None

    return got(call, index, take)


@verb
def writev(call: Call, fd: Fd, *, iov: list[Content]) -> Plan[Outcome]:
    """Write several pieces of memory.

    writev(2). Each piece of `iov` is what `data` of `write` may be.
    """
    count = sum(piece.size for piece in iov)
    return call.plan(Outcome, call.syscall("writev", fd, vector(call, iov), len(iov), moves=taken(count)))


def vector(call: Call, pieces: list[Placed]) -> wire.Buffer:
    """Return an array of struct iovec in the program's memory."""
    word, order = call.abi.arch.word, call.abi.arch.byteorder
    packed = bytearray()
    for piece in pieces:
        address = piece.argument if isinstance(piece.argument, int) else 0
        packed += (address % (1 << 8 * word)).to_bytes(word, order) + piece.size.to_bytes(word, order)
    array = call.program.buffer(bytes(packed))
    for index, piece in enumerate(pieces):
        if isinstance(piece.argument, wire.Buffer):
            call.program.pointer(array, 2 * word * index, piece.argument)
    return array


@verb
def lseek(call: Call, fd: Fd, *, offset: Int, whence: Int) -> Plan[Outcome]:
    """Move the file's position.

    lseek(2).
    """
    return call.plan(Outcome, call.syscall("lseek", fd, offset, whence))


@verb
def dup(call: Call, fd: Fd) -> Plan[Opened]:
    """Make another descriptor of the same open file.

    dup(2).
    """
    return call.plan(Opened, call.syscall("dup", fd))


@verb
def fcntl(call: Call, fd: Fd, *, cmd: Int, arg: Memory | None = None) -> Plan[Answered]:
    """Change or ask a file descriptor.

    fcntl(2). `arg` is a number or memory, as the command wants it.
    """
    return request_plan(call, "fcntl", fd, cmd, arg)


@verb
def ioctl(call: Call, fd: Fd, *, request: Int, arg: Memory | None = None) -> Plan[Answered]:
    """Make a request of the device's own.

    ioctl(2). `arg` is a number, or memory: a struct, a buffer, a bad address. What the memory holds after the
    call is `out`: of a struct its fields, of {u32: …} a number, else data.
    """
    return request_plan(call, "ioctl", fd, request, arg)


def request_plan(call: Call, name: str, fd: int, request: int, arg: Placed | None) -> Plan[Answered]:
    """Return the plan of a call that takes a request's number and its argument."""
    index = call.syscall(name, fd, request, 0 if arg is None else arg)
    if arg is None:
        return call.plan(Answered, index)
    return call.plan(Answered, index, out=arg.fetch(call))


@verb
def ftruncate(call: Call, fd: Fd, *, length: Size) -> Plan[Outcome]:
    """Cut a file to a length.

    ftruncate(2).
    """
    return call.plan(Outcome, call.syscall("ftruncate", fd, length))


@verb
def fsync(call: Call, fd: Fd) -> Plan[Outcome]:
    """Bring a file's data to its device.

    fsync(2).
    """
    return call.plan(Outcome, call.syscall("fsync", fd))


@verb
def fdatasync(call: Call, fd: Fd) -> Plan[Outcome]:
    """Bring a file's data, without what need not be, to its device.

    fdatasync(2).
    """
    return call.plan(Outcome, call.syscall("fdatasync", fd))


@verb
def splice(
    call: Call,
    fd: Fd,
    *,
    to: Fd,
    size: Size,
    flags: Flags = 0,
    offset: Memory | None = None,
    to_offset: Memory | None = None,
) -> Plan[Outcome]:
    """Move data between two descriptors, one of them a pipe.

    splice(2). The offsets are memory that holds a loff_t ({u64: 0}); without one the file's position counts.
    """
    places = (0 if offset is None else offset, 0 if to_offset is None else to_offset)
    index = call.syscall("splice", fd, places[0], to, places[1], size, flags, moves=(0, size))
    return call.plan(Outcome, index)


@verb
def sendfile(call: Call, fd: Fd, *, to: Fd, size: Size, offset: Memory | None = None) -> Plan[Outcome]:
    """Copy from a file to another descriptor, within the kernel.

    sendfile(2). `offset` is memory that holds a loff_t; without it the file's position counts.
    """
    name = "sendfile64" if call.has("sendfile64") else "sendfile"  # 32 bits: of both, the one with a loff_t
    where = 0 if offset is None else offset
    return call.plan(Outcome, call.syscall(name, to, fd, where, size, moves=(0, size)))


@verb
def pipe(call: Call, flags: Flags = 0) -> Plan[Piped]:
    """Make a pipe: `$name.read` and `$name.write`.

    pipe2(2).
    """
    room = call.place(b"", 8)
    index = call.syscall("pipe2", room, flags)
    take = room.fetch(call)

    def decode(reply: wire.Reply) -> Piped:
        fields = call.result(reply, index)
        if fields.get("returns") == 0:
            ends = take(reply)
            order = call.abi.arch.byteorder
            fields.update(
                read=int.from_bytes(ends[:4], order, signed=True),
                write=int.from_bytes(ends[4:], order, signed=True),
            )
        return Piped(**fields)

    return Plan(decode)


@verb
def eventfd(call: Call, count: Int = 0, *, flags: Flags = 0) -> Plan[Opened]:
    """Make a descriptor that counts.

    eventfd(2).
    """
    return call.plan(Opened, call.syscall("eventfd2", count, flags))
