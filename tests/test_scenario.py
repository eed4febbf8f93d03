# SPDX-License-Identifier: MIT
"""Scenario files: what is read, and what is told of a mistake."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from lab import scenario
from lab.errors import ScenarioError
from lab.kernels.tree import Trees
from lab.language import reader
from lab.language.values import Fixed
from lab.language.wishes import Between, Equal, Matches
from lab.verbs import table

HEADER = """\
#define LAB_IOC_SQUARE 1
struct lab_square { unsigned long n; unsigned long square; };
"""

# The examples of the language's specification, as they are but for `steps: [...]`.
EXAMPLE_IOCTL = """\
channel: ioctl
about: A call of the module's own making, on an open file.
modules: [lab_core, lab_ioctl]          # loaded in order before the first step, unloaded after the last
uapi: [lab_ioctl.h]                     # constants and structs, from kmod/uapi/
scenarios:
  - name: a struct goes in and its answer comes out
    steps:
      - open: /dev/lab_ioctl
        flags: O_RDWR
        as: dev
      - ioctl: $dev
        request: LAB_IOC_SQUARE
        arg: {struct: lab_square, n: 12}
        expect: {returns: 0, out: {square: 144}}

  - name: an unknown request is refused
    steps:
      - {open: /dev/lab_ioctl, flags: O_RDWR, as: dev}
      - {ioctl: $dev, request: 0xdead, expect: {errno: ENOTTY}}
"""
EXAMPLE_CHARDEV = """\
channel: chardev
modules: [lab_core, {lab_chardev: {depth: 4}}]          # module parameters
scenarios:
  - name: a reader sleeps until somebody writes
    actors: [reader, writer]
    steps:
      - {by: reader, open: /dev/lab_chardev, flags: O_RDONLY, as: r}
      - {by: reader, read: $r, size: 64, background: true, as: pending}
      - {blocked: $pending}                              # asleep in that very call, as the agent sees it
      - {by: writer, open: /dev/lab_chardev, flags: O_WRONLY, as: w}
      - {by: writer, write: $w, data: hello, expect: {returns: 5}}
      - {finish: $pending, within: 2s, expect: {returns: 5, data: hello}}

  - name: every size around a page survives the round trip
    with: {size: [0, 1, PAGE_SIZE-1, PAGE_SIZE, PAGE_SIZE+1]}    # one pytest item each, symbolic in its id
    steps:
      - {open: /dev/lab_chardev, flags: O_RDWR, as: dev}
      - {write: $dev, data: {random: $size, id: a}, expect: {returns: $size}}
      - {read: $dev, size: $size+1, expect: {returns: $size, data: {random: $size, id: a}}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "kmod" / "uapi").mkdir(parents=True)
    (tmp_path / "kmod" / "uapi" / "lab_ioctl.h").write_text(HEADER)
    (tmp_path / "kmod" / "uapi" / "other.h").write_text("#define LAB_OTHER 1\nstruct other { int x; };\n")
    kbuild = "names := $(wildcard $(src)/*.c)\nobj-m := $(addprefix lab_,$(names:.c=.o))\n"
    (tmp_path / "kmod" / "Kbuild").write_text(kbuild)
    for name in ("core", "ioctl", "chardev"):
        (tmp_path / "kmod" / f"{name}.c").write_text("module_param(depth, uint, 0444);\n")
    (tmp_path / "scenarios").mkdir()
    return tmp_path


def read(root: Path, text: str) -> scenario.ScenarioFile:
    path = root / "scenarios" / "x.yaml"
    path.write_text(textwrap.dedent(text))
    return reader.load(path, root=root, verbs=table(), trees=Trees.of(root / "kmod"))


def steps(root: Path, text: str, head: str = "") -> tuple[scenario.Step, ...]:
    indented = textwrap.indent(textwrap.dedent(text).strip(), "      ")
    file = f"channel: x\nuapi: [lab_ioctl.h]\nscenarios:\n  - name: n\n{head}    steps:\n{indented}\n"
    return read(root, file).scenarios[0].steps


