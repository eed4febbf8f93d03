# SPDX-License-Identifier: MIT
"""The tree holds to its own rules: licences, one scenario file a module, faults that name what must fail."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import pytest

from lab.house import TREES
from lab.language import reader
from lab.language.steps import all_steps
from lab.run import fault
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

HOUSE = Path(__file__).resolve().parent.parent
GPL = ("kmod/", "rootfs/")
HOSTS = r"(?!127\.)[^\s\"'/]+\.[^\s\"'/]+"  # with a dot: a name that could be somebody's
NO_CHANNELS = (
    "compat",
    "litter",
    "operations",
    "store",
    "trouble",
)  # across all of them, behind them, none at all
NO_COMMENTS = (".json", ".pgp", ".gpg", ".asc", ".log", ".bin", ".o", ".elf", ".md")


def tracked() -> list[str]:
    every = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]  # also what is not added yet
    listed = subprocess.run(every, cwd=HOUSE, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (HOUSE / name).is_file()]


def test_every_file_says_its_licence() -> None:
    wrong = []
    for name in tracked():
        path = HOUSE / name
        if (
            name.startswith(("LICENSES/", "docs/"))
            or path.suffix in (*NO_COMMENTS, ".md")
            or path.name == ".gitignore"
        ):
            continue
        head = path.read_text(errors="replace")[:400]
        wanted = "GPL-2.0-only" if name.startswith(GPL) else "MIT"
        if name.startswith("kernels/qemu/") and path.suffix != ".mak":
            wanted = "GPL-2.0-or-later"  # as QEMU, to which they are offered
        if not re.search(rf"SPDX-License-Identifier: {wanted}", head):
            wrong.append(name)
    assert wrong == []


def test_every_module_is_used_by_a_scenario() -> None:
    used: set[str] = set()
    for path in (HOUSE / "scenarios").glob("*.yaml"):
        for entry in reader.load(path, root=HOUSE, verbs=table(), trees=TREES).scenarios:
            used |= set(entry.loads)
    modules = {
        f"lab_{path.stem}" for path in (HOUSE / "kmod").glob("*.c") if not path.name.endswith(".mod.c")
    }
    assert modules
    assert modules - used == set()
    assert {name for name in used if name.startswith("lab_")} - modules == set()


def test_every_channel_is_explained_to_a_newcomer() -> None:
    files = [
        reader.load(path, root=HOUSE, verbs=table(), trees=TREES)
        for path in sorted((HOUSE / "scenarios").glob("*.yaml"))
    ]
    ours = [file for file in files if file.channel not in NO_CHANNELS]
    assert len(ours) >= 10
    assert [
        file.channel for file in ours if not (file.about and file.choose and file.price and file.read)
    ] == []
    assert [file.channel for file in files if not (file.trips or file.no_trip)] == []


FAULTS = sorted((HOUSE / "kmod" / "faults").glob("*.patch"))


def test_each_module_was_broken_in_three_ways() -> None:
    named = Counter(path.stem.partition("-")[0] for path in FAULTS)
    channels = {path.stem for path in (HOUSE / "kmod").glob("*.c")} - {"core", "litter", "trouble"}
    assert {channel: named[channel] for channel in channels if named[channel] < 3} == {}


@pytest.mark.parametrize("patch", FAULTS, ids=lambda path: path.stem)
def test_a_fault_names_what_must_fail_and_where(patch: Path) -> None:
    says = fault.read(patch)
    assert set(says.verdicts) <= {"step failed", "splat", "hung", "lost", "unclean"}
    loaded = reader.load(HOUSE / says.file, root=HOUSE, verbs=table(), trees=TREES)
    named = [entry for entry in loaded.scenarios if says.scenario in (entry.id, entry.name)]
    assert named != []
    steps = [step.text for entry in named for step in all_steps(entry.steps)]
    places = [seen.partition(" … ")[0] for seen in says.seen if seen.startswith("{")]
    assert [place for place in places if not any(step.startswith(place) for step in steps)] == []


def test_what_a_run_needs_is_installed() -> None:
    """Each file that is no Python is one of a package's, in pyproject.toml; its directory is that package."""
    told = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]["setuptools"]

    def room(package: str) -> str:
        for top, at in told["package-dir"].items():
            if top != "lab" and package.startswith(top):
                return str(package.replace(top, at)).replace(".", "/")
        return package.replace(".", "/")

    directories = {path.parent.relative_to(HOUSE) for path in (HOUSE / "lab").rglob("*.py")}
    assert {str(each) for each in directories} <= {room(package) for package in told["packages"]}
    assert {*told["package-data"]} <= {*told["packages"]}
    patterns = [f"{room(name)}/{each}" for name, some in told["package-data"].items() for each in some]
    data = [
        PurePath(name)
        for name in tracked()
        if re.match(r"(kernels|rootfs|lab)/", name) and name[-3:] != ".py"
    ]
    assert len(data) > 60
    assert [path for path in data if not any(path.match(pattern) for pattern in patterns)] == []


def test_the_tree_names_no_mirror() -> None:
    found = []
    for name in tracked():
        text = (HOUSE / name).read_text(errors="replace")
        if re.search(rf"https?://{HOSTS}/(debian|debian-security|simple)\b", text):
            found.append(name)
    assert found == []


