# SPDX-License-Identifier: MIT
"""Steps against a scripted agent: what is asked of it, what is judged, what is told."""

from __future__ import annotations

import random
import re
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from lab import scenario
from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import X86_64
from lab.errors import GuestHung, ScenarioError, Unsupported
from lab.guest.agent import Died
from lab.guest.answers import Actor, ActorState, Asleep, Exit, Leftover
from lab.guest.kmsg import KernelMessage
from lab.guest.names import Names
from lab.guest.patience import deadline
from lab.guest.wire import CallResult, Fault, Op, Program, Reply, SignalInfo
from lab.kernels.tree import Trees
from lab.language import reader
from lab.language.requires import Machine
from lab.run.hand import Hand
from lab.run.session import LeakedReference, Session, StepFailed
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = "#define LAB_IOC_SQUARE 1\nstruct lab_square { unsigned long n; unsigned long square; };\n"
HEADER += "struct lab_small { unsigned char a, b, c, d, e; };\n"
CONSTANTS = {
    "AT_FDCWD": -100,
    "EAGAIN": 11,
    "EBADF": 9,
    "EBUSY": 16,
    "EFAULT": 14,
    "EINTR": 4,
    "LAB_IOC_SQUARE": 1,
    "O_NONBLOCK": 0o4000,
    "O_RDONLY": 0,
    "O_RDWR": 2,
    "POLLIN": 1,
    "SIGBUS": 7,
    "SIGKILL": 9,
    "SIGSEGV": 11,
    "SIGUSR1": 10,
}
SQUARE = Struct("lab_square", 16, (Field("n", 0, 8, "uint"), Field("square", 8, 8, "uint")))
POLLFD = Struct(
    "pollfd", 8, (Field("fd", 0, 4, "int"), Field("events", 4, 2, "int"), Field("revents", 6, 2, "int"))
)
SYSCALLS = {"read": 0, "write": 1, "close": 3, "openat": 257, "ioctl": 16, "ppoll": 271, "kill": 62}
SYSCALLS |= {"init_module": 175, "delete_module": 176, "mmap": 9, "pipe2": 293, "readv": 19}
SMALL = Struct("lab_small", 5, tuple(Field(name, at, 1, "uint") for at, name in enumerate("abcde")))
ABI = Abi(X86_64, CONSTANTS, {}, {"lab_square": SQUARE, "pollfd": POLLFD, "lab_small": SMALL}, SYSCALLS)
ASLEEP = ActorState("reader", "7 (reader) S 1", "lab_read", "0 0x3 0x1 0x40", "[<0>] lab_read+0x1/0x2")


@dataclass
class FakePending:
    actor: str
    program: Program
    reply: Reply | None


@dataclass
class FakeAgent:
    """Interprets nothing: gives the replies that a test prepared, one for each program."""

    replies: list[Reply | None] = field(default_factory=list)  # None: the program does not end
    programs: list[tuple[str, Program]] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    printed: list[KernelMessage] = field(default_factory=list)
    later: list[KernelMessage] = field(default_factory=list)  # printed while somebody waits
    asleep: Asleep | None = None
    unloads: list[int] = field(default_factory=list)  # results of delete_module
    left: list[Leftover] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    raises: dict[bytes | str, Exception] = field(default_factory=dict)  # by an image, or a name to unload

    def busy(self, name: str) -> bool:
        return False

    def spawn(self, name: str, **properties: Any) -> Actor:
        self.asked.append(f"spawn {name} {properties['uid']} {properties['caps']} {properties['sigmask']}")
        return Actor(name, len(self.asked), 100 + len(self.asked), 100 + len(self.asked))

    def deadline(self, seconds: float) -> Callable[[], float]:
        return deadline(seconds, lambda: 0.0)

    def submit(self, actor: str, program: Program) -> FakePending:
        self.programs.append((actor, program))
        program.encode()
        return FakePending(actor, program, self.replies.pop(0))

    def finish(self, pending: FakePending, *, within: float | None, timeout: float) -> Reply | None:
        if pending.reply is None and within is None:
            raise GuestHung(f"no answer within {timeout:g}s")
        return pending.reply

    def names(self, timeout: float, *, wide: bool) -> Names:
        return Names({}, 0)

    def run(self, actor: str, program: Program, *, timeout: float) -> Reply:
        reply = self.finish(self.submit(actor, program), within=None, timeout=timeout)
        assert reply is not None
        return reply

    def reserve(self, name: str) -> int:
        return 95

    def blocked(self, pending: FakePending, *, within: float, timeout: float) -> Asleep | None:
        return self.asleep

    def stays_blocked(self, pending: FakePending, duration: float, timeout: float) -> bool:
        return self.asleep is not None

    def state(self, actor: str, timeout: float = 5.0) -> ActorState:
        return ASLEEP

    def messages(self) -> list[KernelMessage]:
        found, self.printed = self.printed, []
        return found

    def sync(self, timeout: float) -> None:
        self.printed, self.later = [*self.printed, *self.later], []

    def load_module(self, image: bytes, params: str, timeout: float) -> CallResult:
        self.asked.append(f"load {image.decode()} {params}".strip())
        if image in self.raises:
            raise self.raises[image]
        return CallResult({b"bad": -22, b"alone": -2, b"there": -17}.get(image, 0), 1)

    def unload_module(self, name: str, flags: int, timeout: float) -> CallResult:
        self.asked.append(f"unload {name}")
        if name in self.raises:
            raise self.raises[name]
        return CallResult(self.unloads.pop(0) if self.unloads else 0, 1)

    def reap(self, timeout: float) -> list[Leftover]:
        return self.left


