# SPDX-License-Identifier: MIT
"""Scenario files: YAML to records. Nothing is fetched, and all mistakes of a file are told at once."""

from __future__ import annotations

import itertools
import math
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from lab.abi import header_words, known_names, known_structs
from lab.abi.layout import nearest
from lab.errors import Mistake, ScenarioError
from lab.guest.argv import DEVICES
from lab.guest.splat_words import KINDS
from lab.language.actors import read_actors, who_makes_steps
from lab.language.before import Before, references
from lab.language.composing import MOST_BYTES, Budget, compose, decoded, weight
from lab.language.kinds import DurationKind
from lab.language.meant import MEANT_KEYS, read_meant
from lab.language.nodes import (
    MappingNode,
    Mistakes,
    Node,
    Pairs,
    ScalarNode,
    SequenceNode,
    line_of,
    text_of,
)
from lab.language.patterns import compiled
from lab.language.reading import Words
from lab.language.requires import Requires, read_requires
from lab.language.scope import Scope
from lab.language.steps import read_inner, read_steps
from lab.language.trips import TRIP_KEYS, read_trips
from lab.language.values import Fixed
from lab.scenario import BootOptions, ModuleLoad, Scenario, ScenarioFile, SplatWanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from lab.abi.header_words import HeaderWords
    from lab.kernels.tree import Trees
    from lab.language.verb import Verb
    from lab.scenario import Trip

# What the head says for all scenarios, and a scenario may say itself.
_COMMON_KEYS = ("modules", "uapi", "requires", "actors", "boot", "within", *MEANT_KEYS)
_GUIDE_KEYS = ("choose", "price", "read")  # for who does not know the channel, see docs/channels.md
_FILE_KEYS = (
    "channel",
    "about",
    *_GUIDE_KEYS,
    "not_applicable",
    "trip",
    *_COMMON_KEYS,
    "before",
    "scenarios",
)
# A channel is a mark of pytest's, and these have a meaning there.
_MARKS = ("filterwarnings", "guest", "parametrize", "scenario", "skip", "skipif", "usefixtures", "xfail")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")  # MODULE_NAME_LEN
_MOST_SETS = 1000  # of values, of one scenario
_MOST_NAME = 200  # characters
_SCENARIO_KEYS = ("name", "about", "with", *_COMMON_KEYS, "before", "expect_splat", "expect_verdict", "steps")


def load(
    path: Path, *, root: Path, verbs: Mapping[str, Verb], trees: Trees, text: str | None = None
) -> ScenarioFile:
    """Return a file's scenarios.

    `verbs` are those that steps may have, by name (lab.verbs.table() has all). `root` is what paths are told
    relative to. `trees` have the modules and their headers. `text` is read instead of what is in the file.
    Raises ScenarioError with all mistakes of the file.
    """
    reader = Reader(path, root, verbs, trees)
    try:
        return reader.read(text)
    except RecursionError:  # values of `with` that name each other
        why = "this cannot be read: something in it names itself, again and again"
        raise ScenarioError([*reader.mistakes.found, Mistake(reader.mistakes.file, 1, why)]) from None


def check(paths: Iterable[Path], *, root: Path, verbs: Mapping[str, Verb], trees: Trees) -> list[Mistake]:
    """Return the mistakes of several files, for a directory of those in it; the rest is as in load()."""
    found: list[Mistake] = []
    for path in paths:
        for file in sorted(path.rglob("*.yaml")) if path.is_dir() else [path]:
            try:
                load(file, root=root, verbs=verbs, trees=trees)
            except ScenarioError as error:
                found += error.mistakes
    return found


