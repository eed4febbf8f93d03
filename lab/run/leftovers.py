# SPDX-License-Identifier: MIT
"""What a module leaves behind when it has gone, and what did not keep it while it was used.

Looked at right after unloading, at once: what has a name, against what had one before the module came
(lab.guest.names), a kernel thread too; which timers are armed whose function has gone (lab.guest.timers);
which of the kernel's variables point into what has gone (lab.guest.pointers); how much memory is free.
That costs a few milliseconds, and looking everywhere several times as much: that is done once for each list
of modules in a process; after the same modules it is looked where most have their names (lab.run.watched).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.errors import AgentError
from lab.guest import pointers, timers
from lab.guest.symbols import KALLSYMS_SECONDS
from lab.language.meant import MEMORY
from lab.run.record import Finding, Place, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.guest.agent import Agent
    from lab.guest.machine import Guest
    from lab.guest.names import Names, Thread
    from lab.guest.pointers import Section, Variables
    from lab.guest.timers import Armed

_MOST_SHOWN = 12
# No scenario that leaks nothing has as much less of free memory at its end; one with 32-bit actors has
# another program in memory besides.
_GROWN_KIB = 7 << 10
_NARROW_KIB = 2 << 10
# What a module imports that takes a timer or a work back, or waits for it, by the names of all releases.
_TAKE_BACK = (
    b"cancel_delayed_work",
    b"cancel_delayed_work_sync",
    b"del_timer",
    b"del_timer_sync",
    b"destroy_workqueue",
    b"disable_delayed_work_sync",
    b"flush_delayed_work",
    b"hrtimer_cancel",
    b"hrtimer_try_to_cancel",
    b"timer_delete",
    b"timer_delete_sync",
    b"timer_shutdown",
    b"timer_shutdown_sync",
    b"try_to_del_timer_sync",
)
_MOST_VARIABLES = 6  # that are told, each a finding of its own
_MOST_LINKS = 40  # that are followed to tell in which list something is
# Whose variable it is that what was not unregistered hangs off.
_UNREGISTERS = {
    "chrdevs": "exit calls unregister_chrdev",
    "die_chain": "exit calls unregister_die_notifier",
    "file_systems": "exit calls unregister_filesystem",
    "formats": "exit calls unregister_binfmt",
    "inet6addr_chain": "exit calls unregister_inet6addr_notifier",
    "inetaddr_chain": "exit calls unregister_inetaddr_notifier",
    "keyboard_notifier_list": "exit calls unregister_keyboard_notifier",
    "kprobe_table": "exit calls unregister_kprobe",
    "misc_list": "exit calls misc_deregister",
    "module_notify_list": "exit calls unregister_module_notifier",
    "netdev_chain": "exit calls unregister_netdevice_notifier",
    "netlink_chain": "exit calls netlink_unregister_notifier",
    "panic_notifier_list": "exit calls atomic_notifier_chain_unregister(&panic_notifier_list, …)",
    "pernet_list": "exit calls unregister_pernet_subsys",
    "pm_chain_head": "exit calls unregister_pm_notifier",
    "proto_list": "exit calls proto_unregister",
    "ptype_all": "exit calls dev_remove_pack",
    "ptype_base": "exit calls dev_remove_pack",
    "reboot_notifier_list": "exit calls unregister_reboot_notifier",
    "shrinker_list": "exit calls unregister_shrinker",
    "syscore_ops_list": "exit calls unregister_syscore_ops",
    "vt_notifier_list": "exit calls unregister_vt_notifier",
}
PLACE = Place("the health check after unloading")


def left_behind(before: Names, now: Names, meant: Sequence[str], *, takes: bool) -> list[Finding]:
    """Return findings: names that came with the modules and stayed, or that went with them.

    `meant` are those that the scenario leaves on purpose: one that did not stay is a finding too. `takes`:
    names may go, the scenario unloads other modules too.
    """
    came, went = now.since(before)
    stayed = [name for name in came if name not in meant]
    found = []
    if stayed:
        found.append(
            _finding(f"{_some(stayed)} stayed behind", stayed, "what is meant to stay: `leaves: […]`")
        )
    if went and not takes:
        found.append(
            _finding(f"{_some(went)} went with the module", went, "it was there before the module came")
        )
    missing = [name for name in meant if name not in (*came, MEMORY)]
    if missing:
        found.append(_finding(f"{_some(missing)} was to stay behind and did not", missing, ""))
    return found


def still_running(threads: Sequence[Thread]) -> list[Finding]:
    """Return a finding for each thread that came with the modules and stayed."""
    return [
        Finding(
            Verdict.UNCLEAN,
            f"the {'process' if each.program else 'kernel thread'} {each.name} stayed behind",
            PLACE,
            got=f"process {each.pid} came with the module, and it has gone: "
            + ("nobody waits for it" if each.program else "what it returns to is no code any more"),
            hint="who starts a program waits for it: UMH_WAIT_PROC"
            if each.program
            else "exit ends it: kthread_stop, destroy_workqueue, free_irq",
        )
        for each in threads
    ]


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _finding(title: str, names: Sequence[str], hint: str) -> Finding:
    shown = [*names[:_MOST_SHOWN], *(["…"] if len(names) > _MOST_SHOWN else [])]
    return Finding(Verdict.UNCLEAN, title, PLACE, got="\n".join(shown), hint=hint)


def grown(before_kib: int, now_kib: int, *, narrow: bool) -> list[Finding]:
    """Return a finding when far less memory is free than when the guest's life began."""
    lost = before_kib - now_kib
    if not before_kib or not now_kib or lost < _GROWN_KIB + narrow * _NARROW_KIB:
        return []
    return [
        Finding(
            Verdict.UNCLEAN,
            "memory that nobody gave back",
            PLACE,
            got=f"{lost >> 10} MiB less are free than at the beginning, and the module has gone",
            hint="what is taken for each file or call is freed by release or exit; meant: `leaves: [memory]`",
        )
    ]


