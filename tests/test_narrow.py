# SPDX-License-Identifier: MIT
"""32-bit actors: which kernels have them, how one comes to be, and that it is planned for as what it is."""

from __future__ import annotations

import struct
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import ARCHITECTURES, I386, S390X, X86_64, Architecture, architecture
from lab.errors import AgentError, ScenarioError, Unsupported
from lab.guest.answers import Actor
from lab.guest.wire import CallResult, Program, Reply
from lab.kernels.tree import Trees
from lab.language import reader
from lab.run import narrow as narrow_
from lab.run.session import Session
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.scenario import Scenario

FLAGS = {"AT_FDCWD": -100, "O_RDWR": 2, "O_WRONLY": 1, "O_CREAT": 0o100, "O_TRUNC": 0o1000}
FLAGS |= {"O_CLOEXEC": 0o2000000, "ENOEXEC": 8}
VALUE = {
    8: Struct("lab_value", 8, (Field("n", 0, 8, "uint"),)),
    4: Struct("lab_value", 4, (Field("n", 0, 4, "uint"),)),
}
WIDE = Abi(X86_64, FLAGS, {}, {"lab_value": VALUE[8]}, {"openat": 257, "write": 1, "close": 3, "readv": 19})
NARROW = Abi(I386, FLAGS | {"F_GETLK64": 12}, {}, {"lab_value": VALUE[4]}, {"openat": 295, "readv": 145})


@pytest.mark.parametrize(
    ("word", "name", "config", "why"),
    [
        (32, "x86_64", {"CONFIG_IA32_EMULATION": "y"}, None),
        (64, "x86_64", {}, None),
        (32, "x86_64", {"CONFIG_COMPAT": "y"}, "needs CONFIG_IA32_EMULATION, which is not set"),
        (
            32,
            "x86_64",
            {"CONFIG_IA32_EMULATION": "y", "CONFIG_IA32_EMULATION_DEFAULT_DISABLED": "y"},
            "no 32-bit programs by default: its config has CONFIG_IA32_EMULATION_DEFAULT_DISABLED",
        ),
        (32, "arm64", {"CONFIG_COMPAT": "y"}, None),
        (32, "arm64", {}, "needs CONFIG_COMPAT, which is not set"),
        (32, "s390x", {"CONFIG_COMPAT": "y"}, "s390x's 32-bit programs are of no architecture that the lab"),
        (32, "ppc64el", {}, "needs CONFIG_COMPAT, which is not set"),
        (32, "riscv64", {}, "needs CONFIG_COMPAT, which is not set"),
        (32, "i386", {}, "needs a 64-bit kernel, i386's is a 32-bit one"),
        (64, "armhf", {}, "needs a 64-bit kernel, armhf's is a 32-bit one"),
        (64, "s390x", {}, None),
    ],
)
def test_which_kernels_run_them(word: int, name: str, config: Mapping[str, str], why: str | None) -> None:
    found = narrow_.why_not(word, architecture(name), config)
    assert found == why if why is None else found is not None and why in found


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=lambda arch: arch.name)
def test_whose_programs_they_are(arch: Architecture) -> None:
    if arch.compat.arch:
        other = architecture(arch.compat.arch)
        assert (arch.word, other.word) == (8, 4)
        assert other.byteorder == arch.byteorder  # the wire's


# --- scenarios -------------------------------------------------------------------------------------------


def load(root: Path, actors: str, steps: str = "- {open: /x}", head: str = "") -> Scenario:
    path = root / "x.yaml"
    body = textwrap.indent(textwrap.dedent(steps).strip(), "      ")
    path.write_text(f"channel: x\nscenarios:\n  - name: n\n{head}    actors: {actors}\n    steps:\n{body}\n")
    return reader.load(path, root=root, verbs=table(), trees=Trees.of(root / "kmod")).scenarios[-1]


def test_what_a_scenario_asks_for(tmp_path: Path) -> None:
    assert load(tmp_path, "{main: {word: 32}, other: {}}").words == {32}
    assert load(tmp_path, "[main]").words == frozenset()
    assert load(tmp_path, "{main: {word: $w}}", head="    with: {w: [32, 64]}\n").words == {64}


@pytest.mark.parametrize(
    ("actors", "wanted"),
    [
        ("{main: {word: 16}}", "x.yaml:4: 'word' of actor 'main' is 32 or 64, not '16'"),
        ("{main: {word: PAGE_SIZE}}", "x.yaml:4: 'word' of actor 'main' is 32 or 64, not 'PAGE_SIZE'"),
        ("{main: {word: [32]}}", "x.yaml:4: 'word' of actor 'main' is one value"),
        (
            "{main: {word: 32}, a: {word: 32, thread_of: main}}",
            "x.yaml:4: actor 'a' is a thread: its word is that of 'main'",
        ),
    ],
)
def test_mistakes(tmp_path: Path, actors: str, wanted: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path, actors, "- {by: main, open: /x}")
    assert any(wanted in str(mistake) for mistake in caught.value.mistakes), caught.value.mistakes


def test_a_name_that_one_of_the_two_has_is_not_missing(tmp_path: Path) -> None:
    made = load(tmp_path, "{main: {word: 32}}", "- {fcntl: 0, cmd: F_GETLK64}")
    assert made.missing(WIDE) == ["constant F_GETLK64"]
    assert made.missing(WIDE, NARROW) == []


# --- sessions --------------------------------------------------------------------------------------------