def message(text: str) -> KernelMessage:
    return KernelMessage(6, 0, 1, 1000, text, {})


def result(value: int, *data: bytes, completed: int = 1, **more: Any) -> Reply:
    return Reply(calls=(CallResult(value, completed),), data=data, **more)


class Bench:
    """A session on a scripted agent, and a scenario for it."""

    def __init__(self, root: Path) -> None:
        (root / "kmod" / "uapi").mkdir(parents=True)
        (root / "kmod" / "uapi" / "lab_ioctl.h").write_text(HEADER)
        self.root = root
        self.agent = FakeAgent()
        self.session = self.fresh()

    def fresh(self) -> Session:
        agent: Any = self.agent
        modules = {
            "lab_core": b"core",
            "lab_ioctl": b"ioctl",
            "lab_bad": b"bad",
            "lab_alone": b"alone",
            "lab_knob": b"__param_str_name\0",
        }
        return Session(agent, ABI, arch=X86_64, modules=modules, verbs=table(), seed=7, patience=0.2)

    def scenario(self, text: str, head: str = "") -> scenario.Scenario:
        steps = textwrap.indent(textwrap.dedent(text).strip(), "      ")
        path = self.root / "x.yaml"
        path.write_text(
            f"channel: x\nuapi: [lab_ioctl.h]\nscenarios:\n  - name: n\n{head}    steps:\n{steps}\n"
        )
        return reader.load(path, root=self.root, verbs=table(), trees=Trees.of(self.root / "kmod")).scenarios[
            0
        ]

    def run(self, text: str, *replies: Reply | None, head: str = "") -> list[Any]:
        made = self.scenario(text, head)
        self.agent.replies += replies
        self.session.start(made)
        return [self.session.step(step) for step in made.steps]

    def failure(self, text: str, *replies: Reply | None, head: str = "") -> StepFailed:
        with pytest.raises(StepFailed) as caught:
            self.run(text, *replies, head=head)
        return caught.value


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


OPEN = "- {open: /x, flags: O_RDWR, as: f}\n"


def test_a_step_binds_what_it_gave(bench: Bench) -> None:
    opened, got = bench.run(OPEN + "- {read: $f, size: 5, as: r}", result(3), result(5, b"hello"))
    assert (opened.returns, got.data, got.returns) == (3, b"hello", 5)
    assert bench.session.bound == {"f": opened, "r": got}
    assert bench.agent.asked == ["spawn main 0 None 0"]


def test_success_is_the_default(bench: Bench) -> None:
    failed = bench.failure(OPEN, result(-11))
    assert failed.title == "open failed: EAGAIN"
    assert (failed.wanted, failed.got) == ("success", "EAGAIN (11: Resource temporarily unavailable)")
    assert failed.step.line == 6


PAST = "the memory that it was given ends where nothing is: the kernel went past the end of it"


@pytest.mark.parametrize(
    ("step", "errno", "told"),
    [
        ("{write: $f, data: abc}", 14, True),
        ("{write: $f, data: {bad: unmapped}, size: 3}", 14, False),
        ("{write: $f, data: abc}", 9, False),
        ("{write: $f, data: abc, expect: {errno: EBADF}}", 14, False),
    ],
)
def test_a_bad_address_that_nobody_gave(bench: Bench, step: str, errno: int, told: bool) -> None:
    failed = bench.failure(OPEN + f"- {step}", result(3), result(-errno))
    assert (PAST in failed.notes) == told


def test_an_expected_error_passes_and_another_does_not(bench: Bench) -> None:
    bench.run("- {open: /x, expect: {errno: EAGAIN}}", result(-11))
    bench = Bench(bench.root / "again")
    failed = bench.failure("- {open: /x, expect: {errno: EAGAIN}}", result(-9))
    assert failed.wanted == "errno: EAGAIN (11: Resource temporarily unavailable)"
    assert failed.got == "errno: EBADF (9: Bad file descriptor)"


def test_a_success_where_an_error_was_expected(bench: Bench) -> None:
    failed = bench.failure("- {open: /x, expect: {errno: EAGAIN}}", result(3))
    assert (failed.wanted.partition(" (")[0], failed.got) == (
        "errno: EAGAIN",
        "errno: no error, it returned 3",
    )


def test_a_failure_is_told_once_with_what_was_expected_to_return(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, expect: {returns: 5, data: hello}}"
    failed = bench.failure(text, result(3), result(-14, b""))
    assert failed.wanted.splitlines()[0] == "returns 5"
    assert failed.got.splitlines()[0] == "EFAULT (14: Bad address)"


@pytest.mark.parametrize(
    ("expect", "wanted", "got"),
    [
        ("{returns: PAGE_SIZE}", "returns: PAGE_SIZE = 4096 (0x1000)", "returns: 5"),
        ("{returns: {min: 6, max: 9}}", "returns: {min: 6, max: 9}", "returns: 5"),
        ("{data: world}", "data: 'world'", "data: 'hello'"),
        ("{data: {matches: ^w}}", "data: {matches: ^w}", "data: 'hello'"),
        ('{data: {hex: "00"}}', "data: hex 00", "data: 'hello'"),
        ("{number: 5}", "number: 5", "number: nothing"),
    ],
)
def test_what_differs(bench: Bench, expect: str, wanted: str, got: str) -> None:
    text = OPEN + f"- {{read: $f, size: 5, expect: {expect}}}"
    failed = bench.failure(text, result(3), result(5, b"hello"))
    assert (failed.wanted, failed.got) == (wanted, got)


