# SPDX-License-Identifier: MIT
"""The agent's host side against an agent that says what the test wants."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from lab.arch import X86_64
from lab.errors import AgentError, GuestHung, GuestLost
from lab.guest.agent import Agent
from lab.guest.answers import Asleep, Exit
from lab.guest.frames import Frames, padded
from lab.guest.layouts import PROTOCOL, FrameType
from lab.guest.wire import CallResult, Program, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

T = FrameType
Frame = tuple[FrameType, int, bytes]
YES, ENDED, NO = range(3)
NONE = 0xFFFFFFFF  # no actor


def text(*strings: bytes) -> bytes:
    return b"".join(struct.pack("<Q", len(each)) + padded(each) for each in strings)


def done(*values: int) -> bytes:
    head = struct.pack("<IIqIIIIiIiIQ", 0, 0, 0, len(values), 0, 0, 0, 0, 0, 0, 0, 0)
    return head + b"".join(struct.pack("<qQ", value, 1) for value in values)


def died(status: int) -> bytes:
    return struct.pack("<IIqIIIIiIiIQ", 0, 0, 0, 0, 0, 0, 1, status, 0, 0, 0, 0)


def exit_notice(number: int, status: int, pid: int = 100) -> Frame:
    return (T.EXIT, 0, struct.pack("<IiII", number, status, pid, 0))


def waited(outcome: int, state: str = "\0", nr: int = 0, wchan: bytes = b"") -> bytes:
    return struct.pack("<IIq", outcome, ord(state), nr) + text(wchan)


def not_yet(ident: int) -> list[Frame]:
    return [(T.ANSWER, ident, waited(NO))]


class Fake:
    """A channel whose other end answers by `answers`, one a request; None: says nothing to it."""

    def __init__(self) -> None:
        self._frames = Frames(X86_64)
        self._out = b""
        self.requests: list[Frame] = []
        self.answers: list[Callable[[int], list[Frame]]] = []
        self.dead = False
        self.busy: list[float] = []  # what the host's waits come to, look by look; the last one stays

    def waited(self) -> float:
        if len(self.busy) > 1:
            return self.busy.pop(0)
        return self.busy[0] if self.busy else 0.0

    def send(self, data: bytes) -> None:
        for request in self._frames.feed(data):
            self.requests.append(request)
            answer = self.answers.pop(0) if self.answers else lambda _: []
            self.say(*answer(request[1]))

    def say(self, *frames: Frame) -> None:
        self._out += b"".join(self._frames.encode(*frame) for frame in frames)

    def receive(self, deadline: float) -> bytes:
        # In two pieces, the first of them odd.
        piece, self._out = self._out[:7], self._out[7:]
        if not piece and self.dead:
            raise GuestLost("gone")
        if not piece:
            raise GuestHung(f"nothing before {deadline}")
        return piece


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def agent(fake: Fake) -> Agent:
    """An agent with an actor 'main', number 1."""
    agent = Agent(fake, X86_64)
    spawn(fake, agent, "main", 1)
    return agent


def spawn(fake: Fake, agent: Agent, name: str, number: int) -> None:
    fake.answers.append(lambda i: [(T.ANSWER, i, struct.pack("<qIIIIQ", 0, 0, number, 100, 100, 5))])
    agent.spawn(name, timeout=1)


def call() -> Program:
    program = Program(X86_64)
    program.call(39)
    return program


def hello_payload(protocol: int = PROTOCOL, clock: int = 0, standby: int = NONE) -> bytes:
    head = struct.pack("<IIIiiIQQII", protocol, 4096, 2, clock, 0, standby, 4096, 77, 100, 0)
    return head + text(b"nonce", b"6.12.1", b"#1 SMP", b"x86_64", b"tsc")


def test_hello(fake: Fake) -> None:
    agent = Agent(fake, X86_64)
    ready = (T.READY, 0, struct.pack("<IIII", PROTOCOL, 1, 96, 0))
    fake.answers.append(lambda i: [ready, (T.ANSWER, i, hello_payload())])
    hello = agent.hello(wall_clock_ns=123, seed=b"s" * 9, jitter_us=4, timeout=1)
    assert (hello.nonce, hello.release, hello.clocksource, hello.tainted) == (b"nonce", "6.12.1", "tsc", 4096)
    assert fake.requests == [(T.HELLO, 1, struct.pack("<QII", 123, 4, 9) + b"s" * 9 + bytes(7))]


def greeted(fake: Fake, standby: int) -> Agent:
    agent = Agent(fake, X86_64)
    fake.answers.append(lambda i: [(T.ANSWER, i, hello_payload(standby=standby))])
    agent.hello(wall_clock_ns=0, seed=b"", timeout=1)
    return agent


def test_the_actor_that_is_ready_is_taken_without_asking(fake: Fake) -> None:
    agent = greeted(fake, standby=3)
    main = agent.spawn("main", timeout=1)
    assert (main.number, main.pid, main.tid, main.start_ns) == (3, 100, 100, 77)
    assert [kind for kind, *_ in fake.requests] == [T.HELLO]
    with pytest.raises(AgentError, match="already"):
        agent.spawn("main", timeout=1)


@pytest.mark.parametrize(
    ("name", "wishes"),
    [
        ("other", {}),
        ("main", {"uid": 1}),
        ("main", {"gid": 1}),
        ("main", {"caps": 0}),
        ("main", {"sigmask": 2}),
    ],
)
def test_an_actor_that_is_to_be_different_is_made(fake: Fake, name: str, wishes: dict[str, int]) -> None:
    agent = greeted(fake, standby=3)
    fake.answers.append(lambda i: [(T.ANSWER, i, struct.pack("<qIIIIQ", 0, 0, 2, 102, 102, 5))])
    assert agent.spawn(name, **wishes, timeout=1).number == 2  # type: ignore[arg-type]


def test_the_actor_that_was_ready_is_taken_once_and_alive(fake: Fake) -> None:
    agent = greeted(fake, standby=3)
    fake.answers.append(
        lambda i: [(T.EXIT, 0, struct.pack("<IiII", 3, 9, 100, 0)), (T.ANSWER, i, struct.pack("<Q", 0))]
    )
    agent.tainted(1)
    spawn(fake, agent, "main", 2)
    assert agent.actor("main").number == 2


def test_an_agent_with_nobody_ready(fake: Fake) -> None:
    agent = greeted(fake, standby=NONE)
    spawn(fake, agent, "main", 2)
    assert agent.actor("main").number == 2


def test_hello_of_another_version(fake: Fake) -> None:
    fake.answers.append(lambda i: [(T.ANSWER, i, hello_payload(protocol=PROTOCOL + 1))])
    with pytest.raises(AgentError, match="protocol"):
        Agent(fake, X86_64).hello(wall_clock_ns=0, seed=b"", timeout=1)


def test_a_clock_that_cannot_be_set(fake: Fake) -> None:
    fake.answers.append(lambda i: [(T.ANSWER, i, hello_payload(clock=1))])
    with pytest.raises(AgentError, match="clock"):
        Agent(fake, X86_64).hello(wall_clock_ns=5, seed=b"", timeout=1)


def test_run(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.DONE, i, done(42))])
    assert agent.run("main", call(), timeout=1) == Reply(calls=(CallResult(42, 1),))


def test_replies_may_come_in_any_order(fake: Fake, agent: Agent) -> None:
    spawn(fake, agent, "other", 2)
    first, second = agent.submit("main", call()), agent.submit("other", call())
    fake.say((T.DONE, second.ident, done(2)), (T.DONE, first.ident, done(1)))
    replies = [agent.finish(each, within=None, timeout=1) for each in (first, second)]
    assert [reply.calls[0].value for reply in replies if reply] == [1, 2]
    # A second finish gives the same.
    assert agent.finish(first, within=1, timeout=1) is replies[0]


def test_late_and_then_not(fake: Fake, agent: Agent) -> None:
    pending = agent.submit("main", call())
    fake.answers.append(not_yet)
    assert agent.finish(pending, within=0.1, timeout=1) is None
    assert fake.requests[-1][2] == struct.pack("<IIQ", pending.ident, 0, 100_000_000)
    fake.answers.append(lambda i: [(T.DONE, pending.ident, done(7)), (T.ANSWER, i, waited(YES))])
    reply = agent.finish(pending, within=0.1, timeout=1)
    assert reply is not None
    assert reply.calls[0].value == 7


def test_an_actor_does_one_thing_at_a_time(fake: Fake, agent: Agent) -> None:
    pending = agent.submit("main", call())
    with pytest.raises(AgentError, match="busy"):
        agent.submit("main", call())
    fake.say((T.DONE, pending.ident, done(1)))
    agent.finish(pending, within=None, timeout=1)
    agent.submit("main", call())


def test_death_instead_of_an_answer(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [exit_notice(1, 9), (T.DONE, i, died(9))])
    assert agent.run("main", call(), timeout=1).exited == 9
    assert agent.exits == [Exit("main", 1, 100, 9)]
    with pytest.raises(AgentError, match=r"'main' died \(wait status 9\)"):
        agent.submit("main", call())
    with pytest.raises(AgentError, match="does not exist"):
        agent.submit("nobody", call())


def test_the_guest_dies(fake: Fake, agent: Agent) -> None:
    fake.dead = True
    with pytest.raises(GuestLost):
        agent.run("main", call(), timeout=1)


def test_an_answer_that_comes_too_late_is_ignored(fake: Fake, agent: Agent) -> None:
    with pytest.raises(GuestHung):
        agent.state("main", timeout=1)
    late = fake.requests[-1][1]
    fake.answers.append(lambda i: [(T.ANSWER, late, text(b"", b"", b"", b"", b"")), (T.DONE, i, done(1))])
    assert agent.run("main", call(), timeout=1).calls[0].value == 1


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (lambda i: [(T.ANSWER, i + 5, b"")], "nobody made"),
        (lambda i: [(T.DONE, i, done(1)), (T.DONE, i, done(1))], "nobody made"),
        (lambda i: [(T.ANSWER, i, done(1))], "with ANSWER"),
        (lambda i: [(T.DONE, i, done(1, 2))], "2 results"),
        (lambda i: [(T.DONE, i, b"short")], "too soon"),
        (lambda _: [(T.SPAWN, 0, b"")], "only the host"),
        (lambda _: [(T.ERROR, 0, text(b"what came is not a frame"))], "not a frame"),
        (lambda i: [(T.ERROR, i, text(b"the actor is busy"))], "the actor is busy"),
        (lambda _: [(T.MESSAGES, 0, text(b"nonsense"))], "kmsg"),
        (lambda _: [(T.READY, 0, struct.pack("<IIII", 99, 0, 0, 0))], "protocol 99"),
    ],
)
def test_nonsense(fake: Fake, agent: Agent, frames: Callable[[int], list[Frame]], words: str) -> None:
    fake.answers.append(frames)

    def twice() -> None:
        for _ in range(2):
            agent.run("main", call(), timeout=1)

    with pytest.raises(AgentError, match=words):
        twice()


def test_messages_come_with_answers(fake: Fake, agent: Agent) -> None:
    records = text(b"6,1,10,-;one\n", b"4,2,20,-;two\n")
    fake.answers.append(lambda i: [(T.MESSAGES, 0, records), (T.DONE, i, done(1))])
    agent.run("main", call(), timeout=1)
    assert [message.text for message in agent.messages()] == ["one", "two"]
    assert agent.messages() == []


@pytest.mark.parametrize(
    ("records", "lost"),
    [
        ((b"6,1,10,-;one\n", b"6,2,20,-;two\n"), 0),
        ((b"6,1,10,-;one\n", b"6,5,20,-;two\n"), 3),
        ((b"6,1,10,-;one\n", b"", b"6,5,20,-;two\n"), 3),  # the agent was told too
        ((b"", b"6,5,20,-;two\n"), 1),  # before the first that was seen: one at least
        ((b"", b""), 0),  # nothing came after it yet
    ],
)
def test_messages_that_nobody_will_see(
    fake: Fake, agent: Agent, records: tuple[bytes, ...], lost: int
) -> None:
    fake.answers.append(lambda i: [(T.MESSAGES, 0, text(*records)), (T.DONE, i, done(1))])
    agent.run("main", call(), timeout=1)
    assert agent.lost == lost
    assert len(agent.messages()) == len([each for each in records if each])


def test_sync_brings_messages(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.MESSAGES, 0, text(b"6,1,10,-;one\n")), (T.ANSWER, i, waited(YES))])
    agent.sync(timeout=1)
    assert [message.text for message in agent.messages()] == ["one"]


def spans(fake: Fake) -> list[float]:
    """How long the agent was asked to wait, each time."""
    kinds = (T.FINISH, T.BLOCKED, T.UPCALL)
    return [struct.unpack("<IIQ", payload)[2] / 1e9 for kind, _, payload in fake.requests if kind in kinds]


def test_a_busy_host_is_not_held_against_the_guest(fake: Fake, agent: Agent) -> None:
    pending = agent.submit("main", call())
    fake.busy = [3.0, 4.5, 4.5, 4.75, 4.75, 4.751]
    fake.answers += [not_yet, not_yet, not_yet]
    assert agent.finish(pending, within=2, timeout=3) is None
    assert spans(fake) == [2, 1.5, 0.25]

    fake.requests.clear()
    fake.busy = [5.0, 6.0]
    fake.answers += [not_yet, lambda i: [(T.DONE, pending.ident, done(7)), (T.ANSWER, i, waited(YES))]]
    reply = agent.finish(pending, within=2, timeout=3)
    assert reply is not None
    assert reply.calls[0].value == 7
    assert spans(fake) == [2, 1]


def test_a_host_that_is_always_busy_ends_the_patience(fake: Fake, agent: Agent) -> None:
    pending = agent.submit("main", call())
    fake.busy = [float(10 * look) for look in range(100)]
    fake.answers += [not_yet] * 10
    assert agent.finish(pending, within=0.5, timeout=1) is None
    assert spans(fake) == [0.5, 2.5]


def test_who_does_not_want_to_wait_asks_once(fake: Fake, agent: Agent) -> None:
    pending = agent.submit("main", call())
    fake.busy = [0.0, 1.0]
    fake.answers.append(not_yet)
    assert agent.finish(pending, within=0, timeout=1) is None
    assert spans(fake) == [0]


def test_blocked(fake: Fake, agent: Agent) -> None:
    pending = agent.submit("main", call())
    fake.answers.append(lambda i: [(T.ANSWER, i, waited(YES, "S", 0, b"pipe_read"))])
    assert agent.blocked(pending, within=1, timeout=2) == Asleep("S", 0, "pipe_read")
    fake.answers.append(not_yet)
    assert agent.blocked(pending, within=1, timeout=2) is None
    fake.answers.append(lambda i: [(T.ANSWER, i, waited(YES, "S", 0))])
    assert agent.stays_blocked(pending, 1, 2)
    fake.answers.append(lambda i: [(T.DONE, pending.ident, done(1)), (T.ANSWER, i, waited(ENDED))])
    assert not agent.stays_blocked(pending, 1, 2)
    # It is known by now: no further question.
    before = len(fake.requests)
    assert agent.blocked(pending, within=1, timeout=2) is None
    assert len(fake.requests) == before


def test_spawn(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.ANSWER, i, struct.pack("<qIIIIQ", 0, 0, 4, 100, 104, 5))])
    actor = agent.spawn(
        "a name that is long", uid=1, gid=2, caps=1 << 12, sigmask=1 << 9, thread_of="main", timeout=1
    )
    assert (actor.number, actor.pid, actor.tid, actor.thread_of) == (4, 100, 104, "main")
    assert fake.requests[-1][2] == struct.pack("<IIIIQQ16s", 1, 1, 2, 1, 4096, 512, b"a name that is \0")
    with pytest.raises(AgentError, match="already"):
        agent.spawn("main", timeout=1)


def test_spawn_fails(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.ANSWER, i, struct.pack("<qIIIIQ", -1, 5, 4, 0, 0, 0))])
    with pytest.raises(AgentError, match="capset"):
        agent.spawn("other", caps=1, timeout=1)
    fake.answers.append(lambda i: [(T.ERROR, i, text(b"all actor numbers are taken"))])
    with pytest.raises(AgentError, match="SPAWN request: all actor numbers"):
        agent.spawn("other", timeout=1)


def test_fork(fake: Fake, agent: Agent) -> None:
    number = agent.reserve("child")
    program = Program(X86_64)
    program.fork(number)
    fake.answers.append(lambda i: [(T.DONE, i, done(321))])
    agent.run("main", program, timeout=1)
    assert agent.actor("child").pid == 321
    assert agent.reserve("another") == number - 1


def test_a_fork_that_fails_leaves_no_child(fake: Fake, agent: Agent) -> None:
    program = Program(X86_64)
    program.fork(agent.reserve("child"))
    fake.answers.append(lambda i: [(T.DONE, i, done(-11))])
    agent.run("main", program, timeout=1)
    with pytest.raises(AgentError, match="does not exist"):
        agent.actor("child")


def test_upcall(fake: Fake, agent: Agent) -> None:
    report = struct.pack("<IIIIII", YES, 3, 50, 0, 0, 2)
    report += text(b"/lab/helper\0-q\0", b"HOME=/\0TERM=linux\0", b"/", b"0 pipe:[5]\n")
    # None comes in the time given, of which a busy host has taken half.
    fake.busy = [2.0, 2.5]
    fake.answers.append(lambda i: [(T.ANSWER, i, struct.pack("<IIIIII", NO, 0, 0, 0, 0, 0))])
    fake.answers.append(lambda i: [(T.ANSWER, i, report)])
    upcall = agent.upcall(within=1, timeout=2, name="helper")
    assert spans(fake) == [1, 0.5]
    assert upcall is not None
    assert upcall.argv == ("/lab/helper", "-q")
    assert upcall.env == {"HOME": "/", "TERM": "linux"}
    assert (upcall.pid, upcall.cwd, upcall.fds) == (50, "/", {0: "pipe:[5]"})
    assert agent.actor("helper").number == 3
    fake.answers.append(lambda i: [(T.ANSWER, i, struct.pack("<IIIIII", NO, 0, 0, 0, 0, 0))])
    assert agent.upcall(within=1, timeout=2, name="more") is None


def test_reap(fake: Fake, agent: Agent) -> None:
    left = struct.pack("<Q", 1) + text(
        struct.pack("<II", 1, 100), b"main\n", b"100 (ma) in) D 1", b"w", b"", b"s"
    )
    fake.answers.append(lambda i: [(T.ANSWER, i, left)])
    (leftover,) = agent.reap(5)
    assert (leftover.actor, leftover.pid, leftover.state.state, leftover.state.comm) == (
        "main",
        100,
        "D",
        "main",
    )
    fake.answers.append(lambda i: [exit_notice(1, 9), (T.ANSWER, i, struct.pack("<Q", 0))])
    assert agent.reap(5) == []
    assert agent.exits == [Exit("main", 1, 100, 9)]
    spawn(fake, agent, "main", 1)


def test_files_of_the_guest(fake: Fake, agent: Agent) -> None:
    head = struct.pack("<IIqIIIIiIiIQ", 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    fake.answers.append(lambda i: [(T.DONE, i, head + struct.pack("<qQ", 3, 1) + text(b"abc"))])
    assert agent.read_file("/etc/x", 1) == b"abc"
    fake.answers.append(lambda i: [(T.DONE, i, head + struct.pack("<qQ", -2, 0) + text(b""))])
    with pytest.raises(FileNotFoundError):
        agent.read_file("/etc/x", 1)


def test_a_file_of_the_guest_is_written_in_pieces(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.DONE, i, done(3, 0, 2, 8, 1, 0))])
    agent.write_file("/sys/x", [(0, b"ab"), (8, b"c")], 1)
    fake.answers.append(lambda i: [(T.DONE, i, done(-13, -9, -9, -9))])
    with pytest.raises(PermissionError):
        agent.write_file("/sys/x", [(0, b"ab")], 1)
    fake.answers.append(lambda i: [exit_notice(0, 11), (T.DONE, i, died(11))])
    with pytest.raises(OSError, match="died"):
        agent.write_file("/sys/x", [], 1)


def test_modules(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.DONE, i, done(-17))])
    assert agent.load_module(b"ELF", "depth=4", 1).errno == 17
    fake.answers.append(lambda i: [exit_notice(0, 11), (T.DONE, i, died(11))])
    with pytest.raises(AgentError, match="died in the call"):
        agent.unload_module("lab_core", 0x800, 1)


def test_settle(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.DONE, i, done(0))])
    agent.settle(timeout=1)
    fake.answers.append(lambda i: [(T.DONE, i, done(-11))])
    with pytest.raises(AgentError, match="randomness"):
        agent.settle(timeout=1)


def test_quiesce(fake: Fake, agent: Agent) -> None:
    fake.answers.append(lambda i: [(T.ANSWER, i, b"")])
    agent.quiesce(b"nonce", timeout=1)
    assert fake.requests[-1][::2] == (T.QUIESCE, b"nonce")
