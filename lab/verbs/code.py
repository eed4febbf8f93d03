# SPDX-License-Identifier: MIT
"""Code that an actor runs itself, without a system call: functions of the vDSO, single instructions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from lab.abi import vdso as vdso_
from lab.abi.layout import nearest
from lab.arch import ARCHITECTURES
from lab.errors import Unsupported
from lab.language.kinds import TextKind
from lab.language.nodes import Node
from lab.language.reading import Reading
from lab.language.values import Fixed, Value
from lab.run.session import Session
from lab.verbs import Address, Call, Memory, Outcome, Plan, Text, Tree, verb, wire

INSTRUCTIONS = frozenset(name for arch in ARCHITECTURES.values() for name in arch.instructions)


@dataclass(frozen=True, kw_only=True)
class Found(Outcome):
    """A function; `$name` is its address, `symbol` what the kernel calls it here."""

    bare: ClassVar[Mapping[str, str]] = {"address": "address", "int": "address"}

    symbol: Text | None = None


@dataclass(frozen=True, kw_only=True)
class Returned(Outcome):
    """What code returned, a long as it is: no error number is made of it.

    `out` has what the arguments' memory holds afterwards, one entry for each.
    """

    bare: ClassVar[Mapping[str, str]] = {"int": "returns", "address": "returns"}

    out: list[Tree] = field(default_factory=list)


@dataclass(frozen=True)
class _NameKind(TextKind):
    """One of some names."""

    def known(self) -> frozenset[str]:
        """Return them."""
        raise NotImplementedError

    def read(self, node: Node, scope: Reading) -> Value:
        """Read a name that some architecture has."""
        text = self.text(node, scope)
        if text is not None and text not in self.known():
            scope.mistakes.add(node, f"{scope.place}: no {self.title} {text!r}{nearest(text, self.known())}")
        return Fixed(text)


@dataclass(frozen=True)
class InstructionKind(_NameKind):
    """The name of an instruction."""

    title: ClassVar[str] = "instruction"
    forms: ClassVar[tuple[str, ...]] = ("rdtsc", "int 0x80")

    def known(self) -> frozenset[str]:
        """Return those of all architectures."""
        return INSTRUCTIONS


@dataclass(frozen=True)
class FunctionKind(_NameKind):
    """The name of a function of the vDSO."""

    title: ClassVar[str] = "function of a vDSO"
    forms: ClassVar[tuple[str, ...]] = ("clock_gettime",)

    def known(self) -> frozenset[str]:
        """Return those that some kernel has."""
        return vdso_.FUNCTIONS


@verb
def vdso(session: Session, function: Annotated[str, FunctionKind()]) -> Found:
    """Find a function of the vDSO, in the image that the kernel mapped into the actor.

    vdso(7). Without what an architecture writes before the name (__vdso_, __kernel_). `$name` is its address.
    """
    by = session.current.by
    arch = session.cast.abi(by).arch
    program = wire.Program(arch)
    index = program.read_file("/proc/self/maps")
    reply = session.run(program)
    if reply.calls[-1].errno is not None:
        session.fail("/proc/self/maps", session.abi.errno_name(reply.calls[-1].errno))
    there = vdso_.where(reply.data[index].decode(errors="replace"))
    if there is None:
        raise Unsupported(f"the kernel maps no vDSO into actor {by!r}")
    begin, size = there
    program = wire.Program(arch)
    index = program.load(begin, size)
    functions = vdso_.functions(session.run(program).data[index])
    if function not in functions:
        raise Unsupported(f"the vDSO has no {function}, it has {', '.join(sorted(functions))}")
    symbol, offset = functions[function]
    return Found(address=begin + offset, symbol=symbol)


@verb
def call_(call: Call, address: Address, *, args: list[Memory] | None = None) -> Plan[Returned]:
    """Call a function in the actor's memory, by the rules of C: one of the vDSO.

    No system call, unless it makes one. `args` are numbers or memory, at most six; `returns` is a long, `out`
    what the memory holds afterwards. A fault in it gives `signal` (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP),
    `code` and `address`.
    """
    return _returned(call, address, args or [])


@verb
def instruction(
    call: Call, name: Annotated[str, InstructionKind()], *, args: list[Memory] | None = None
) -> Plan[Returned]:
    """Let the CPU make one instruction, in memory that may be executed and not be written.

    `returns` is what it gave, as far as a long has room for it. One that enters the kernel (`syscall`, `int
    0x80`, `svc 0`, `ecall`, `sc`) takes a call's number and five arguments, and returns what the kernel did;
    `cpuid` takes a leaf, a subleaf and memory of four {u32: [0, 0, 0, 0]}. One that is refused gives `signal`
    (SIGILL, SIGTRAP, SIGSEGV …), `code` and `address`.
    """
    return _returned(call, call.code(name), args or [])


def _returned(call: Call, address: wire.Argument, args: list[Any]) -> Plan[Returned]:
    raw = [each.argument for each in args]
    index = call.program.invoke(address, *raw, times=call.times, want=call.want)
    takes = [each.fetch(call) for each in args]

    def decode(reply: wire.Reply) -> Returned:
        fields = call.result(reply, index)
        fields.pop("errno", None)
        if reply.exited is not None:
            return Returned(**fields)
        fields["returns"] = reply.calls[index].value if reply.fault is None else None
        return Returned(**fields, out=[take(reply) for take in takes])

    return Plan(decode)
