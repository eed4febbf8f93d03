# SPDX-License-Identifier: MIT
"""Which scenarios' guests may let their CPUs take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.kernels.tree import Trees
from lab.language import reader
from lab.run import beside
from lab.verbs import table

if TYPE_CHECKING:
    from pathlib import Path

QUIET = b"\x7fELF\0mutex_lock\0_raw_spin_lock_irqsave\0misc_register\0kill_fasync\0"
BUSY = b"\x7fELF\0mutex_lock\0queue_work_on\0"
HEAD = """channel: ioctl
modules: [{modules}]
scenarios:
  - name: one
    {more}
    steps: {steps}
"""


def alone(tmp_path: Path, steps: str, more: str = "about: x", modules: str = "lab_quiet") -> bool:
    file = tmp_path / "scenarios" / "ioctl.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(HEAD.format(steps=steps, more=more, modules=modules))
    (found,) = reader.load(file, root=tmp_path, verbs=table(), trees=Trees.of(tmp_path / "kmod")).scenarios
    return beside.alone(found, {"lab_quiet": QUIET, "lab_busy": BUSY})


def test_one_actor_and_a_module_that_only_answers(tmp_path: Path) -> None:
    assert alone(tmp_path, "[open: /dev/null]")
    assert alone(tmp_path, "[open: /dev/null]", more="actors: {main: {uid: 5}}")
    assert alone(tmp_path, "[open: /dev/null]", more="actors: [reader]")


@pytest.mark.parametrize(
    ("steps", "more"),
    [
        ("[{open: /dev/null, by: other}, {open: /dev/null, by: one}]", "actors: [one, other]"),
        ("[open: /dev/null]", "actors: {main: {}, other: {}}"),
        ("[{open: /dev/null, background: true, as: p}]", "about: x"),
        ("[{open: /dev/null, times: 100}]", "about: x"),
        ("[fork: child]", "about: x"),
        ("[open: /dev/null]", "expect_verdict: hung"),
        ("[open: /dev/null]", "expect_splat: warning"),
    ],
)
def test_what_goes_on_beside_it(tmp_path: Path, steps: str, more: str) -> None:
    assert not alone(tmp_path, steps, more)


def test_a_module_with_a_life_of_its_own(tmp_path: Path) -> None:
    assert not alone(tmp_path, "[open: /dev/null]", modules="lab_quiet, lab_busy")
    assert not alone(tmp_path, "[load_module: lab_busy]")
    assert not alone(tmp_path, "[open: /dev/null]", modules="lab_unknown"), "nobody knows what it does"


@pytest.mark.parametrize(
    "name",
    [
        "kthread_create_on_node", "__alloc_workqueue", "alloc_workqueue_noprof", "queue_delayed_work_on",
        "mod_timer", "timer_init_key", "init_timer_key", "hrtimer_start_range_ns", "__tasklet_schedule",
        "irq_work_queue", "request_threaded_irq", "devm_request_threaded_irq", "call_rcu", "call_srcu",
        "smp_call_function_single", "call_usermodehelper_exec", "register_kprobe", "system_wq",
    ],
)  # fmt: skip
def test_symbols_that_defer(name: str) -> None:
    assert beside.defers(b"\0" + name.encode() + b"\0")


@pytest.mark.parametrize("name", ["_raw_spin_lock_irq", "__mutex_init", "add_wait_queue", "fasync_helper"])
def test_symbols_that_do_not(name: str) -> None:
    assert not beside.defers(b"\0" + name.encode() + b"\0")
