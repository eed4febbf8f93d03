# SPDX-License-Identifier: MIT
"""Scenario files: YAML to records. All mistakes of a file are told at once; nothing is fetched."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lab.abi import header_words, known_names, known_structs
from lab.abi.layout import nearest
from lab.errors import Mistake, ScenarioError
from lab.language.nodes import (
    MappingNode,
    Mistakes,
    Node,
    Pairs,
    ScalarNode,
    SequenceNode,
    compose,
    line_of,
    text_of,
)
from lab.language.requires import Requires, read_requires
from lab.language.scope import Scope, Words
from lab.language.steps import Step, all_steps, read_inner, read_steps
from lab.language.values import DurationKind, Fixed, IntKind, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.abi import Abi
    from lab.abi.header_words import HeaderWords

__all__ = [
    "ActorSpec",
    "BootOptions",
    "ModuleLoad",
    "Requires",
    "Scenario",
    "ScenarioFile",
    "SplatWanted",
    "Step",
    "check",
    "load",
    "read_actors",
]

_FILE_KEYS = (
    "channel",
    "about",
    "not_applicable",
    "modules",
    "uapi",
    "requires",
    "actors",
    "boot",
    "within",
    "scenarios",
)
_SCENARIO_KEYS = (
    "name",
    "about",
    "with",
    "modules",
    "uapi",
    "requires",
    "actors",
    "boot",
    "within",
    "expect_splat",
    "expect_verdict",
    "steps",
)
_ACTOR_KEYS = ("uid", "gid", "caps", "sigmask", "word", "thread_of")


ROOT = Fixed(0)


@dataclass(frozen=True)
class ModuleLoad:
    """A module to load before the first step, with its parameters as text."""

    name: str
    params: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The parameters as the kernel takes them: ``depth=4 name="a b"``."""
        return " ".join(
            f'{key}="{value}"' if " " in value else f"{key}={value}" for key, value in self.params
        )


@dataclass(frozen=True)
class ActorSpec:
    """A process (or thread) of the guest that makes steps. Values are resolved against the target."""

    name: str
    uid: Value = ROOT
    gid: Value = ROOT
    caps: tuple[Value, ...] | None = None  # None: what its uid has; (): none
    sigmask: tuple[Value, ...] = ()
    word: Value | None = None  # 32: a 32-bit process on a 64-bit kernel
    thread_of: str | None = None


@dataclass(frozen=True)
class SplatWanted:
    """A report by the kernel that must come."""

    kind: str
    matches: str = ""

    def __str__(self) -> str:
        return f"{self.kind} that matches {self.matches!r}" if self.matches else self.kind


@dataclass(frozen=True)
class BootOptions:
    """What the machine must have; part of the template's key."""

    cmdline: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A named list of steps; one of a file's `with` values already put in."""

    name: str
    id: str  # the name and the `with` values as written: 'sizes (size=PAGE_SIZE-1)'
    file: Path
    line: int
    channel: str
    about: str = ""
    modules: tuple[ModuleLoad, ...] = ()
    uapi: tuple[str, ...] = ()
    actors: tuple[ActorSpec, ...] = ()
    steps: tuple[Step, ...] = ()
    requires: Requires = field(default_factory=Requires)
    expect_splat: SplatWanted | None = None
    expect_verdict: Literal["lost", "hung"] | None = None
    boot: BootOptions = field(default_factory=BootOptions)
    within: float | None = None  # the default of its steps, seconds
    parameters: tuple[tuple[str, str], ...] = ()
    constants: frozenset[str] = frozenset()  # all that it uses of headers
    structs: frozenset[str] = frozenset()

    @property
    def loads(self) -> tuple[str, ...]:
        """The modules that it loads, before its first step or by one."""
        found = [module.name for module in self.modules]
        for step in all_steps(self.steps):
            value = step.arguments.get("module")
            if step.verb == "load" and isinstance(value, Fixed) and isinstance(value.value, str):
                found.append(value.value)
        return tuple(dict.fromkeys(found))

    def missing(self, abi: Abi) -> list[str]:
        """Return what it uses that a target's headers do not have: reasons for `unsupported`."""
        return [
            *(f"constant {name}" for name in sorted(self.constants) if name not in abi.constants),
            *(f"struct {name}" for name in sorted(self.structs) if name not in abi.structs),
        ]


@dataclass(frozen=True)
class ScenarioFile:
    """One channel's scenarios and what the head of its file says."""

    path: Path
    channel: str
    about: str
    modules: tuple[ModuleLoad, ...]
    uapi: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    not_applicable: tuple[tuple[str, str], ...] = ()  # what each row wants but this cannot have, and why


