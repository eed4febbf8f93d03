# SPDX-License-Identifier: MIT
"""Modules as steps. `load` also reads memory: both are what their manual pages call a load."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.errors import UsageError
from lab.language.kinds import AddressKind
from lab.language.nodes import Node, ScalarNode
from lab.language.reading import Reading
from lab.language.values import Fixed, Value
from lab.scenario import ModuleLoad
from lab.verbs import Call, Flags, Outcome, Plan, Size, Text, verb
from lab.verbs.memory import Loaded, load_memory

_MODULE = re.compile(r"[a-z_][a-z0-9_-]*")


@dataclass(frozen=True)
class LoadableKind(AddressKind):
    """A module by its name, or an address."""

    title: ClassVar[str] = "a module's name, or the address of memory"
    forms: ClassVar[tuple[str, ...]] = ("lab_chardev", "$map+PAGE_SIZE")

    def read(self, node: Node, scope: Reading) -> Value:
        """Read a name in small letters as a module, all else as an address."""
        if isinstance(node, ScalarNode) and _MODULE.fullmatch(node.value):
            return Fixed(node.value)
        return super().read(node, scope)


@verb
def load(
    call: Call,
    module: Annotated[Any, LoadableKind()],
    *,
    params: dict[str, Text] | None = None,
    size: Size | None = None,
) -> Plan[Loaded]:
    """Load a module, or read memory with the actor's own instructions.

    Of a module: init_module(2) by the actor, with `params`. The scenario's end unloads it. Of an address (a
    mapping): `size` bytes are read without a system call; an access that is refused gives `signal` (SIGSEGV,
    SIGBUS), `code` and `address`.
    """
    if isinstance(module, int):
        if params is not None:
            raise UsageError("an address has no params")
        if size is None:
            raise UsageError("a load from memory wants 'size'")
        return load_memory(call, module, size)
    if size is not None:
        raise UsageError("a module has no size; a load from memory wants an address")
    pairs = tuple((key, value) for key, value in (params or {}).items())
    text = ModuleLoad(module, pairs).text
    image = call.image(module)
    index = call.syscall("init_module", call.program.buffer(image), len(image), call.text(text))
    return Plan(lambda reply: Loaded(**call.result(reply, index)), loads=module)


@verb
def unload(call: Call, module: Text, *, flags: Flags | None = None) -> Plan[Outcome]:
    """Unload a module.

    delete_module(2) by the actor, with O_NONBLOCK unless `flags` says otherwise: one in use gives EAGAIN.
    """
    how = call.constant("O_NONBLOCK") if flags is None else flags
    index = call.syscall("delete_module", call.text(module), how)
    return Plan(lambda reply: Outcome(**call.result(reply, index)), unloads=module)
