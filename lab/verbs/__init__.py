# SPDX-License-Identifier: MIT
"""The system calls that a scenario can make, one family a file.

How to write one. A verb is a Python function in a file of this directory, decorated with `verb`. There is
no list to edit: its name is the verb, its parameters are the keys of the step, the first of them is the
value at the verb's own key; its docstring is the reference page's text. A name that Python reserves or that
hides a builtin ends with an underscore (``open_`` is the verb `open`, a parameter ``for_`` the key `for`).
Files of verbs do *not* say ``from __future__ import annotations``: annotations are read here.

::

    @verb
    def read(call: Call, fd: Fd, *, size: Size | None = None, buffer: Memory | None = None) -> Plan[Got]:
        '''Read from a file descriptor.'''
        into = call.room(buffer, size)
        index = call.syscall("read", fd, into, into.size if size is None else size)
        return call.plan(Got, index, data=into.fetch(call, up_to_call=index))

*A plan verb* (it returns ``Plan[SomeOutcome]``) is pure: it writes one actor's program and says how the
reply is read. `background`, `times`, `together`, `in_turn`, `within` and `expect` then work by themselves.
What its arguments are is in lab/language/kinds.py and memory_kinds.py there; the body gets plain numbers,
bytes and `Placed` memory:

======================  ==========================================================  =====================
annotation              in YAML                                                     the body gets
======================  ==========================================================  =====================
Int, Flags, Size        ``PAGE_SIZE-1``, ``O_RDWR|O_NONBLOCK``, ``4KiB``            int
Signal, Errno           ``SIGUSR1``, ``EAGAIN``                                     int
Duration, Timeout       ``2s``; a Timeout also ``0`` and ``-1`` (for ever: None)    float seconds
Time                    ``$before``, ``$f.mtime+1``, ``5s``                         int, ns since 1970
Text, Bool, Literal[…]  as it stands there                                          str, bool
Fd, Address, Pid        ``$dev``, ``$map+PAGE_SIZE``, an actor's name; expressions  int
Data                    text, ``{hex: …}``, ``{random: 4KiB, id: a}``, …            bytes
Memory                  ``{buffer: …, size: …}``, ``{bad: …}``, ``{struct: …}``, …  Placed
Content                 the same, but a bare text is content (``data: hello``)      Placed
list[X], dict[str, X]   a list, a mapping                                           list, dict
a dataclass             a mapping; its fields are annotated like parameters         that dataclass
ActorName, NewActor     an existing actor; one that this step brings to life        str
Pending, Steps          a call in the background; steps within the step             (control verbs)
======================  ==========================================================  =====================

`Call` (lab/language/plan.py) has the program (lab/guest/wire.py: buffer, pointer, fetch, load, store,
barrier, send_fd …) and `syscall(name, *args)`, which takes ints, Buffers and Placed and returns the call's
index; `once=True` for calls that only prepare, `gives=` where it puts its data, for `times` to compare it
each time. `call.place(bytes)` puts packed bytes into memory, `call.text(str)` a C string, `call.room(memory,
size)` memory to receive into; `call.constant("SOL_SOCKET")` is a number, `call.struct("nlmsghdr")` a layout
with pack(), unpack() and offset_of(). `call.plan(Outcome, index, **fields)` is the usual reply: each field
is a function of the reply, such as `placed.fetch(call, up_to_call=index)`. For another reply return
``Plan(decode)`` with your own ``decode(reply) -> Outcome``; `call.result(reply, index)` gives the common
fields.

*An outcome* is a frozen, kw_only dataclass derived from `Outcome`; its fields (annotated like parameters,
with ``= None``) are the keys that `expect` may have and the parts that ``$name.part`` may name. `bare` says
what ``$name`` alone stands for. A field annotated ``Tree`` holds ints, bytes, lists and dicts as a reply
decodes to; `expect` then compares by the types found there. A field that is a ``list`` of a dataclass is
compared item by item, only the fields that are named.

*A data form* (``{nlmsg: …}``, ``{sockaddr_un: …}``) is a function ``(context, first, *, more) -> bytes``
decorated with `form` (lab/language/data.py; see data.py in this directory). It can stand wherever Data
or Memory can.

*A control verb* gets the `Session` as its first argument and returns an Outcome (not a Plan): what is not one
actor's program belongs here. `session.current` is the step (its `by`, `within`). It fails the step through
`session.fail(wanted, got, *notes)`. It cannot be in the background nor in `together` or `in_turn`.

Errors: raise UsageError for arguments that make no sense on the target (the session adds file and line),
Unsupported for what this target cannot do. Everything else is the result of the call.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from lab.guest import wire
from lab.language.annotations import (
    ActorName,
    Address,
    Bool,
    Duration,
    Errno,
    Fd,
    Flags,
    Int,
    NewActor,
    Pending,
    Pid,
    Signal,
    Size,
    Steps,
    Text,
    Time,
    Timeout,
    Tree,
)
from lab.language.data import FORMS, Form, form
from lab.language.memory_kinds import Content, Data, Memory
from lab.language.outcome import Outcome
from lab.language.plan import Call, Placed, Plan, Wide
from lab.language.verb import VERBS, Verb, verb

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FORMS",
    "ActorName",
    "Address",
    "Bool",
    "Call",
    "Content",
    "Data",
    "Duration",
    "Errno",
    "Fd",
    "Flags",
    "Form",
    "Int",
    "Memory",
    "NewActor",
    "Outcome",
    "Pending",
    "Pid",
    "Placed",
    "Plan",
    "Signal",
    "Size",
    "Steps",
    "Text",
    "Time",
    "Timeout",
    "Tree",
    "Verb",
    "Wide",
    "form",
    "table",
    "verb",
    "wire",
]


@cache
def table() -> Mapping[str, Verb]:
    """Return all verbs by name, aliases too, after importing every file of this directory."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return VERBS