@pytest.mark.parametrize(
    ("step", "reply", "wanted"),
    [
        ("{read: $f, size: 4}", result(5, b"hell"), "returns: 4 at most: it was asked for no more"),
        ("{write: $f, data: abc}", result(4), "returns: 3 at most: it was asked for no more"),
        ("{write: $f, data: abc}", result(0), "returns: 1 at least: who is told 0 tries again, for ever"),
        ("{write: $f, data: abcdef, size: 2}", result(3), "returns: 2 at most: it was asked for no more"),
        (
            "{readv: $f, sizes: [1, 2]}",
            result(4, b"a", b"bc"),
            "returns: 3 at most: it was asked for no more",
        ),
    ],
)
def test_a_call_moves_what_it_was_asked_for(bench: Bench, step: str, reply: Reply, wanted: str) -> None:
    failed = bench.failure(OPEN + f"- {step}", result(3), reply)
    assert failed.wanted == wanted


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("{read: $f, size: 4}", result(4, b"hell")),
        ("{read: $f, size: 4}", result(0, b"")),
        ("{write: $f, data: abc}", result(1)),
        ('{write: $f, data: ""}', result(0)),
        ("{write: $f, data: abc, expect: {returns: 4}}", result(4)),  # just that is expected
        ("{write: $f, data: abc, expect: {returns: {max: 3}}}", result(0)),
        ("{read: $f, size: 4, expect: {returns: 5}}", result(5, b"hell")),
    ],
)
def test_what_a_call_may_move(bench: Bench, step: str, reply: Reply) -> None:
    assert bench.run(OPEN + f"- {step}", result(3), reply)


def test_long_data_shows_where_it_differs(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 64KiB, expect: {data: {repeat: ab, size: 64KiB}}}"
    data = bytearray(b"ab" * 32768)
    data[40001] = 0
    failed = bench.failure(text, result(3), result(65536, bytes(data)))
    assert failed.wanted.startswith("data: 65536 bytes; first difference at offset 40001 (0x9c41)")
    assert "> 00009c40  61 00 61 62" in failed.got
    assert len(failed.got.splitlines()) < 8


def test_random_data_is_the_same_under_one_id(bench: Bench) -> None:
    made = random.Random("7/a").randbytes(64)  # noqa: S311 - to be repeated, not secret
    text = OPEN + "- {read: $f, size: 64, expect: {data: {random: 64, id: a}}}"
    bench.run(text, result(3), result(64, made))


def test_out_of_a_struct(bench: Bench) -> None:
    text = OPEN + "- {ioctl: $f, request: 1, arg: {struct: lab_square, n: 12}, expect: {out: {square: 144}}}"
    good = SQUARE.pack({"n": 12, "square": 144}, X86_64)
    assert bench.run(text, result(3), result(0, bytes(good)))[1].out == {"n": 12, "square": 144}
    bench = Bench(bench.root / "again")
    bad = SQUARE.pack({"n": 12, "square": 143}, X86_64)
    failed = bench.failure(text, result(3), result(0, bytes(bad)))
    assert (failed.wanted, failed.got) == ("out.square: 144", "out.square: 143")
    assert failed.title == "ioctl: out.square not as wanted"


def test_data_that_is_a_struct_compares_the_named_fields(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 16, expect: {data: {struct: lab_square, square: 4}}}"
    bench.run(text, result(3), result(16, bytes(SQUARE.pack({"n": 2, "square": 4}, X86_64))))
    bench = Bench(bench.root / "again")
    failed = bench.failure(text, result(3), result(8, bytes(8)))
    assert failed.wanted == "data: struct lab_square, 16 bytes"
    assert failed.got.startswith("data: 8 bytes")


def test_background_blocked_and_finish(bench: Bench) -> None:
    bench.agent.asleep = Asleep("S", 0, "lab_read")
    text = """
        - {open: /x, as: f}
        - {read: $f, size: 5, background: true, as: p}
        - {blocked: $p, expect: {wchan: lab_read, call: read, state: S}}
        - {stays_blocked: $p, for: 1ms}
        - {finish: $p, within: 2s, as: r, expect: {returns: 5, data: hello}}
        """
    found = bench.run(text, result(3), result(5, b"hello"))
    assert found[-1].data == b"hello"
    assert bench.session.bound["r"] is found[-1]


def test_an_actor_that_is_busy_makes_no_other_step(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, background: true, as: p}\n- {close: $f}"
    failed = bench.failure(text, result(3), None)
    assert failed.title == "actor 'main' is still busy"
    assert "line 7: {read: $f, size: 5" in failed.got
    assert failed.notes == [
        "actor 'main' sleeps (S) in read, waiting in lab_read\n    [<0>] lab_read+0x1/0x2"
    ]


def test_what_an_actor_does_is_told_before_its_stack(bench: Bench) -> None:
    bench.failure(OPEN + "- {read: $f, size: 5, background: true, as: p}\n- {close: $f}", result(3), None)
    (where,) = bench.session.cast.whereabouts(1.0)
    first, *stack = where.splitlines()
    assert first.startswith("actor 'main' sleeps (S) in read, waiting in lab_read, in line 7: {read: $f")
    assert stack == ["    [<0>] lab_read+0x1/0x2"]