def still_armed(
    guest: Guest, before: Mapping[int, Armed], images: Mapping[str, bytes], known: set[int]
) -> list[Finding]:
    """Return a finding for each timer whose function has gone with its module.

    `before` are the timers as they were while the module was there, where somebody looked: what they call.
    `known` is for lab.guest.timers.dangling().
    """
    if guest.timers is None:
        return []
    try:
        gone = timers.dangling(guest.armed, guest.timers, guest.agent.arch, guest.agent, known)
    except (OSError, AgentError):  # this kernel does not let its memory be read, or who reads it has died
        return []
    found = []
    for each in gone:
        function = each.function or getattr(before.get(each.address), "function", None)
        what = each.what if each.address not in before else before[each.address].what
        named = f" of {guest.name(function, images)}" if function else ""
        found.append(
            Finding(
                Verdict.UNCLEAN,
                f"a {what}{named} is still armed",
                PLACE,
                got=f"at {each.address:#x}; what it will call has gone with the module",
                hint="exit waits for it: timer_delete_sync, cancel_delayed_work_sync, hrtimer_cancel",
            )
        )
    return found


def left_to_chance(
    guest: Guest, gone: Sequence[str], before: Mapping[int, Armed], images: Mapping[str, bytes]
) -> list[Finding]:
    """Return a finding for each timer that a module had armed which never takes one back.

    Such a timer has expired by now, or it would be still armed; the next time it has not.
    """
    found = {}
    for each in before.values():
        name = guest.name(each.function, images) if each.function else None
        module = next((module for module in gone if name and name.endswith(f"[{module}]")), None)
        if module is None or any(b"\0" + call + b"\0" in images.get(module, b"") for call in _TAKE_BACK):
            continue
        found[name] = Finding(
            Verdict.UNCLEAN,
            f"a {each.what} of {name} was armed, and nothing in {module} takes it back",
            PLACE,
            got="that it has expired before the module went was chance",
            hint="exit waits for it: timer_delete_sync, cancel_delayed_work_sync, hrtimer_cancel",
        )
    return list(found.values())


