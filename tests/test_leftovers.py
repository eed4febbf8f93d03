# SPDX-License-Identifier: MIT
"""What has a name in a guest's kernel, before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.errors import AgentError
from lab.guest.names import Names, Thread, parse, unpacked
from lab.guest.pointers import Pointer, Section
from lab.guest.timers import Armed
from lab.run.leftovers import left_behind, left_to_chance, not_counted, still_pointed_at, still_running

SOCKETS = b"sk Eth Pid Groups\x000 16 0 0 0\0"
LISTED = (
    b"/proc\0cpuinfo\0lab_x\0\0"
    b"/proc/interrupts\0           CPU0       CPU1\0"
    b" 24:          5         10  PCI-MSIX-0000:00:01.0   0-edge      virtio0-config\0NMI:   0   0   NMIs\0\0"
    b"/proc/net/netlink\0sk Eth Pid Groups\x000 16 0 0 0\x000 0 4711 0 0\0\0"
    b"/proc/fs\0\0"
    b"generic netlink\0nlctrl\0\0"
    b"memory\x00170000\0\0"
)


def test_what_the_agent_tells() -> None:
    found = parse(LISTED)
    assert found.free_kib == 170000
    assert list(found.places) == [
        "/proc",
        "/proc/interrupts",
        "/proc/net/netlink",
        "/proc/fs",
        "generic netlink",
    ]
    assert unpacked(found.packed()).places == found.places


@pytest.mark.parametrize(
    ("place", "listed", "came"),
    [
        ("/proc", b"cpuinfo\0lab_x\0lab_y", ["/proc/lab_y"]),
        ("/proc", b"lab_x\0cpuinfo", []),  # in another order
        ("/proc/fs", b"lab", ["/proc/fs/lab"]),
        ("generic netlink", b"nlctrl\0lab", ["generic netlink: lab"]),
        # Counts and processes' own sockets are no names.
        ("/proc/interrupts", b" 24:  7  11  PCI-MSIX-0000:00:01.0   0-edge      virtio0-config", []),
        (
            "/proc/interrupts",
            b" 24:  7  11  PCI-MSIX-0000:00:01.0   0-edge      virtio0-config, lab_x",
            ["/proc/interrupts: 24: PCI-MSIX-0000:00:01.0 0-edge virtio0"],
        ),
        ("/proc/net/netlink", b"sk Eth Pid Groups\x000 16 0 0 0\x000 0 99 0 0", []),
        (
            "/proc/net/netlink",
            b"sk Eth Pid Groups\x000 16 0 0 0\x000 31 0 0 0",
            ["/proc/net/netlink: family 31"],
        ),
    ],
)
def test_what_came(place: str, listed: bytes, came: list[str]) -> None:
    before = parse(LISTED)
    now = Names({**before.places, place: listed}, 0)
    assert now.since(before)[0] == came


def test_a_place_that_only_one_of_them_has_is_told_by_the_one_above() -> None:
    before = parse(LISTED)
    assert Names({**before.places, "/proc/new": b"x"}, 0).since(before) == ([], [])


def test_names_that_go_are_told_unless_other_modules_go_too() -> None:
    before, now = parse(LISTED), Names({"/proc": b"cpuinfo"}, 0)
    (found,) = left_behind(before, now, (), takes=False)
    assert found.title == "/proc/lab_x went with the module"
    assert left_behind(before, now, (), takes=True) == []


STAT = "2 0 0 0 -1"
NAMED = (
    f"59 (kworker/0:1-events) I {STAT} 69238880",
    f"60 (khungtaskd) S {STAT} 2097216",
)


def threads(*entries: str) -> Names:
    return Names({"kernel threads": "\0".join(entries).encode()}, 0)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (f"77 (lab_x) S {STAT} 2129984 0", "the kernel thread lab_x stayed behind"),
        (f"77 (irq/24-a) b) S {STAT} 2129984 0", "the kernel thread irq/24-a) b stayed behind"),
        (f"77 (kworker/R-lab_x) I {STAT} 69238880", "the kernel thread kworker/R-lab_x stayed behind"),
        (f"77 (helper) S {STAT} 4194304", "the process helper stayed behind"),
        (NAMED[1], ""),  # was there
        ("77 (lab_x) S 76 0 0 0 -1 2129984 0", ""),  # an actor, or somebody's child
        ("77 (lab_x) S 1 0 0 0 -1 4194304 0", ""),
        (f"77 (kworker/1:2-mm_percpu_wq) I {STAT} 69238880", ""),
        (f"77 (kthreadd) S {STAT} 2129984", ""),  # has no name yet
        (f"77 (lab_x) S {STAT} 2129988", ""),  # exits
        (f"77 (helper) Z {STAT} 4194304", ""),
    ],
)
def test_threads_that_stay(entry: str, told: str) -> None:
    now = threads(entry, "78 (x")
    found = still_running(now.threads_since(threads(*NAMED)))
    assert [each.title for each in found] == ([told] if told else [])
    # They are not names besides, and one that ends is nobody's business.
    assert now.since(threads(*NAMED)) == ([], [])
    assert threads().threads_since(now) == []


@pytest.mark.parametrize(
    ("stack", "own"),
    [
        (
            "[<0>] trigger_kthread_fn+0x5a/0x90\n[<0>] kthread+0xfc/0x240\n[<0>] ret_from_fork+0x1c/0x30\n",
            True,
        ),
        # Whose code has gone: the unwinder ends there, or goes on.
        ("", False),
        ("[<0>] msleep_interruptible+0x2d/0x60\n", False),
        ("[<0>] 0xffffffffc0310042\n[<0>] kthread+0xfc/0x240\n", False),
        ("[<0>] lab_y_thread+0x10/0x20 [lab_y]\n[<0>] kthread+0xfc/0x240\n", False),
        ("[<0>] rescuer_thread+0x2e9/0x3a0\n[<0>] kthread+0xfc/0x240\n", False),
        ("[<0>] irq_thread+0xd5/0x190\n[<0>] kthread+0xfc/0x240\n", False),
    ],
)
def test_a_thread_that_the_kernel_made_for_itself(stack: str, own: bool) -> None:
    assert Thread(77, "x", program=False).of_the_kernel(stack) == own
    assert not Thread(77, "x", program=True).of_the_kernel(stack)


def test_where_threads_are_not_listed_none_stay() -> None:
    assert threads(*NAMED).threads_since(Names({}, 0)) == []
    assert Names({}, 0).threads_since(threads(*NAMED)) == []


DATA = 0xFFFF_FFFF_8200_0000
BLOCK = Section("lab_x", ".data", 0xFFFF_FFFF_C0A0_0000, 0x40)
VARIABLES = f"{DATA:x} D reboot_notifier_list\n{DATA + 64:x} d fw_shutdown_nb\n{DATA + 128:x} D behind\n"


@dataclass
class Memory:
    """A guest, by the words of its kernel's data."""

    words: dict[int, int]
    looks: list[dict[int, int]] = field(default_factory=list)
    agent: Any = None

    def __post_init__(self) -> None:
        self.agent = Agent({"/proc/kallsyms": VARIABLES.encode()})

    def pointing(self, wanted: list[Section], *, all_pages: bool = False) -> list[Pointer]:
        words = self.looks.pop(0) if self.looks else self.words
        return [
            Pointer(at, to, each)
            for at, to in words.items()
            for each in wanted
            if each.address <= to < each.address + each.size
        ]