def test_finish_tells_where_the_actor_sleeps(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, background: true, as: p}\n- {finish: $p, within: 10ms}"
    failed = bench.failure(text, result(3), None)
    assert failed.title == "read did not end in time"
    assert failed.wanted == "an answer of read within 0.01s"
    assert "waiting in lab_read" in failed.notes[0]


def test_a_finish_that_says_no_time_waits_as_long_as_any_step(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, background: true, as: p}\n- {finish: $p}"
    failed = bench.failure(text, result(3), None)
    assert (failed.title, failed.wanted) == ("read did not end in time", "an answer of read within 0.2s")
    assert "waiting in lab_read" in failed.notes[0]


def test_a_scenario_that_is_to_hang_hangs_in_a_finish(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, background: true, as: p}\n- {finish: $p}"
    with pytest.raises(GuestHung):
        bench.run(text, result(3), None, head="    expect_verdict: hung\n")


def test_the_time_of_a_scenario_is_its_finishes(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, background: true, as: p}\n- {finish: $p}"
    failed = bench.failure(text, result(3), None, head="    within: 3s\n")
    assert failed.wanted == "an answer of read within 3s"


def test_without_a_time_given_a_call_that_does_not_end_is_hung(bench: Bench) -> None:
    with pytest.raises(GuestHung) as caught:
        bench.run(OPEN, None)
    assert caught.value.__notes__ == ["in step x.yaml:6: {open: /x, flags: O_RDWR, as: f}"]


def test_blocked_tells_of_a_call_that_ended(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, background: true, as: p}\n- {blocked: $p}"
    failed = bench.failure(text, result(3), result(5, b"hello"))
    assert failed.title == "read ended instead of sleeping"
    assert "'hello'" in failed.got


def test_killed_in_the_call(bench: Bench) -> None:
    head = "    actors: [reader, other]\n"
    text = """
        - {by: reader, open: /x, as: f}
        - {by: reader, read: $f, background: true, as: p}
        - {by: other, kill: reader, signal: SIGKILL}
        - {finish: $p, expect: {signal: SIGKILL}}
        - {by: reader, close: $f}
        """
    failed = bench.failure(text, result(3), Reply(exited=9), result(0), head=head)
    assert failed.title == "actor 'reader' is dead"
    assert failed.got.startswith("'reader' was killed by SIGKILL in line 8: ")


def test_killed_without_being_expected(bench: Bench) -> None:
    failed = bench.failure(OPEN, Reply(exited=11))
    assert (failed.wanted, failed.got) == ("no signal", "the actor was killed by SIGSEGV")


def test_exit_and_an_end_that_nobody_wanted(bench: Bench) -> None:
    (ended,) = bench.run("- {exit: 3, expect: {status: 3}}", Reply(exited=3 << 8))
    assert ended.status == 3
    bench = Bench(bench.root / "again")
    assert bench.failure(OPEN, Reply(exited=3 << 8)).got == "the actor ended with status 3"


def test_wait_tells_how_an_idle_actor_died(bench: Bench) -> None:
    head = "    actors: [main, other]\n"
    bench.agent.exits = [Exit("other", 2, 102, 9)]
    bench.run("- {wait: other, expect: {signal: SIGKILL}}", head=head)
    bench.agent.exits = []
    bench = Bench(bench.root / "again")
    assert bench.failure("- {wait: other}", head=head).got == "it is still there"


def test_memory_accesses(bench: Bench) -> None:
    text = """
        - {mmap: 3, length: PAGE_SIZE, prot: 1, flags: 1, as: m}
        - {load: $m, size: 4, expect: {number: 5}}
        - {load: $m+PAGE_SIZE, size: 4, expect: {signal: SIGBUS, address: $m+PAGE_SIZE}}
        - {store: $m, data: x, expect: {signal: SIGSEGV, code: 2}}
        """
    loaded = Reply(data=(b"\5\0\0\0",))
    beyond = Reply(data=(b"",), fault=Fault(7, 2, 0x8000, "load"))
    refused = Reply(fault=Fault(11, 2, 0x7000, "store"))
    found = bench.run(text, result(0x7000), loaded, beyond, refused)
    assert (found[0].address, found[1].number, found[2].data) == (0x7000, 5, None)


def test_what_is_wanted_of_this_kernel_is_judged_in_the_guest_and_here(bench: Bench) -> None:
    text = OPEN + '- {write: $f, data: x, times: 9, expect: {errno: {">=6.12": EBADF, else: EFAULT}}}'
    bench.session.machine = Machine("x86_64", "6.12.107")
    bench.run(text, result(3), result(-9, completed=9))
    written = bench.agent.programs[-1][1].encode()
    bench.agent, other = FakeAgent(), bench
    other.session = bench.fresh()
    other.session.machine = Machine("x86_64", "5.10.262")
    failed = other.failure(text, result(3), result(-9, completed=1))
    assert failed.wanted.splitlines()[1] == "errno: EFAULT (14: Bad address)"
    assert other.agent.programs[-1][1].encode() != written, "the guest goes on after another error"


def test_dmesg_may_differ_by_kernel(bench: Bench) -> None:
    text = '- {open: /x, expect: {dmesg: {">=6.12": new, else: [old, older]}}}'
    bench.session.machine = Machine("x86_64", "5.10.262")
    bench.agent.printed = [message("old"), message("older")]
    bench.run(text, result(3))