# --- who knows whom ---------------------------------------------------------------------------------------


def ring(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Return files that import one another in a ring, the first one again at the end; [] without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]  # each file, then what it imports
    return []


def imports(text: str, module: str, modules: Collection[str]) -> Iterator[str]:
    """Yield which modules of the lab a file imports: also in functions, and for types only."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: line {node.lineno}: say where from"
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names = [name if name in modules else str(node.module) for name in inner.values()]
        else:
            continue
        yield from (name for name in names if name in modules and name != module)


def python_graph() -> dict[str, set[str]]:
    """Return what each file of lab/ imports of it."""
    files = {
        ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (HOUSE / "lab").rglob("*.py")
    }
    assert len(files) > 50
    return {module: set(imports(path.read_text(), module, files)) for module, path in files.items()}


def test_no_file_imports_itself_by_a_detour() -> None:
    assert " imports ".join(ring(python_graph())) == ""


@pytest.mark.parametrize(
    "text",
    [
        "import lab.b",
        "from lab import b",
        "from lab.b import name",
        "def f():\n    from lab.b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lab.b import name",
    ],
)
def test_every_way_to_import_is_seen(text: str) -> None:
    names = ["lab", "lab.a", "lab.b"]
    assert list(imports(text, "lab.a", names)) == ["lab.b"]
    graph = {"lab.a": imports(text, "lab.a", names), "lab.b": imports("from lab import a", "lab.b", names)}
    found = ring({name: set(others) for name, others in graph.items()})
    assert sorted(found[1:]) == ["lab.a", "lab.b"]


def c_graph(directory: Path) -> dict[str, set[str]]:
    """Return which files of C include a header of which others; a file and its header are one."""
    paths = sorted(directory.glob("*.[ch]"))
    names = {path.stem for path in paths}
    assert len(names) > 10
    graph: dict[str, set[str]] = {name: set() for name in names}
    for path in paths:
        included = re.findall(r'^#include "(?:\w+/)*(\w+)\.h"', path.read_text(), re.MULTILINE)
        graph[path.stem] |= {name for name in included if name in names and name != path.stem}
    return graph


@pytest.mark.parametrize("directory", ["rootfs", "kmod"])
def test_no_file_includes_itself_by_a_detour(directory: str) -> None:
    assert " includes ".join(ring(c_graph(HOUSE / directory))) == ""


def test_a_header_of_the_agent_says_what_its_own_file_has() -> None:
    """What another file has would be hidden from the test above."""
    function, variable = r"^(?!static)\w[\w *]*?\b(\w+)\([^;{]*\)", r"[\w *]*?\b(\w+)(?:\[\w+\])?;"
    wrong, seen = [], 0
    for header in sorted((HOUSE / "rootfs").glob("*.h")):
        source = header.with_suffix(".c")
        own = source.read_text() if source.exists() else ""
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
        declared = re.findall(rf"{function}[^;{{]*;", text, re.MULTILINE)
        declared += re.findall(rf"^extern {variable}", text, re.MULTILINE)
        there = re.findall(rf"{function}\n{{", own, re.MULTILINE)
        there += re.findall(rf"^\w{variable}", own, re.MULTILINE)
        wrong += [f"{header.name}: {name}" for name in declared if name not in there]
        seen += len(declared)
    assert seen > 50
    assert wrong == []


# From the ground up: none reaches one above it, whoever stands between.
FLOORS = (
    "lab.store",
    "lab.abi",
    "lab.kernels",
    "lab.guest",
    "lab.language",
    "lab.packets",
    "lab.run.session",
    "lab.verbs",
    "lab.run.runner",
    "lab.run.lab",
    "lab.measure",
    "lab.mutate",
    "lab.plugin",
)


def floor(module: str) -> int:
    """Return on which of the FLOORS a module is, -1 where it may stand anywhere."""
    names = [floor for floor in FLOORS if f"{module}.".startswith(f"{floor}.")]
    return FLOORS.index(names[0]) if names else -1


def test_imports_point_one_way() -> None:
    graph = python_graph()
    found = set()
    for module in graph:
        reached, todo = {module}, [module]
        while todo and floor(module) >= 0:
            here = todo.pop()
            found |= {f"{module} reaches {other}" for other in graph[here] if floor(other) > floor(module)}
            todo += graph[here] - reached
            reached |= graph[here]
    assert sorted(found) == []


def test_only_command_lines_know_where_our_own_things_are() -> None:
    """Modules, kernels and agents are handed down: the rest works for those of others too."""
    graph = python_graph()
    knows = {module for module, imported in graph.items() if "lab.house" in imported}
    allowed = ("lab.cli", "lab.plugin", "lab.measure", "lab.mutate", "lab.pages")
    assert "lab.plugin.run" in knows
    assert [module for module in sorted(knows) if not f"{module}.".startswith(allowed)] == []
    inner = [
        path
        for room in ("run", "language", "verbs", "guest")
        for path in (HOUSE / "lab" / room).rglob("*.py")
    ]
    assert len(inner) > 50
    assert [
        path.name
        for path in inner
        if re.search(r"__file__\)|import debian|lab\.kernels\.debian", path.read_text())
    ] == []