def mistakes(root: Path, text: str, head: str = "") -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        steps(root, text, head)
    return [f"{mistake.line}: {mistake.message}" for mistake in caught.value.mistakes]


def file_mistakes(root: Path, text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        read(root, text)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_name_of_with_is_no_part_of_a_text(root: Path) -> None:
    head = "    with: {n: [0, 1], path: [/dev/a, /dev/b]}\n"
    assert mistakes(root, "- {open: $path}\n- {open: /dev/lab$n}", head) == [
        "8: the path of step 'open' is a text: $n is no part of one, `with` gives it whole"
    ]
    assert steps(root, '- {open: $path}\n- {open: "/dev/lab$n"}', head)[1].arguments != {}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lab_core.ko", "'lab_core.ko'; did you mean 'lab_core'?"),
        ("core.c", "'core.c'; did you mean 'lab_core'?"),
        (
            "$module",
            "'$module': the values of `with` are for steps and parameters; a scenario for each module",
        ),
        ("a b.ko", "'a b.ko'"),
    ],
)
def test_what_no_module_is_called(root: Path, name: str, told: str) -> None:
    text = f"channel: x\nmodules: ['{name}']\nscenarios:\n  - {{name: n, steps: [open: /x]}}\n"
    assert file_mistakes(root, text) == [f"scenarios/x.yaml:2: no module can be called {told}"]


def test_a_name_of_with_that_nothing_uses(root: Path) -> None:
    text = """\
        channel: x
        before:
          - {open: $path, flags: O_RDWR, as: f}
        scenarios:
          - name: n
            with: {size: [1, 2], word: [{repeat: $unit, size: 3}], unit: [a, b], path: [/x, /y]}
            steps:
              - {write: $f, data: $word}
        """
    assert file_mistakes(root, text) == ["scenarios/x.yaml:6: nothing uses $size: take it out of `with`"]


def test_a_parameter_that_the_module_does_not_have(root: Path) -> None:
    modules = "[{lab_core: {dept: 1, dyndbg: +p}}, {lab_chardev: {depth: 4}}, {evdev: {any: 1}}]"
    text = f"channel: x\nmodules: {modules}\nscenarios:\n  - {{name: n, steps: [open: /x]}}\n"
    said = "scenarios/x.yaml:2: lab_core has no parameter 'dept'; did you mean 'depth'?"
    assert file_mistakes(root, text) == [said]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("Warning", None),
        ("{kind: warning, matches: x}", None),
        ("Warnin", "no splat is of kind 'Warnin'; did you mean 'WARNING'?"),
        ("{kind: hard lockp}", "no splat is of kind 'hard lockp'; did you mean 'hard lockup'?"),
        ("{matches: x}", "expect_splat wants a kind: BUG, "),
    ],
)
def test_the_kind_of_a_splat_is_one_that_the_lab_knows(root: Path, wanted: str, told: str | None) -> None:
    text = f"channel: x\nscenarios:\n  - {{name: n, expect_splat: {wanted}, steps: [open: /x]}}\n"
    if told is None:
        assert read(root, text).scenarios[0].expect_splat is not None
    else:
        assert [told in each for each in file_mistakes(root, text)] == [True]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("{by: main, in_turn: [{getpid: process}]}", "is made by who makes the steps in it: say `by` there"),
        ("{by: main, together: [{getpid: process}]}", "is made by who makes the steps in it: say `by` there"),
        ("{vdso: clock_gettime, times: 3}", "is made once: it has no 'times'"),
        ("{[a]: 1, getpid: process}", "a key is a word, not a list"),
    ],
)
def test_what_a_step_cannot_say(root: Path, step: str, told: str) -> None:
    assert any(told in each for each in mistakes(root, f"- {step}"))


