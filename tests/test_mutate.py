# SPDX-License-Identifier: MIT
"""What mutants a small C file has, what is remembered of them, and how they are counted."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from lab.errors import UsageError
from lab.house import SCENARIOS, TREE
from lab.mutate import exclusions, operators, run, score
from lab.mutate.journal import Journal, Outcome, Verdict
from lab.mutate.trial import same_code

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = b"""\
static const struct file_operations ops = {
	.owner = THIS_MODULE,
	.poll = lab_poll,
};

static ssize_t lab_put(struct file *file, const char __user *buf, size_t len)
{
	int ret = -EAGAIN;

	mutex_lock(&lock);
	if (count >= depth)
		goto out;
	if (!len || copy_from_user(message, buf, len)) {
		ret = -EFAULT;
		goto out;
	}
	count++;
	wake_up(&queue);
	ret = len;
out:
	mutex_unlock(&lock);
	if (ret < 0 && file->private_data)
		kfree(file->private_data);
	return ret;
}

static void __exit lab_exit(void)
{
	misc_deregister(&misc);
	cancel_work_sync(&work,
		true);
}
"""


def mutants(source: bytes = SOURCE) -> dict[str, bytes]:
    """Return by their names what comes in place of what is mutated."""
    return {each.id: each.by for each in operators.mutants(source)}


def test_every_kind_is_found() -> None:
    assert mutants() == {
        "ops: drop field: .owner = THIS_MODULE": b"",
        "ops: drop field: .poll = lab_poll": b"",
        "lab_put: errno: int ret = -EAGAIN;": b"ENODATA",
        "lab_put: drop lock: mutex_lock(&lock);": b";",
        "lab_put: negate: count >= depth": b"<",
        "lab_put: shift: count >= depth": b">",
        "lab_put: drop statement: goto out;": b";",
        "lab_put: negate: !len": b"len",
        "lab_put: negate: copy_from_user(message, buf, len)": b"!(copy_from_user(message, buf, len))",
        "lab_put: drop statement: ret = -EFAULT;": b";",
        "lab_put: errno: ret = -EFAULT;": b"EINVAL",
        "lab_put: drop statement: goto out; #2": b";",
        "lab_put: drop statement: count++;": b";",
        "lab_put: drop wake-up: wake_up(&queue);": b";",
        "lab_put: drop statement: ret = len;": b";",
        "lab_put: drop unlock: mutex_unlock(&lock);": b";",
        "lab_put: negate: ret < 0": b">=",
        "lab_put: shift: ret < 0": b"<=",
        "lab_put: negate: file->private_data": b"!(file->private_data)",
        "lab_put: drop put: kfree(file->private_data);": b";",
        "lab_exit: drop unregister: misc_deregister(&misc);": b";",
        "lab_exit: drop unregister: cancel_work_sync(&work, true);": b";\n",
    }


def test_a_mutant_changes_its_place_and_no_line_number() -> None:
    for mutant in operators.mutants(SOURCE):
        changed = mutant.apply(SOURCE)
        assert changed != SOURCE
        assert changed.count(b"\n") == SOURCE.count(b"\n")
        lines = zip(SOURCE.splitlines(), changed.splitlines(), strict=True)
        differ = [number for number, (one, other) in enumerate(lines, 1) if one != other]
        assert differ[0] == mutant.line
        assert differ == list(range(differ[0], differ[0] + len(differ)))


def test_a_mutant_is_a_patch_for_the_faults() -> None:
    by_id = {each.id: each for each in operators.mutants(SOURCE)}
    patch = by_id["lab_put: drop wake-up: wake_up(&queue);"].patch("x.c", SOURCE)
    assert patch.startswith("--- a/x.c\n+++ b/x.c\n@@ -15,7 +15,7 @@\n")
    assert "-\twake_up(&queue);\n+\t;\n" in patch


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("spin_unlock_irq(&lock);", ["drop unlock"]),
        ("up_read(&sem);", ["drop unlock"]),
        ("spin_lock_bh(&lock);", ["drop lock"]),
        ("spin_lock_init(&lock);", ["drop statement"]),
        ("complete(&done);", ["drop wake-up"]),
        ("kill_fasync(&readers, SIGIO, POLL_IN);", ["drop wake-up"]),
        ("fput(file);", ["drop put"]),
        ("kobject_put(&kobj);", ["drop put"]),
        ("list_del(&x->link);", ["drop unregister"]),
        ("device_destroy(class, dev);", ["drop unregister"]),
        ("lab_store_notify_unregister(&nb);", ["drop unregister"]),
        ("x = y;", ["drop statement"]),
        ("while (1) { break; }", ["drop statement"]),
        ("list_for_each_entry(x, &all, link) { x->n = 0; }", ["drop statement"]),  # its body's alone
        ("while (more) cpu_relax();", ["negate", "drop statement"]),
        ("x = a == b ? -ENOTTY : 0;", ["drop statement", "negate", "errno"]),
        ("return -1;", []),  # the last one, and no errno
    ],
)
def test_statements_have_mutants_by_what_they_do(statement: str, kinds: list[str]) -> None:
    found = operators.mutants(f"static int f(void)\n{{\n\t{statement}\n}}\n".encode())
    assert [each.kind for each in found] == kinds


def test_names_of_mutants_are_unique_in_all_modules() -> None:
    paths = sorted(TREE.path.glob("*.c"))
    for path in paths:
        names = [each.id for each in operators.mutants(path.read_bytes())]
        assert len(names) == len(set(names)) > 20, path.name
    assert len(paths) > 20


def test_without_the_parser_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tree_sitter", None)
    with pytest.raises(UsageError, match=r"not installed.*\n.*pip install"):
        operators.mutants(SOURCE)


def journal(tmp_path: Path, inputs: str = "as it is") -> Journal:
    return Journal(tmp_path / "records" / "mutants-x.jsonl", inputs)


def test_the_journal_knows_what_was_tried_with_the_same_inputs(tmp_path: Path) -> None:
    one, other, *_ = operators.mutants(SOURCE)
    caught = Outcome(one.id, Verdict.CAUGHT, "a scenario", "step failed: read failed: EIO")
    journal(tmp_path).write(one, caught)
    assert journal(tmp_path).known(one) == caught
    assert journal(tmp_path).known(other) is None
    assert journal(tmp_path).known(replace(one, by=b"something else")) is None


def test_after_a_change_only_the_hint_is_left(tmp_path: Path) -> None:
    one, *_ = operators.mutants(SOURCE)
    journal(tmp_path).write(one, Outcome(one.id, Verdict.CAUGHT, "a scenario", "seen"))
    changed = journal(tmp_path, "another scenario file")
    assert changed.known(one) is None
    assert changed.hint(one) == "a scenario"


def test_a_damaged_line_of_the_journal_is_tried_again(tmp_path: Path) -> None:
    one, *_ = operators.mutants(SOURCE)
    journal(tmp_path).write(one, Outcome(one.id, Verdict.SURVIVED))
    path = tmp_path / "records" / "mutants-x.jsonl"
    path.write_text('{"key": 1}\n' + path.read_text().replace("survived", "surrived") + "{half a li")
    assert journal(tmp_path).known(one) is None
    journal(tmp_path).write(one, Outcome(one.id, Verdict.SURVIVED))
    assert journal(tmp_path).known(one) == Outcome(one.id, Verdict.SURVIVED)


def test_the_journal_knows_which_scenarios_were_well(tmp_path: Path) -> None:
    assert journal(tmp_path).well() is None
    journal(tmp_path).write_well(["one", "other"])
    assert journal(tmp_path).well() == frozenset({"one", "other"})
    assert journal(tmp_path, "another module").well() is None


def test_a_sample_is_the_same_for_a_seed_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.c"
    path.write_bytes(SOURCE)
    wanted = run.Wanted([path], [], [], sample=5, seed=7)
    some, there, said = run.choose(path, wanted)
    assert (len(some), there) == (5, 22)
    assert said == "5 of 22 mutants: drawn with seed 7"
    assert some == run.choose(path, wanted)[0]
    assert some == sorted(some, key=lambda each: each.start)
    assert some != run.choose(path, replace(wanted, seed=8))[0]
    assert run.choose(path, replace(wanted, sample=None))[2] == ""


def test_only_what_is_named_is_tried(tmp_path: Path) -> None:
    path = tmp_path / "x.c"
    path.write_bytes(SOURCE)
    some, _, said = run.choose(path, run.Wanted([path], [], [], only=["lab_exit"]))
    assert len(some) == 2
    assert said == "2 of 22 mutants: those with 'lab_exit'"
    with pytest.raises(UsageError, match="none of the 22"):
        run.choose(path, run.Wanted([path], [], [], only=["nothing of it"]))


def test_what_is_no_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.c"
    path.write_bytes(SOURCE)
    with pytest.raises(UsageError, match="is no module of"):
        run.subject(path)


def test_a_module_is_shown_by_its_channel_unless_files_are_named() -> None:
    def files(path: Path, *others: Path) -> set[str]:
        return {each.file.stem for each in run.subject(path, others).scenarios}

    assert files(TREE.path / "core.c") == {"store"}
    assert files(TREE.path / "ioctl.c") == {"ioctl", "compat"}
    assert files(TREE.path / "poll.c") == {"poll"}
    assert files(TREE.path / "poll.c", SCENARIOS / "fasync.yaml") == {"fasync"}


def scored(**argued: str) -> score.Score:
    found = score.Score("kmod/x.c", "6.12-x86_64", 22, argued=argued)
    verdicts = [Verdict.CAUGHT, Verdict.SURVIVED, Verdict.SURVIVED, Verdict.IDENTICAL, Verdict.NO_BUILD]
    for mutant, verdict in zip(operators.mutants(SOURCE), verdicts, strict=False):
        found.add(mutant, Outcome(mutant.id, verdict))
    return found


def test_what_does_not_build_or_is_the_same_does_not_count() -> None:
    assert scored().counts() == (1, 3, 0)
    assert scored().lines()[0] == "kmod/x.c on 6.12-x86_64: 1 of 3 caught, 33 %"


def test_the_score_without_the_exclusions_stands_beside_the_raw_one() -> None:
    every = operators.mutants(SOURCE)
    found = scored(**{every[1].id: "no lock is missed here"})
    assert found.lines() == [
        (
            "kmod/x.c on 6.12-x86_64: 1 of 3 caught, 33 %; without 1 that a stock kernel cannot show "
            "(docs/mutants.md): 1 of 2, 50 %"
        ),
        f"SURVIVED kmod/x.c:{every[2].line}: {every[2].id}",
    ]


def test_an_exclusion_of_what_is_caught_is_told() -> None:
    caught, *_ = operators.mutants(SOURCE)
    found = scored(**{caught.id: "nobody can see it"})
    assert found.stale == [caught]
    assert found.counts() == (1, 3, 0)
    assert f"caught, though docs/mutants.yaml excludes it: {caught.id}" in found.lines()


def excluding(path: Path, entries: object) -> dict[str, tuple[exclusions.Exclusion, ...]]:
    file = path / "mutants.yaml"
    file.write_text(yaml.safe_dump({"x": entries}))
    return exclusions.read(file)


def test_an_exclusion_has_an_argument(tmp_path: Path) -> None:
    one, other, *_ = operators.mutants(SOURCE)
    read = excluding(tmp_path, [{"why": "it\n cannot", "mutants": [one.id, other.id]}])
    argued = exclusions.argued(read["x"], operators.mutants(SOURCE), "here")
    assert argued == {one.id: "it cannot", other.id: "it cannot"}
    for wrong in (
        [{"mutants": [one.id]}],
        [{"why": " ", "mutants": [one.id]}],
        [{"why": "x", "mutants": []}],
    ):
        with pytest.raises(UsageError, match="does not say which mutants"):
            excluding(tmp_path, wrong)


@pytest.mark.parametrize(("names", "words"), [(["lab_put: drop it"], "there is not"), ([0, 0], "twice")])
def test_an_exclusion_names_what_there_is_once(tmp_path: Path, names: list[object], words: str) -> None:
    every = operators.mutants(SOURCE)
    named = [every[name].id if isinstance(name, int) else name for name in names]
    read = excluding(tmp_path, [{"why": "it cannot", "mutants": named}])
    with pytest.raises(UsageError, match=words):
        exclusions.argued(read["x"], every, "here")


def test_the_exclusions_of_our_modules_are_mutants_that_there_are() -> None:
    found = exclusions.read(run.EXCLUSIONS)
    for name, excluded in found.items():
        every = operators.mutants((TREE.path / f"{name}.c").read_bytes())
        assert exclusions.argued(excluded, every, name)


def test_no_exclusions_are_no_mistake(tmp_path: Path) -> None:
    assert exclusions.read(tmp_path / "none.yaml") == {}


def test_the_same_image_is_the_same_code() -> None:
    assert same_code(b"not even ELF", b"not even ELF")
