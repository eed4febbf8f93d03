# SPDX-License-Identifier: MIT
"""Modules as steps."""

from lab.errors import UsageError
from lab.kernels.modinfo import unknown_parameter
from lab.scenario import ModuleLoad
from lab.verbs import Call, Flags, Outcome, Plan, Text, verb


@verb
def load_module(
    call: Call, module: Text, *, params: dict[str, Text] | None = None, options: Text | None = None
) -> Plan[Outcome]:
    """Load a module.

    init_module(2) by the actor, with `params`, or with `options`, all of them as one text that
    the kernel gets as it is. The scenario's end unloads it.
    """
    if params and options is not None:
        raise UsageError("either params or options: the kernel is given one text")
    pairs = tuple((params or {}).items())
    for key, value in pairs:
        if '"' in value:
            raise UsageError(f"parameter {key!r}: no kernel takes a value with a quote in it")
    image = call.image(module)
    wrong = unknown_parameter(image, params or {})
    if wrong is not None:
        raise UsageError(f"{module} {wrong}", hint="`options` gives the kernel whatever it says")
    text = ModuleLoad(module, pairs).text if options is None else options
    index = call.syscall("init_module", call.program.buffer(image), len(image), call.text(text))
    return Plan(lambda reply: Outcome(**call.result(reply, index)), loads=module)


@verb
def unload(call: Call, module: Text, *, flags: Flags | None = None) -> Plan[Outcome]:
    """Unload a module.

    delete_module(2) by the actor, with O_NONBLOCK unless `flags` says otherwise: one in use gives EAGAIN.
    """
    how = call.constant("O_NONBLOCK") if flags is None else flags
    index = call.syscall("delete_module", call.text(module), how)
    return Plan(lambda reply: Outcome(**call.result(reply, index)), unloads=module)