def test_architectures_that_exclude_each_other(root: Path) -> None:
    text = (
        "channel: x\nrequires: {arch: [arm64]}\nscenarios:\n"
        "  - {name: n, requires: {arch: [x86_64, i386]}, steps: [open: /x]}\n"
    )
    said = "scenarios/x.yaml:4: no architecture is both: arm64 in the head, x86_64 or i386 here"
    assert file_mistakes(root, text) == [said]


def test_the_first_example(root: Path) -> None:
    file = read(root, EXAMPLE_IOCTL)
    assert (file.channel, file.about) == ("ioctl", "A call of the module's own making, on an open file.")
    assert [module.name for module in file.modules] == ["lab_core", "lab_ioctl"]
    first, second = file.scenarios
    assert first.id == "a struct goes in and its answer comes out"
    assert (first.line, first.file) == (6, Path("scenarios/x.yaml"))
    assert [(step.verb, step.line, step.by) for step in first.steps] == [
        ("open", 8, "main"),
        ("ioctl", 11, "main"),
    ]
    assert first.needs.constants >= {"O_RDWR", "LAB_IOC_SQUARE"}
    assert first.needs.structs == {"lab_square"}
    errno = second.steps[1].expect.fields["errno"]
    assert isinstance(errno, Equal)
    assert errno.written == "ENOTTY"


def test_the_second_example(root: Path) -> None:
    file = read(root, EXAMPLE_CHARDEV)
    assert file.modules[1] == scenario.ModuleLoad("lab_chardev", (("depth", "4"),))
    assert file.modules[1].text == "depth=4"
    ids = [each.id for each in file.scenarios]
    name = "every size around a page survives the round trip"
    sizes = ["0", "1", "PAGE_SIZE-1", "PAGE_SIZE", "PAGE_SIZE+1"]
    assert ids == ["a reader sleeps until somebody writes", *(f"{name} (size={size})" for size in sizes)]
    reader = file.scenarios[0]
    assert [actor.name for actor in reader.actors] == ["reader", "writer"]
    read_step, finish = reader.steps[1], reader.steps[5]
    assert (read_step.background, read_step.bind, read_step.by) == (True, "pending", "reader")
    assert finish.within == 2.0
    assert set(finish.expect.fields) == {"returns", "data"}


def test_the_mistake_of_the_specification(root: Path) -> None:
    text = EXAMPLE_IOCTL.replace("{returns: 0, out: {square: 144}}", "{erno: EINVAL}")
    assert file_mistakes(root, text) == [
        "scenarios/x.yaml:14: unknown key 'erno' in expect of step 'ioctl'; did you mean 'errno'?"
    ]


def test_scalars_are_what_the_author_wrote(root: Path) -> None:
    for word in ("5.10", "no", "NULL", "0102", "12:30", "~", "true", "2026-01-01", ".inf"):
        (_, write) = steps(root, f"- {{open: /x, as: f}}\n- {{write: $f, data: {word}}}")
        value: Any = write.arguments["data"]
        assert value.value.text == word