def test_times_stop_at_what_is_not_wanted(bench: Bench) -> None:
    text = OPEN + "- {write: $f, data: x, times: 1000, expect: {returns: 1}}"
    bench.run(text, result(3), result(1, completed=1000))
    bench = Bench(bench.root / "again")
    failed = bench.failure(text, result(3), result(-11, completed=4))
    assert failed.wanted.splitlines() == ["returns 1", "completed: 1000 times as wanted"]
    assert failed.got.splitlines()[1] == "completed: 4 times"


def test_together_judges_each(bench: Bench) -> None:
    head = "    actors: [a, b]\n"
    text = """
        - {by: a, open: /x, as: f}
        - {by: b, open: /x, as: g}
        - together:
            - {by: a, write: $f, data: one, as: first, expect: {returns: 3}}
            - {by: b, write: $g, data: two, expect: {returns: 3}}
        """
    bench.run(text, result(3), result(3), result(3), result(3), head=head)
    assert bench.session.bound["first"].returns == 3
    bench = Bench(bench.root / "again")
    failed = bench.failure(text, result(3), result(3), result(3), result(2), head=head)
    assert (failed.step.line, failed.got) == (11, "returns: 2")


def test_a_descriptor_is_handed_over(bench: Bench) -> None:
    head = "    actors: [a, b]\n"
    text = "- {by: a, open: /x, as: f}\n- {pass: $f, to: b, as: g}\n- {by: b, close: $g}"
    bench.run(text, result(3), result(8), result(5), result(0), head=head)
    assert [actor for actor, _ in bench.agent.programs] == ["a", "a", "b", "b"]
    assert bench.session.bound["g"].returns == 5


def test_fork_makes_an_actor(bench: Bench) -> None:
    bench.run(OPEN + "- {fork: child}\n- {by: child, close: $f}", result(3), result(300), result(0))
    assert bench.session.cast.facts["child"].pid == 300


def test_kernel_messages_of_a_step(bench: Bench) -> None:
    made = bench.scenario('- {open: /x, expect: {dmesg: {matches: "lab: opened"}}}')
    bench.agent.replies = [result(3)]
    bench.agent.later = [message("lab: opened by main")]
    bench.session.start(made)
    bench.session.step(made.steps[0])
    assert [each.text for each in bench.session.messages] == ["lab: opened by main"]
    bench.agent.replies = [result(3)]
    with pytest.raises(StepFailed) as caught:
        bench.session.step(made.steps[0])
    assert caught.value.got == "dmesg: the kernel printed nothing"


def test_a_step_that_wants_silence(bench: Bench) -> None:
    made = bench.scenario("- {open: /x, expect: {no_messages: true}}")
    bench.agent.replies = [result(3)]
    bench.session.step(made.steps[0])
    bench.agent.replies = [result(3)]
    bench.agent.later = [
        KernelMessage(6, 1, 1, 0, "a process said it"),
        KernelMessage(6, 0, 2, 0, "lab: opened"),
    ]
    with pytest.raises(StepFailed) as caught:
        bench.session.step(made.steps[0])
    assert caught.value.got == "no_messages: lab: opened"


def test_silence_and_messages_are_not_wanted_at_once(bench: Bench) -> None:
    with pytest.raises(ScenarioError, match="either messages are wanted or none are"):
        bench.scenario("- {open: /x, expect: {no_messages: true, dmesg: x}}")


def test_dmesg_as_a_step_looks_at_the_step_before(bench: Bench) -> None:
    made = bench.scenario("- {open: /x}\n- {dmesg: [{matches: one}, two]}")
    bench.agent.replies = [result(3)]
    bench.session.start(made)
    bench.agent.printed = [message("this is one"), message("two")]
    for step in made.steps:
        bench.session.step(step)


def test_recorded_signals(bench: Bench) -> None:
    info = SignalInfo(10, 0, 55, 0, 7, 0, 0, bytes(128))
    text = "- {signals: , expect: {signals: [{signo: SIGUSR1, pid: 55, value: 7}]}}"
    bench.run(text, Reply(signals=(info,)))
    bench = Bench(bench.root / "again")
    failed = bench.failure(text, Reply())
    assert (failed.wanted, failed.got) == ("signals: 1 items", "signals: 0: []")


def test_modules_are_loaded_first_and_unloaded_last(bench: Bench) -> None:
    made = bench.scenario("- {open: /x}", "    modules: [{lab_core: {depth: 4}}, lab_ioctl]\n")
    bench.agent.replies = [result(3)]
    bench.agent.unloads = [-11, -11, 0, 0]
    bench.session.patience = 60.0  # however slow the host is
    bench.session.start(made)
    bench.session.step(made.steps[0])
    bench.session.finish()
    assert bench.agent.asked == [
        "load core depth=4",
        "load ioctl",
        "spawn main 0 None 0",
        "unload lab_ioctl",
        "unload lab_ioctl",
        "unload lab_ioctl",
        "unload lab_core",
    ]


def test_a_module_that_is_refused(bench: Bench) -> None:
    with pytest.raises(StepFailed, match="lab_bad does not load"):
        bench.session.start(bench.scenario("- {open: /x}", "    modules: [lab_bad]\n"))
    with pytest.raises(ScenarioError, match="no module 'lab_cor'; did you mean 'lab_core'"):
        bench.run("- {load_module: lab_cor}")


