# SPDX-License-Identifier: MIT
"""File systems: mounted and unmounted, the old way and by file descriptors, and what statfs tells of them."""

from dataclasses import dataclass
from typing import Any

from lab.errors import UsageError
from lab.verbs import Call, Fd, Flags, Int, Memory, Outcome, Plan, Size, Text, verb, wire
from lab.verbs.files import Opened


@dataclass(frozen=True, kw_only=True)
class FileSystem(Outcome):
    """What a file system says of itself: struct statfs without its f_, `blocks` in units of `bsize`."""

    type: Int | None = None
    bsize: Size | None = None
    blocks: Int | None = None
    bfree: Int | None = None
    bavail: Int | None = None
    files: Int | None = None
    ffree: Int | None = None
    namelen: Int | None = None
    frsize: Size | None = None
    flags: Flags | None = None


@verb
def mount(
    call: Call,
    source: Text,
    *,
    target: Text,
    type: Text | None = None,  # noqa: A002 - the key is mount(8)'s word
    flags: Flags = 0,
    options: Text | None = None,
    data: Memory | None = None,
) -> Plan[Outcome]:
    """Mount a file system, or change a mount (MS_REMOUNT, MS_BIND, MS_MOVE …).

    mount(2). `options` are the text that it calls data; `data` is any memory in its place. What a scenario
    mounts it unmounts itself: a module whose file system is mounted cannot be unloaded at its end.
    """
    if options is not None and data is not None:
        raise UsageError("'options' and 'data' are the same argument of mount(2): give one")
    last = text_or_null(call, options) if data is None else data
    index = call.syscall("mount", call.text(source), call.text(target), text_or_null(call, type), flags, last)
    return call.plan(Outcome, index)


@verb
def umount(call: Call, target: Text, *, flags: Flags = 0) -> Plan[Outcome]:
    """Unmount a file system.

    umount2(2). `flags`: MNT_DETACH, MNT_FORCE, MNT_EXPIRE, UMOUNT_NOFOLLOW.
    """
    return call.plan(Outcome, call.syscall("umount2", call.text(target), flags))


@verb
def fsopen(call: Call, type: Text, *, flags: Flags = 0) -> Plan[Opened]:  # noqa: A002 - as in `mount`
    """Begin to make a file system of a type.

    fsopen(2). What the kernel has to say of it is read from the descriptor, a message each ("e lab: …");
    ENODATA when there is none.
    """
    return call.plan(Opened, call.syscall("fsopen", call.text(type), flags))


@verb
def fspick(call: Call, path: Text, *, flags: Flags = 0) -> Plan[Opened]:
    """Begin to change a file system that is mounted.

    fspick(2). Its messages are read as those of `fsopen`.
    """
    return call.plan(Opened, call.syscall("fspick", call.constant("AT_FDCWD"), call.text(path), flags))


@verb
def fsconfig(
    call: Call,
    fd: Fd,
    *,
    cmd: Int,
    key: Text | None = None,
    value: Text | None = None,
    data: Memory | None = None,
    aux: Int = 0,
) -> Plan[Outcome]:
    """Set a parameter of a file system that is being made or changed, or do it (FSCONFIG_CMD_CREATE …).

    fsconfig(2). `value` is a text; `data` is any memory in its place. `aux` is a number or a descriptor, as
    the command wants it.
    """
    if value is not None and data is not None:
        raise UsageError("'value' and 'data' are the same argument of fsconfig(2): give one")
    what = text_or_null(call, value) if data is None else data
    return call.plan(Outcome, call.syscall("fsconfig", fd, cmd, text_or_null(call, key), what, aux))


@verb
def fsmount(call: Call, fd: Fd, *, flags: Flags = 0, attributes: Flags = 0) -> Plan[Opened]:
    """Make a mount of a file system that was created; it is nowhere yet.

    fsmount(2). `attributes`: MOUNT_ATTR_RDONLY …; `move_mount` puts it somewhere.
    """
    return call.plan(Opened, call.syscall("fsmount", fd, flags, attributes))


@verb
def move_mount(
    call: Call, fd: Fd, *, path: Text = "", target: Text, flags: Flags | None = None
) -> Plan[Outcome]:
    """Put a mount, or the one at `path` below a directory, to a place.

    move_mount(2). Without a `path` it is the descriptor itself: `flags` is MOVE_MOUNT_F_EMPTY_PATH then,
    unless something else is said.
    """
    how = flags
    if how is None:
        how = 0 if path else call.constant("MOVE_MOUNT_F_EMPTY_PATH")
    here = call.constant("AT_FDCWD")
    return call.plan(Outcome, call.syscall("move_mount", fd, call.text(path), here, call.text(target), how))


@verb
def statfs(call: Call, path: Text) -> Plan[FileSystem]:
    """Ask about the file system that a path is on.

    statfs(2), made with statfs64(2) where there is one.
    """
    return _statfs(call, "statfs", call.text(path))


@verb
def fstatfs(call: Call, fd: Fd) -> Plan[FileSystem]:
    """Ask about the file system that a descriptor is open on.

    fstatfs(2), made with fstatfs64(2) where there is one.
    """
    return _statfs(call, "fstatfs", fd)


def text_or_null(call: Call, text: str | None) -> wire.Buffer | int:
    """Return a C string in the program's memory, or NULL."""
    return 0 if text is None else call.text(text)


_FIELDS = ("type", "bsize", "blocks", "bfree", "bavail", "files", "ffree", "namelen", "frsize", "flags")


def _statfs(call: Call, name: str, of: wire.Buffer | int) -> Plan[FileSystem]:
    wide = call.has(f"{name}64")  # 32 bits: numbers of 64 bits, and the struct's size as an argument
    layout = call.struct("statfs64" if wide else "statfs")
    room = call.place(b"", layout.size)
    index = call.syscall(f"{name}64", of, layout.size, room) if wide else call.syscall(name, of, room)
    take = room.fetch(call)

    def decode(reply: wire.Reply) -> FileSystem:
        fields: dict[str, Any] = call.result(reply, index)
        if fields.get("returns") is not None:
            raw = layout.unpack(take(reply), call.abi.arch)
            fields.update({each: raw[f"f_{each}"] for each in _FIELDS})
        return FileSystem(**fields)

    return Plan(decode)