def test_all_mistakes_at_once(root: Path) -> None:
    found = mistakes(
        root,
        """
        - {opne: /dev/x, flags: O_RDWR, as: dev}
        - {read: $dev, sise: 4}
        - {open: /dev/x, flags: O_RDWRR, as: f}
        - {write: $f, data: {hxe: "01"}, expect: {returns: five}}
        - {ioctl: $f, request: LAB_IOC_SQUAR, arg: {struct: lab_squar, n: 1}}
        - {ioctl: $f, request: 1, arg: {struct: lab_square, m: 1}, expect: {out: {sqare: 1}}}
        - {read: $g, size: 1, within: 2}
        - {read: $f.dta, size: 1, size: 2}
        - nonsense
        """,
    )
    assert found == [
        "6: unknown verb 'opne'; did you mean 'open'?",
        "7: unknown key 'sise' in step 'read'; did you mean 'size'?",
        "8: unknown constant 'O_RDWRR' in 'flags' of step 'open'; did you mean 'O_RDWR'?",
        (
            "9: 'data' of step 'write' is memory: {buffer: …}, {bad: …}, {struct: …}, data forms, $map, "
            "NULL, not {hxe: \"01\"}; did you mean 'hex'?"
        ),
        "9: unknown word 'five' in 'returns' in expect of step 'write'",
        "10: unknown constant 'LAB_IOC_SQUAR' in 'request' of step 'ioctl'; did you mean 'LAB_IOC_SQUARE'?",
        "10: unknown struct 'lab_squar' in 'arg' of step 'ioctl'; did you mean 'lab_square'?",
        "11: struct lab_square has no field 'm'",
        "11: unknown field 'sqare' in 'out' in expect of step 'ioctl'; did you mean 'square'?",
        "12: 'within' of step 'read' is a time with its unit (2s, 200ms), not '2'",
        "12: unknown name $g: no earlier step has `as: g`",
        "13: $f.dta: step 'open' gives no 'dta'",
        "13: key 'size' is given twice in a step",
        "14: a step is a mapping with one verb, not nonsense",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("- {read: $f}\n- {open: /x, as: f}", "6: $f is used before the step that binds it (line 7)"),
        ("- {open: /x, as: f}\n- {open: /y, as: f}", "7: 'f' is bound by step 'open' in line 6 already"),
        ("- {open: /x, read: 3}", "6: a step has one verb, this has 'open' and 'read'"),
        ("- {by: writer, open: /x}", "6: unknown actor 'writer': there is main, `actors` names more"),
        (
            "- {open: /x, flags: LAB_OTHER}",
            "6: unknown constant 'LAB_OTHER' in 'flags' of step 'open': other.h has it: name it under uapi",
        ),
        (
            "- {ioctl: 3, request: 1, arg: {struct: other}}",
            "6: unknown struct 'other' in 'arg' of step 'ioctl': other.h has it",
        ),
        ("- {as: x, by: main}", "6: this step has no verb"),
        ("- {open: /x, within: soon}", "6: 'within' of step 'open' is a time"),
        ("- {open: /x, times: many}", "6: unknown word 'many' in 'times' of step 'open'"),
        ("- {open: /x, as: f}\n- {mmap: $f, length: 1}", "7: step 'mmap' wants 'prot' (flags)"),
        ("- {open: [a]}", "6: the path of step 'open' is a text, not [a]"),
        (
            "- {open: /x, as: f}\n- {finish: $f}",
            "7: $f is no call that still runs: it was bound by step 'open'",
        ),
        ("- {mmap: , length: 1, prot: 0, flags: 0, as: m}\n- {read: $m}", "7: $m gives no file descriptor"),
        (
            "- {open: /x, background: true, expect: {returns: 3}, as: p}",
            "6: a step in the background has no result",
        ),
        ("- {open: /x, background: true}", "6: a step in the background wants `as`"),
        ("- {open: /x, background: true, as: p}\n- {read: $p}", "7: $p is a call that still runs (bound by"),
        (
            "- {open: /x, background: true, as: p}\n- {finish: $p}\n- {finish: $p}",
            "8: $p was finished already, in line 7",
        ),
        ("- {open: /x, expect: {dmesg: {matches: '('}}}", "6: '(' is no regular expression"),
        (
            "- {open: /x, expect: {returns: {min: 1, mx: 2}}}",
            "6: 'returns' in expect of step 'open' is a number",
        ),
        ("- {open: &a /x}\n- {open: *a}", "6: anchors and aliases"),
        ("- {open: !!str /x}\n- {open: !x y}", "7: tags (!x) are not part of the language"),
        (
            "- {syscall: getrandm, args: [0]}",
            "6: unknown system call 'getrandm' in the name of step 'syscall'; did you mean",
        ),
        ("- together:\n    - {open: /x}", "7: `together` wants two steps or more"),
        (
            "- together:\n    - {open: /x}\n    - {open: /y}",
            "actor 'main' has a step of this `together` already",
        ),
        (
            "- {instruction: rdtcs}",
            "6: the name of step 'instruction': no instruction 'rdtcs'; did you mean 'rdtsc'",
        ),
        ("- {vdso: clock_gettme}", "no function of a vDSO 'clock_gettme'; did you mean 'clock_gettime'"),
        (
            "- {keep: {buffer: x}, as: m}\n- {read: $m}",
            "7: $m gives no file descriptor: it was bound by step 'keep' in line 6",
        ),
        ("- {in_turn: []}", "6: `in_turn` wants a step or more"),
        ("- in_turn:\n    - {close: 3, times: 2}", "7: a step of `in_turn` has no 'times' of its own"),
        ("- in_turn:\n    - {close: 3, within: 2s}", "7: a step of `in_turn` has no 'within' of its own"),
        (
            "- in_turn:\n    - {close: 3, background: true, as: p}",
            "7: a step of `in_turn` has no 'background' of its own",
        ),
        ("- in_turn:\n    - {fork: child}", "7: step 'fork' cannot be part of `in_turn`"),
        (
            "- in_turn:\n    - {load: NULL, size: 1, expect: {signal: SIGSEGV}}",
            "7: a step of `in_turn` can expect neither messages nor a signal",
        ),
        (
            "- in_turn:\n    - {open: /x, as: f}\n    - {close: $f}",
            "8: unknown name $f: no earlier step has `as: f`",
        ),
        ("- {blocked: $x, for: 3s}", "6: unknown key 'for' in step 'blocked'"),
        (
            "- {read: 3, buffer: {bad: unmaped}}",
            "6: bad memory is one of unmapped, readonly, partial, not 'unmaped'",
        ),
        ("- {read: 3, size: 4Kib}", "6: 'size' of step 'read' is a size in bytes, '4Kib' is none"),
        ("- {load: $nothing, size: 4}", "6: unknown name $nothing"),
        ("- {sigaction: SIGUSR1, how: recrod}", "one of record, ignore, default, not 'recrod'; did you mean"),
    ],
)
def test_one_mistake(root: Path, text: str, wanted: str) -> None:
    found = mistakes(root, text)
    assert any(wanted in each for each in found), found


