# SPDX-License-Identifier: MIT
"""Directories and names: what a path names, and what the file system says of it."""

from dataclasses import dataclass, field

from lab.verbs import (
    Call,
    Fd,
    Flags,
    Int,
    Memory,
    Outcome,
    Plan,
    Size,
    Text,
    Time,
    verb,
    wire,
)
from lab.verbs.files import Got, got
from lab.verbs.times import point


@dataclass(frozen=True, kw_only=True)
class Status(Outcome):
    """What the file system says of a file; `rdev_major` and `rdev_minor` are a device node's.

    `atime`, `mtime` and `ctime` are when it was read, written and changed; `btime` is when it was made, where
    the file system knows it.
    """

    mode: Int | None = None
    size: Size | None = None
    uid: Int | None = None
    gid: Int | None = None
    ino: Int | None = None
    nlink: Int | None = None
    blksize: Size | None = None
    blocks: Int | None = None
    rdev_major: Int | None = None
    rdev_minor: Int | None = None
    atime: Time | None = None
    mtime: Time | None = None
    ctime: Time | None = None
    btime: Time | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of a directory; `type` is one of DT_REG, DT_DIR …, `ino` its number."""

    name: Text
    type: Int
    ino: Int


@dataclass(frozen=True, kw_only=True)
class Listed(Outcome):
    """Entries of a directory in the file system's order, `.` and `..` too; `names` are all others' names."""

    entries: list[Entry] = field(default_factory=list)
    names: list[Text] = field(default_factory=list)


@verb
def stat(call: Call, path: Text, *, flags: Flags = 0) -> Plan[Status]:
    """Ask what a path names.

    stat(2), made with statx(2), whose struct is the same everywhere. `flags`: AT_SYMLINK_NOFOLLOW …
    """
    return _statx(call, call.constant("AT_FDCWD"), path, flags)


@verb
def fstat(call: Call, fd: Fd) -> Plan[Status]:
    """Ask what a file descriptor is open on.

    fstat(2), made with statx(2).
    """
    return _statx(call, fd, "", call.constant("AT_EMPTY_PATH"))


def _statx(call: Call, fd: int, path: str, flags: int) -> Plan[Status]:
    layout = call.struct("statx")
    room = call.place(b"", layout.size)
    born = call.constant("STATX_BTIME")
    mask = call.constant("STATX_BASIC_STATS") | born
    index = call.syscall("statx", fd, call.text(path), flags, mask, room)
    take = room.fetch(call)

    def decode(reply: wire.Reply) -> Status:
        fields = call.result(reply, index)
        if fields.get("returns") is not None:
            raw = layout.unpack(take(reply), call.abi.arch)
            names = ("mode", "size", "uid", "gid", "ino", "nlink", "blksize", "blocks")
            fields.update({name: raw[f"stx_{name}"] for name in (*names, "rdev_major", "rdev_minor")})
            times = ("atime", "mtime", "ctime", *(("btime",) if raw["stx_mask"] & born else ()))
            fields.update({name: point(raw[f"stx_{name}"]) for name in times})
        return Status(**fields)

    return Plan(decode)


@verb
def access(call: Call, path: Text, *, mode: Flags = 0) -> Plan[Outcome]:
    """Ask whether the actor's real user may use a path.

    access(2). `mode`: R_OK, W_OK, X_OK; without it whether it is there.
    """
    return call.plan(Outcome, call.syscall("faccessat", call.constant("AT_FDCWD"), call.text(path), mode))


@verb
def chmod(call: Call, path: Text, *, mode: Flags) -> Plan[Outcome]:
    """Change a file's mode.

    chmod(2).
    """
    return call.plan(Outcome, call.syscall("fchmodat", call.constant("AT_FDCWD"), call.text(path), mode))


@verb
def unlink(call: Call, path: Text) -> Plan[Outcome]:
    """Remove a file's name.

    unlink(2).
    """
    return call.plan(Outcome, call.syscall("unlinkat", call.constant("AT_FDCWD"), call.text(path), 0))


@verb
def rmdir(call: Call, path: Text) -> Plan[Outcome]:
    """Remove an empty directory.

    rmdir(2).
    """
    flag = call.constant("AT_REMOVEDIR")
    return call.plan(Outcome, call.syscall("unlinkat", call.constant("AT_FDCWD"), call.text(path), flag))


@verb
def mkdir(call: Call, path: Text, *, mode: Int = 0o755) -> Plan[Outcome]:
    """Make a directory.

    mkdir(2).
    """
    return call.plan(Outcome, call.syscall("mkdirat", call.constant("AT_FDCWD"), call.text(path), mode))


@verb
def getdents(call: Call, fd: Fd, *, size: Size = 32768, buffer: Memory | None = None) -> Plan[Listed]:
    """Read entries of a directory, as many as there is room for; none (`returns: 0`) at its end.

    getdents64(2). `size` and `buffer` are as in `read`.
    """
    into = call.room(buffer, size)
    index = call.syscall("getdents64", fd, into, into.size if buffer is not None else size)
    take = into.fetch(call, up_to_call=index)

    def decode(reply: wire.Reply) -> Listed:
        fields = call.result(reply, index)
        if fields.get("returns") is not None:
            found = entries_in(call, take(reply) or b"")
            names = [each.name for each in found if each.name not in (".", "..")]
            fields.update(entries=found, names=names)
        return Listed(**fields)

    return Plan(decode)


def entries_in(call: Call, data: bytes) -> list[Entry]:
    """Return the entries that getdents64(2) put into memory."""
    layout, arch = call.struct("linux_dirent64"), call.abi.arch
    at = layout["d_name"].offset
    found = []
    while data:
        raw = layout.unpack(data[: layout.size].ljust(layout.size, b"\0"), arch)
        length, kind, ino = (raw[name] for name in ("d_reclen", "d_type", "d_ino"))
        if not (isinstance(length, int) and isinstance(kind, int) and isinstance(ino, int)) or length <= at:
            break  # nothing that the kernel would write
        name = data[at:length].partition(b"\0")[0]
        found.append(Entry(name.decode(errors="replace"), kind, ino))
        data = data[length:]
    return found


@verb
def rename(call: Call, path: Text, *, to: Text, flags: Flags = 0) -> Plan[Outcome]:
    """Give a file another name.

    rename(2), made with renameat2(2). `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE …
    """
    here = call.constant("AT_FDCWD")
    return call.plan(Outcome, call.syscall("renameat2", here, call.text(path), here, call.text(to), flags))


@verb
def link(call: Call, path: Text, *, to: Text, flags: Flags = 0) -> Plan[Outcome]:
    """Give a file one more name.

    link(2), made with linkat(2). `flags`: AT_SYMLINK_FOLLOW …
    """
    here = call.constant("AT_FDCWD")
    return call.plan(Outcome, call.syscall("linkat", here, call.text(path), here, call.text(to), flags))


@verb
def chdir(call: Call, path: Text) -> Plan[Outcome]:
    """Change the actor's working directory.

    chdir(2).
    """
    return call.plan(Outcome, call.syscall("chdir", call.text(path)))


@verb
def symlink(call: Call, target: Text, *, path: Text) -> Plan[Outcome]:
    """Make a symbolic link `path` that holds `target`.

    symlink(2).
    """
    here = call.constant("AT_FDCWD")
    return call.plan(Outcome, call.syscall("symlinkat", call.text(target), here, call.text(path)))


@verb
def readlink(call: Call, path: Text, *, size: Size = 4096) -> Plan[Got]:
    """Read where a symbolic link points.

    readlink(2).
    """
    into = call.place(b"", size)
    index = call.syscall("readlinkat", call.constant("AT_FDCWD"), call.text(path), into, size)
    return got(call, index, into.fetch(call, up_to_call=index))
