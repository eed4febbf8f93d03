# SPDX-License-Identifier: MIT
"""Waiting for several descriptors: poll, select, epoll."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from lab.verbs import Call, Fd, Flags, Int, Outcome, Plan, Signal, Timeout, verb, wire
from lab.verbs.files import Opened

_NANO = 1_000_000_000


@dataclass(frozen=True)
class Polled:
    """One descriptor and the events that are waited for."""

    fd: Fd
    events: Flags = 0


@dataclass(frozen=True, kw_only=True)
class Events(Outcome):
    """What happened, one entry for each descriptor that was asked about."""

    revents: list[Flags] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Selected(Outcome):
    """The descriptors that are ready, in rising order."""

    readable: list[Fd] = field(default_factory=list)
    writable: list[Fd] = field(default_factory=list)
    exceptional: list[Fd] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """One event of an epoll instance, with the data that was given with the descriptor."""

    events: Flags
    data: Int


@dataclass(frozen=True, kw_only=True)
class EpollEvents(Outcome):
    """The events that came, in the kernel's order."""

    bare: ClassVar[Mapping[str, str]] = {"int": "returns"}

    events: list[Event] = field(default_factory=list)


def timespec(call: Call, seconds: float | None) -> wire.Buffer | int:
    """Return a struct timespec in the program's memory, or NULL for ever."""
    if seconds is None:
        return 0
    word, order = call.abi.arch.word, call.abi.arch.byteorder
    nanoseconds = round(seconds * _NANO)
    parts = divmod(nanoseconds, _NANO)
    return call.program.buffer(b"".join(part.to_bytes(word, order) for part in parts))


@verb
def poll(
    call: Call, fds: list[Polled], *, timeout: Timeout, sigmask: list[Signal] | None = None
) -> Plan[Events]:
    """Wait for events on descriptors.

    poll(2), made with ppoll(2). `timeout` is a time, 0 (only look) or -1 (for ever). `revents` of the result
    has one entry for each descriptor. `sigmask` is blocked meanwhile.
    """
    layout, arch = call.struct("pollfd"), call.abi.arch
    packed = b"".join(bytes(layout.pack({"fd": each.fd, "events": each.events}, arch)) for each in fds)
    array = call.place(packed)
    mask = 0 if sigmask is None else signal_set(call, sigmask)
    index = call.syscall("ppoll", array, len(fds), timespec(call, timeout), mask, 8)
    take = array.fetch(call)

    def revents(reply: wire.Reply) -> list[int]:
        if reply.calls[index].errno is not None:
            return []
        after, size = take(reply), layout.size
        found = (layout.unpack(after[at : at + size], arch)["revents"] for at in range(0, len(after), size))
        return [each & 0xFFFF for each in found if isinstance(each, int)]

    return call.plan(Events, index, revents=revents)


def signal_set(call: Call, signals: list[int]) -> wire.Buffer:
    """Return a sigset_t of the kernel's in the program's memory."""
    bits = 0
    for number in signals:
        bits |= 1 << (number - 1)
    word, order = call.abi.arch.word, call.abi.arch.byteorder
    words = (bits >> (8 * word * at) & ((1 << 8 * word) - 1) for at in range(8 // word))
    return call.program.buffer(b"".join(each.to_bytes(word, order) for each in words))


@verb
def select(
    call: Call,
    readable: list[Fd],
    *,
    writable: list[Fd] | None = None,
    exceptional: list[Fd] | None = None,
    timeout: Timeout,
) -> Plan[Selected]:
    """Wait for descriptors to become ready.

    select(2), made with pselect6(2). `select: [$a]` waits for reading. The result has three lists of the
    descriptors that are ready.
    """
    sets = [readable, writable or [], exceptional or []]
    highest = max((fd for each in sets for fd in each), default=-1)
    places = [call.place(_fd_set(call, each)) if each else None for each in sets]
    arguments = [0 if place is None else place for place in places]
    index = call.syscall("pselect6", highest + 1, *arguments, timespec(call, timeout), 0)
    takes = [None if place is None else place.fetch(call) for place in places]

    def decode(reply: wire.Reply) -> Selected:
        fields = call.result(reply, index)
        if fields.get("returns") is not None:
            for name, take in zip(("readable", "writable", "exceptional"), takes, strict=True):
                fields[name] = [] if take is None else _members(call, take(reply))
        return Selected(**fields)

    return Plan(decode)


def _fd_set(call: Call, fds: list[int]) -> bytes:
    """Return an fd_set of 1024 bits: an array of longs."""
    word, order = call.abi.arch.word, call.abi.arch.byteorder
    words = [0] * (1024 // (8 * word))
    for fd in fds:
        if 0 <= fd < 1024:
            words[fd // (8 * word)] |= 1 << fd % (8 * word)
    return b"".join(each.to_bytes(word, order) for each in words)


def _members(call: Call, data: bytes) -> list[int]:
    word, order = call.abi.arch.word, call.abi.arch.byteorder
    found = []
    for at in range(0, len(data), word):
        bits = int.from_bytes(data[at : at + word], order)
        found += [at * 8 + bit for bit in range(8 * word) if bits >> bit & 1]
    return found


@verb
def epoll_create(call: Call, flags: Flags = 0) -> Plan[Opened]:
    """Make an epoll instance.

    epoll_create1(2).
    """
    return call.plan(Opened, call.syscall("epoll_create1", flags))


@verb
def epoll_ctl(
    call: Call, epfd: Fd, *, op: Int, fd: Fd, events: Flags = 0, data: Int | None = None
) -> Plan[Outcome]:
    """Add, change or remove a descriptor of an epoll instance.

    epoll_ctl(2). `data` comes back with each event; without it that is the descriptor.
    """
    layout = call.struct("epoll_event")
    event = layout.pack({"events": events, "data": fd if data is None else data}, call.abi.arch)
    return call.plan(Outcome, call.syscall("epoll_ctl", epfd, op, fd, call.place(bytes(event))))


@verb
def epoll_wait(call: Call, epfd: Fd, *, timeout: Timeout, maxevents: Int = 16) -> Plan[EpollEvents]:
    """Wait for events of an epoll instance.

    epoll_wait(2), made with epoll_pwait(2). `timeout` is a time (in whole milliseconds), 0 or -1.
    """
    layout, arch = call.struct("epoll_event"), call.abi.arch
    room = call.place(b"", layout.size * max(maxevents, 1))
    milliseconds = -1 if timeout is None else round(timeout * 1000)
    index = call.syscall("epoll_pwait", epfd, room, maxevents, milliseconds, 0, 8)
    take = room.fetch(call)

    def events(reply: wire.Reply) -> list[Event]:
        count, size, after = reply.calls[index].value, layout.size, take(reply)
        found = (layout.unpack(after[at * size : (at + 1) * size], arch) for at in range(max(count, 0)))
        return [Event(each["events"], each["data"]) for each in found]

    return call.plan(EpollEvents, index, events=events)
