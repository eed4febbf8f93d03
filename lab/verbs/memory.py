# SPDX-License-Identifier: MIT
"""Mappings, and the actor's own loads and stores."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.abi.layout import whole
from lab.errors import Unsupported, UsageError
from lab.language.kinds import AddressKind
from lab.language.nodes import Node, ScalarNode
from lab.language.reading import Reading
from lab.language.values import NOTHING, Value
from lab.verbs import Address, Call, Data, Fd, Flags, Int, Memory, Outcome, Plan, Size, verb, wire

_MODULE = re.compile(r"[a-z_][a-z0-9_-]*")
_MMAP2_UNIT = 4096  # whatever the page size


@dataclass(frozen=True, kw_only=True)
class Mapped(Outcome):
    """A mapping; `$name` is its address."""

    bare: ClassVar[Mapping[str, str]] = {"address": "address", "int": "address"}


@dataclass(frozen=True, kw_only=True)
class Loaded(Outcome):
    """What the memory held; `number` is that as one unsigned number where it has a number's size."""

    bare: ClassVar[Mapping[str, str]] = {"data": "data", "int": "number"}

    data: Data | None = None
    number: Int | None = None


@dataclass(frozen=True)
class LoadedKind(AddressKind):
    """An address. Who gives a module's name means another verb."""

    def read(self, node: Node, scope: Reading) -> Value:
        """Read an address; no constant that could be one has small letters."""
        if isinstance(node, ScalarNode) and _MODULE.fullmatch(node.value):
            scope.mistakes.add(
                node, f"{scope.place} is {self.title}; a module is loaded by `load_module: {node.value}`"
            )
            return NOTHING
        return super().read(node, scope)


def mapped(call: Call, index: int) -> Plan[Mapped]:
    """Return the plan of a call that returns an address."""

    def decode(reply: wire.Reply) -> Mapped:
        fields = call.result(reply, index)
        return Mapped(**{**fields, "address": fields.get("returns")})

    return Plan(decode)


def touched(call: Call, reply: wire.Reply) -> dict[str, Any]:
    """Return the fields of an outcome that is no call's: a fault, and how often it was done."""
    fields = call.result(reply)
    return {name: value for name, value in fields.items() if name not in ("returns", "errno")}


@verb
def mmap(
    call: Call,
    fd: Fd = -1,
    *,
    length: Size,
    prot: Flags,
    flags: Flags,
    offset: Int = 0,
    address: Address = 0,
) -> Plan[Mapped]:
    """Map a file or device into the actor's memory.

    mmap(2). Without a descriptor (`mmap:`) it is -1, for MAP_ANONYMOUS. `$name` is the mapping's address.
    """
    arch, arguments = call.abi.arch, (address, length, prot, flags, fd)
    if call.has("mmap2"):
        if offset % _MMAP2_UNIT:
            raise Unsupported(f"mmap2(2) of {arch.name} counts in {_MMAP2_UNIT} bytes: no offset {offset:#x}")
        return mapped(call, call.syscall("mmap2", *arguments, offset // _MMAP2_UNIT))
    if arch.mmap_struct:
        words = [(each % (1 << 64)).to_bytes(arch.word, arch.byteorder) for each in (*arguments, offset)]
        return mapped(call, call.syscall("mmap", call.place(b"".join(words))))
    return mapped(call, call.syscall("mmap", *arguments, offset))


@verb
def munmap(call: Call, address: Address, *, length: Size) -> Plan[Outcome]:
    """Remove a mapping.

    munmap(2).
    """
    return call.plan(Outcome, call.syscall("munmap", address, length))


@verb
def mprotect(call: Call, address: Address, *, length: Size, prot: Flags) -> Plan[Outcome]:
    """Change what a mapping may be used for.

    mprotect(2).
    """
    return call.plan(Outcome, call.syscall("mprotect", address, length, prot))


@verb
def msync(call: Call, address: Address, *, length: Size, flags: Flags) -> Plan[Outcome]:
    """Bring a mapping's changes to its file.

    msync(2).
    """
    return call.plan(Outcome, call.syscall("msync", address, length, flags))


@verb
def mremap(
    call: Call,
    address: Address,
    *,
    old_size: Size,
    new_size: Size,
    flags: Flags = 0,
    new_address: Address = 0,
) -> Plan[Mapped]:
    """Change a mapping's size or place.

    mremap(2).
    """
    return mapped(call, call.syscall("mremap", address, old_size, new_size, flags, new_address))


@verb
def madvise(call: Call, address: Address, *, length: Size, advice: Int) -> Plan[Outcome]:
    """Tell the kernel how a mapping will be used.

    madvise(2).
    """
    return call.plan(Outcome, call.syscall("madvise", address, length, advice))


@dataclass(frozen=True, kw_only=True)
class Kept(Outcome):
    """Memory; `$name` is its address."""

    bare: ClassVar[Mapping[str, str]] = {"address": "address", "int": "address"}


@verb
def keep(call: Call, memory: Memory) -> Plan[Kept]:
    """Keep memory for later steps: `$name` is its address, until `let_go` or the end of the process.

    What other steps are given as memory is gone when they have ended; this stays, with what its pointers
    point to: for rings, futexes, pages that the kernel pinned. Threads share it, a fork has a copy. It ends
    at a page that may not be touched.
    """
    if not isinstance(memory.argument, wire.Buffer):
        raise UsageError("memory is kept that the step itself says: {buffer: …}, {struct: …}, {u32: …}")
    call.program.keep(memory.argument)
    index = call.program.address(memory.argument)

    def decode(reply: wire.Reply) -> Kept:
        if reply.exited is not None:
            return Kept(**call.result(reply))
        return Kept(address=reply.calls[index].value % (1 << 8 * call.abi.arch.word))

    return Plan(decode)


@verb
def let_go(call: Call, address: Address) -> Plan[Outcome]:
    """Give back what one `keep` kept, by any address in it; EINVAL where nothing is kept."""
    return call.plan(Outcome, call.program.let_go(address))


@verb
def store(call: Call, address: Address, *, data: Data) -> Plan[Outcome]:
    """Write to memory with the actor's own instructions.

    No system call: a mapping's fault handler runs. An access that is refused gives `signal` (SIGSEGV,
    SIGBUS), `code` and `address`.
    """
    with call.repeated():
        call.program.store(address, data)
    return Plan(lambda reply: Outcome(**touched(call, reply)))


@verb
def load(call: Call, address: Annotated[int, LoadedKind()], *, size: Size) -> Plan[Loaded]:
    """Read memory with the actor's own instructions.

    `size` bytes without a system call: a mapping's fault handler runs. An access that is refused gives
    `signal` (SIGSEGV, SIGBUS), `code` and `address`.
    """
    with call.repeated():
        index = call.program.load(address, size)
        if call.wanted is not None and len(call.wanted) == size:
            call.program.want(address, call.wanted)
            call.compared = True

    def decode(reply: wire.Reply) -> Loaded:
        fields = touched(call, reply)
        data = reply.data[index] if reply.exited is None and reply.fault is None else None
        number = None
        if data is not None and len(data) in (1, 2, 4, 8):
            number = whole(8 * len(data), signed=False).from_bytes(data, call.abi.arch.byteorder)
        return Loaded(**fields, data=data, number=number)

    return Plan(decode)