def test_a_module_that_wants_another_before_it(bench: Bench) -> None:
    with pytest.raises(StepFailed, match="stands before it in `modules`"):
        bench.session.start(bench.scenario("- {open: /x}", "    modules: [lab_alone]\n"))


def test_a_leaked_reference(bench: Bench) -> None:
    bench.session.start(bench.scenario("- {open: /x}", "    modules: [lab_core]\n"))
    bench.agent.unloads = [-11] * 1000
    with pytest.raises(LeakedReference, match="lab_core cannot be unloaded after the scenario: EAGAIN"):
        bench.session.finish()


def test_a_module_without_an_exit_is_not_waited_for(bench: Bench) -> None:
    bench.session.modules = {"lab_core": b"\0init_module\0"}
    bench.session.start(bench.scenario("- {open: /x}", "    modules: [lab_core]\n"))
    bench.agent.unloads = [-16] * 2
    with pytest.raises(LeakedReference, match="lab_core has no exit"):
        bench.session.finish()
    assert bench.agent.asked[-1:] == ["unload lab_core"]
    assert len(bench.agent.unloads) == 1


def test_who_dies_while_loading_is_told_like_a_step(bench: Bench) -> None:
    bench.agent.raises = {b"core": Died(9)}
    with pytest.raises(StepFailed, match="loading lab_core was fatal") as caught:
        bench.session.start(bench.scenario("- {open: /x}", "    modules: [lab_core]\n"))
    assert caught.value.step.where.endswith(": loading lab_core")
    assert "killed by" in caught.value.got
    assert bench.session.handless


def test_a_module_that_does_not_go_is_named(bench: Bench) -> None:
    bench.session.start(bench.scenario("- {open: /x}", "    modules: [lab_core]\n"))
    bench.agent.raises = {"lab_core": GuestHung("no answer from the agent in time")}
    with pytest.raises(GuestHung, match="unloading lab_core does not come back"):
        bench.session.finish()
    assert not bench.session.handless


def test_an_actor_that_cannot_be_killed(bench: Bench) -> None:
    bench.agent.left = [Leftover("main", 101, ASLEEP)]
    with pytest.raises(LeakedReference, match="killed, but still there: actor 'main' sleeps"):
        bench.session.finish()


def test_a_kernels_own_module_may_be_there_and_stays(bench: Bench) -> None:
    bench.session.modules = {**bench.session.modules, "evdev": b"there", "lab_core": b"core"}
    loads = [scenario.ModuleLoad("evdev", shipped=True), scenario.ModuleLoad("lab_core")]
    bench.session.load_modules(loads)
    bench.session.finish()
    assert bench.agent.asked == ["load there", "load core", "unload lab_core"]
    with pytest.raises(StepFailed, match="evdev does not load"):
        bench.session.load_modules([scenario.ModuleLoad("evdev")])


def test_load_and_unload_as_steps_are_remembered(bench: Bench) -> None:
    text = "- {load_module: lab_core}\n- {load_module: lab_knob, params: {name: a b}}\n- {unload: lab_core}"
    bench.run(text, result(0), result(0), result(0))
    assert bench.session.loaded == ["lab_knob"]


def test_what_only_the_target_knows(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="have no ENOTTY"):
        bench.run("- {open: /x, expect: {errno: ENOTTY}}", result(-11))
    with pytest.raises(Unsupported, match="no system call lseek"):
        bench.run("- {lseek: 3, offset: 0, whence: 0}")


def test_nonsense_on_the_target_is_a_mistake_of_the_file(bench: Bench) -> None:
    arg = "{struct: lab_square, n: hello}"
    with pytest.raises(ScenarioError, match=re.escape("x.yaml:6: step 'ioctl': 'hello' is no number")):
        bench.run(f"- {{ioctl: 3, request: 1, arg: {arg}}}")
    with pytest.raises(ScenarioError, match="holds nothing"):
        bench.run("- {open: /x, as: f, expect: {errno: EAGAIN}}\n- {read: $f}", result(-11))


def test_actors_have_what_is_said(bench: Bench) -> None:
    head = "    actors: {w: {uid: 1000, caps: [], sigmask: [SIGUSR1]}, t: {thread_of: w}}\n"
    bench.session.start(bench.scenario("- {by: w, open: /x}", head))
    assert bench.agent.asked == [f"spawn w 1000 0 {1 << 9}", "spawn t 0 None 0"]


# --- the same from Python ------------------------------------------------------------------------------


def test_a_hand_offers_every_verb(bench: Bench, tmp_path: Path) -> None:
    bench.agent.replies = [result(3), result(0, bytes(SQUARE.pack({"square": 144}, X86_64))), result(0)]
    modules, uapi = [scenario.ModuleLoad("lab_core")], [bench.root / "kmod/uapi/lab_ioctl.h"]
    with Hand(bench.session, modules=modules, uapi=uapi) as guest:
        dev = guest.open("/dev/lab_ioctl", flags="O_RDWR")
        arg = {"struct": "lab_square", "n": 12}
        answer = guest.ioctl(dev, request="LAB_IOC_SQUARE", arg=arg, expect={"out": {"square": 144}})
        assert answer.out["square"] == 144
        guest.close(dev)
    assert bench.agent.asked[-1] == "unload lab_core"
    assert {"open", "read", "poll"} <= set(dir(guest))