def test_descriptors_belong_to_actors(root: Path) -> None:
    head = "    actors: [reader, writer]\n"
    text = "- {by: reader, open: /x, as: f}\n- {by: writer, read: $f}"
    (found,) = mistakes(root, text, head)
    assert "$f is a file descriptor of actor reader, this step is by 'writer'" in found
    assert "pass: $f, to: writer" in found
    handed = steps(
        root,
        """
        - {by: reader, open: /x, as: f}
        - {pass: $f, to: writer, as: g}
        - {by: writer, read: $g}
        """,
        head,
    )
    assert (handed[1].verb, handed[1].by) == ("send_fd", "reader")


def test_a_fork_and_a_thread_have_the_descriptors(root: Path) -> None:
    assert steps(root, "- {open: /x, as: f}\n- {fork: child}\n- {by: child, read: $f}")[2].by == "child"
    head = "    actors: {main: , other: {thread_of: main}}\n"
    assert steps(root, "- {by: main, open: /x, as: f}\n- {by: other, read: $f}", head)[1].by == "other"


def test_comparing_needs_no_ownership(root: Path) -> None:
    head = "    actors: [main, other]\n"
    text = """
        - {by: other, open: /x, as: f}
        - {by: other, select: [$f], timeout: -1, background: true, as: p}
        - {finish: $p, expect: {readable: [$f]}}
        """
    assert len(steps(root, text, head)) == 3