def load(
    path: Path, *, root: Path, uapi: Path | None = None, modules: Iterable[str] | None = None
) -> ScenarioFile:
    """Return a file's scenarios.

    `root` is what paths are told relative to. `uapi` is where the module's headers are (default
    root/kmod/uapi); `modules` are the names of the modules that there are (default: root/kmod's).
    Raises ScenarioError with all mistakes of the file.
    """
    return _Reader(path, root, uapi or root / "kmod" / "uapi", modules).read()


def check(paths: Iterable[Path], *, root: Path | None = None, uapi: Path | None = None) -> list[Mistake]:
    """Return the mistakes of several files; directories mean the .yaml files in them.

    `root` is as in load(), by default the current directory.
    """
    found: list[Mistake] = []
    root = root or Path.cwd()
    for path in paths:
        for file in sorted(path.rglob("*.yaml")) if path.is_dir() else [path]:
            try:
                load(file, root=root, uapi=uapi)
            except ScenarioError as error:
                found += error.mistakes
    return found


class _Reader:
    """Reads one file."""

    def __init__(self, path: Path, root: Path, uapi: Path, modules: Iterable[str] | None) -> None:
        self.path = path
        shown = path.resolve().is_relative_to(root.resolve())
        self.mistakes = Mistakes(path.resolve().relative_to(root.resolve()) if shown else path)
        self.uapi = uapi
        self.known_modules = _modules_of(root / "kmod") if modules is None else frozenset(modules)

    def read(self) -> ScenarioFile:
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError([Mistake(self.mistakes.file, 1, f"cannot be read: {error}")]) from None
        node = compose(text, self.mistakes)
        if node is None:
            raise ScenarioError([Mistake(self.mistakes.file, 1, "the file is empty")])
        head = self.mistakes.pairs(node, "a scenario file")
        self.mistakes.known(head, _FILE_KEYS, "a scenario file")
        for wanted in ("channel", "scenarios"):
            if wanted not in head:
                self.mistakes.add(node, f"a scenario file wants {wanted!r}")
        channel = self._text(head, "channel")
        modules, uapi = self._modules(head, None), self._headers(head)
        words = self._words(uapi)
        self.requires = read_requires(head, self.mistakes)
        scenarios: list[Scenario] = []
        names: dict[str, int] = {}
        if "scenarios" in head:
            for item in self.mistakes.items(head["scenarios"][1], "scenarios"):
                scenarios += self._scenarios(item, head, words, names, channel)
        notes = self._notes(head)
        self.mistakes.raise_any()
        about = self._text(head, "about")
        return ScenarioFile(self.path, channel, about, modules, uapi, tuple(scenarios), notes)

    # --- the head ---------------------------------------------------------------------------------

    def _text(self, pairs: Pairs, key: str) -> str:
        if key not in pairs:
            return ""
        return (self.mistakes.scalar(pairs[key][1], repr(key)) or "").strip()

    def _notes(self, head: Pairs) -> tuple[tuple[str, str], ...]:
        if "not_applicable" not in head:
            return ()
        pairs = self.mistakes.pairs(head["not_applicable"][1], "not_applicable")
        return tuple((want, self._text(pairs, want)) for want in pairs)

    def _modules(self, pairs: Pairs, scope: Scope | None) -> tuple[ModuleLoad, ...]:
        if "modules" not in pairs:
            return ()
        found = []
        for item in self.mistakes.items(pairs["modules"][1], "modules"):
            module = self._module(item, scope)
            if module is not None:
                found.append(module)
        return tuple(found)

    def _module(self, node: Node, scope: Scope | None) -> ModuleLoad | None:
        params: list[tuple[str, str]] = []
        name_node: Node = node
        if isinstance(node, MappingNode):
            if len(node.value) != 1:
                self.mistakes.add(node, "a module with parameters is {name: {parameter: value}}")
                return None
            name_node, given = node.value[0]
            for key, (_, value) in self.mistakes.pairs(given, "a module's parameters").items():
                shown = scope.given(value) if scope else value
                text = self.mistakes.scalar(shown, f"parameter {key!r}")
                params.append((key, text or ""))
        name = self.mistakes.scalar(name_node, "a module's name")
        if name is None:
            return None
        if self.known_modules and name.startswith("lab_") and name not in self.known_modules:
            self.mistakes.add(name_node, f"unknown module {name!r}{nearest(name, self.known_modules)}")
        return ModuleLoad(name, tuple(params))

    def _headers(self, pairs: Pairs) -> tuple[str, ...]:
        if "uapi" not in pairs:
            return ()
        found = []
        for item in self.mistakes.items(pairs["uapi"][1], "uapi"):
            name = self.mistakes.scalar(item, "a header's name")
            if name is None:
                continue
            if not (self.uapi / name).is_file():
                there = [path.name for path in self.uapi.glob("*.h")]
                self.mistakes.add(item, f"no header {name!r} in {self.uapi.name}/{nearest(name, there)}")
                continue
            found.append(name)
        return tuple(found)

    def _words(self, headers: tuple[str, ...]) -> Words:
        constants, structs = known_names(), dict(known_structs())
        for name in headers:
            path = self.uapi / name
            scanned = _scanned(path, path.stat().st_mtime_ns)
            constants = constants | scanned.constants
            structs.update({struct: tuple(fields) for struct, fields in scanned.structs.items()})
        return Words(constants, structs)

    # --- scenarios ----------------------------------------------------------------------------------

    def _scenarios(
        self, node: Node, head: Pairs, words: Words, names: dict[str, int], channel: str
    ) -> list[Scenario]:
        own = self.mistakes.pairs(node, "a scenario")
        self.mistakes.known(own, _SCENARIO_KEYS, "a scenario")
        name = self._text(own, "name")
        if not name:
            self.mistakes.add(node, "a scenario wants a name")
        elif name in names:
            self.mistakes.add(own["name"][0], f"a scenario of this name is in line {names[name]} already")
        names.setdefault(name, line_of(node))
        if "steps" not in own:
            self.mistakes.add(node, f"scenario {name!r} has no steps")
            return []
        # What the scenario says itself replaces what the head says; requirements add up.
        pairs = {**{key: value for key, value in head.items() if key in _SCENARIO_KEYS}, **own}
        pairs.pop("about", None)
        headers = self._headers(own)
        if headers:
            words = self._words((*self._headers(head), *headers))
        requires = self.requires.merged(read_requires(own, self.mistakes))
        found = []
        for parameters in self._parameters(own):
            scope = Scope(self.mistakes, words, parameters=parameters, inner=read_inner)
            actors = read_actors(pairs["actors"][1], scope) if "actors" in pairs else ()
            _who_makes_steps(pairs, actors, scope)
            shown = tuple((key, text_of(value, 40)) for key, value in parameters.items())
            tail = f" ({', '.join(f'{key}={text}' for key, text in shown)})" if shown else ""
            steps = read_steps(own["steps"][1], scope)
            found.append(
                Scenario(
                    name=name,
                    id=f"{name}{tail}",
                    file=self.mistakes.file,
                    line=line_of(node),
                    channel=channel,
                    about=self._text(own, "about"),
                    modules=self._modules(pairs, scope),
                    uapi=self._headers(head) + headers,
                    actors=actors,
                    steps=steps,
                    requires=requires,
                    expect_splat=self._splat(own),
                    expect_verdict=self._verdict(own),
                    boot=self._boot(pairs),
                    within=self._within(pairs, scope),
                    parameters=shown,
                    constants=frozenset(scope.constants),
                    structs=frozenset(scope.structs),
                )
            )
        ids = [scenario.id for scenario in found]
        for again in {each for each in ids if ids.count(each) > 1}:
            self.mistakes.add(node, f"two sets of `with` values look the same: {again}")
        return found

    def _parameters(self, pairs: Pairs) -> list[dict[str, Node]]:
        """Return each combination of the values of `with`, by name."""
        if "with" not in pairs:
            return [{}]
        given = self.mistakes.pairs(pairs["with"][1], "with")
        lists: list[list[tuple[str, Node]]] = []
        for name, (key, node) in given.items():
            if not name.isidentifier():
                self.mistakes.add(key, f"{name!r} is no name: letters, digits and _ only")
            values = self.mistakes.items(node, f"{name!r} of with")
            if isinstance(node, SequenceNode) and not values:
                self.mistakes.add(node, f"{name!r} of with has no values: no scenario would be left")
            lists.append([(name, value) for value in values])
        return [dict(combination) for combination in itertools.product(*lists)] or [{}]

    def _within(self, pairs: Pairs, scope: Scope) -> float | None:
        if "within" not in pairs:
            return None
        with scope.at("'within'"):
            value = DurationKind().parse(pairs["within"][1], scope)
        return value.value if isinstance(value, Fixed) else None

    def _boot(self, pairs: Pairs) -> BootOptions:
        if "boot" not in pairs:
            return BootOptions()
        given = self.mistakes.pairs(pairs["boot"][1], "boot")
        self.mistakes.known(given, ("cmdline", "devices"), "boot")
        lists = {
            key: tuple(self.mistakes.scalar(item, key) or "" for item in self.mistakes.items(node, key))
            for key, (_, node) in given.items()
        }
        return BootOptions(lists.get("cmdline", ()), lists.get("devices", ()))

    def _splat(self, pairs: Pairs) -> SplatWanted | None:
        if "expect_splat" not in pairs:
            return None
        node = pairs["expect_splat"][1]
        if isinstance(node, ScalarNode):
            return SplatWanted(node.value)
        given = self.mistakes.pairs(node, "expect_splat")
        self.mistakes.known(given, ("kind", "matches"), "expect_splat")
        matches = self._text(given, "matches")
        try:
            re.compile(matches)
        except re.error as error:
            self.mistakes.add(given["matches"][1], f"{matches!r} is no regular expression: {error}")
        if not self._text(given, "kind"):
            self.mistakes.add(node, "expect_splat wants 'kind' (WARNING, BUG, Oops …)")
        return SplatWanted(self._text(given, "kind"), matches)

    def _verdict(self, pairs: Pairs) -> Literal["lost", "hung"] | None:
        word = self._text(pairs, "expect_verdict")
        if word == "lost":
            return "lost"
        if word == "hung":
            return "hung"
        if word:
            self.mistakes.add(pairs["expect_verdict"][1], f"expect_verdict is 'lost' or 'hung', not {word!r}")
        return None


