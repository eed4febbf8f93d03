# SPDX-License-Identifier: MIT
"""The lab of one process: its targets, the guests that wait, and one scenario after the other."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lab.errors import (
    BootFailed,
    CacheError,
    GuestError,
    HostError,
    LabError,
    ModuleFailed,
    Unsupported,
)
from lab.language.meant import Meant
from lab.run import beside, runner
from lab.run.growth import Growth, repeatable
from lab.run.ready import Loads, Ready, Wishes
from lab.run.record import Finding, Identity, Provenance, Record, Seconds, Verdict, refused
from lab.run.watched import Watch
from lab.store.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from lab.guest.argv import BootSpec
    from lab.guest.machine import Guest
    from lab.guest.pool import Pool
    from lab.guest.symbols import Symbols
    from lab.guest.template import Template
    from lab.kernels.model import Target
    from lab.progress import Progress
    from lab.run.hand import Hand, ModulesGiven
    from lab.run.results import Records
    from lab.scenario import BootOptions, Scenario
    from lab.settings import Settings

    Kind: TypeAlias = tuple[Target, BootOptions, Loads, bool, bool]  # of guests: see Lab.pool()

_WORTH_LOADING = 6  # scenarios that load the same modules, for a template that has them to pay
_TARGETS = 4  # whose parts are kept at hand
_POOLS = 3  # kinds of guest kept waiting side by side
_DOUBTED = "CHANLAB_TURBO=0 runs everything in clones; please report what was left"


def _close(pool: Future[Pool]) -> None:
    """Close a pool that nobody wants, as soon as it is there."""
    if not pool.cancelled() and pool.exception() is None:
        pool.result().close()


class _Damaged(Exception):  # noqa: N818 - what happened
    """Something in the cache was not what it was; it is thrown away."""


class Unwell(Exception):  # noqa: N818 - a verdict
    """The guest of a Python test is not well after it."""

    def __init__(self, found: Finding) -> None:
        super().__init__("\n".join(found.lines()))


class Lab:
    """Everything that one process has of the lab; close it."""

    def __init__(self, settings: Settings, wishes: Wishes, progress: Progress) -> None:
        self.settings = settings
        self.wishes = wishes
        self.progress = progress
        self.cache = Cache(settings.cache, progress)
        self.source = wishes.source(settings, self.cache, progress)
        self._ready: dict[Target, Ready] = {}
        self.elsewhere: dict[
            str, str
        ] = {}  # modules that a dkms.conf has for some kernels only, and what to say
        self._broken: dict[tuple[Target, BootOptions | None], LabError] = {}
        self._pools: dict[Kind, Pool] = {}
        self._expected: Counter[tuple[Target, BootOptions, Loads, bool]] = Counter()
        self._early: tuple[Kind, Future[Pool]] | None = None
        self._order: dict[Target, None] = {}  # that scenarios are run in
        self._names: defaultdict[Target, set[str]] = defaultdict(set)  # of the modules that they load
        self._notes: dict[str, None] = {}  # in order, each once
        # Without findings so far; ids are unique in a file only.
        self._passed: defaultdict[tuple[Target, str], dict[Path, Scenario]] = defaultdict(dict)
        self._watches: defaultdict[Target, Watch] = defaultdict(lambda: Watch(off=not wishes.watched))
        self._readying = 0.0  # seconds that the last ready() took
        self.doubts: list[str] = []  # verdicts of this run that do not stand
        self.left_over = False  # whether a guest in place had something of the one before it

    def targets(
        self, kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str], *, fetch: bool = True
    ) -> tuple[Target, ...]:
        """Return the targets that were asked for.

        Raises UsageError, KernelNotOffered among them.
        """
        return self.source.select(kernels, arches, flavours, fetch=fetch)

    def plan(self, targets: Sequence[Target]) -> list[str]:
        """Return in words what a run of several targets will need, before any of it is fetched or built."""
        wanted = [target.kernel for target in targets]
        missing = [kernel for kernel in wanted if not self.source.is_cached(kernel)]
        size = sum(map(self.source.download_bytes, missing))
        tools = sorted({kernel.compiler for kernel in wanted})
        arches = list(dict.fromkeys(kernel.arch for kernel in wanted))
        lines = [f"{len(targets)} targets: {' '.join(map(str, targets))}"]
        if missing:
            lines.append(f"to fetch: {len(missing)} kernels with their headers, {size / 1e6:.0f} MB")
        lines.append(
            f"built with {', '.join(tools)} for {', '.join(arches)}: a compiler that is not there yet is "
            "some 65 MB, a QEMU 30 MB; each target is booted once"
        )
        return lines

    def target(self, target: Target) -> Ready:
        """Return a target's parts, begun if they are not."""
        found = self._begun(target)
        # What the next one needs is fetched and built while this one's scenarios run.
        order = list(self._order)
        if target in self._order and target != order[-1]:
            self._begun(order[order.index(target) + 1])
        return found

    def begin(self, target: Target, *, guest: bool) -> None:
        """Make ready what a run on a target begins with, while its scenarios are still being read.

        `guest`: start QEMU too, for the most usual kind of guest. Only where the kernel is there already: a
        scenario that cannot be read shall not have it fetched.
        """
        if not self.source.is_cached(target.kernel):
            return
        parts = self._begun(target, early=True)
        if guest and not self.wishes.cold:
            from lab.scenario import BootOptions  # noqa: PLC0415 - only runs that start guests need it

            kind = (target, BootOptions(), (), False, True)
            self._early = kind, parts.background(lambda: self._new_pool(*kind))

    def _begun(self, target: Target, *, early: bool = False) -> Ready:
        """Return a target's parts; `early`: before anybody knows which modules will be wanted."""
        if target not in self._ready:
            while len(self._ready) >= _TARGETS:
                self._forget(next(iter(self._ready)))
            expected = [boot for known, boot, *_ in self._expected if known == target]
            self._ready[target] = Ready(
                target,
                self.wishes,
                self.settings,
                self.cache,
                self.progress,
                self.source,
                only=None if early else self._names[target],
                boot=next(iter(expected), None),
            )
        return self._ready[target]

    def _forget(self, target: Target) -> None:
        """Let go of a target that was used long ago: a matrix has many, and memory is bounded."""
        for key in [key for key in self._pools if key[0] == target]:
            self._drop(key)
        ready = self._ready.pop(target)
        ready.close()
        self._note_accel(ready)

    def _note_accel(self, ready: Ready) -> None:
        if ready.accel is not None:
            self._notes[f"guests run under {ready.accel.name}: {ready.accel.why}"] = None

    def ready(self, target: Target, scenario: Scenario) -> None:
        """Make what a scenario needs on a target.

        Raises Unsupported, ModuleFailed, BootFailed and other LabErrors; what failed once is not tried again.
        """
        started = time.monotonic()
        try:
            self._make_ready(target, scenario)
        except Unsupported:
            raise
        except Exception:  # what comes out of a damaged cache may raise anything
            if not self._made_anew():
                raise
            self._make_ready(target, scenario)
        finally:
            self._readying = time.monotonic() - started

    def _made_anew(self) -> bool:
        """Look for damage in the cache before anybody is blamed; whether there was, and all begins anew."""
        found = self.cache.verify()
        for what in found:
            note = f"the cache was damaged, what is needed is made again: {what}"
            self.progress.note(note)
            self._notes[note] = None
        if found:
            if self._early is not None:
                self._early[1].add_done_callback(_close)
                self._early = None
            for target in list(self._ready):
                self._forget(target)
            self._broken.clear()
        return bool(found)

    def _make_ready(self, target: Target, scenario: Scenario) -> None:
        with self._once(target, None):
            parts = self.target(target)
            # A guest that begin() began is of the same kind, as a rule.
            parts.cover(scenario.loads, self._names[target], scenario.boot if self._early is None else None)
        parts.check(scenario)  # while modules are being built
        with self._once(target, None):
            failed = parts.modules.failed
        self._check_meant(target, scenario)
        for name in scenario.loads:
            if name in failed:
                raise ModuleFailed(f"{name} does not compile against {target.kernel.release}", failed[name])
        parts.loads(scenario.modules)  # a module that there is not is this scenario's mistake alone
        with self._once(target, scenario.boot):
            modules, narrow = self._ahead(target, scenario)
            turns = beside.alone(scenario, parts.images)
            self.pool(target, scenario.boot, modules, narrow, turns=turns)

    def _check_meant(self, target: Target, scenario: Scenario) -> None:
        """Raise Unsupported where a dkms.conf says that a module is not for the kernel."""
        parts = self.target(target)
        for name in scenario.loads:
            if name in parts.modules.excluded:
                raise Unsupported(f"{name} is not for this kernel: {parts.modules.excluded[name]}")
            if name in self.elsewhere and name not in parts.modules.names and name not in parts.shipped:
                raise Unsupported(self.elsewhere[name])

    @contextlib.contextmanager
    def _once(self, target: Target, boot: BootOptions | None) -> Iterator[None]:
        """Remember a failure, so that the other scenarios of the target end at once."""
        if (target, boot) in self._broken:
            raise self._broken[target, boot]
        try:
            yield
        except LabError as error:
            self._broken[target, boot] = error
            raise

    def expect(self, target: Target, scenario: Scenario, times: int = 1) -> None:
        """Say that a scenario will be run: what many of them bring along is brought ahead, once."""
        self._expected[target, scenario.boot, scenario.modules, scenario.narrow] += times
        self._order[target] = None
        self._names[target].update(scenario.loads)

    def pool(
        self,
        target: Target,
        boot: BootOptions,
        modules: Loads = (),
        narrow: bool = False,
        *,
        turns: bool = False,
    ) -> Pool:
        """Return where guests of a kind come from, with `modules` in them from the start.

        `narrow`: so is the program of 32-bit actors. `turns`: their CPUs may take turns, see lab.run.beside.
        """
        key = (target, boot, modules, narrow, turns)
        if key in self._pools:
            self._pools[key] = self._pools.pop(key)  # used last, dropped last: its guest may still be asked
        else:
            while len(self._pools) >= _POOLS:
                self._drop(next(iter(self._pools)))
            self._pools[key] = self._foreseen(key) or self._new_pool(*key)
        return self._pools[key]

    def _new_pool(self, target: Target, boot: BootOptions, modules: Loads, narrow: bool, turns: bool) -> Pool:
        from lab.guest.pool import Pool  # noqa: PLC0415 - only runs that start guests need it

        parts = self._begun(target)
        spec = parts.spec(boot)
        template = None if self.wishes.cold else parts.template(boot, spec)
        ahead = None
        if template is not None and (modules or narrow):
            ahead = self._loaded(template, spec, parts, modules, narrow=narrow)
        return Pool(
            ahead or template,
            spec,
            seed=self.wishes.seed,
            cold=self.wishes.cold,
            turns=turns,
            loaded=ahead is not None,
            in_place=self.wishes.in_place,
        )

    def _foreseen(self, key: Kind) -> Pool | None:
        """Return the pool that begin() began, if it is of this kind."""
        if self._early is None:
            return None
        kind, pool = self._early
        found = None
        if kind != key:
            pool.add_done_callback(_close)
        else:
            with contextlib.suppress(LabError):  # who makes it again is told in its place
                found = pool.result()
        self._early = None  # not before: interrupted in between, close() still finds it
        return found

    def _loaded(
        self, base: Template, spec: BootSpec, parts: Ready, modules: Loads, *, narrow: bool = False
    ) -> Template | None:
        from lab.guest.loaded import loaded  # noqa: PLC0415 - only long runs need it

        images = parts.images
        if base.refused or any(module.name not in images for module in modules):
            return None
        loads = [(module.name, images[module.name], module.text, module.shipped) for module in modules]
        try:
            programs = [parts.narrow_program()] if narrow else []
            return loaded(base, spec, loads, self.cache, self.progress, programs)
        except CacheError:
            raise
        except (GuestError, BootFailed, HostError) as error:
            self._notes[f"{spec.name}: each scenario loads its modules itself: {error.message}"] = None
            return None

    def _ahead(self, target: Target, scenario: Scenario) -> tuple[Loads, bool]:
        """Return the modules, and whether the program of 32-bit actors, that a guest has from the start.

        What pays, and all that the scenario needs or nothing.
        """
        expected = self._expected[target, scenario.boot, scenario.modules, scenario.narrow]
        if self.wishes.cold or expected < _WORTH_LOADING:
            return (), False
        return self.target(target).loads(scenario.modules), scenario.narrow

    def _drop(self, key: Kind) -> None:
        pool = self._pools.pop(key)
        pool.close()
        self._notes.update(dict.fromkeys(pool.notes))
        self._prove(key[0], pool)

    def _prove(self, target: Target, pool: Pool) -> None:
        """Run again, as clones, what was run in guests that may have had something of another one's."""
        self.left_over = self.left_over or bool(pool.doubted)
        names, pool.doubted[:] = dict.fromkeys(pool.doubted), []
        again = [each for name in names for each in self._passed.pop((target, name), {}).values()]
        for scenario in again:
            record = self._alone(target, scenario)
            if record.findings:
                self.doubts.append(
                    f"{scenario.id} on {target} passed in a guest that another one had left something to; "
                    f"in a clone: {record.verdict.value}: {record.title}"
                )
        if again:
            self._notes[f"{pool.name}: {len(again)} scenarios were run again as clones for that"] = None

    def _alone(self, target: Target, scenario: Scenario) -> Record:
        """Run a scenario in a guest that nobody was before."""
        from lab.guest.pool import Pool  # noqa: PLC0415 - as in pool()

        parts = self.target(target)
        spec = parts.spec(scenario.boot)
        with Pool(
            parts.template(scenario.boot, spec), spec, seed=self.wishes.seed, waiting=0, in_place=False
        ) as pool:
            try:
                guest = pool.take(scenario.id)
            except LabError as error:
                return self.refused(target, scenario, error)
            with guest:
                return self._run(target, scenario, guest, parts.images)

    def run(
        self,
        target: Target,
        scenario: Scenario,
        *,
        patches: Sequence[Path] = (),
        images: Mapping[str, bytes] | None = None,
        afterwards: Callable[[Guest], None] | None = None,
        leaks: bool = False,
    ) -> Record:
        """Run a scenario in a guest of its own, after ready(); raises Unsupported.

        `patches` change the modules of this run alone; `images`: what came of that, where it was built
        already. `afterwards` is called with the guest before it ends. `leaks`: one that passes is made again
        and again, as all are where the run wants that. What goes wrong is told only when the cache is found
        to be sound.
        """
        again = leaks or self.wishes.leaks
        try:
            return self._run_once(target, scenario, patches, images, afterwards, again, first=True)
        except _Damaged:
            self.ready(target, scenario)
            return self._run_once(target, scenario, patches, images, afterwards, again, first=False)

    def _run_once(
        self,
        target: Target,
        scenario: Scenario,
        patches: Sequence[Path],
        images: Mapping[str, bytes] | None,
        afterwards: Callable[[Guest], None] | None,
        again: bool,
        *,
        first: bool,
    ) -> Record:
        """Run it; `first`: raises _Damaged where the cache was, and not the scenario, to blame."""
        parts, started = self.target(target), time.monotonic()
        try:
            if images is None:
                images = parts.patched(patches, tuple(scenario.loads)) if patches else parts.images
            modules, narrow = ((), False) if patches else self._ahead(target, scenario)
            turns = beside.alone(scenario, images)
            pool = self.pool(target, scenario.boot, modules, narrow, turns=turns)
            guest = pool.take(scenario.id)
        except Unsupported:
            raise
        except Exception as error:
            if first and self._made_anew():
                raise _Damaged from error
            if not isinstance(error, LabError):
                raise
            return self.refused(target, scenario, error)
        taken = time.monotonic() - started
        with guest:
            growth = self._growth(scenario, guest, parts.patience) if again else None
            record = self._run(target, scenario, guest, images, loaded=guest.restored and pool.loaded)
            if growth is not None and record.well:
                record = self._repeated(record, growth, lambda: self._run(target, scenario, guest, images))
            if self.wishes.linger and record.well:
                found = runner.linger(scenario, parts, guest, self.wishes.linger)
                record = replace(record, findings=tuple(found), well=not found)
            if record.findings and first and self._made_anew():
                raise _Damaged
            record = replace(
                record,
                run=self.wishes.run,
                seconds=replace(record.seconds, ready=self._readying, guest=taken),
                provenance=parts.provenance(pool.spec, turns=turns, patches=patches),
            )
            if self.wishes.journal is not None:
                self._write_down(self.wishes.journal, target, guest, record)
            if afterwards is not None:
                afterwards(guest)
            self._notes.update(dict.fromkeys(record.remarks))
            if not record.findings and not patches:
                self._passed[target, scenario.id][scenario.file] = scenario
            if record.well:
                pool.give_back(guest)
        self._prove(target, pool)
        if self.doubts:
            doubts, self.doubts = self.doubts, []
            doubt = Finding(Verdict.LAB_ERROR, doubts[0], notes=tuple(doubts[1:]), hint=_DOUBTED)
            return replace(record, findings=(doubt,))
        return record

    def refused(self, target: Target, scenario: Scenario, error: LabError | Unsupported) -> Record:
        """Return the record of a scenario that came to no guest, for what ready() or run() raised."""
        found = refused(Identity.of(scenario, target), error)
        return replace(
            found,
            run=self.wishes.run,
            began=time.time(),
            seconds=Seconds(ready=self._readying),
            provenance=Provenance.of(target, self.wishes.seed, self.wishes.patches),
        )

    def _run(
        self,
        target: Target,
        scenario: Scenario,
        guest: Guest,
        images: Mapping[str, bytes],
        *,
        loaded: bool = False,
    ) -> Record:
        parts = self.target(target)
        return runner.run(
            replace(scenario, modules=parts.loads(scenario.modules)),
            parts,
            guest,
            seed=self.wishes.seed,
            images=images,
            symbols=lambda: self._symbols(target, scenario.boot),
            loaded=loaded,
            # Of modules that were changed for this run, nothing is known.
            watch=self._watches[target] if images is parts.images else None,
        )

    def _growth(self, scenario: Scenario, guest: Guest, patience: float) -> Growth | None:
        """Return what watches a scenario that is made again and again; None for one that cannot be."""
        if repeatable(scenario):
            return Growth(guest, patience)
        note = f"{scenario.file}: what means to leave something, to splat or to hang was made only once"
        self._notes[note] = None
        return None

    def _repeated(self, record: Record, growth: Growth, again: Callable[[], Record]) -> Record:
        """Make a scenario that was well again and again; return its record with what leaks."""
        try:
            found = growth.look(again)
        except OSError as error:
            target = record.identity.target
            self._notes[f"{target}: leaks cannot be looked for: {error.filename}: {error.strerror}"] = None
            return record
        return replace(record, findings=tuple(found), well=not found)

    def _write_down(self, path: Path, target: Target, guest: Guest, record: Record) -> None:
        from lab.run import journal  # noqa: PLC0415 - few runs are written down

        modules: list[str] = []
        with contextlib.suppress(GuestError, OSError):  # a guest that hangs or is dead has said enough
            if record.well:
                text = guest.agent.read_file("/proc/modules", self.target(target).patience).decode()
                modules = sorted(line.split()[0] for line in text.splitlines())
        journal.write(path, record, modules)

    def _symbols(self, target: Target, boot: BootOptions) -> Symbols:
        """Return the kernel's symbols, asked from a guest that is well; the package does not have them."""
        from lab.guest.symbols import KALLSYMS_SECONDS, kernel_symbols  # noqa: PLC0415 - for guests that hang

        pool = self.pool(target, boot)

        def kallsyms() -> bytes:
            with pool.take() as guest:
                return guest.agent.read_file("/proc/kallsyms", KALLSYMS_SECONDS)

        return kernel_symbols(pool.spec, kallsyms, pool.origin, self.cache, self.progress)

    @contextlib.contextmanager
    def hand(self, target: Target, *, modules: ModulesGiven = (), uapi: Sequence[str] = ()) -> Iterator[Hand]:
        """Give a fresh guest of a target to a Python test; raises what ready() and run() do."""
        from lab.run.hand import Hand, module_loads  # noqa: PLC0415 - only Python tests need it
        from lab.scenario import BootOptions, Scenario  # noqa: PLC0415 - as above

        boot = BootOptions()
        loads = module_loads(modules)
        self.ready(target, Scenario("", "", Path(), 0, "", modules=loads, uapi=tuple(uapi), boot=boot))
        parts = self.target(target)
        loads = parts.loads(loads)
        with self.pool(target, boot).take() as guest:
            session = runner.session(parts, guest, uapi, seed=self.wishes.seed, images=parts.images)
            headers = [header.path for header in parts.headers(uapi)]
            with Hand(session, modules=loads, uapi=headers) as hand:
                yield hand
            found = runner.look_after(guest, session, parts.complaints, Meant())
            if found is not None:
                raise Unwell(found)

    def records(self, root: Path) -> Records:
        """Return where the records of the tree in `root` are kept."""
        from lab.run.results import Records  # noqa: PLC0415 - not for xdist's workers

        return Records(self.cache, root)

    def settle(self) -> list[str]:
        """End all guests, none is wanted any more; returns what nobody can be told of as a verdict."""
        for key in list(self._pools):
            self._drop(key)
        return self.doubts

    def notes(self) -> list[str]:
        """Return what the user should be told once."""
        for ready in self._ready.values():
            self._note_accel(ready)
        for pool in self._pools.values():
            self._notes.update(dict.fromkeys(pool.notes))
        return list(self._notes)

    def close(self) -> None:
        """End every guest and let go of every lock."""
        from lab.kernels.process import end_all  # noqa: PLC0415 - as late as possible

        end_all()  # a compiler is in a process group of its own, where Ctrl+C does not reach it
        self.cache.interrupt()  # nor does it reach threads that fetch or wait for another run
        booting = any(ready.booting for ready in self._ready.values())
        if self._early is not None:
            booting = booting or self._early[1].running()
            self._early[1].add_done_callback(_close)
            self._early = None
        if booting:
            from lab.guest.qemu import kill_all  # noqa: PLC0415 - where it is needed it is there

            kill_all()  # its thread would be waited for
        for ready in self._ready.values():
            ready.close()
        for key in list(self._pools):
            self._drop(key)
        self.cache.close()


__all__ = ["Lab", "Ready", "Unsupported", "Wishes"]