def test_who_makes_a_step(root: Path) -> None:
    assert steps(root, "- {open: /x}")[0].by == "main"
    assert steps(root, "- {open: /x}", "    actors: {user: {uid: 1000}}\n")[0].by == "user"
    assert steps(root, "- {open: /x}", "    actors: [main, other]\n")[0].by == "main"
    (found,) = mistakes(root, "- {open: /x}", "    actors: [one, two]\n")
    assert found.startswith("7: who makes this step? Say `by` (one, two)")
    found_both = mistakes(root, "- {open: /x}\n- {by: user, open: /x}", "    actors: [user]\n")
    assert "who makes this step" in found_both[0]


def test_with_is_a_product_and_typed_where_it_stands(root: Path) -> None:
    file = read(
        root,
        """\
        channel: x
        scenarios:
          - name: n
            with: {where: [NULL, {bad: unmapped}], size: [0, 4KiB]}
            steps:
              - {open: /x, as: f}
              - {read: $f, buffer: $where, size: $size+1}
        """,
    )
    assert [each.id for each in file.scenarios] == [
        "n (where=NULL, size=0)",
        "n (where=NULL, size=4KiB)",
        "n (where={bad: unmapped}, size=0)",
        "n (where={bad: unmapped}, size=4KiB)",
    ]
    assert file.scenarios[1].parameters == (("where", "NULL"), ("size", "4KiB"))


def test_a_mistake_in_with_is_told_once_where_it_stands(root: Path) -> None:
    head = "    with: {flags: [O_RDWR, O_RDWT], n: [1, 2, 3]}\n"
    assert mistakes(root, "- {open: /x, flags: $flags, mode: $n}", head) == [
        "5: unknown constant 'O_RDWT' in 'flags' of step 'open'; did you mean 'O_RDWR'?"
    ]


def test_expectations_of_every_shape(root: Path) -> None:
    (_, step) = steps(
        root,
        """
        - {open: /x, as: f}
        - read: $f
          expect: {returns: {min: 1, max: PAGE_SIZE}, data: {matches: "^he"}, number: 5}
        """,
    )
    kinds = {name: type(wish) for name, wish in step.expect.fields.items()}
    assert kinds == {"returns": Between, "data": Matches, "number": Equal}


def test_a_module_is_not_loaded_as_memory_is(root: Path) -> None:
    text = "- {load_module: lab_core, params: {depth: 2}}\n- {load: NULL, size: 4, expect: {signal: SIGSEGV}}"
    module, memory = steps(root, text)
    assert module.arguments["module"] == Fixed("lab_core")
    assert memory.arguments["address"] != Fixed("NULL")
    with pytest.raises(ScenarioError, match="an address; a module is loaded by `load_module: lab_core`"):
        steps(root, "- {load: lab_core, size: 4}")
    with pytest.raises(ScenarioError, match="step 'load' wants 'size'"):
        steps(root, "- {load: NULL}")


def test_what_a_scenario_loads(root: Path) -> None:
    file = read(
        root,
        """\
        channel: x
        modules: [lab_core]
        actors: [main, b]
        scenarios:
          - name: n
            steps:
              - {load_module: lab_ioctl}
              - together:
                  - {by: main, load_module: lab_chardev}
                  - {by: b, load: NULL, size: 1, expect: {signal: SIGSEGV}}
        """,
    )
    assert file.scenarios[0].loads == ("lab_core", "lab_ioctl", "lab_chardev")


def test_a_device_is_known_before_anything_is_booted(root: Path) -> None:
    text = """\
        channel: x
        scenarios:
          - name: n
            boot: {devices: [edo]}
            steps: [{open: /x}]
        """
    assert file_mistakes(root, text) == ["scenarios/x.yaml:4: unknown device 'edo'; did you mean 'edu'?"]


