# SPDX-License-Identifier: MIT
"""`lab mutate`: which mistakes of a module its channel's scenarios notice."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import UsageError
from lab.house import DOCS, HOUSE, SCENARIOS, TREE, TREES, WISHES
from lab.language import reader
from lab.mutate import exclusions, operators, score
from lab.mutate.journal import Journal
from lab.mutate.trial import Subject, Trial
from lab.run.lab import Lab
from lab.store.cache import digest, file_digest
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lab.kernels.model import Target
    from lab.mutate.operators import Mutant
    from lab.mutate.score import Score
    from lab.progress import Progress
    from lab.scenario import Scenario
    from lab.settings import Settings

    Show = Callable[[Sequence[str], Iterable[Sequence[str]]], None]  # a head and rows

EXCLUSIONS = DOCS / "mutants.yaml"
_SHOWN_BY = {"core": ("store",), "ioctl": ("ioctl", "compat")}  # where it is not the file of its own name


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    files: Sequence[Path]  # of modules: X.c
    kernels: Sequence[str]
    arches: Sequence[str]
    sample: int | None = None  # None: all mutants
    seed: int = 0  # of the sample
    only: Sequence[str] = ()  # pieces of ids, one of which a mutant must have; none: all
    scenarios: Sequence[Path] = ()  # none: the channel's
    as_json: bool = False


def main(settings: Settings, progress: Progress, wanted: Wanted, show: Show) -> bool:
    """Try the mutants and print what became of them, by `show` or as JSON.

    Returns whether every mutant was caught, but for those that are excluded with an argument. Raises
    UsageError for what is no module of the tree, NotWell where scenarios do not pass as things are, and
    other LabErrors where something is in the way.
    """
    chosen = [(subject(path, wanted.scenarios), *choose(path, wanted)) for path in wanted.files]
    excluded = exclusions.read(EXCLUSIONS)
    scores: list[Score] = []
    lab = Lab(settings, WISHES, progress)
    try:
        for target in lab.targets(wanted.kernels, wanted.arches, ["stock"]):
            for module, mutants, there, sample in chosen:
                found = score.Score(
                    f"kmod/{module.name}.c",
                    str(target),
                    there,
                    sample,
                    exclusions.argued(
                        excluded.get(module.name, ()), operators.mutants(module.source), str(EXCLUSIONS)
                    ),
                )
                _try(lab, target, module, mutants, found)
                scores.append(found)
                if not wanted.as_json:
                    show(score.HEAD, found.rows())
                    print("\n".join(found.lines()), flush=True)
    finally:
        lab.close()
    if wanted.as_json:
        print(json.dumps([each.to_json() for each in scores], indent=1))
    return not any(each.survivors or each.stale for each in scores)


def _try(lab: Lab, target: Target, module: Subject, mutants: Sequence[Mutant], found: Score) -> None:
    path = lab.cache.records / f"mutants-{module.name}.jsonl"
    journal = Journal(path, inputs(target, module))
    trial = Trial(lab, target, module, journal)
    known = sum(journal.known(mutant) is not None for mutant in mutants)
    text = f"{module.name} on {target}: {len(mutants)} mutants"
    text += f", {known} of them known from before" if known else ""
    with lab.progress.task(text, len(mutants)) as task:
        for number, (mutant, outcome) in enumerate(trial.run(mutants), 1):
            found.add(mutant, outcome)
            task.advance(1)
            if mutant in found.survivors:
                lab.progress.note(f"{number} of {len(mutants)}: survived: line {mutant.line}: {mutant.id}")


def choose(path: Path, wanted: Wanted) -> tuple[list[Mutant], int, str]:
    """Return the mutants of a file that are to be tried, how many it has, and in words which are left out."""
    every = operators.mutants(path.read_bytes())
    mutants = [each for each in every if not wanted.only or any(word in each.id for word in wanted.only)]
    if not mutants:
        raise UsageError(
            f"none of the {len(every)} mutants of {path} is named so", hint="`lab mutate --list` names them"
        )
    said = f"those with {' or '.join(map(repr, wanted.only))}" if wanted.only else ""
    if wanted.sample is not None and wanted.sample < len(mutants):
        places = sorted(random.Random(wanted.seed).sample(range(len(mutants)), wanted.sample))  # noqa: S311 - no secret
        mutants = [mutants[place] for place in places]
        said = ", ".join([*([said] if said else []), f"drawn with seed {wanted.seed}"])
    return mutants, len(every), f"{len(mutants)} of {len(every)} mutants: {said}" if said else ""


def subject(path: Path, files: Sequence[Path] = ()) -> Subject:
    """Return a module and the scenarios that must show its mistakes: those of `files`, or its channel's.

    Raises UsageError for what is no module of the tree, or has no scenarios.
    """
    path = path.resolve()
    module = f"lab_{path.stem}"
    if path.parent != TREE.path.resolve() or module not in TREE.modules:
        raise UsageError(f"{path} is no module of {TREE.path}", hint="name one of its files: kmod/X.c")
    own = [SCENARIOS / f"{name}.yaml" for name in _SHOWN_BY.get(path.stem, (path.stem,))]
    for file in own:
        if not files and not file.is_file():
            raise UsageError(f"there is no {file}", hint=f"say which are about {module}: --scenarios FILE")
    found: list[Scenario] = []
    for file in files or own:
        found += reader.load(file.resolve(), root=HOUSE, verbs=table(), trees=TREES).scenarios
    return Subject(path.stem, path.read_bytes(), tuple(found))


def inputs(target: Target, module: Subject) -> str:
    """Return a digest of what decides what becomes of a module's mutants."""
    sources = [TREE.path / name for name in ("core.c", f"{module.name}.c")]
    sources += [*sorted(TREE.path.glob("*.h")), *sorted((TREE.path / "uapi").glob("*.h"))]
    files = sorted({HOUSE / each.file for each in module.scenarios})
    return digest(
        str(target),
        target.kernel.release,
        target.kernel.package_version,
        [(path.name, file_digest(path)) for path in (*sources, *files)],
    )


def show_mutants(paths: Sequence[Path], wanted: Wanted, *, as_patch: bool) -> None:
    """Print the mutants that would be tried, by name or as patches for kmod/faults/."""
    for path in paths:
        source = path.read_bytes()
        for mutant in choose(path, wanted)[0]:
            print(f"{path}:{mutant.line}: {mutant.id}")
            if as_patch:
                print(mutant.patch(path.name, source))


__all__ = ["Wanted", "choose", "inputs", "main", "show_mutants", "subject"]