def test_a_hand_has_the_same_checks(bench: Bench) -> None:
    guest = Hand(bench.session)
    with pytest.raises(ScenarioError, match="unknown key 'flag' in step 'open'; did you mean 'flags'"):
        guest.open("/x", flag="O_RDWR")
    with pytest.raises(ScenarioError, match=r"test_session.py:\d+: unknown constant 'O_RDWT'"):
        guest.open("/x", flags="O_RDWT")
    with pytest.raises(AttributeError, match="no verb 'opne'; did you mean 'open'"):
        guest.opne("/x")
    bench.agent.replies = [result(-11)]
    with pytest.raises(StepFailed, match="open failed: EAGAIN") as caught:
        guest.open("/x")
    assert caught.value.step.file.name == "test_session.py"


def test_a_hand_may_finish_again_what_did_not_end_in_time(bench: Bench) -> None:
    guest = Hand(bench.session)
    bench.agent.replies = [None]
    pending = guest.read(3, size=2, background=True)
    with pytest.raises(StepFailed, match="read did not end in time"):
        guest.finish(pending, within=0.01)
    pending.pending.reply = result(2, b"hi")
    assert guest.finish(pending).data == b"hi"
    with pytest.raises(ScenarioError, match="was finished already"):
        guest.finish(pending)


def test_a_hand_and_calls_in_the_background(bench: Bench) -> None:
    guest = Hand(bench.session)
    reader = guest.actor("reader", uid=1000)
    bench.agent.replies = [result(3), result(2, b"hi"), result(3), result(1), result(1)]
    dev = guest.open("/x", by=reader)
    pending = guest.read(dev, size=2, by="reader", background=True)
    assert guest.finish(pending, within=1.5, expect={"data": b"hi"}).returns == 2
    other = guest.open("/x")
    one, two = guest.together(
        guest.later.write(dev, data="a", by="reader"), guest.later.write(other, data="b")
    )
    assert (one.returns, two.returns) == (1, 1)


# --- again and again in the guest -------------------------------------------------------------------------


def test_data_that_is_expected_is_compared_each_time(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, times: 9, expect: {data: hello}}"
    calls = (CallResult(2, 9), CallResult(5, 1), CallResult(5, 1))
    (_, got) = bench.run(text, result(3), Reply(calls=calls, data=(b"hello",)))
    assert (got.data, got.returns, got.completed) == (b"hello", 5, 9)
    (_, program) = bench.agent.programs[-1]
    assert [op for op, _ in program.operations] == [Op.LOOP, Op.CALL, Op.WANT, Op.FETCH]


def test_data_that_differs_once_is_told_with_how_often_it_did_not(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, times: 9, expect: {data: hello}}"
    calls = (CallResult(1, 4), CallResult(5, 1), CallResult(1, 0))
    failed = bench.failure(text, result(3), Reply(calls=calls, data=(b"hallo",)))
    assert failed.wanted.startswith("completed: 9 times as wanted\ndata:")
    assert failed.got.startswith("completed: 4 times\ndata:")


def test_where_no_data_is_wanted_it_is_brought_once(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, times: 9, expect: {returns: 5}}"
    bench.run(text, result(3), result(5, b"hello", completed=9))
    (_, program) = bench.agent.programs[-1]
    assert [op for op, _ in program.operations] == [Op.CALL, Op.FETCH]


def rounds(*data: bytes, done: int, completed: int) -> Reply:
    """What a read that is looked at each time is answered with."""
    calls = tuple(CallResult(len(each), 1) for each in data)
    return Reply(calls=(CallResult(done, completed), *calls), data=data)


HOST_LOOKS = ("{data: {matches: h}}", "{data: {min: 5, max: 5}}", "{data: {struct: lab_small, a: 104}}")


@pytest.mark.parametrize("expect", HOST_LOOKS)
def test_data_that_is_not_known_to_the_byte_is_brought_each_time(bench: Bench, expect: str) -> None:
    text = OPEN + f"- {{read: $f, size: 5, times: 3, expect: {expect}, as: r}}"
    bench.run(text, result(3), rounds(b"hello", b"hi ho", b"how?!", done=6, completed=1))
    (_, program) = bench.agent.programs[-1]
    assert [op for op, _ in program.operations] == [Op.LOOP, *[Op.CALL, Op.FETCH] * 3]
    assert bench.session.bound["r"].data == b"how?!"
    assert bench.session.bound["r"].completed == 3


@pytest.mark.parametrize("expect", HOST_LOOKS)
@pytest.mark.parametrize("bad", range(3))
def test_the_round_that_differs_is_told(bench: Bench, expect: str, bad: int) -> None:
    text = OPEN + f"- {{read: $f, size: 5, times: 3, expect: {expect}}}"
    data = [b"OTTE" if index == bad else b"hello" for index in range(3)]
    failed = bench.failure(text, result(3), rounds(*data, done=6, completed=1))
    assert failed.title == "read: data not as wanted"
    assert failed.notes == ([f"in round {bad + 1} of 3"] if bad < 2 else [])