def test_the_head(root: Path) -> None:
    file = read(
        root,
        """\
        channel: x
        not_applicable: {blocking: it never waits}
        requires: {config: CONFIG_A}
        boot: {cmdline: [quiet, a=b], devices: [edu]}
        within: 500ms
        scenarios:
          - name: n
            requires: {config: [CONFIG_B=y], arch: x86_64, kernel: ">=6.1, <6.12"}
            actors: {w: {uid: 1000, gid: 100, caps: [CAP_NET_ADMIN], sigmask: [SIGUSR1], word: 64}}
            expect_splat: {kind: WARNING, matches: "lab: .*"}
            expect_verdict: hung
            steps: [{open: /x}]
        """,
    )
    (one,) = file.scenarios
    assert file.not_applicable == (("blocking", "it never waits"),)
    assert one.requires.config == ("CONFIG_A", "CONFIG_B=y")
    assert (one.requires.arch, one.requires.kernel) == (("x86_64",), (">=6.1", "<6.12"))
    assert one.boot == scenario.BootOptions(("quiet", "a=b"), ("edu",))
    assert (one.within, one.expect_verdict) == (0.5, "hung")
    assert str(one.expect_splat) == "WARNING that matches 'lab: .*'"
    assert one.actors[0].caps is not None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "1: the file is empty"),
        ("channel: [", "this is not YAML"),
        ("- a", "a scenario file is a mapping"),
        ("channel: x", "a scenario file wants 'scenarios'"),
        (
            "channel: x\nmoduls: []\nscenarios: []",
            "unknown key 'moduls' in a scenario file; did you mean 'modules'?",
        ),
        (
            "channel: x\nmodules: [lab_cor]\nscenarios: []",
            "2: unknown module 'lab_cor'; did you mean 'lab_core'?",
        ),
        (
            "channel: x\nuapi: [lab_ioct.h]\nscenarios: []",
            "2: no header 'lab_ioct.h' in kmod/uapi/, kmod/; did you mean",
        ),
        ("channel: x\nscenarios:\n- steps: []", "3: a scenario wants a name"),
        ("channel: x\nscenarios:\n- name: n", "3: scenario 'n' has no steps"),
        (
            "channel: x\nscenarios:\n- {name: n, steps: []}\n- {name: n, steps: []}",
            "4: a scenario of this name",
        ),
        (
            "channel: x\nscenarios:\n- {name: n, steps: [], expect_verdict: dead}",
            "'lost' or 'hung', not 'dead'",
        ),
        ("channel: x\nscenarios:\n- {name: n, steps: [], with: {a: []}}", "'a' of with has no values"),
        (
            "channel: x\nrequires: {kernel: new}\nscenarios: []",
            "2: 'new' is no condition on a kernel's version",
        ),
        ("channel: x\nrequires: {config: FOO}\nscenarios: []", "2: 'FOO' is no config option"),
        (
            "channel: x\nscenarios:\n- {name: n, steps: [], actors: {a: {uids: 1}}}",
            "unknown key 'uids' in actor 'a'",
        ),
        ("channel: x\nscenarios:\n- {name: n, steps: [], actors: [a, a]}", "actor 'a' is given twice"),
        ("a: \x01", "this is not YAML"),
    ],
)
def test_mistakes_of_the_head(root: Path, text: str, wanted: str) -> None:
    found = file_mistakes(root, text)
    assert any(wanted in each for each in found), found


def test_check_tells_of_all_files(root: Path) -> None:
    (root / "scenarios" / "a.yaml").write_text("channel: x")
    (root / "scenarios" / "b.yaml").write_text("chanel: x\nscenarios: []")
    found = reader.check([root / "scenarios"], root=root, verbs=table(), trees=Trees.of(root / "kmod"))
    assert {str(mistake.file) for mistake in found} == {"scenarios/a.yaml", "scenarios/b.yaml"}
    assert len(found) == 3


