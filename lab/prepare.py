# SPDX-License-Identifier: MIT
"""What a target needs before its first scenario, made once and cached by content; and the lab that has it.

Fetching, compiling and booting go side by side as far as they do not need one another, since the
time from an empty cache to the first result is what a newcomer sees.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lab import beside, compat, runner
from lab.abi.layout import nearest
from lab.arch import Architecture, architecture
from lab.cache import Cache, file_digest
from lab.errors import BootFailed, BuildFailed, LabError, Unsupported, UsageError
from lab.guest.argv import DEVICES, BootSpec
from lab.kernels.images import Images
from lab.scenario import ModuleLoad
from lab.verdict import Finding, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from lab.abi import Abi
    from lab.guest.accel import Accel
    from lab.guest.argv import Qemu
    from lab.guest.pool import Pool
    from lab.guest.symbols import Symbols
    from lab.guest.template import Template
    from lab.hand import Hand, ModulesGiven
    from lab.kernels.build import Modules
    from lab.kernels.model import Headers, KernelFiles, Target
    from lab.kernels.own_modules import OwnModules
    from lab.kernels.roots import Root
    from lab.progress import Progress
    from lab.results import Row
    from lab.scenario import BootOptions, Scenario
    from lab.settings import Settings

Loads = tuple[ModuleLoad, ...]  # a scenario's, in order
HOUSE = Path(__file__).resolve().parent.parent  # the tree that holds kmod/ and rootfs/
_STEP_SECONDS = 5.0  # a step's deadline on a target that boots as fast as _BOOT_SECONDS
_BOOT_SECONDS = 2.5
_WORTH_LOADING = 6  # scenarios that load the same modules, for a template that has them to pay
_TARGETS = 4  # whose parts are kept at hand
_POOLS = 3  # kinds of guest kept waiting side by side


@dataclass(frozen=True)
class Wishes:
    """What the command line says about how to run, the same for every target."""

    seed: int
    cold: bool = False
    source: Path = HOUSE / "kmod"
    patches: tuple[Path, ...] = ()
    qemu: Path | None = None


def fault(name: str) -> Path:
    """Return the patch of a deliberate mistake in kmod/faults/.

    Raises UsageError naming those there are.
    """
    path = HOUSE / "kmod" / "faults" / f"{name}.patch"
    if not path.is_file():
        known = ", ".join(sorted(patch.stem for patch in path.parent.glob("*.patch")))
        raise UsageError(f"no fault is called {name!r}", hint=f"there are: {known}")
    return path


class Unwell(Exception):  # noqa: N818 - a verdict
    """The guest of a Python test is not well after it."""

    def __init__(self, found: Finding) -> None:
        super().__init__("\n".join(found.lines()))


def with_own(modules: Loads, built: Collection[str], own: OwnModules, release: str) -> Loads:
    """Return modules to load on a kernel; see Ready.loads()."""
    found: dict[str, ModuleLoad] = {}
    for module in modules:
        name = module.name.replace("-", "_")
        if name in built:
            found[name] = module
        elif name in own:
            for needed in own.order(name):
                found.setdefault(needed, ModuleLoad(needed, own=True))
            found[name] = replace(module, name=name, own=True)
        elif not own.builtin(name):
            raise UsageError(
                f"{release} has no module {module.name!r}{nearest(name, [*built, *own])}",
                hint="where a kernel may be without it, say so: requires: {config: [CONFIG_...]}",
            )
    return tuple(found.values())


class Ready:
    """One target's parts, each ready when first asked for; all of them are begun at once."""

    def __init__(
        self, target: Target, wishes: Wishes, settings: Settings, cache: Cache, progress: Progress
    ) -> None:
        self.target = target
        self.arch: Architecture = architecture(target.kernel.arch)
        self._wishes = wishes
        self._settings = settings
        self._cache = cache
        self._progress = progress
        self.accel: Accel | None = None  # once a guest's kind was decided
        self._abis: dict[tuple[str, ...], Abi] = {}
        self._narrow_abis: dict[tuple[str, ...], Abi] = {}
        self._templates: dict[BootOptions, Template] = {}
        # As many threads as there are jobs: some wait for others.
        self._jobs = ThreadPoolExecutor(max_workers=8, thread_name_prefix=f"prepare {target}")
        submit = self._jobs.submit
        self._kernel: Future[KernelFiles] = submit(self._fetch_kernel)
        self._qemu: Future[Qemu] = submit(self._fetch_qemu)
        self._toolchain: Future[Root] = submit(self._fetch_toolchain)
        self._headers: Future[Headers] = submit(self._fetch_headers)
        self._initrd: Future[Path] = submit(self._make_initrd)
        self._modules: Future[Modules] = submit(self._build_modules)
        self._abi: Future[Abi] = submit(self._system_abi)
        self._narrow: Future[tuple[Root, bytes, Abi]] | None = None

    def _fetch_kernel(self) -> KernelFiles:
        from lab.kernels import debian  # noqa: PLC0415 - a thread's own

        return debian.fetch_kernel(self.target.kernel, self._settings, self._cache, self._progress)

    def _fetch_toolchain(self) -> Root:
        from lab.kernels import toolchain  # noqa: PLC0415 - as above

        return toolchain.toolchain(self.target.kernel, self._settings, self._cache, self._progress)

    def _fetch_headers(self) -> Headers:
        from lab.kernels import debian  # noqa: PLC0415 - as above

        return debian.fetch_headers(self.target.kernel, self._settings, self._cache, self._progress)

    def _fetch_qemu(self) -> Qemu:
        from lab.guest import qemu  # noqa: PLC0415 - as above

        path = self._wishes.qemu or self._settings.qemu
        settings = replace(self._settings, qemu=path)
        return qemu.qemu(settings, self.arch, self._cache, self._progress)

    def _make_initrd(self) -> Path:
        from lab.guest.initramfs import initramfs  # noqa: PLC0415 - as above
        from lab.kernels.build import build_agent  # noqa: PLC0415 - as above

        toolchain = self._toolchain.result()
        agent = build_agent(HOUSE / "rootfs", toolchain, self.arch, self._cache, self._progress)
        return initramfs(agent, self._kernel.result(), self._cache)

    def _build_modules(self) -> Modules:
        from lab.kernels.build import build_modules  # noqa: PLC0415 - as above

        headers, toolchain = self._headers.result(), self._toolchain.result()
        wishes = self._wishes
        return build_modules(wishes.source, headers, toolchain, self._cache, self._progress, wishes.patches)

    def _system_abi(self) -> Abi:
        from lab.kernels.uapi import system_abi  # noqa: PLC0415 - as above

        return system_abi(self._toolchain.result(), self.arch, self._cache, self._progress)

    @property
    def kernel(self) -> KernelFiles:
        """The kernel's files."""
        return self._kernel.result()

    @cached_property
    def config(self) -> Mapping[str, str]:
        """The kernel's configuration: CONFIG_X -> y, m or a value; what is unset is absent."""
        text = self.kernel.config.read_text()
        return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))

    @property
    def modules(self) -> Modules:
        """The built modules."""
        return self._modules.result()

    @cached_property
    def own(self) -> OwnModules:
        """The modules that the kernel brings itself."""
        from lab.kernels.own_modules import OwnModules  # noqa: PLC0415 - as above

        return OwnModules(self.kernel.modules)

    @cached_property
    def images(self) -> Mapping[str, bytes]:
        """The modules' files as they are sent to a guest, by module name; the kernel's own among them."""
        return Images({name: path.read_bytes() for name, path in self.modules.ko.items()}, self.own)

    def loads(self, modules: Loads) -> Loads:
        """Return modules to load, each of the kernel's own behind what it needs; built in ones are left out.

        Raises UsageError for one that is neither built here nor the kernel's.
        """
        built = (*self.modules.ko, *self.modules.failed)
        return with_own(modules, built, self.own, self.target.kernel.release)

    def patched(self, patches: Sequence[Path]) -> Mapping[str, bytes]:
        """Return the modules as they are with patches applied to a copy of their sources.

        Raises BuildFailed when one of them does not compile any more.
        """
        from lab.kernels.build import build_modules  # noqa: PLC0415 - only deliberate faults are built here

        headers, toolchain = self._headers.result(), self._toolchain.result()
        built = build_modules(
            self._wishes.source, headers, toolchain, self._cache, self._progress, tuple(patches)
        )
        for name, output in built.failed.items():
            raise BuildFailed(
                f"{name} does not compile with {', '.join(path.stem for path in patches)}", output
            )
        return Images({name: path.read_bytes() for name, path in built.ko.items()}, self.own)

    def abi(self, uapi: Sequence[str]) -> Abi:
        """Return the system's constants and structs together with those of the module's own headers."""
        names = tuple(uapi)
        if names not in self._abis:
            self._abis[names] = self._with_headers(self._abi.result(), names, self._toolchain.result())
        return self._abis[names]

    def _with_headers(self, system: Abi, names: tuple[str, ...], toolchain: Root) -> Abi:
        if not names:
            return system
        from lab.kernels.uapi import header_abi  # noqa: PLC0415 - only scenarios with headers need it

        directory = self._wishes.source / "uapi"
        headers = [directory / name for name in names]
        return system.merged(
            header_abi(headers, directory, toolchain, system.arch, self._cache, self._progress)
        )

    def _make_narrow(self) -> tuple[Root, bytes, Abi]:
        from lab.kernels.build import build_agent  # noqa: PLC0415 - a thread's own
        from lab.kernels.toolchain import toolchain  # noqa: PLC0415 - as above
        from lab.kernels.uapi import system_abi  # noqa: PLC0415 - as above

        arch = architecture(self.arch.compat.arch)
        found = toolchain(self.target.kernel, self._settings, self._cache, self._progress, arch=arch)
        agent = build_agent(HOUSE / "rootfs", found, arch, self._cache, self._progress)
        return found, agent.read_bytes(), system_abi(found, arch, self._cache, self._progress)

    def narrow(self, uapi: Sequence[str]) -> compat.Narrow:
        """Return what 32-bit actors are made of; fetched and built when it is first asked for.

        Raises Unsupported where this kernel runs none.
        """
        reason = compat.why_not(32, self.arch, self.config)
        if reason is not None:
            raise Unsupported(reason)
        if self._narrow is None:
            self._narrow = self._jobs.submit(self._make_narrow)
        toolchain, program, system = self._narrow.result()
        names = tuple(uapi)
        if names not in self._narrow_abis:
            self._narrow_abis[names] = self._with_headers(system, names, toolchain)
        return compat.Narrow(program, self._narrow_abis[names])

    def spec(self, boot: BootOptions) -> BootSpec:
        """Return what a guest of this target is, with what a scenario adds."""
        initrd = self._initrd.result()
        spec = BootSpec(
            arch=self.arch,
            qemu=self._qemu.result(),
            kernel=self.kernel,
            initrd=initrd,
            initrd_digest=file_digest(initrd),
            cmdline=boot.cmdline,
            devices=boot.devices,
            cpus=self.arch.cpus,
            memory_mib=self.arch.memory_mib,
            name=str(self.target),
        )
        from lab.guest.accel import accelerator  # noqa: PLC0415 - as above

        found = accelerator(self._settings, spec, self._cache, self._progress)
        self.accel = found
        return replace(spec, accel=found.name)

    def check(self, scenario: Scenario) -> None:
        """Raise Unsupported where this target cannot do what a scenario requires, with what was found."""
        kernel = self.target.kernel
        unmet = scenario.requires.unmet(config=self.config, arch=kernel.arch, version=kernel.version)
        if unmet is not None:
            raise Unsupported(unmet)
        for device in scenario.boot.devices:
            if self.arch.bus not in DEVICES[device].buses:
                raise Unsupported(f"device {device} is not for the {self.arch.bus} bus of {kernel.arch}")
            if self.arch.name in DEVICES[device].without:
                raise Unsupported(f"QEMU has no device {device} for {kernel.arch}")
        abis = [self.abi(scenario.uapi)]
        for word in sorted(scenario.words):
            reason = compat.why_not(word, self.arch, self.config)
            if reason is not None:
                raise Unsupported(reason)
            if word != 8 * self.arch.word:
                abis.append(self.narrow(scenario.uapi).abi)
        missing = scenario.missing(*abis)
        if missing:
            raise Unsupported(f"its headers have no {', no '.join(missing)}")

    @property
    def patience(self) -> float:
        """A step's default deadline in seconds, by how slow this target was measured to be."""
        boots = [template.boot_seconds for template in self._templates.values()]
        return _STEP_SECONDS * max(1.0, max(boots, default=_BOOT_SECONDS) / _BOOT_SECONDS)

    def template(self, boot: BootOptions, spec: BootSpec) -> Template:
        """Return the template of a kind of guest, made where there is none.

        Raises BootFailed.
        """
        if boot not in self._templates:
            from lab.guest.template import template  # noqa: PLC0415 - as above

            self._templates[boot] = template(spec, self._cache, self._progress)
        return self._templates[boot]

    def close(self) -> None:
        """Let nothing new begin; what is under way ends by itself."""
        self._jobs.shutdown(wait=False, cancel_futures=True)


