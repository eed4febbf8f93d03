# SPDX-License-Identifier: MIT
"""A step as a plan: the program that an actor runs, the memory in it, and how its reply is read."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from lab.abi.layout import LayoutError, Unpacked, nearest
from lab.errors import Unsupported, UsageError
from lab.guest import wire
from lab.language.context import Context
from lab.language.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.language.data import Decode

O_co = TypeVar("O_co", bound=Outcome, covariant=True)


class Fetched(bytes):
    """Memory as it is after a call; `before` is what it held before that, zeros after its end."""

    before: bytes

    def __new__(cls, data: bytes, before: bytes) -> Self:
        """Make the bytes `data`."""
        made = super().__new__(cls, data)
        made.before = before
        return made


@dataclass(frozen=True)
class Placed:
    """Memory of a program, or an address: what a verb passes to a call."""

    argument: int | wire.Buffer | wire.At
    size: int
    decode: Decode | None = None  # None: bytes
    inner: tuple[tuple[tuple[str, ...], Placed], ...] = field(default=())  # what its pointers point to

    @property
    def readable(self) -> int:
        """How many of its bytes can be brought back."""
        if not isinstance(self.argument, wire.Buffer) or self.argument.kind is wire.Kind.UNMAPPED:
            return 0
        return self.size // 2 if self.argument.kind is wire.Kind.PARTIAL else self.size

    def fetch(
        self, call: Call, *, size: int | None = None, up_to_call: int | None = None
    ) -> Callable[[wire.Reply], Any]:
        """Bring its content back after the calls so far; the result takes it out of the reply.

        `size` and a call's result cut it. None where nothing can be read, or where the actor died.
        """
        if not isinstance(self.argument, wire.Buffer) or self.argument.kind is wire.Kind.UNMAPPED:
            return lambda _: None
        wanted = self.readable if size is None else min(size, self.readable)
        index = call.program.fetch(self.argument, 0, wanted, up_to_call)
        before = call.program.buffers[self.argument.index][1]
        inner = [(path, placed.fetch(call)) for path, placed in self.inner]

        def take(reply: wire.Reply) -> Any:
            if index >= len(reply.data):
                return None
            found = self._decoded(Fetched(reply.data[index], before))
            for path, get in inner:
                _put(found, path, get(reply))
            return found

        return take

    def _decoded(self, data: Fetched) -> Any:
        if self.decode is None:
            return data
        with contextlib.suppress(LayoutError):  # cut short by the call: the bytes as they are
            found = self.decode(data)
            if isinstance(found, Unpacked):
                found.before = data.before
            return found
        return data


def _put(tree: Any, path: tuple[str, ...], value: Any) -> None:
    """Put what a pointer points to where its address stood."""
    *head, last = path
    for part in head:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part] if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree[last] = value
    elif isinstance(tree, list):
        tree[int(last)] = value


@dataclass(frozen=True)
class Wide:
    """A loff_t among the arguments of a system call: two registers where one has 32 bits. syscall(2)."""

    value: int


Argument = wire.Argument | Placed | Wide


@dataclass(frozen=True)
class Plan(Generic[O_co]):
    """What a verb returns: how the reply to its program becomes an outcome.

    `loads` and `unloads` name the module that is loaded or unloaded by a call that returns 0: a session
    unloads at its end what is left.
    """

    decode: Callable[[wire.Reply], O_co]
    loads: str | None = None
    unloads: str | None = None


class Call(Context):
    """One step being planned: the program, and what the arguments resolve against."""

    def __init__(self, context: Context, program: wire.Program, *, actor: str) -> None:
        super().__init__(
            context.abi,
            seed=context.seed,
            bindings=context.bindings,
            actor=actor,
            modules=context.modules,
            machine=context.machine,
        )
        self.program = program
        self.modules = context.modules
        self.times = 1
        self.want: tuple[int, int] | None = None  # the results that `times` goes on after
        self.wanted: bytes | None = None  # and the data
        self.bounds: tuple[int, int] | None = None  # what the call may return, asked for so much
        self.compared = False  # whether it is, by an operation of its own
        self._loop: int | None = None  # the call that tells how often, where it is not the step's own

    def nr(self, name: str) -> int:
        """Return a system call's number.

        Raises Unsupported when this architecture has no such call.
        """
        found = self.abi.syscalls.get(name)
        if found is None:
            raise Unsupported(f"{self.abi.arch.name} has no system call {name}")
        return found

    def has(self, name: str) -> bool:
        """Return whether this architecture has a system call; newer ones lack open, dup2 and pipe."""
        return name in self.abi.syscalls

    def syscall(
        self,
        name: str,
        *args: Argument,
        once: bool = False,
        gives: Placed | None = None,
        moves: tuple[int, int] | None = None,
    ) -> int:
        """Add a system call to the program; return its index among the reply's calls.

        The step's `times` repeats it, unless `once` says that it is only a preparation. `gives` is where it
        puts as much data as it returns: what the step expects of that is compared each time. `moves` are the
        least and most that it can return, asked for so much: another result is wrong, unless the step expects
        just that.
        """
        self.bounds = moves
        want = self.want if self.want is not None else moves
        raw: list[wire.Argument] = []
        for arg in args:
            if isinstance(arg, Wide):
                raw += self._registers(arg, len(raw))
            else:
                raw.append(arg.argument if isinstance(arg, Placed) else arg)
        if once:
            return self.program.call(self.nr(name), *raw)
        if self.wanted is None or gives is None or not isinstance(gives.argument, wire.Buffer):
            return self.program.call(self.nr(name), *raw, times=self.times, want=want)
        with self.repeated():
            index = self.program.call(self.nr(name), *raw, want=want)
            self.program.want(gives.argument, self.wanted, of_call=index)
        self.compared = True
        return index

    @contextlib.contextmanager
    def repeated(self) -> Iterator[None]:
        """Repeat what is added to the program as the step's `times` says, while all is as wanted."""
        if self.times == 1:
            yield
            return
        with self.program.loop(self.times) as self._loop:
            yield

    def _registers(self, wide: Wide, before: int) -> list[int]:
        arch = self.abi.arch
        if arch.word == 8:
            return [wide.value]
        low, high = wide.value & 0xFFFFFFFF, wide.value >> 32 & 0xFFFFFFFF
        pair = [low, high] if arch.byteorder == "little" else [high, low]
        return [0, *pair] if arch.aligned_pairs and before % 2 else pair

    def code(self, instruction: str) -> wire.Buffer:
        """Put the code of an instruction into the program's memory, for `wire.Program.invoke`.

        Raises Unsupported when this architecture has no such instruction.
        """
        found = self.abi.arch.instructions.get(instruction)
        if found is None:
            raise Unsupported(f"{self.abi.arch.name} has no instruction {instruction!r}")
        return self.program.code(bytes.fromhex(found))

    def image(self, module: str) -> bytes:
        """Return a module's image, to be loaded; UsageError when there is none of that name."""
        if module not in self.modules:
            raise UsageError(f"there is no module {module!r}{nearest(module, self.modules)}")
        return self.modules[module]

    def text(self, text: str) -> wire.Buffer:
        """Put a C string into the program's memory."""
        return self.program.string(text)

    def place(self, data: bytes, size: int | None = None) -> Placed:
        """Put bytes into the program's memory, ending at a guard page; zeros up to `size`."""
        buffer = self.program.buffer(data, size)
        return Placed(buffer, buffer.size)

    def room(self, memory: Placed | None, size: int | None, *, default: int = 0) -> Placed:
        """Return memory to receive into: the given one, or a fresh one of `size` bytes."""
        if memory is not None:
            return memory
        return self.place(b"", default if size is None else size)

    def result(self, reply: wire.Reply, index: int | None = None) -> dict[str, Any]:
        """Return the fields that every outcome has, from the reply's call `index` (default: the last)."""
        fields: dict[str, Any] = {}
        if reply.exited is not None:
            fields.update(exit_fields(reply.exited))
        if reply.fault is not None:
            fields.update(signal=reply.fault.signal, code=reply.fault.code, address=reply.fault.address)
        if reply.calls and (index is None or index < len(reply.calls)):
            call = reply.calls[-1 if index is None else index]
            fields.update(returns=call.value if call.errno is None else None, errno=call.errno)
            if self.times > 1:
                told = call if self._loop is None else reply.calls[self._loop]
                fields["completed"] = told.completed
        return fields

    def plan(
        self, outcome: type[O_co], index: int | None = None, /, **parts: Callable[[wire.Reply], Any]
    ) -> Plan[O_co]:
        """Return the usual plan: the call's result, and fields that each take their part of the reply.

        Parts are taken also when the call failed (a struct may have been written before); not from an actor
        that died.
        """

        def decode(reply: wire.Reply) -> O_co:
            fields = self.result(reply, index)
            if reply.exited is None:
                fields.update((name, take(reply)) for name, take in parts.items())
            return outcome(**fields)

        return Plan(decode)


def exit_fields(status: int) -> dict[str, Any]:
    """Return what a wait status says; -1, which stays, is a status that nobody can know."""
    if status == -1:
        return {"status": status}
    if status & 0x7F:
        return {"signal": status & 0x7F}
    return {"status": status >> 8 & 0xFF}