def test_requirements() -> None:
    wants = scenario.Requires(config=("CONFIG_A", "CONFIG_B=y"), arch=("x86_64",), kernel=(">=6.1", "<6.12"))
    config = {"CONFIG_A": "m", "CONFIG_B": "y"}
    assert wants.unmet(config=config, arch="x86_64", version="6.1.170") is None
    assert (
        wants.unmet(config=config, arch="arm64", version="6.1") == "needs architecture x86_64, this is arm64"
    )
    assert wants.unmet(config=config, arch="x86_64", version="5.10.1") == "needs kernel >=6.1, this is 5.10.1"
    assert wants.unmet(config=config, arch="x86_64", version="6.12.1") == "needs kernel <6.12, this is 6.12.1"
    told = wants.unmet(config={"CONFIG_A": "y", "CONFIG_B": "m"}, arch="x86_64", version="6.1")
    assert told == "needs CONFIG_B=y, CONFIG_B is m in this kernel's config"
    told = wants.unmet(config={"CONFIG_B": "y"}, arch="x86_64", version="6.1")
    assert told == "needs CONFIG_A, CONFIG_A is not set in this kernel's config"


def test_the_house_s_own_scenarios_have_no_mistakes() -> None:
    house = Path(__file__).resolve().parent.parent
    assert (
        reader.check([house / "scenarios"], root=house, verbs=table(), trees=Trees.of(house / "kmod")) == []
    )


def test_a_parameter_with_a_quote_in_it_is_no_parameter(root: Path) -> None:
    text = "channel: x\nmodules: [{lab_core: {depth: '1\"'}}]\nscenarios:\n  - {name: n, steps: [open: /x]}\n"
    said = "scenarios/x.yaml:2: parameter 'depth': no kernel takes a value with a quote in it"
    assert file_mistakes(root, text) == [said]


@pytest.mark.parametrize(
    ("value", "text"),
    [("4", "x=4"), ("a b", 'x="a b"'), ("a\tb", 'x="a\tb"'), ("a\n", 'x="a\n"'), ("", "x=")],
)
def test_parameters_are_as_the_kernel_takes_them(value: str, text: str) -> None:
    assert scenario.ModuleLoad("lab_x", (("x", value),)).text == text


def test_letters_of_what_may_taint_the_kernel(root: Path) -> None:
    file = read(root, "channel: x\ntaint: [C, F]\nscenarios: [{name: a, steps: [open: /dev/null]}]\n")
    assert file.scenarios[0].meant.taint_bits == 1 << 10 | 1 << 1
    with pytest.raises(ScenarioError, match="one of the letters PFSRMBUDAWCIOELKXTNJ, not 'staging'"):
        read(root, "channel: x\nscenarios: [{name: a, taint: [staging], steps: [open: /dev/null]}]\n")


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("6.9", True),
        ("6.12.1", True),
        ("6.8.5", False),
        ("6.6.25", False),
        ("6.6.26", True),
        ("6.6.100", True),
        ("6.6", False),
        ("6.1.200", True),
        ("5.10.1", False),
    ],
)
def test_a_change_that_stable_lines_got_too(version: str, fixed: bool) -> None:
    since, before = (scenario.Requires(kernel=(f"{sign}6.9|6.6.26|6.1.85",)) for sign in (">=", "<"))
    assert (since.unmet(config={}, arch="x86_64", version=version) is None) == fixed
    assert (before.unmet(config={}, arch="x86_64", version=version) is None) != fixed


@pytest.mark.parametrize(
    ("condition", "wrong"),
    [
        ("==6.9|6.6.26", "which only '>=' and '<' may have"),
        (">=6.9|6.6.26|6.6.30", "two releases of one stable line"),
        (">=6.9|6.6", "is no condition"),
    ],
)
def test_stable_releases_where_they_mean_nothing(root: Path, condition: str, wrong: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(wrong)):
        read(root, f'channel: x\nrequires: {{kernel: "{condition}"}}\nscenarios: []')