def test_a_call_in_the_background_keeps_its_rounds_for_its_finish(bench: Bench) -> None:
    text = OPEN + (
        "- {read: $f, size: 5, times: 3, background: true, as: p}\n"
        "- {finish: $p, expect: {returns: 5, data: {matches: h}}}"
    )
    bench.run(text, result(3), rounds(b"hello", b"hi ho", b"how?!", done=6, completed=1))
    bench = Bench(bench.root / "again")
    failed = bench.failure(text, result(3), rounds(b"hello", b"OTTER", b"how?!", done=6, completed=1))
    assert failed.notes[0] == "in round 2 of 3"
    many = text.replace("times: 3", "times: 9999")
    bench = Bench(bench.root / "many")
    with pytest.raises(ScenarioError, match="returns, data of 9999 times in the background cannot be"):
        bench.run(many, result(3), result(5, b"hello", completed=9999))
    bench = Bench(bench.root / "count")
    many = many.replace("{returns: 5, data: {matches: h}}", "{completed: 9999}")
    bench.run(many, result(3), result(5, b"hello", completed=9999))


def test_a_call_that_fails_ends_the_rounds(bench: Bench) -> None:
    text = OPEN + "- {read: $f, size: 5, times: 3, expect: {data: {matches: h}}}"
    calls = (CallResult(2, 0), CallResult(5, 1), CallResult(-11, 0), CallResult(0, 0))
    failed = bench.failure(text, result(3), Reply(calls=calls, data=(b"hello", b"", b"")))
    assert failed.title == "read failed: EAGAIN"
    assert "completed: 1 times" in failed.got


def test_a_wish_for_memory_is_looked_at_each_time(bench: Bench) -> None:
    text = OPEN + "- {ioctl: $f, request: 1, arg: {u32: 0}, times: 2, expect: {out: 7}}"
    seven, eight = (number.to_bytes(4, "little") for number in (7, 8))
    failed = bench.failure(text, result(3), rounds(eight, seven, done=4, completed=1))
    assert (failed.got, failed.notes) == ("out: 8", ["in round 1 of 2"])


def test_too_many_rounds_for_the_host_are_a_mistake(bench: Bench) -> None:
    with pytest.raises(ScenarioError, match="times: 9999 is more than 2047"):
        bench.run(OPEN + "- {read: $f, size: 5, times: 9999, expect: {data: {min: 5}}}", result(3))


IN_TURN = OPEN + (
    "- in_turn:\n"
    "    - {write: $f, data: hello, expect: {returns: 5}}\n"
    "    - {read: $f, size: 5, expect: {data: hello}, as: r}\n"
    "  times: 9\n"
)


def test_steps_in_turn_are_one_program(bench: Bench) -> None:
    calls = (CallResult(3, 9), CallResult(5, 1), CallResult(5, 1), CallResult(5, 1))
    (_, done) = bench.run(IN_TURN, result(3), Reply(calls=calls, data=(b"hello",)))
    assert done.completed == 9
    assert bench.session.bound["r"].data == b"hello"
    (_, program) = bench.agent.programs[-1]
    assert [op for op, _ in program.operations] == [Op.LOOP, Op.CALL, Op.CALL, Op.WANT, Op.FETCH]


@pytest.mark.parametrize(
    ("done", "calls", "data", "title", "line"),
    [
        (0, ((-11, 0), (0, 0), (0, 0)), b"", "write failed: EAGAIN", 8),
        (0, ((4, 0), (0, 0), (0, 0)), b"", "write: returns not as wanted", 8),
        (1, ((5, 1), (-11, 0), (0, 0)), b"", "read failed: EAGAIN", 9),
        (2, ((5, 1), (5, 1), (4, 0)), b"hellx", "read: data not as wanted", 9),
        (2, ((5, 1), (5, 1), (4, 0)), b"hello", "read: not as wanted", 9),
    ],
)
def test_the_step_that_ends_a_round_is_the_one_that_fails(
    bench: Bench, done: int, calls: tuple[tuple[int, int], ...], data: bytes, title: str, line: int
) -> None:
    all_calls = (CallResult(done, 3), *(CallResult(*each) for each in calls))
    failed = bench.failure(IN_TURN, result(3), Reply(calls=all_calls, data=(data,)))
    assert (failed.title, failed.step.line) == (title, line)
    assert failed.notes[-1] == "in round 4 of 9"


def test_a_fault_in_turn_is_whose_it_was(bench: Bench) -> None:
    text = "- in_turn: [{close: 3}, {load: NULL, size: 4}]\n  times: 9\n"
    fault = Fault(11, 1, 0, "load", 2)
    reply = Reply(calls=(CallResult(1, 0), CallResult(0, 1)), data=(b"",), fault=fault)
    failed = bench.failure(text, reply)
    assert (failed.step.verb, failed.wanted) == ("load", "no signal")
    assert failed.got.startswith("SIGSEGV")


def test_an_actor_that_dies_in_turn(bench: Bench) -> None:
    failed = bench.failure(IN_TURN, result(3), Reply(exited=9))
    assert "killed by SIGKILL" in failed.got
    assert (failed.step.verb, failed.step.line) == ("in_turn", 7)


def test_in_turn_that_does_not_end(bench: Bench) -> None:
    failed = bench.failure(IN_TURN + "  within: 10 ms\n", result(3), None)
    assert failed.title == "in_turn did not end in time"


def test_what_the_guest_cannot_repeat_is_a_mistake(bench: Bench) -> None:
    with pytest.raises(ScenarioError, match="exit cannot be done in a loop"):
        bench.run("- in_turn: [{exit: 0}]")
    with pytest.raises(ScenarioError, match="the lab has to know of it"):
        bench.run("- in_turn: [{load_module: lab_core}]")
