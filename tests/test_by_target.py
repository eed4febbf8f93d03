# SPDX-License-Identifier: MIT
"""What is wanted differs by target: one value under each condition, exactly one of which fits."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.abi import Abi
from lab.arch import ARCHITECTURES, X86_64
from lab.errors import ScenarioError, UsageError
from lab.kernels.tree import Trees
from lab.language import reader
from lab.language.context import Context
from lab.language.outcome import Outcome
from lab.language.requires import Machine, Requires
from lab.language.wishes import Equal
from lab.verbs import table

if TYPE_CHECKING:
    from pathlib import Path

    from lab.scenario import Scenario

CONSTANTS = {"EINVAL": 22, "EXDEV": 18, "ERANGE": 34, "O_RDWR": 2}
OLD, NEW = Machine("x86_64", "5.10.262"), Machine("x86_64", "6.12.107")


def read(path: Path, expect: str, requires: str = "", step: str = "read: $f, size: 4") -> Scenario:
    head = f"    requires: {requires}\n" if requires else ""
    steps = f"- {{open: /x, flags: O_RDWR, as: f}}\n- {{{step}, expect: {expect}}}"
    path.write_text(
        f"channel: x\nscenarios:\n  - name: n\n{head}    steps:\n{textwrap.indent(steps, '      ')}\n"
    )
    return reader.load(path, root=path.parent, verbs=table(), trees=Trees.of(path.parent)).scenarios[0]


def told(path: Path, expect: str, requires: str = "") -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        read(path, expect, requires)
    return [mistake.message for mistake in caught.value.mistakes]


def differs(scenario: Scenario, machine: Machine | None, **got: object) -> list[str]:
    """Return what is not as wanted of a step's outcome on a machine."""
    step = scenario.steps[-1]
    context = Context(Abi(X86_64, CONSTANTS, {}, {}, {}), machine=machine)
    outcome = table()[step.verb].outcome(**got)
    assert isinstance(outcome, Outcome)
    found = step.expect.on(machine).check(outcome, context)
    return [f"{each.wanted} / {each.got}" for each in found]


def test_an_error_differs_by_the_kernel(tmp_path: Path) -> None:
    made = read(tmp_path / "x.yaml", '{errno: {">=6.12": EXDEV, else: EINVAL}}')
    assert differs(made, NEW, errno=18) == []
    assert differs(made, OLD, errno=22) == []
    assert differs(made, NEW, errno=22) == [
        "EXDEV (18: Invalid cross-device link) / EINVAL (22: Invalid argument)"
    ]
    assert differs(made, OLD, errno=18) == [
        "EINVAL (22: Invalid argument) / EXDEV (18: Invalid cross-device link)"
    ]
    assert differs(made, OLD, returns=4) == ["EINVAL (22: Invalid argument) / no error, it returned 4"]


def test_all_of_it_differs(tmp_path: Path) -> None:
    made = read(tmp_path / "x.yaml", '{"<6.0": {errno: EINVAL}, ">=6.0": {returns: 4, data: abcd}}')
    assert differs(made, NEW, returns=4, data=b"abcd") == []
    assert differs(made, OLD, errno=22) == []
    assert differs(made, OLD, returns=4, data=b"abcd") == [
        "EINVAL (22: Invalid argument) / no error, it returned 4"
    ]
    assert differs(made, NEW, errno=22) == ["returns 4 / EINVAL (22: Invalid argument)"]


def test_a_part_differs(tmp_path: Path) -> None:
    expect = '{returns: {x86_64: {min: 2, max: 4}, "i386, arm64": 8, else: 1}, data: {matches: a}}'
    made = read(tmp_path / "x.yaml", expect)
    for arch, returns in (("x86_64", 3), ("i386", 8), ("arm64", 8), ("s390x", 1)):
        assert differs(made, Machine(arch, "6.1"), returns=returns, data=b"a") == []
        assert differs(made, Machine(arch, "6.1"), returns=5, data=b"a") != []


def test_messages_and_structs_differ(tmp_path: Path) -> None:
    made = read(
        tmp_path / "x.yaml",
        '{messages: [{error: {">=6.1": EINVAL, else: ERANGE}, genl: {">=6.1": {cmd: 1}, else: {cmd: 2}}}]}',
        step="netlink_receive: $f",
    )
    (wish,) = made.steps[-1].expect.fields.values()
    context = Context(Abi(X86_64, CONSTANTS, {}, {}, {}), machine=OLD)
    found = wish.check([{"error": 22, "genl": {"cmd": 1}}], "messages", context)
    assert [each.path for each in found] == ["messages[0].error", "messages[0].genl.cmd"]
    made = read(tmp_path / "x.yaml", '{dmesg: {">=6.1": [one, two], else: other}}')
    assert made.steps[-1].expect.on(OLD).dmesg != made.steps[-1].expect.on(NEW).dmesg


def test_the_names_of_other_targets_are_not_asked_of_one(tmp_path: Path) -> None:
    expect = '{errno: {">=6.1": EXDEV, "<6.1": {min: {"x86_64": 1}}}}'.replace(
        '{min: {"x86_64": 1}}', "EINVAL"
    )
    made = read(tmp_path / "x.yaml", expect)
    abi = Abi(X86_64, {"EINVAL": 22, "O_RDWR": 2}, {}, {}, {})
    assert made.missing(abi, machine=OLD) == []
    assert made.missing(abi, machine=NEW) == ["constant EXDEV"]