def test_a_variable_that_points_into_what_has_gone() -> None:
    guest: Any = Memory({DATA + 8: BLOCK.address, DATA + 16: BLOCK.address + 8})
    (found,) = still_pointed_at(guest, [BLOCK], [], {})
    assert found.title == "reboot_notifier_list+0x8 still points to .data+0x0 of lab_x, which has gone"
    assert len(found.got.splitlines()) == 2
    assert found.hint == "exit calls unregister_reboot_notifier"


def test_who_came_into_the_place_of_what_has_gone_may_be_pointed_at() -> None:
    guest: Any = Memory({DATA + 8: BLOCK.address + 8})
    newer = BLOCK._replace(module="lab_y", size=16)
    assert still_pointed_at(guest, [BLOCK], [newer], {}) == []
    assert still_pointed_at(guest, [BLOCK], [newer._replace(size=8)], {}) != []


def test_what_was_registered_second_hangs_off_the_first() -> None:
    guest: Any = Memory({DATA + 72: BLOCK.address, DATA + 8: DATA + 64})
    (found,) = still_pointed_at(guest, [BLOCK], [], {})
    assert found.title.startswith("fw_shutdown_nb+0x8 still points to ")
    assert found.got.splitlines()[1:] == ["fw_shutdown_nb hangs off reboot_notifier_list"]
    assert found.hint == "exit calls unregister_reboot_notifier"
    guest.words[DATA + 8] = DATA  # in no list that is known, and in a ring
    (found,) = still_pointed_at(guest, [BLOCK], [], {})
    assert found.hint.startswith("exit unregisters what init registers")


