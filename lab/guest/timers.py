# SPDX-License-Identifier: MIT
"""The timers that are armed in a guest's kernel, read from its memory from outside while it goes on.

A timer that is armed when its module goes expires in memory that is not the module's any more. The kernel's
lists of them are followed in the guest's memory, which is QEMU's: each list is a structure of a CPU's own
(timer_bases, hrtimer_bases), in which any word that points to a timer which points back is the head of a
chain. So no layout of theirs is needed, only that of struct timer_list, the same since 4.15, and that a
struct hrtimer begins with its node; where its function is, the kernel's own show (lockdep off).

A timer whose function is in the kernel's text is well, of any other it is looked whether there is code.
The memory of modules and stacks is mapped page by page, where nobody can follow from outside; what is there
is read by the guest itself, from /proc/kcore, unless it was there when the template was made. Of a stack that
was there then, where a thread sleeps with a timeout time and again, each timer is read once for a target.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.guest import percpu, pointers
from lab.guest.answers import LAB
from lab.guest.layouts import OwnCall
from lab.guest.pointers import Static
from lab.guest.ram import CannotLook, private_memory
from lab.guest.symbols import KALLSYMS_SECONDS
from lab.guest.wire import Program, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.guest.agent import Agent
    from lab.guest.ram import PrivateMemory

_HEADERS = 8192  # of /proc/kcore
_TIMER_WORDS = 5  # struct timer_list: next, pprev, expires, function, flags
_HRTIMER_WORDS = 14  # struct hrtimer: parent and colour, right, left; its function is one of the next
_LOOKS = 2
_CODE = 16  # bytes of a function that are looked at
_NO_CODE = b"\0\xcc"  # where one was: nothing, or what the kernel fills freed memory for code with
_MOST = 4000  # timers: more are no lists
_WORK = "delayed_work_timer_fn"
_POINTERS = "/proc/sys/kernel/kptr_restrict"  # 1: whoever may, sees addresses in /proc/vmallocinfo
_STACK = re.compile(
    r"^0x([0-9a-f]+)-0x([0-9a-f]+)\s+\d+ "  # made by one of these: it depends on what was inlined
    r"(?:alloc_thread_stack_node|dup_task_struct|copy_process|fork_idle|kernel_clone)\+",
    re.MULTILINE,
)
_SYMBOLS = ("timer_bases", "hrtimer_bases", "__per_cpu_offset", "_stext", "_etext", _WORK)


class Base(NamedTuple):
    """A CPU's lists."""

    address: int
    size: int
    high: bool  # of high resolution: trees of struct hrtimer


class Part(NamedTuple):
    """A part of the kernel's address space that lies in memory as it is."""

    address: int
    physical: int
    size: int


@dataclass(frozen=True)
class Survey:
    """Where a template's kernel has its timers."""

    bases: list[Base]
    parts: list[Part]
    mapped: list[tuple[int, int]]  # from, size: the rest, where what is there is mapped page by page
    text: tuple[int, int]
    work: int  # the function of a delayed work's timer
    memory: int  # the lowest physical address of memory
    high: int = 0  # which word of a struct hrtimer is its function; 0: nobody knows
    unreachable: list[int] = field(default_factory=list)  # timers that were there when the template was made
    static: list[Static] = field(default_factory=list)  # its data: see lab.guest.pointers
    stale: list[Static] = field(default_factory=list)  # what of it is not to be looked at
    per_cpu: list[int] = field(default_factory=list)  # variables: see lab.guest.percpu
    stacks: list[tuple[int, int]] = field(default_factory=list)  # from, to: of threads that were there

    def on_stack(self, address: int) -> bool:
        """Tell whether something lies on the stack of a thread that came with the template."""
        return any(start <= address < end for start, end in self.stacks)

    def offset(self, address: int, size: int) -> int | None:
        """Return where in the file of the guest's memory something is; None where nobody can tell."""
        for part in self.parts:
            if part.address <= address and address + size <= part.address + part.size:
                return part.physical + address - part.address - self.memory
        return None

    def packed(self) -> dict[str, Any]:
        """Return it as a file of JSON holds it."""
        return asdict(self)