def test_which_kernel_it_is_must_be_known(tmp_path: Path) -> None:
    made = read(tmp_path / "x.yaml", '{errno: {">=6.12": EXDEV, else: EINVAL}}')
    with pytest.raises(UsageError, match="EXDEV, else: EINVAL} is wanted is the kernel's to say"):
        differs(made, None, errno=18)


@pytest.mark.parametrize(
    ("expect", "requires", "message"),
    [
        (
            '{errno: {">=6.1": EXDEV, "<6.12": EINVAL}}',
            "",
            "@: both '>=6.1' and '<6.12' fit kernel 6.1 on x86_64, only one may",
        ),
        (
            '{errno: {">6.1": EXDEV, "<6.1": EINVAL}}',
            "",
            "@: nothing is for kernel 6.1 on x86_64: say it, or 'else'",
        ),
        (
            '{errno: {">=6.1": EXDEV}}',
            "",
            "@: nothing is for an old kernel on x86_64: say it, or 'else'",
        ),
        (
            "{errno: {x86_64: EXDEV}}",
            "{arch: [x86_64, arm64]}",
            "@: nothing is for an old kernel on arm64: say it, or 'else'",
        ),
        (
            '{errno: {">=6.1": EXDEV, "<5.10": ERANGE, else: EINVAL}}',
            '{kernel: ">=5.10"}',
            "@: '<5.10' fits nothing that the scenario can be run on",
        ),
        (
            '{errno: {">=6.1": EXDEV, "<6.1": ERANGE, else: EINVAL}}',
            "",
            "@: 'else' is never reached, the others fit everything",
        ),
        (
            "{errno: {else: EINVAL}}",
            "",
            "@: 'else' alone is no choice, write its value as it is",
        ),
        (
            '{errno: {">=6.1": EXDEV, esle: EINVAL}}',
            "",
            "'esle' in @ is no condition ('>=6.1', '<6.12', an architecture); did you mean 'else'?",
        ),
        (
            '{errno: {"x86_64, i368": EXDEV, else: EINVAL}}',
            "",
            "'i368' in @ is no condition ('>=6.1', '<6.12', an architecture); did you mean 'i386'?",
        ),
        (
            '{errno: {">=six": EXDEV, else: EINVAL}}',
            "",
            "'>=six' in @ is no condition ('>=6.1', '<6.12', an architecture)",
        ),
        (
            '{errno: {">=6.1": EXDEF, else: EINVAL}}',
            "",
            "unknown constant 'EXDEF' in @; did you mean 'EXDEV'?",
        ),
        (
            '{">=6.1": {erno: EXDEV}, else: {errno: EINVAL}}',
            "",
            "unknown key 'erno' in expect of step 'read'; did you mean 'errno'?",
        ),
        (
            '{">=6.1": {errno: EXDEV}, errno: EINVAL}',
            "",
            "@ is no condition ('>=6.1', '<6.12', an architecture)",
        ),
    ],
)
def test_mistakes(tmp_path: Path, expect: str, requires: str, message: str) -> None:
    message = message.replace("@", "'errno' in expect of step 'read'")
    assert message in told(tmp_path / "x.yaml", expect, requires)


def test_what_is_required_is_known(tmp_path: Path) -> None:
    read(
        tmp_path / "x.yaml", '{errno: {">=6.1": EXDEV, "<6.1": EINVAL}}', '{kernel: ">=5.10", arch: [x86_64]}'
    )
    read(tmp_path / "x.yaml", "{errno: {x86_64: EXDEV, arm64: EINVAL}}", "{arch: [x86_64, arm64]}")
    # A choice within a choice knows the outer one's condition.
    inner = '{">=6.1": {errno: {">=6.12": EXDEV, "<6.12": ERANGE}}, else: {errno: EINVAL}}'
    made = read(tmp_path / "x.yaml", inner)
    wanted = made.steps[-1].expect.on(Machine("arm64", "6.6")).fields["errno"]
    assert isinstance(wanted, Equal)
    assert wanted.written == "ERANGE"


CONDITIONS = st.builds(
    "{}{}.{}".format, st.sampled_from([">=", "<", ">", "<=", "=="]), st.integers(5, 7), st.integers(0, 2)
)
MACHINES = [
    Machine(arch, f"{major}.{minor}.{patch}")
    for arch in ARCHITECTURES
    for major in range(4, 9)
    for minor in range(4)
    for patch in range(2)
]


@given(
    keys=st.lists(CONDITIONS | st.sampled_from(sorted(ARCHITECTURES)), min_size=1, max_size=3, unique=True),
    rest=st.booleans(),
)
def test_a_mistake_is_told_just_where_not_exactly_one_fits(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], rest: bool
) -> None:
    conditions = [Requires(arch=(key,)) if key in ARCHITECTURES else Requires(kernel=(key,)) for key in keys]
    counts = {sum(condition.fits(machine) for condition in conditions) for machine in MACHINES}
    wrong = max(counts) > 1 or (0 in counts and not rest)
    values = [f'"{key}": {number}' for number, key in enumerate(keys)] + (["else: 99"] if rest else [])
    path = tmp_path_factory.mktemp("choice") / "x.yaml"
    try:
        made, found = read(path, f"{{returns: {{{', '.join(values)}}}}}"), []
    except ScenarioError as error:
        found = [mistake.message for mistake in error.mistakes]
    assert any("only one may" in each or "nothing is for" in each for each in found) == wrong
    assert any("never reached" in each for each in found) == (rest and 0 not in counts)
    if not found:
        for machine in MACHINES[::7]:
            fits = [number for number, condition in enumerate(conditions) if condition.fits(machine)]
            assert differs(made, machine, returns=fits[0] if fits else 99, data=b"") == []