def test_a_word_that_is_another_at_the_second_look_is_none() -> None:
    guest: Any = Memory({}, looks=[{DATA + 8: BLOCK.address}])
    assert still_pointed_at(guest, [BLOCK], [], {}) == []


def died(_path: str, _timeout: float) -> bytes:
    raise AgentError("actor 'lab' died (wait status 9)")


@pytest.mark.parametrize("dead", [False, True])
def test_a_variable_without_a_name_is_told_by_its_address(dead: bool) -> None:
    guest: Any = Memory({DATA + 8: BLOCK.address})
    guest.agent.read_file = died if dead else guest.agent.read_file
    guest.agent.files.clear()
    (found,) = still_pointed_at(guest, [BLOCK], [], {})
    assert found.title.startswith(f"{DATA + 8:#x} still points to .data+0x0 of lab_x")


@dataclass
class Agent:
    files: dict[str, bytes]
    listed: dict[str, bytes] = field(
        default_factory=lambda: {
            "/dev": b"null\0lab_x",
            "/proc/misc": b" 60 lab_x",
            "/proc/devices": b" 10 misc",
        }
    )

    def names(self, timeout: float, *, wide: bool) -> Names:
        return Names(self.listed, 0)

    def read_file(self, path: str, timeout: float) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]


BEFORE = Names({"/dev": b"null", "/proc/misc": b"", "/proc/devices": b" 10 misc"}, 0)
MODULES = b"lab_x 16384 %d %s Live 0xffffffffc0a00000 (O)\nlab_core 16384 1 lab_x, Live 0x0 (O)\n"


@pytest.mark.parametrize(
    ("count", "users", "kept"),
    [(0, b"-", False), (1, b"-", True), (2, b"-", True), (1, b"lab_y,", False), (2, b"lab_y,", True)],
)
def test_an_open_file_is_to_keep_its_module(count: int, users: bytes, kept: bool) -> None:
    agent: Any = Agent(
        {"/sys/module/lab_x/refcnt": b"%d\n" % count, "/proc/modules": MODULES % (count, users)}
    )
    found = not_counted("/dev/lab_x", BEFORE, agent, ["lab_x"], 1.0)
    assert (found is None) == kept


def test_only_a_node_of_the_modules_own_driver_is_to_keep_it() -> None:
    agent: Any = Agent({"/sys/module/lab_x/refcnt": b"0\n", "/proc/modules": MODULES % (0, b"-")})
    assert not_counted("/dev/lab_x", BEFORE, agent, ["lab_x"], 1.0) is not None
    assert not_counted("/dev/null", BEFORE, agent, ["lab_x"], 1.0) is None
    agent.listed = {**agent.listed, "/proc/misc": b"", "/dev": b"null\0event0"}
    assert not_counted("/dev/event0", BEFORE, agent, ["lab_x"], 1.0) is None  # a subsystem's
    agent.listed = {**agent.listed, "/dev": b"null\0lab_x", "/proc/devices": b" 10 misc\0240 lab_x"}
    assert not_counted("/dev/lab_x", BEFORE, agent, ["lab_x"], 1.0) is not None
    agent.files = {}
    assert not_counted("/dev/lab_x", BEFORE, agent, ["lab_x"], 1.0) is None  # nobody tells


TICK = 0xFFFF_FFFF_C0A0_0010
IMAGE = b"\0timer_setup\0mod_timer\0"


class Named:
    """A guest whose functions have names."""

    def name(self, address: int, _images: object) -> str:
        return "tick+0x0 [lab_x]" if address == TICK else f"{address:#x}"


@pytest.mark.parametrize(
    ("function", "image", "gone", "told"),
    [
        (TICK, IMAGE, ["lab_x"], True),
        (TICK, IMAGE, ["lab_y"], False),  # it is still there
        (TICK, IMAGE + b"timer_delete_sync\0", ["lab_x"], False),
        (TICK, IMAGE + b"cancel_delayed_work\0", ["lab_x"], False),
        (TICK, IMAGE + b"my_timer_delete_sync\0", ["lab_x"], True),
        (TICK + 0x10000, IMAGE, ["lab_x"], False),  # the kernel's
        (None, IMAGE, ["lab_x"], False),
    ],
)
def test_a_timer_that_nothing_takes_back(
    function: int | None, image: bytes, gone: list[str], told: bool
) -> None:
    guest: Any = Named()
    before = {1: Armed(1, function, "timer"), 2: Armed(2, function, "timer")}
    found = left_to_chance(guest, gone, before, {"lab_x": image})
    titles = ["a timer of tick+0x0 [lab_x] was armed, and nothing in lab_x takes it back"] if told else []
    assert [each.title for each in found] == titles
