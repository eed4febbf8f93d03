# SPDX-License-Identifier: MIT
"""Whether anything of a scenario can go on at the same time as something else of it.

Where nothing can, its guest's CPUs need not run side by side on the host: QEMU lets them take turns, which
costs a fifth less. Both CPUs are there all the same, and all that the kernel does on them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from lab.language.steps import all_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.scenario import Scenario

# A module that refers to one of these can have code of its own run while its caller goes on, or be called by
# somebody that no step names. One too many here costs time, one too few hides races.
_DEFERS = (
    r"kthread_\w+|kernel_thread|user_mode_thread|(?:__?)?alloc_workqueue\w*|async_schedule\w*",
    r"(?:queue|mod)_(?:rcu_)?(?:delayed_)?work\w*|flush_\w*work\w*|system_\w*wq|schedule_on_each_cpu",
    r"(?:add|mod|init|reduce)_?timer\w*|timer_\w+|del_timer\w*|hrtimer_\w+|(?:__?)?tasklet_\w+",
    r"irq_work_\w+|(?:devm_)?request_(?:threaded|any_context|percpu)_?\w*irq\w*|open_softirq|raise_softirq\w*",
    r"call_s?rcu\w*|smp_call_function\w*|on_each_cpu\w*|stop_machine\w*|work_on_cpu\w*",
    r"call_usermodehelper\w*|register_k(?:ret)?probes?|register_ftrace_function|tracepoint_probe_register\w*",
    r"\w*register_\w*notifier\w*|nf_register_\w+|dev_add_pack|(?:__)?register_netdev\w*|netif_\w+|napi_\w+",
    r"uprobe_register\w*|perf_event_create_kernel_counter|register_shrinker|shrinker_register|complete_and_exit",
    r"__(?:devm_)?uio_register_device",  # requests the driver's interrupt
)
_DEFERRED = re.compile(b"\0(?:" + "|".join(_DEFERS).encode() + b")\0")
_MAKES_ACTORS = frozenset({"fork", "upcall"})


def alone(scenario: Scenario, images: Mapping[str, bytes]) -> bool:
    """Tell whether a scenario has one actor, and only modules that do nothing but what it asks them.

    `images` are the modules by name; one that is not there counts as one that does more. Trouble that is
    expected gets the guest that can have all of it.
    """
    if scenario.expect_splat is not None or scenario.expect_verdict is not None:
        return False
    actors = {actor.name for actor in scenario.actors}
    for step in all_steps(scenario.steps):
        actors.add(step.by)
        if step.background or step.times is not None or step.verb in _MAKES_ACTORS:
            return False
    if len(actors) > 1:
        return False
    return not any(name not in images or defers(images[name]) for name in scenario.loads)


@lru_cache(maxsize=64)  # asked twice a scenario, of images that stay the same for a run
def defers(image: bytes) -> bool:
    """Tell whether a module names anything that runs beside its caller, going by its symbols' names."""
    return _DEFERRED.search(image) is not None