def unpacked(found: Mapping[str, Any]) -> Survey | None:
    """Return what packed() made; None for nothing."""
    if not found:
        return None
    return Survey(
        [Base(*each) for each in found["bases"]],
        [Part(*each) for each in found["parts"]],
        [(start, size) for start, size in found["mapped"]],
        (found["text"][0], found["text"][1]),
        found["work"],
        found["memory"],
        found["high"],
        list(found["unreachable"]),
        [Static(*each) for each in found["static"]],
        [Static(*each) for each in found["stale"]],
        list(found["per_cpu"]),
        [(start, end) for start, end in found["stacks"]],
    )


class Armed(NamedTuple):
    """A timer; `function` is what it will call, of a delayed work the work's; None: nobody could read it."""

    address: int
    function: int | None
    what: str  # 'timer', 'hrtimer' or 'delayed work'
    link: int | None = None  # where it is not in reach: what it says points to it while it is armed


# --- once, when a template is made --------------------------------------------------------------------


def survey(agent: Agent, arch: Architecture, cpus: int) -> Survey | None:
    """Find out where a guest's kernel has its timers; None where it does not tell.

    It takes a second of the guest's CPU time: all symbols of the kernel are made text.
    """
    if arch.word != 8:
        return None
    try:
        kallsyms = agent.read_file("/proc/kallsyms", KALLSYMS_SECONDS).decode()
        symbols = _symbols(kallsyms)
        parts = _parts(_kcore(agent, arch, [(0, _HEADERS)])[0])
        memory = _memory(agent.read_file("/proc/iomem", KALLSYMS_SECONDS).decode())
        stacks = _stacks(agent)
    except (OSError, ValueError):
        return None
    if symbols is None or not parts:
        return None
    values, sizes = symbols
    offsets = [part for part in parts.values() if _inside(part, values["__per_cpu_offset"])]
    if not offsets:
        return None
    at = values["__per_cpu_offset"] - offsets[0][0] + offsets[0][3]
    data = _kcore(agent, arch, [(at, 8 * cpus)])[0]
    if len(data) != 8 * cpus:
        return None
    order = "<" if arch.byteorder == "little" else ">"
    of_cpus = struct.unpack(f"{order}{cpus}Q", data)
    bases = [
        Base((values[name] + offset) % (1 << 64), sizes[name], name == "hrtimer_bases")
        for offset in of_cpus
        for name in ("timer_bases", "hrtimer_bases")
    ]
    linear = [Part(start, physical, size) for start, size, physical, _ in parts.values() if physical >= 0]
    mapped = [(start, size) for start, size, physical, _ in parts.values() if physical < 0]
    found = Survey(bases, linear, mapped, (values["_stext"], values["_etext"]), values[_WORK], memory)
    static, stale = pointers.static_data(kallsyms, of_cpus)
    there = [each for each in static if found.offset(each.address, each.size) is not None]
    return replace(found, static=there, stale=stale, per_cpu=percpu.variables(kallsyms), stacks=stacks)


def _stacks(agent: Agent) -> list[tuple[int, int]]:
    """Return from where to where the stacks of threads are that are mapped page by page."""
    restricted = agent.read_file(_POINTERS, KALLSYMS_SECONDS)
    agent.write_file(_POINTERS, [(0, b"1\n")], KALLSYMS_SECONDS)
    areas = agent.read_file("/proc/vmallocinfo", KALLSYMS_SECONDS).decode()
    agent.write_file(_POINTERS, [(0, restricted)], KALLSYMS_SECONDS)
    return [(int(match[1], 16), int(match[2], 16)) for match in _STACK.finditer(areas)]


def _inside(part: tuple[int, int, int, int], address: int) -> bool:
    return part[0] <= address < part[0] + part[1]


