# SPDX-License-Identifier: MIT
"""What verbs about file systems and directories make of a reply, and which arguments they refuse."""

import struct
from dataclasses import replace
from typing import Any

import pytest

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import X86_64, Architecture
from lab.errors import UsageError
from lab.guest import wire
from lab.language.context import Context
from lab.language.plan import Call
from lab.verbs import table

NARROW = replace(X86_64, name="narrow", word=4)
BIG = replace(X86_64, name="big", byteorder="big")
CONSTANTS = {"AT_FDCWD": -100, "MOVE_MOUNT_F_EMPTY_PATH": 4}
NAMES = ("type", "bsize", "blocks", "bfree", "bavail", "files", "ffree", "namelen", "frsize", "flags")
STATFS = Struct("statfs", 80, tuple(Field(f"f_{name}", 8 * at, 8, "uint") for at, name in enumerate(NAMES)))
DIRENT = Struct(
    "linux_dirent64",
    24,
    (
        Field("d_ino", 0, 8, "uint"),
        Field("d_off", 8, 8, "int"),
        Field("d_reclen", 16, 2, "uint"),
        Field("d_type", 18, 1, "uint"),
        Field("d_name", 19, 0, "bytes", 0),
    ),
)
SYSCALLS = {
    name: nr
    for nr, name in enumerate(
        ("mount", "umount2", "fsconfig", "move_mount", "statfs", "fstatfs", "getdents64", "renameat2")
    )
}


def call(arch: Architecture = X86_64) -> Call:
    syscalls = dict(SYSCALLS)
    if arch.word == 4:
        syscalls.update(statfs64=50, fstatfs64=51)
    structs = {"statfs": STATFS, "statfs64": STATFS, "linux_dirent64": DIRENT}
    return Call(Context(Abi(arch, CONSTANTS, {}, structs, syscalls)), wire.Program(arch), actor="main")


def plan(made: Call, verb: str, *args: Any, **more: Any) -> Any:
    return table()[verb].signature.function(made, *args, **more)


def reply(value: int, *data: bytes) -> wire.Reply:
    return wire.Reply(calls=(wire.CallResult(value, 1),), data=data)


@pytest.mark.parametrize("arch", [X86_64, BIG, NARROW], ids=["64", "big", "32"])
@pytest.mark.parametrize(("verb", "of"), [("statfs", "/mnt"), ("fstatfs", 3)])
def test_statfs_is_read(arch: Architecture, verb: str, of: object) -> None:
    made = call(arch)
    mark = ">" if arch.byteorder == "big" else "<"
    asked = plan(made, verb, of)
    assert made.program.encode()
    got = asked.decode(reply(0, struct.pack(mark + "10Q", *range(1, 11))))
    assert [getattr(got, name) for name in NAMES] == list(range(1, 11))
    refused = asked.decode(reply(-2, bytes(80)))
    assert (refused.errno, refused.type) == (2, None)


def entry(mark: str, ino: int, kind: int, name: bytes, length: int) -> bytes:
    return (struct.pack(mark + "QqHB", ino, 7, length, kind) + name).ljust(length, b"\0")


@pytest.mark.parametrize("arch", [X86_64, BIG], ids=["little", "big"])
def test_a_directory_is_read(arch: Architecture) -> None:
    mark = ">" if arch.byteorder == "big" else "<"
    data = (
        entry(mark, 1, 4, b".", 24)
        + entry(mark, 1, 4, b"..", 24)
        + entry(mark, 9, 8, b"a longer name", 40)
        + entry(mark, 10, 4, b"x", 24)
    )
    got = plan(call(arch), "getdents", 3).decode(reply(len(data), data))
    assert got.names == ["a longer name", "x"]
    assert [(each.name, each.type, each.ino) for each in got.entries][2:] == [
        ("a longer name", 8, 9),
        ("x", 4, 10),
    ]


def test_what_is_no_directory_entry_ends_the_list() -> None:
    made = plan(call(), "getdents", 3)
    assert made.decode(reply(0, b"")).entries == []
    assert made.decode(reply(19, bytes(19))).entries == []
    assert made.decode(reply(-20, b"")).errno == 20


def test_one_argument_is_not_given_twice() -> None:
    made = call()
    room = made.place(b"x")
    with pytest.raises(UsageError, match="'options' and 'data'"):
        plan(made, "mount", "none", target="/mnt", options="a", data=room)
    with pytest.raises(UsageError, match="'value' and 'data'"):
        plan(made, "fsconfig", 3, cmd=1, value="a", data=room)


def sent(made: Call, nr: int, *args: wire.Argument) -> bool:
    """Return whether the program makes just that call."""
    again = wire.Program(made.abi.arch)
    again._buffers = made.program._buffers
    again.call(nr, *args)
    return again.encode() == made.program.encode()


def test_what_is_not_given_is_null() -> None:
    made = call()
    plan(made, "mount", "none", target="/mnt", flags=32)
    none, target = (buffer for buffer, _ in made.program._buffers)
    assert [data for _, data in made.program._buffers] == [b"none\0\0\0\0", b"/mnt\0\0\0\0"]
    assert sent(made, SYSCALLS["mount"], none, target, 0, 32, 0)
    made = call()
    plan(made, "fsconfig", 3, cmd=6)
    assert sent(made, SYSCALLS["fsconfig"], 3, 6, 0, 0, 0)


@pytest.mark.parametrize(("more", "flags"), [({}, 4), ({"flags": 0}, 0), ({"path": "x"}, 0)])
def test_a_mount_is_moved_by_its_descriptor_or_by_a_path(more: dict[str, Any], flags: int) -> None:
    made = call()
    plan(made, "move_mount", 5, target="/mnt", **more)
    path, target = sorted((buffer for buffer, _ in made.program._buffers), key=lambda each: each.size)
    assert sent(made, SYSCALLS["move_mount"], 5, path, -100, target, flags)