class Reader:
    """Reads one file."""

    def __init__(self, path: Path, root: Path, verbs: Mapping[str, Verb], trees: Trees) -> None:
        self.path = path
        shown = path.resolve().is_relative_to(root.resolve())
        self.mistakes = Mistakes(path.resolve().relative_to(root.resolve()) if shown else path)
        self.verbs = verbs
        self.trees = trees
        self._has = cache(trees.parameters)  # asked for each scenario of the file
        self.budget = Budget(self.mistakes)

    def _content(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(MOST_BYTES + 1)
        except OSError as error:
            raise ScenarioError([Mistake(self.mistakes.file, 1, f"cannot be read: {error}")]) from None

    def read(self, text: str | None = None) -> ScenarioFile:
        """Return what is in it, or in a text instead; raises ScenarioError with all its mistakes."""
        data = self._content() if text is None else text.encode()
        node = compose(decoded(data, self.mistakes), self.mistakes)
        if node is None:
            raise ScenarioError([Mistake(self.mistakes.file, 1, "the file is empty")])
        head = self.mistakes.pairs(node, "a scenario file")
        self.mistakes.known(head, _FILE_KEYS, "a scenario file")
        for wanted in ("channel", "scenarios"):
            if wanted not in head:
                self.mistakes.add(node, f"a scenario file wants {wanted!r}")
        channel = self._channel(head)
        self._common = weight(*(value for key, (_, value) in head.items() if key != "scenarios"))
        modules, uapi = self._modules(head, None), self._headers(head)
        words = self._words(uapi)
        self.requires = read_requires(head, self.mistakes)
        self.before = self._before(head)
        scenarios: list[Scenario] = []
        names: dict[str, int] = {}
        if "scenarios" in head:
            for item in self.mistakes.items(head["scenarios"][1], "scenarios"):
                scenarios += self._scenarios(item, head, words, names, channel)
        notes = self._notes(head)
        trips, no_trip = self._trips(head, words, channel)
        self.before.close()
        self.mistakes.raise_any()
        about = self._text(head, "about")
        guide = {key: self._text(head, key) for key in _GUIDE_KEYS}
        return ScenarioFile(
            self.path,
            channel,
            about,
            modules,
            uapi,
            tuple(scenarios),
            notes,
            trips=trips,
            no_trip=no_trip,
            **guide,
        )

    # --- the head ---------------------------------------------------------------------------------

    def _text(self, pairs: Pairs, key: str) -> str:
        if key not in pairs:
            return ""
        return (self.mistakes.scalar(pairs[key][1], repr(key)) or "").strip()

    def _channel(self, head: Pairs) -> str:
        name = self._text(head, "channel")
        if "channel" in head and not _WORD.fullmatch(name):
            self.mistakes.add(head["channel"][1], f"a channel is a word (letters, digits, _), not {name!r}")
        elif name in _MARKS:
            self.mistakes.add(head["channel"][1], f"{name!r} means something to pytest: take another word")
        return name

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
            for key, (key_node, value) in self.mistakes.pairs(given, "a module's parameters").items():
                self._known_parameter(name_node, key_node, key)
                shown = scope.given(value) if scope else value
                text = self.mistakes.scalar(shown, f"parameter {key!r}")
                if '"' in (text or ""):
                    self.mistakes.add(value, f"parameter {key!r}: no kernel takes a value with a quote in it")
                params.append((key, text or ""))
        name = self.mistakes.scalar(name_node, "a module's name")
        if name is None:
            return None
        if not _MODULE.fullmatch(name):
            told = f"no module can be called {name!r}{_no_module(name, self.trees)}"
            self.mistakes.add(name_node, told)
        elif self.trees.claims(name) and name not in self.trees.modules:
            self.mistakes.add(name_node, f"unknown module {name!r}{nearest(name, self.trees.modules)}")
        return ModuleLoad(name, tuple(params))

    def _known_parameter(self, module: Node, where: Node, name: str) -> None:
        """Note a parameter that the module does not have: the kernel says so in its log and goes on."""
        called = isinstance(module, ScalarNode) and _MODULE.fullmatch(module.value)
        known = self._has(module.value) if called else None
        if known is not None and name not in known:
            self.mistakes.add(where, f"{module.value} has no parameter {name!r}{nearest(name, known)}")

    def _headers(self, pairs: Pairs) -> tuple[str, ...]:
        if "uapi" not in pairs:
            return ()
        found = []
        for item in self.mistakes.items(pairs["uapi"][1], "uapi"):
            name = self.mistakes.scalar(item, "a header's name")
            if name is None:
                continue
            if self.trees.header(name) is None:
                there = self.trees.headers()
                places = ", ".join(self.trees.places()) or "any tree of modules"
                self.mistakes.add(item, f"no header {name!r} in {places}{nearest(name, there)}")
                continue
            found.append(name)
        return tuple(found)

    def _words(self, headers: tuple[str, ...]) -> Words:
        constants, structs = known_names(), dict(known_structs())
        for name in headers:
            header = self.trees.header(name)
            assert header is not None  # _headers() has looked
            path = header.path
            scanned = _scanned(path, path.stat().st_mtime_ns)
            constants = constants | scanned.constants
            structs.update({struct: tuple(fields) for struct, fields in scanned.structs.items()})

        def elsewhere(name: str) -> str | None:
            for path in (each.path for each in map(self.trees.header, self.trees.headers()) if each):
                scanned = _scanned(path, path.stat().st_mtime_ns)
                if name in scanned.constants or name in scanned.structs:
                    return path.name
            return None

        return Words(constants, structs, elsewhere)

    def _trips(self, head: Pairs, words: Words, channel: str) -> tuple[tuple[Trip, ...], str]:
        """Return the round trip for each number of bytes, or why there is none."""
        if "trip" not in head:
            return (), ""
        node = head["trip"][1]
        if isinstance(node, ScalarNode):
            return (), self._text(head, "trip")
        found: list[Trip] = []
        for item in node.value if isinstance(node, SequenceNode) else [node]:
            found += self._trip(item, head, words, channel)
        for twice in {each.bytes for each in found if [other.bytes for other in found].count(each.bytes) > 1}:
            self.mistakes.add(node, f"two trips carry {twice} bytes: that is what tells them apart")
        return tuple(found), ""

    def _trip(self, node: Node, head: Pairs, words: Words, channel: str) -> tuple[Trip, ...]:
        given = self.mistakes.pairs(node, "trip")
        self.mistakes.known(given, TRIP_KEYS, "trip")
        amounts = weight(given["bytes"][1]) if "bytes" in given else 1
        self.budget.spend((weight(node) + self._common) * amounts, node)
        common = {**{key: value for key, value in head.items() if key in _COMMON_KEYS}, **given}
        base = Scenario(
            name="trip",
            id="trip",
            file=self.mistakes.file,
            line=line_of(node),
            channel=channel,
            about=self._text(given, "about"),
            modules=self._modules(common, None),
            uapi=self._headers(head),
            requires=self._requires(given),
            boot=self._boot(common),
        )
        return read_trips(given, node, common, base, words, self.mistakes, self.verbs, self.before)

    def _requires(self, own: Pairs) -> Requires:
        """Return what the head and a scenario or trip of it require together."""
        wants = read_requires(own, self.mistakes)
        requires = self.requires.merged(wants)
        if self.requires.arch and wants.arch and not requires.arch:
            both = f"{' or '.join(self.requires.arch)} in the head, {' or '.join(wants.arch)} here"
            self.mistakes.add(own["requires"][0], f"no architecture is both: {both}")
        return requires

    def _before(self, pairs: Pairs) -> Before:
        return Before(pairs["before"][1] if "before" in pairs else None, self.mistakes)

    # --- scenarios ----------------------------------------------------------------------------------

    def _scenarios(
        self, node: Node, head: Pairs, words: Words, names: dict[str, int], channel: str
    ) -> list[Scenario]:
        own = self.mistakes.pairs(node, "a scenario")
        self.mistakes.known(own, _SCENARIO_KEYS, "a scenario")
        name = self._text(own, "name")
        self._check_name(name, own)
        if not name:
            self.mistakes.add(node, "a scenario wants a name")
        elif name in names:
            self.mistakes.add(own["name"][0], f"a scenario of this name is in line {names[name]} already")
        names.setdefault(name, line_of(node))
        if "steps" not in own:
            self.mistakes.add(node, f"scenario {name!r} has no steps")
            return []
        # What the scenario says itself replaces what the head says; requirements add up.
        pairs = {**{key: value for key, value in head.items() if key in _COMMON_KEYS}, **own}
        headers = self._headers(own)
        if headers:
            words = self._words((*self._headers(head), *headers))
        requires = self._requires(own)
        before = self._before(own) if "before" in own else self.before
        given = self.mistakes.items(own["steps"][1], "steps")
        meant = read_meant(pairs, self.mistakes)
        self._all_used(own, {**{key: value for key, value in head.items() if key == "before"}, **pairs})
        found = []
        heavy = weight(node) + self._common
        for parameters in self._parameters(own):
            self.budget.spend(heavy, node)
            scope = Scope(
                self.mistakes,
                words,
                verbs=self.verbs,
                parameters=parameters,
                inner=read_inner,
                requires=requires,
                budget=self.budget,
            )
            actors = read_actors(pairs["actors"][1], scope) if "actors" in pairs else ()
            who_makes_steps(pairs, actors, scope)
            shown = tuple((key, _in_id(value)) for key, value in parameters.items())
            tail = f" ({', '.join(f'{key}={text}' for key, text in shown)})" if shown else ""
            first = before.read(scope, given, name)
            steps = first + read_steps(own["steps"][1], scope)
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
                    meant=meant,
                    parameters=shown,
                    needs=scope.needs,
                )
            )
        if before is not self.before:
            before.close()
        ids = [scenario.id for scenario in found]
        for again in {each for each in ids if ids.count(each) > 1}:
            self.mistakes.add(node, f"two sets of `with` values look the same: {again}")
        return found

    def _check_name(self, name: str, own: Pairs) -> None:
        """Note a name that no command line could select, or no terminal shows as it is."""
        if "::" in name:
            self.mistakes.add(own["name"][1], "'::' parts what pytest selects by: a name cannot have it")
        if not name.isprintable():
            self.mistakes.add(own["name"][1], f"a name is printable and of one line, not {name!r}")
        if len(name) > _MOST_NAME:
            self.mistakes.add(own["name"][1], f"a name has at most {_MOST_NAME} characters, not {len(name)}")

    def _all_used(self, own: Pairs, pairs: Pairs) -> None:
        """Note names of `with` that nothing refers to: the same scenario would run several times."""
        if "with" not in own:
            return
        used = {name for _, node in pairs.values() for name in references(node)}
        for name, (key, _) in self.mistakes.pairs(own["with"][1], "with").items():
            if name not in used:
                self.mistakes.add(key, f"nothing uses ${name}: take it out of `with`")

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
        sets = math.prod(len(values) or 1 for values in lists)
        if sets > _MOST_SETS:
            what = f"`with` makes {sets:,} scenarios of this one, {_MOST_SETS:,} are the most"
            self.mistakes.add(pairs["with"][0], f"{what}: choose the values that matter")
            return [dict(values[0] for values in lists if values)]
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
        for name in lists.get("devices", ()):
            if name not in DEVICES:
                self.mistakes.add(given["devices"][1], f"unknown device {name!r}{nearest(name, DEVICES)}")
        return BootOptions(lists.get("cmdline", ()), lists.get("devices", ()))

    def _splat(self, pairs: Pairs) -> SplatWanted | None:
        if "expect_splat" not in pairs:
            return None
        node = pairs["expect_splat"][1]
        if isinstance(node, ScalarNode):
            return SplatWanted(self._kind(node))
        given = self.mistakes.pairs(node, "expect_splat")
        self.mistakes.known(given, ("kind", "matches"), "expect_splat")
        matches = self._text(given, "matches")
        try:
            compiled(matches)
        except re.error as error:
            self.mistakes.add(given["matches"][1], f"{matches!r} is no regular expression: {error}")
        if "kind" not in given:
            self.mistakes.add(node, f"expect_splat wants a kind: {', '.join(sorted(KINDS))}")
            return None
        return SplatWanted(self._kind(given["kind"][1]), matches)

    def _kind(self, node: Node) -> str:
        """Return the kind of splat that a node names, which the lab must know."""
        kind = self.mistakes.scalar(node, "the kind of a splat") or ""
        if kind.lower() not in {each.lower() for each in KINDS}:
            self.mistakes.add(
                node, f"no splat is of kind {kind!r}{nearest(kind, KINDS) or nearest(kind.upper(), KINDS)}"
            )
        return kind

    def _verdict(self, pairs: Pairs) -> Literal["lost", "hung"] | None:
        word = self._text(pairs, "expect_verdict")
        if word == "lost":
            return "lost"
        if word == "hung":
            return "hung"
        if word:
            self.mistakes.add(pairs["expect_verdict"][1], f"expect_verdict is 'lost' or 'hung', not {word!r}")
        return None


def _in_id(value: Node) -> str:
    """Return a value of `with` as ids show it, where `::` would part them."""
    return text_of(value, 40).replace("::", ":\\x3a")


def _no_module(name: str, trees: Trees) -> str:
    """Return what to do about a name that is none."""
    if name.startswith("$"):
        return ": the values of `with` are for steps and parameters; a scenario for each module"
    bare = name.removesuffix(".ko")
    if name.endswith(".c"):
        bare = trees.made_of(name) or name
    return f"; did you mean {bare!r}?" if bare != name and _MODULE.fullmatch(bare) else ""


@lru_cache(maxsize=256)
def _scanned(path: Path, _changed: int) -> HeaderWords:
    return header_words(path)