@dataclass
class FakeAgent:
    """Keeps what it is to run; the replies are success, unless a test prepared others."""

    programs: list[tuple[str, Program]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    exits: list[Any] = field(default_factory=list)

    def spawn(self, name: str, **_: Any) -> Actor:
        return Actor(name, 1, 100, 100)

    def reserve(self, _name: str) -> int:
        return 95

    def submit(self, actor: str, program: Program) -> Any:
        self.programs.append((actor, program))
        return self

    def finish(self, _pending: Any, **_: Any) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        program = self.programs[-1][1]
        return Reply(calls=(CallResult(3, 1),) * program.calls, data=(b"\x2a\0\0\0",) * program.data)

    def run(self, actor: str, program: Program, *, timeout: float) -> Reply:
        return self.finish(self.submit(actor, program), within=None, timeout=timeout)

    def messages(self) -> list[Any]:
        return []

    def who(self) -> list[str]:
        return [actor for actor, _ in self.programs]


AGENT = b"ELF"  # three bytes, as many as every call of FakeAgent says that it wrote


def session(agent: Any, config: Mapping[str, str] | None = None, narrow: Any = None) -> Session:
    return Session(
        agent,
        WIDE,
        arch=X86_64,
        modules={},
        verbs=table(),
        config={"CONFIG_IA32_EMULATION": "y"} if config is None else config,
        narrow=narrow or (lambda: narrow_.Narrow(AGENT, NARROW)),
    )


def test_its_program_is_sent_once(tmp_path: Path) -> None:
    agent = FakeAgent(replies=[Reply(calls=(CallResult(3, 1),) * 3)])
    made = session(agent)
    made.start(load(tmp_path, "{a: {word: 32}, b: {word: 32}, c: {}}", "- {by: a, open: /x}"))
    assert agent.who() == ["lab", "a", "b"]
    sent, first, second = (program for _, program in agent.programs)
    assert b"/lab/agent32\0" in sent.encode()
    assert AGENT in sent.encode()
    assert first.encode() == second.encode()


def test_its_program_is_not_sent_to_a_guest_that_was_made_with_it(tmp_path: Path) -> None:
    agent = FakeAgent()
    made = session(agent)
    made.start(load(tmp_path, "{a: {word: 32}, b: {word: 32}}", "- {by: a, open: /x}"), loaded=True)
    assert agent.who() == ["a", "b"]
    assert not any(AGENT in program.encode() for _, program in agent.programs)


def test_who_wants_none_pays_nothing(tmp_path: Path) -> None:
    def narrow() -> narrow_.Narrow:
        raise AssertionError("made for nobody")

    agent = FakeAgent()
    session(agent, {}, narrow).start(load(tmp_path, "{a: {word: 64}, c: {}}", "- {by: a, open: /x}"))
    assert agent.programs == []


def test_its_steps_are_planned_for_its_own_architecture(tmp_path: Path) -> None:
    agent = FakeAgent()
    made = session(agent)
    entry = load(
        tmp_path,
        "{old: {word: 32}, new: {}, thread: {thread_of: old}}",
        """
        - {by: old, readv: 0, sizes: [1, 2]}
        - {by: new, readv: 0, sizes: [1, 2]}
        - {by: thread, readv: 0, sizes: [1, 2]}
        - {by: old, fork: child}
        - {by: child, readv: 0, sizes: [1, 2]}
        """,
    )
    made.start(entry)
    del agent.programs[:]
    for step in entry.steps:
        made.step(step)
    words = [program.arch.word for _, program in agent.programs]
    assert [words[at] for at in (0, 1, 2, 4)] == [4, 8, 4, 4]
    for word, (_, program) in zip(words, agent.programs, strict=True):
        if program.calls == 1 and not program.forks:
            number = NARROW.syscalls["readv"] if word == 4 else WIDE.syscalls["readv"]
            assert struct.pack("<QQ", number, 1) in program.encode()
    assert made.context("child").sizeof("lab_value") == 4
    assert made.context("new").sizeof("lab_value") == 8
    assert made.context("old").constant("ULONG_MAX") == 0xFFFFFFFF
    assert made.context("old").constant("PAGE_SIZE") == WIDE.page_size


def test_a_kernel_that_runs_none_says_why(tmp_path: Path) -> None:
    entry = load(tmp_path, "{main: {word: 32}}")
    with pytest.raises(Unsupported, match="needs CONFIG_IA32_EMULATION"):
        session(FakeAgent(), {}).start(entry)


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ([Reply(calls=(CallResult(-28, 0),) * 3)], "does not take /lab/agent32"),
        ([Reply(exited=9)], "does not take /lab/agent32"),
        ([Reply(calls=(CallResult(3, 1),) * 3), Reply(calls=(CallResult(-12, 0),))], "cannot become"),
        ([Reply(calls=(CallResult(3, 1),) * 3), Reply(exited=11)], "died while it became"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, replies: list[Reply], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        session(FakeAgent(replies=replies)).start(load(tmp_path, "{main: {word: 32}}"))


def test_a_guest_that_runs_none_after_all(tmp_path: Path) -> None:
    agent = FakeAgent(replies=[Reply(calls=(CallResult(3, 1),) * 3), Reply(calls=(CallResult(-8, 0),))])
    with pytest.raises(Unsupported, match="its CPU cannot, or its command line forbids it"):
        session(agent).start(load(tmp_path, "{main: {word: 32}}"))


def test_an_architecture_without_a_companion_has_a_config_to_look_at() -> None:
    assert S390X.compat.config == "CONFIG_COMPAT"
    assert not S390X.compat.arch
