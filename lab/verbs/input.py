# SPDX-License-Identifier: MIT
"""Input devices: what comes out of their event nodes."""

from dataclasses import dataclass, field

from lab.verbs import Call, Fd, Int, Memory, Outcome, Plan, Size, verb, wire

MOST_EVENTS = 64


@dataclass(frozen=True)
class InputEvent:
    """One struct input_event; `sec` and `usec` are its time, by the clock that the file was set to."""

    type: Int
    code: Int
    value: Int
    sec: Int
    usec: Int


@dataclass(frozen=True, kw_only=True)
class InputEvents(Outcome):
    """The events that were read, in their order; `returns` counts bytes."""

    events: list[InputEvent] = field(default_factory=list)


@verb
def input_read(
    call: Call, fd: Fd, *, size: Size | None = None, buffer: Memory | None = None
) -> Plan[InputEvents]:
    """Read from an input device's event node, and take what came as events.

    read(2). `size` is the count asked for, in bytes (default: the buffer's size, or 64 events).
    """
    layout, arch = call.struct("input_event"), call.abi.arch
    into = call.room(buffer, size, default=MOST_EVENTS * layout.size)
    index = call.syscall("read", fd, into, into.size if size is None else size)
    take = into.fetch(call, up_to_call=index)

    def number(data: bytes, at: int, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(data[at : at + width], arch.byteorder, signed=signed)

    def event(data: bytes) -> InputEvent:
        # The time is two longs, whatever the C library's headers call them.
        return InputEvent(
            type=number(data, layout["type"].offset, 2),
            code=number(data, layout["code"].offset, 2),
            value=number(data, layout["value"].offset, 4, signed=True),
            sec=number(data, 0, arch.word),
            usec=number(data, arch.word, arch.word),
        )

    def events(reply: wire.Reply) -> list[InputEvent]:
        data = take(reply) or b""
        whole = range(0, len(data) - layout.size + 1, layout.size)
        return [event(data[at : at + layout.size]) for at in whole]

    return call.plan(InputEvents, index, events=events)