def still_pointed_at(
    guest: Guest, gone: Sequence[Section], there: Sequence[Section], images: Mapping[str, bytes]
) -> list[Finding]:
    """Return a finding for each variable of the kernel's that points into modules which have gone.

    `gone` is where they were, `there` where others are, one of which may have come into the place.
    """
    words = [
        each for each in guest.pointing(gone) if not any(pointers.inside(part, each.to) for part in there)
    ]
    if words:  # one that is being written is read again
        words = [each for each in guest.pointing(gone) if each in words]
    if not words:
        return []
    try:
        kallsyms = guest.agent.read_file("/proc/kallsyms", KALLSYMS_SECONDS).decode(errors="replace")
    except (OSError, AgentError):  # who would read it may have died of what has gone
        kallsyms = ""
    variables = pointers.Variables(kallsyms)
    found: dict[str, Finding] = {}
    for word in words:
        variable, what = variables.holding(word), pointers.target(word, images)
        name = variable.name if variable else f"{word.at:#x}"
        where = pointers.plus(name, word.at - variable.address) if variable else name
        line = f"{where} at {word.at:#x}: {word.to:#x}, {what}"
        if name in found:
            found[name] = replace(found[name], got=f"{found[name].got}\n{line}")
            continue
        chain = _chain(guest, variable, variables)
        found[name] = Finding(
            Verdict.UNCLEAN,
            f"{where} still points to {what} of {word.section.module}, which has gone",
            PLACE,
            got=line if chain in ("", name) else f"{line}\n{name} hangs off {chain}",
            hint=_UNREGISTERS.get(chain, "exit unregisters what init registers, in reverse order"),
        )
    return list(found.values())[:_MOST_VARIABLES]


def _chain(guest: Guest, variable: Section | None, variables: Variables) -> str:
    """Return which of the lists of things that are registered a variable is in; '' for none that is known."""
    seen: dict[str, Section] = {}
    new = [variable] if variable else []
    while new and len(seen) < _MOST_LINKS:
        seen |= {each.name: each for each in new}
        known = next((each.name for each in new if each.name in _UNREGISTERS), "")
        if known:
            return known
        holders = [variables.holding(each) for each in guest.pointing(new, all_pages=True)]
        new = list({each.name: each for each in holders if each and each.name not in seen}.values())
    return ""


def not_counted(
    path: str, before: Names, agent: Agent, modules: Sequence[str], timeout: float
) -> Finding | None:
    """Return a finding when an open file of a module's own node keeps no module, None when it does.

    `modules` are those that are tested; which of them made the node, nobody tells. Only nodes of a driver
    that is the module's own are looked at: a subsystem may keep it in another way.
    """
    now = agent.names(timeout, wide=False)
    came, _ = now.since(before)
    name = path.removeprefix("/dev/")
    misc = [each.split()[-1] for each in came if each.startswith("/proc/misc: ")]
    majors = [each for each in came if each.startswith("/proc/devices: ")]
    if path not in came or not (name in misc or majors):
        return None
    counts = {each: _references(each, agent, timeout) for each in modules}
    if any(count != 0 for count in counts.values()):
        return None
    return Finding(
        Verdict.UNCLEAN,
        f"an open file of {path} does not keep its module",
        wanted="a reference count of 1 at least while the file is open",
        got=", ".join(f"{each}: {count}" for each, count in counts.items()),
        hint="its file operations want .owner = THIS_MODULE: unloaded while a file is open, its code is gone",
    )


def _references(module: str, agent: Agent, timeout: float) -> int | None:
    """Return a module's reference count without those of modules that use it; None where nobody tells."""
    try:
        count = int(agent.read_file(f"/sys/module/{module}/refcnt", timeout))
        text = agent.read_file("/proc/modules", timeout).decode(errors="replace")
    except (OSError, ValueError):
        return None
    users = next((line.split()[3] for line in text.splitlines() if line.split()[0] == module), "-")
    return count - len([user for user in users.split(",") if user and user != "-"])