def read_actors(node: Node, scope: Scope) -> tuple[ActorSpec, ...]:
    """Return the actors: a list of names, a mapping to their properties, or a list that mixes both."""
    mistakes = scope.mistakes
    entries: list[tuple[Node, Node | None]] = []
    for item in node.value if isinstance(node, (SequenceNode, MappingNode)) else ():
        if isinstance(item, tuple):
            entries.append(item)
        elif isinstance(item, MappingNode):
            entries += item.value
        else:
            entries.append((item, None))
    if isinstance(node, ScalarNode):
        mistakes.add(node, "actors are a list of names or a mapping of names to properties")
    for key, _ in entries:
        name = mistakes.scalar(key, "an actor's name") or ""
        if not name.isidentifier():
            mistakes.add(key, f"{name!r} is no name for an actor: letters, digits and _ only")
        if scope.actors.get(name):
            mistakes.add(key, f"actor {name!r} is given twice")
        scope.actors[name] = line_of(key) or 1
    return tuple(_read_actor(str(key.value), value, scope) for key, value in entries)


def _read_actor(name: str, node: Node | None, scope: Scope) -> ActorSpec:
    if node is None or (isinstance(node, ScalarNode) and not node.value):
        return ActorSpec(name)
    what = f"actor {name!r}"
    pairs = scope.mistakes.pairs(node, what)
    scope.mistakes.known(pairs, _ACTOR_KEYS, what)
    numbers: dict[str, Value] = {}
    lists: dict[str, tuple[Value, ...]] = {}
    thread_of: str | None = None
    for key, (_, value) in pairs.items():
        with scope.at(f"{key!r} of {what}"):
            if key in ("caps", "sigmask"):
                items = scope.mistakes.items(scope.given(value), scope.place)
                lists[key] = tuple(IntKind().parse(item, scope) for item in items)
            elif key in ("uid", "gid", "word"):
                numbers[key] = IntKind().parse(value, scope)
            elif key == "thread_of":
                thread_of = _read_owner(name, value, scope)
    return ActorSpec(
        name,
        uid=numbers.get("uid", ROOT),
        gid=numbers.get("gid", ROOT),
        caps=lists.get("caps"),
        sigmask=lists.get("sigmask", ()),
        word=numbers.get("word"),
        thread_of=thread_of,
    )


