# SPDX-License-Identifier: MIT
"""Steps from Python: every verb as a method, with the checks and the report that a scenario file has.

With ``pytest_plugins = ["lab.plugin.fixtures"]`` in its conftest.py, a project has the fixture `guest`::

    def test_square(guest):
        dev = guest.open("/dev/lab_ioctl", flags="O_RDWR")
        guest.ioctl(dev, request="LAB_IOC_SQUARE", arg={"struct": "lab_square", "n": 12},
                    expect={"returns": 0, "out": {"square": 144}})

A method's arguments are the step's keys (``for_`` for `for`), and `by`, `background`, `within`, `times`,
`expect`; it returns what `as` would bind, which later calls take as an argument. Python's values are read
as YAML's would be: a str is an expression where a number belongs, a dict is a form, bytes are data, seconds
may be a float.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from lab.abi import header_words, known_names, known_structs
from lab.abi.layout import nearest
from lab.errors import ScenarioError
from lab.language.actors import read_actors
from lab.language.nodes import MappingNode, Mistakes, Node, ScalarNode, node_of
from lab.language.reading import Words
from lab.language.scope import Scope
from lab.language.signature import word
from lab.language.steps import read_inner, read_step
from lab.scenario import ModuleLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.language.steps import Step
    from lab.language.verb import Verb
    from lab.run.session import Session


ModulesGiven: TypeAlias = "Sequence[str | Mapping[str, Mapping[str, object]]]"


class Hand:
    """A guest in the hand of a Python test: end() it, or use it as a context manager."""

    def __init__(
        self,
        session: Session,
        *,
        modules: Sequence[ModuleLoad] = (),
        uapi: Sequence[Path] = (),
    ) -> None:
        """`modules` are loaded in order; `uapi` are headers.

        Raises StepFailed for a module that is refused.
        """
        self.session = session
        self._scope = Scope(Mistakes(Path("test")), _words(uapi), verbs=session.verbs, inner=read_inner)
        self._names: dict[int, tuple[str, object]] = {}  # what was given to the test, by identity
        self._count = 0
        self.later = Later(self)
        session.load_modules(modules)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.end()

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.session.verbs]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the method of a verb; AttributeError names the nearest."""
        verb = self.verb(name)

        def step(*arguments: Any, **keys: Any) -> Any:
            return self._make(self.node(verb, arguments, keys, _caller()))

        step.__name__, step.__doc__ = verb.name, verb.signature.about
        return step

    def actor(self, name: str, **properties: Any) -> str:
        """Bring an actor to life, as a scenario's `actors`: uid, gid, caps, sigmask, word or thread_of."""
        file, line = _caller()
        self._scope.mistakes = Mistakes(file)
        (spec,) = read_actors(node_of({name: properties}, line), self._scope)
        self._scope.mistakes.raise_any()
        self.session.cast.spawn(spec)
        return name

    def together(self, *steps: MappingNode) -> list[Any]:
        """Make steps at once (`guest.later.read(…)` makes one) and return what each gave, in their order."""
        return self._several("together", steps, {})

    def in_turn(self, *steps: MappingNode, times: int = 1, **keys: Any) -> list[Any]:
        """Make steps one after the other in the guest, `times` times, and return what each gave at last."""
        return self._several("in_turn", steps, {"times": times, **keys})

    def _several(self, verb: str, steps: Sequence[MappingNode], keys: Mapping[str, Any]) -> list[Any]:
        names = [self._bound_name(step) for step in steps]
        self._make(self.node(self.session.verbs[verb], (list(steps),), keys, _caller()))
        found = [self.session.bound[name] for name in names]
        for name, value in zip(names, found, strict=True):
            self._names[id(value)] = (name, value)
        return found

    def end(self) -> None:
        """End the actors and unload the modules.

        Raises LeakedReference for what is not given back.
        """
        self.session.finish()

    def verb(self, name: str) -> Verb:
        """Return the verb that a method's name means; AttributeError names the nearest."""
        verbs = {} if name.startswith("__") else self.session.verbs  # Python asks while there is none
        found = verbs.get(word(name))
        if found is None:
            raise AttributeError(f"there is no verb {name!r}{nearest(name, verbs)}")
        return found

    def node(
        self, verb: Verb, arguments: Sequence[Any], keys: Mapping[str, Any], where: tuple[Path, int]
    ) -> MappingNode:
        """Return the step that a call of a method is."""
        file, line = where
        self._scope.mistakes = Mistakes(file)
        given: dict[str, Any] = {verb.name: ScalarNode("tag:yaml.org,2002:str", "", style=None)}
        parameters = list(verb.signature.parameters)
        if len(arguments) > len(parameters):
            raise TypeError(f"{verb.name}() takes at most {len(parameters)} arguments by position")
        for key, value in zip(parameters, arguments, strict=False):
            given[verb.name if key == verb.signature.first.key else key] = value
        first = verb.signature.first
        for key, value in keys.items():
            name = word(key)
            given[verb.name if name == first.key and name not in given else name] = value
        self._count += 1
        given.setdefault("as", f"_{self._count}")
        node = node_of({key: self._known(value) for key, value in given.items() if value is not None}, line)
        assert isinstance(node, MappingNode)
        return node

    def _known(self, value: Any) -> Any:
        """Return a value with the results of earlier calls in it as references to them."""
        if id(value) in self._names:
            name, _ = self._names[id(value)]
            return ScalarNode("tag:yaml.org,2002:str", f"${name}", style=None)
        if isinstance(value, Node):
            return value
        if isinstance(value, Mapping):
            return {key: self._known(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._known(item) for item in value]
        return value

    def _make(self, node: MappingNode) -> Any:
        step = self._read(node)
        try:
            outcome = self.session.step(step)
        finally:  # a `finish` that failed took nothing: the test may try again
            for name, known in self._scope.bound.items():
                running = self.session.bound.get(name)
                if known.finished and getattr(running, "outcome", running) is None:
                    known.finished = 0
        assert step.bind is not None
        self._names[id(outcome)] = (step.bind, outcome)
        return outcome

    def _read(self, node: MappingNode) -> Step:
        _set_marks(node)
        step = read_step(node, self._scope)
        self._scope.mistakes.raise_any()
        if step is None:
            raise ScenarioError([])
        return step

    @staticmethod
    def _bound_name(step: MappingNode) -> str:
        return next(str(value.value) for key, value in step.value if key.value == "as")


class Later:
    """Steps for `together` and `in_turn`: the same methods, which make nothing yet."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def __getattr__(self, name: str) -> Callable[..., MappingNode]:
        """Return the method of a verb that only describes its step."""
        verb = self._hand.verb(name)
        return lambda *arguments, **keys: self._hand.node(verb, arguments, keys, _caller())


def _caller() -> tuple[Path, int]:
    """Return the file and line of the test that called a method of this file."""
    frame = sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads every file of the stack
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return Path(frame.f_code.co_filename), frame.f_lineno


def _set_marks(node: MappingNode) -> None:
    """Give the nodes that were made without a place the step's."""
    mark = node.start_mark
    for _, value in node.value:
        if value.start_mark is None:
            value.start_mark = value.end_mark = mark


def module_loads(modules: ModulesGiven) -> tuple[ModuleLoad, ...]:
    """Return the modules that a Python test names: 'lab_core', or {'lab_core': {'depth': 4}}."""
    named: list[tuple[str, Mapping[str, object]]] = []
    for module in modules:
        named += [(module, {})] if isinstance(module, str) else module.items()
    return tuple(
        ModuleLoad(name, tuple((key, str(value)) for key, value in params.items())) for name, params in named
    )


def _words(headers: Sequence[Path]) -> Words:
    constants, structs = known_names(), dict(known_structs())
    for path in headers:
        scanned = header_words(path)
        constants |= scanned.constants
        structs.update({name: tuple(fields) for name, fields in scanned.structs.items()})
    return Words(constants, structs)