def _symbols(kallsyms: str) -> tuple[dict[str, int], dict[str, int]] | None:
    """Return the values of what we want, and the sizes up to the next symbol; None when one is missing."""
    values: dict[str, int] = {}
    for name in _SYMBOLS:
        match = re.search(rf"^([0-9a-f]+) \w {name}$", kallsyms, re.MULTILINE)
        if match is None or not (name in ("timer_bases", "hrtimer_bases") or int(match[1], 16)):
            return None
        values[name] = int(match[1], 16)
    wanted = {values["timer_bases"], values["hrtimer_bases"]}
    behind = dict.fromkeys(wanted, 1 << 64)
    for line in kallsyms.splitlines():
        address = int(line[: line.index(" ")], 16)
        for each in wanted:
            if each < address < behind[each]:
                behind[each] = address
    return values, {name: behind[values[name]] - values[name] for name in ("timer_bases", "hrtimer_bases")}


def _parts(header: bytes) -> dict[int, tuple[int, int, int, int]]:
    """Return the segments of /proc/kcore by their address: address, size, physical address or -1, offset."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - for the making of templates
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - as above

    found = {}
    try:
        elf = ELFFile(io.BytesIO(header))
        for number in range(elf.num_segments()):
            segment = elf.get_segment(number).header
            if segment.p_type == "PT_LOAD":
                physical = -1 if segment.p_paddr == (1 << 64) - 1 else segment.p_paddr
                found[segment.p_vaddr] = (segment.p_vaddr, segment.p_memsz, physical, segment.p_offset)
    except ELFError as error:
        raise ValueError(f"/proc/kcore is no ELF file: {error}") from error
    return found


def _memory(iomem: str) -> int:
    starts = re.finditer(r"^([0-9a-f]+)-[0-9a-f]+ : System RAM", iomem, re.MULTILINE)
    found = [int(match[1], 16) for match in starts]
    if not found:
        raise ValueError("/proc/iomem has no System RAM")
    # The first pages may be reserved; machines put their memory at a multiple of 256 MiB.
    return min(found) & ~((256 << 20) - 1)


def _kcore(agent: Agent, arch: Architecture, pieces: Iterable[tuple[int, int]]) -> list[bytes]:
    """Read pieces of /proc/kcore, each at its offset; shorter ones where it has no more."""
    program = Program(arch)
    fd = Result(program.own_call(OwnCall.OPENAT, 0, program.string("/proc/kcore"), 0, 0))
    for offset, size in pieces:
        program.own_call(OwnCall.LSEEK, fd, offset, 0)
        room = program.buffer(b"", size)
        index = program.own_call(OwnCall.READ, fd, room, size)
        program.fetch(room, 0, size, index)
    program.own_call(OwnCall.CLOSE, fd)
    reply = agent.run(LAB, program, timeout=KALLSYMS_SECONDS)
    if reply.exited is not None or reply.calls[0].errno:
        raise OSError(reply.calls[0].errno if reply.calls else 0, "cannot be opened", "/proc/kcore")
    return list(reply.data)


def calibrated(found: Survey, arch: Architecture, pid: int, ram: Path) -> Survey | None:
    """Return a survey that fits a guest of which nothing has gone: all timers call the kernel.

    None where they seem not to, or nothing can be read. Since 7.x, a struct hrtimer has more before its
    function.
    """
    try:
        with private_memory(pid, ram) as memory:
            walk = _Walk(found, arch, memory)
            there = walk.all()
    except CannotLook:
        return None
    start, end = found.text
    if not all(each.function is None or start <= each.function < end for each in there.values()):
        return None
    fits = [
        word
        for word in range(3, _HRTIMER_WORDS)
        if walk.high and all(start <= words[word] < end for words in walk.high)
    ]
    unreachable = [each.address for each in there.values() if each.function is None]
    return replace(found, high=fits[0] if fits else 0, unreachable=unreachable)


# --- of a guest ----------------------------------------------------------------------------------------


def armed(found: Survey, arch: Architecture, memory: PrivateMemory) -> dict[int, Armed]:
    """Return the timers that are armed in a guest, by address.

    Raises lab.guest.ram.CannotLook where this host does not let a process look into QEMU's memory.
    """
    return _Walk(found, arch, memory).all()


class _Walk:
    """One look at all lists."""

    def __init__(self, found: Survey, arch: Architecture, memory: PrivateMemory) -> None:
        self._survey = found
        self._memory = memory
        self._order = "<" if arch.byteorder == "little" else ">"
        self.timers: dict[int, Armed] = {}
        self.high: list[tuple[int, ...]] = []  # the words of struct hrtimers

    def all(self) -> dict[int, Armed]:
        for base in self._survey.bases:
            words = self._words(base.address, base.size // 8)
            if words is None:
                raise CannotLook(f"the lists of timers at {base.address:#x} are not in memory")
            inside = range(base.address, base.address + base.size)
            for number, word in [(number, word) for number, word in enumerate(words) if word]:
                if word % 8 or word in inside:
                    continue
                if base.high:
                    self._tree(word, None)
                else:
                    self._chain(word, base.address + 8 * number)
        return self.timers

    def _words(self, address: int, count: int) -> tuple[int, ...] | None:
        offset = self._survey.offset(address, 8 * count)
        data = b"" if offset is None else self._memory.read(offset, 8 * count)
        return struct.unpack(f"{self._order}{count}Q", data) if data and len(data) == 8 * count else None

    def _chain(self, address: int, slot: int) -> None:
        """Follow a list of struct timer_list from what points to its first."""
        while address and address not in self.timers and len(self.timers) < _MOST:
            words = self._words(address, _TIMER_WORDS)
            if words is None:
                self._unreachable(address, "timer", slot)
                return
            if words[1] != slot:  # whatever this word is, it is no list of timers
                return
            self._add(address, words[3], "timer")
            address, slot = words[0], address

    def _tree(self, address: int, parent: int | None) -> None:
        """Follow a tree of struct hrtimer from its root, whose parent is 0."""
        if not address or address in self.timers or len(self.high) >= _MOST:
            return
        words = self._words(address, _HRTIMER_WORDS)
        if words is None:
            self._unreachable(address, "hrtimer", parent or 0)
            return
        if words[0] & ~3 != (parent or 0):
            return
        self.high.append(words)
        if self._survey.high:
            self._add(address, words[self._survey.high], "hrtimer")
        for child in words[1:3]:
            self._tree(child, address)

    def _unreachable(self, address: int, what: str, link: int) -> None:
        if not any(start <= address < start + size for start, size in self._survey.mapped):
            return  # no address: the lists have other words too
        self.timers.setdefault(address, Armed(address, None, what, link))

    def _add(self, address: int, function: int, what: str) -> None:
        if function == self._survey.work:
            # struct delayed_work: the work with its function last, then the timer.
            work = self._words(address - 8, 1)
            self.timers[address] = Armed(address, work[0] if work else None, "delayed work")
        else:
            self.timers[address] = Armed(address, function, what)


def dangling(
    look: Callable[[], Mapping[int, Armed] | None],
    found: Survey,
    arch: Architecture,
    agent: Agent,
    known: set[int],
) -> list[Armed]:
    """Return the timers whose function is not there any more.

    `look` gives those that are armed. `known` are addresses of timers on a thread's stack that were read and
    are well, in this guest or another one of its template; more of them are put there. Asks the guest only
    where something looks wrong, and then again: a thread's timer lies on its stack, where something else is
    as soon as it has woken.
    """
    gone: dict[int, Armed] = {}
    for tries in range(_LOOKS):
        timers = look() or {}
        doubtful = [
            each
            for each in not_the_kernels(timers, found, known).values()
            if not tries or each.address in gone
        ]
        if not doubtful:
            return []
        reader = _Reader(found, arch, agent)
        read = reader.timers([each for each in doubtful if each.function is None])
        known |= {each.address for each in read if _fine(each, found) and found.on_stack(each.address)}
        seen = [*(each for each in doubtful if each.function is not None), *read]
        calls = [each for each in seen if each.function is not None and not _is_text(each.function, found)]
        codes = reader.memory([each.function or 0 for each in calls], _CODE)
        gone = {each.address: each for each in seen if each.function is None}
        gone |= {
            each.address: each for each, code in zip(calls, codes, strict=True) if not code.strip(_NO_CODE)
        }
    still = look() or {}
    return [each for each in gone.values() if each.address in still]


def not_the_kernels(timers: Mapping[int, Armed], found: Survey, known: set[int]) -> dict[int, Armed]:
    """Leave out the timers that are well, as dangling() sees it without asking the guest."""
    return {at: each for at, each in timers.items() if not (_fine(each, found) or at in known)}


def named(timers: Mapping[int, Armed], found: Survey, arch: Architecture, agent: Agent) -> dict[int, Armed]:
    """Return what timers will call, by address, those that only the guest can read among them."""
    unknown = [each for each in timers.values() if each.function is None]
    if not unknown:
        return dict(timers)
    read = _Reader(found, arch, agent).timers(unknown, still=False)
    return {**timers, **{each.address: each for each in read}}


def _fine(timer: Armed, found: Survey) -> bool:
    if timer.function is None:
        return timer.address in found.unreachable
    return _is_text(timer.function, found)


def _is_text(function: int, found: Survey) -> bool:
    return found.text[0] <= function < found.text[1]


class _Reader:
    """Reads what only the guest itself can."""

    def __init__(self, found: Survey, arch: Architecture, agent: Agent) -> None:
        self._survey = found
        self._arch = arch
        self._agent = agent
        self._parts = _parts(_kcore(agent, arch, [(0, _HEADERS)])[0])
        self._text = self._offset(found.text[0]) or 0

    def _offset(self, address: int) -> int | None:
        found = (part[3] + address - part[0] for part in self._parts.values() if _inside(part, address))
        return next(found, None)

    def memory(self, addresses: Sequence[int], size: int) -> list[bytes]:
        """Return what is at some addresses of the kernel's; b"" where there is nothing.

        Up to 5.x, that reads as what was read before it by the same open file: then it is text.
        """
        offsets = [self._offset(address) for address in addresses]
        there = [offset for offset in offsets if offset is not None]
        pieces = _kcore(
            self._agent, self._arch, [piece for each in there for piece in ((self._text, size), (each, size))]
        )
        read = iter(
            [b"" if data == text else data for text, data in zip(pieces[::2], pieces[1::2], strict=True)]
        )
        return [b"" if offset is None else next(read) for offset in offsets]

    def timers(self, unknown: Sequence[Armed], *, still: bool = True) -> list[Armed]:
        """Read timers; `function` stays None where there is nothing any more.

        `still`: those are left out that are not armed any more. A thread's lies on its stack, which is
        overwritten as soon as the thread has woken.
        """
        order = "<" if self._arch.byteorder == "little" else ">"
        size = 8 * (1 + _HRTIMER_WORDS)
        read = []
        # A work's function stands before its timer.
        for each, data in zip(
            unknown, self.memory([each.address - 8 for each in unknown], size), strict=True
        ):
            words = struct.unpack(f"{order}{1 + _HRTIMER_WORDS}Q", data.ljust(size, b"\0"))
            link = words[1] & ~3 if each.what == "hrtimer" else words[2]
            if (
                still and data.strip(b"\0") and each.link not in (None, link)
            ):  # what has gone may read as zeros
                continue
            function, what = words[1 + (self._survey.high if each.what == "hrtimer" else 3)], each.what
            if function == self._survey.work:
                function, what = words[0], "delayed work"
            read.append(each._replace(function=function or None, what=what))
        return read


__all__ = [
    "Armed",
    "Survey",
    "armed",
    "calibrated",
    "dangling",
    "named",
    "not_the_kernels",
    "survey",
    "unpacked",
]