def _read_owner(name: str, node: Node, scope: Scope) -> str | None:
    owner = scope.mistakes.scalar(node, "the actor after 'thread_of'")
    if owner == name:
        scope.mistakes.add(node, f"actor {name!r} cannot be a thread of itself")
    elif owner is not None:
        scope.actors.setdefault("main", 0)
        scope.need_actor(owner, node)
        scope.sharing[name] = owner
    return owner


def _who_makes_steps(pairs: Pairs, actors: tuple[ActorSpec, ...], scope: Scope) -> None:
    """Settle who makes a step that does not say `by`: main, or the only actor there is."""
    names = {actor.name for actor in actors}
    if not names or "main" in names or any(actor.thread_of == "main" for actor in actors):
        return
    del scope.actors["main"]
    said = any(
        key.value == "by"
        for step in pairs["steps"][1].value
        if isinstance(step, MappingNode)
        for key, _ in step.value
    )
    scope.default_by = next(iter(names)) if len(names) == 1 and not said else None


@lru_cache(maxsize=256)
def _scanned(path: Path, _changed: int) -> HeaderWords:
    return header_words(path)


@lru_cache(maxsize=8)
def _modules_of(directory: Path) -> frozenset[str]:
    """Return the modules that kmod/ makes: lab_X of every X.c."""
    return frozenset(f"lab_{path.stem}" for path in directory.glob("*.c"))