class Lab:
    """Everything that one process has of the lab; close it."""

    def __init__(self, settings: Settings, wishes: Wishes, progress: Progress) -> None:
        self.settings = settings
        self.wishes = wishes
        self.progress = progress
        self.cache = Cache(settings.cache, progress)
        self._ready: dict[Target, Ready] = {}
        self._broken: dict[tuple[Target, BootOptions | None], LabError] = {}
        self._pools: dict[tuple[Target, BootOptions, Loads, bool], Pool] = {}
        self._expected: Counter[tuple[Target, BootOptions, Loads]] = Counter()
        self._order: dict[Target, None] = {}  # that scenarios are run in
        self._notes: dict[str, None] = {}  # in order, each once

    def targets(
        self, kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str], *, fetch: bool = True
    ) -> tuple[Target, ...]:
        """Return the targets that were asked for.

        Raises UsageError, KernelNotOffered among them.
        """
        from lab.kernels import catalogue  # noqa: PLC0415 - `lab clean` needs none

        names = catalogue.arch_names(arches)
        found = catalogue.load(self.settings, self.cache, self.progress, fetch=fetch, arches=names)
        return tuple(found.select(kernels, arches, flavours))

    def plan(self, targets: Sequence[Target]) -> list[str]:
        """Return in words what a run of several targets will need, before any of it is fetched or built."""
        from lab.kernels import catalogue, debian  # noqa: PLC0415 - as above

        wanted = [target.kernel for target in targets]
        missing = [kernel for kernel in wanted if not catalogue.is_cached(kernel, self.cache)]
        size = sum(debian.download_size(kernel, self.settings, self.cache) for kernel in missing)
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

    def _begun(self, target: Target) -> Ready:
        if target not in self._ready:
            while len(self._ready) >= _TARGETS:
                self._forget(next(iter(self._ready)))
            self._ready[target] = Ready(target, self.wishes, self.settings, self.cache, self.progress)
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

        Raises Unsupported, BuildFailed, BootFailed and other LabErrors; what failed once is not tried again.
        """
        with self._once(target, None):
            parts = self.target(target)
            failed = parts.modules.failed
        parts.check(scenario)
        for name in scenario.loads:
            if name in failed:
                raise BuildFailed(f"{name} does not compile against {target.kernel.release}", failed[name])
        with self._once(target, scenario.boot):
            parts.loads(scenario.modules)
            modules = self._modules_ahead(target, scenario)
            self.pool(target, scenario.boot, modules, turns=beside.alone(scenario, parts.images))

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
        """Say that a scenario will be run: modules that many of them load are loaded ahead, once."""
        self._expected[target, scenario.boot, scenario.modules] += times
        self._order[target] = None

    def pool(self, target: Target, boot: BootOptions, modules: Loads = (), *, turns: bool = False) -> Pool:
        """Return where guests of a kind come from, with `modules` in them from the start.

        `turns`: their CPUs may take turns, see lab.beside.
        """
        key = (target, boot, modules, turns)
        if key not in self._pools:
            from lab.guest.pool import Pool  # noqa: PLC0415 - only runs that start guests need it

            while len(self._pools) >= _POOLS:
                self._drop(next(iter(self._pools)))
            parts = self.target(target)
            spec = parts.spec(boot)
            template = None if self.wishes.cold else parts.template(boot, spec)
            ahead = None
            if template is not None and modules:
                ahead = self._loaded(template, spec, parts, modules)
            self._pools[key] = Pool(
                ahead or template,
                spec,
                seed=self.wishes.seed,
                cold=self.wishes.cold,
                turns=turns,
                loaded=ahead is not None,
            )
        return self._pools[key]

    def _loaded(self, base: Template, spec: BootSpec, parts: Ready, modules: Loads) -> Template | None:
        from lab.guest.loaded import loaded  # noqa: PLC0415 - only long runs need it

        images = parts.images
        if base.refused or any(module.name not in images for module in modules):
            return None
        loads = [(module.name, images[module.name], module.text, module.own) for module in modules]
        return loaded(base, spec, loads, self.cache, self.progress)

    def _modules_ahead(self, target: Target, scenario: Scenario) -> Loads:
        """Return the modules that a scenario's guest has from the start: those that pay."""
        if self.wishes.cold or self._expected[target, scenario.boot, scenario.modules] < _WORTH_LOADING:
            return ()
        return self.target(target).loads(scenario.modules)

    def _drop(self, key: tuple[Target, BootOptions, Loads, bool]) -> None:
        pool = self._pools.pop(key)
        pool.close()
        self._notes.update(dict.fromkeys(pool.notes))

    def run(self, target: Target, scenario: Scenario, *, patches: Sequence[Path] = ()) -> Result:
        """Run a scenario in a guest of its own, after ready(); raises Unsupported.

        `patches` change the modules of this run alone.
        """
        parts = self.target(target)
        try:
            images = parts.patched(patches) if patches else parts.images
            modules = () if patches else self._modules_ahead(target, scenario)
            turns = beside.alone(scenario, images)
            pool = self.pool(target, scenario.boot, modules, turns=turns)
            guest = pool.take(scenario.id)
        except BootFailed as error:
            return Result((Finding(Verdict.BOOT_FAILED, error.message, notes=(error.console,)),))
        except LabError as error:
            return runner.lab_error(error)
        with guest:
            return runner.run(
                replace(scenario, modules=parts.loads(scenario.modules)),
                parts,
                guest,
                seed=self.wishes.seed,
                images=images,
                symbols=lambda: self._symbols(target, scenario.boot),
                loaded=guest.restored and pool.loaded,
            )

    def _symbols(self, target: Target, boot: BootOptions) -> Symbols:
        """Return the kernel's symbols, asked from a guest that is well; the package does not have them."""
        from lab.guest.symbols import kernel_symbols  # noqa: PLC0415 - only for guests that hang

        pool = self.pool(target, boot)
        return kernel_symbols(pool.spec, pool.take, pool.origin, self.cache, self.progress)

    @contextlib.contextmanager
    def hand(self, target: Target, *, modules: ModulesGiven = (), uapi: Sequence[str] = ()) -> Iterator[Hand]:
        """Give a fresh guest of a target to a Python test; raises what ready() and run() do."""
        from lab.hand import Hand, module_loads  # noqa: PLC0415 - only Python tests need it
        from lab.scenario import BootOptions, Scenario  # noqa: PLC0415 - as above

        boot = BootOptions()
        loads = module_loads(modules)
        self.ready(target, Scenario("", "", Path(), 0, "", modules=loads, uapi=tuple(uapi), boot=boot))
        parts = self.target(target)
        loads = parts.loads(loads)
        with self.pool(target, boot).take() as guest:
            session = runner.session(parts, guest, uapi, seed=self.wishes.seed, images=parts.images)
            headers = [self.wishes.source / "uapi" / name for name in uapi]
            with Hand(session, modules=loads, uapi=headers) as hand:
                yield hand
            found = runner.look_after(guest, session)
            if found is not None:
                raise Unwell(found)

    def record(self, root: Path, rows: Sequence[Row]) -> None:
        """Keep what became of the scenarios of the tree in `root`; raises CacheError."""
        from lab import results  # noqa: PLC0415 - only at a run's end

        results.record(self.cache, root, rows)

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
        for ready in self._ready.values():
            ready.close()
        for key in list(self._pools):
            self._drop(key)
        self.cache.close()


__all__ = ["HOUSE", "Lab", "Ready", "Unsupported", "Wishes", "fault"]
