# SPDX-License-Identifier: MIT
"""What a target needs before its first scenario, made once and cached by content.

Fetching, compiling and booting go side by side as far as they do not need one another, since the
time from an empty cache to the first result is what a newcomer sees.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from lab.abi.layout import nearest
from lab.arch import Architecture, architecture
from lab.errors import ModuleFailed, Unsupported, UsageError
from lab.guest.argv import DEVICES, BootSpec, described
from lab.kernels.images import Images
from lab.language.requires import Machine
from lab.run import narrow as narrow_
from lab.run.record import Provenance
from lab.run.unclean import known_complaints
from lab.scenario import ModuleLoad
from lab.store.cache import Cache, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from lab.abi import Abi
    from lab.guest.accel import Accel
    from lab.guest.argv import Qemu
    from lab.guest.loaded import Program
    from lab.guest.template import Template
    from lab.kernels.build import Modules
    from lab.kernels.model import Headers, KernelFiles, Target
    from lab.kernels.roots import Root
    from lab.kernels.shipped_modules import ShippedModules
    from lab.kernels.source import Source, SourceMaker
    from lab.kernels.tree import Header, Trees
    from lab.progress import Progress
    from lab.run.unclean import Complaints
    from lab.scenario import BootOptions, Scenario
    from lab.settings import Settings

T = TypeVar("T")
Loads = tuple[ModuleLoad, ...]  # a scenario's, in order
_STEP_SECONDS = 5.0  # a step's deadline on a target that boots as fast as _BOOT_SECONDS
_BOOT_SECONDS = 2.5


@dataclass(frozen=True)
class Wishes:
    """What the command line says about how to run, the same for every target."""

    seed: int
    trees: Trees  # of modules
    agent: Path  # the sources of the agent
    source: SourceMaker  # of kernels
    complaints: Path  # which of what kernels say are complaints
    cold: bool = False
    in_place: bool = True  # a guest may be the QEMU of the last one, see lab.guest.lives
    patches: tuple[Path, ...] = ()
    qemu: Path | None = None
    journal: Path | None = None  # where each scenario is written down, see lab.run.journal
    run: str = ""  # the id of the run
    linger: float = 0.0  # seconds that a guest lives on after its scenario
    watched: bool = True  # what modules leave behind is looked for; only `lab bench` does without
    leaks: bool = False  # scenarios are made again and again, see lab.run.growth


def with_needed(
    modules: Loads, built: Mapping[str, Sequence[str]], shipped: ShippedModules, release: str
) -> Loads:
    """Return modules to load on a kernel; see Ready.loads(). `built` has what each module needs."""
    found: dict[str, ModuleLoad] = {}
    given = {module.name.replace("-", "_"): module for module in modules}

    def add(name: str, module: ModuleLoad) -> None:
        if name in built:
            for needed in built[name]:
                if needed not in found:
                    add(needed, given.get(needed, ModuleLoad(needed)))
            found[name] = replace(module, name=name)
        elif name in shipped:
            for needed in shipped.order(name):
                found.setdefault(needed, ModuleLoad(needed, shipped=True))
            found[name] = replace(module, name=name, shipped=True)
        elif not shipped.builtin(name):
            raise UsageError(
                f"{release} has no module {module.name!r}{nearest(name, [*built, *shipped])}",
                hint="where a kernel may be without it, say so: requires: {config: [CONFIG_...]}",
            )

    for name, module in given.items():
        add(name, module)
    return tuple(found.values())


class Ready:
    """One target's parts, each ready when first asked for; all of them are begun at once."""

    def __init__(
        self,
        target: Target,
        wishes: Wishes,
        settings: Settings,
        cache: Cache,
        progress: Progress,
        source: Source,
        *,
        only: Collection[str] | None = (),
        boot: BootOptions | None = None,
    ) -> None:
        """Begin. `only`: the modules that will do, as far as is known; `boot`: the first kind of guest.

        None where nobody knows yet: modules are built as soon as cover() tells which.
        """
        self.target = target
        self._only = frozenset(only or ())
        self.arch: Architecture = architecture(target.kernel.arch)
        self._wishes = wishes
        self._settings = settings
        self._cache = cache
        self._progress = progress
        self._source = source
        self.accel: Accel | None = None  # once a guest's kind was decided
        self._abis: dict[tuple[str, ...], Abi] = {}
        self._narrow_abis: dict[tuple[str, ...], Abi] = {}
        self._templates: dict[BootOptions, Template] = {}
        self._provenances: dict[tuple[object, ...], Provenance] = {}
        # As many threads as there are jobs: some wait for others.
        self._jobs = ThreadPoolExecutor(max_workers=9, thread_name_prefix=f"prepare {target}")
        submit = self._jobs.submit
        self._kernel: Future[KernelFiles] = submit(self._fetch_kernel)
        self._qemu: Future[Qemu] = submit(self._fetch_qemu)
        self._toolchain: Future[Root] = submit(self._fetch_toolchain)
        self._headers: Future[Headers] = submit(self._fetch_headers)
        self._initrd: Future[Path] = submit(self._make_initrd)
        self._modules: Future[Modules] | None = None if only is None else submit(self._build_modules)
        self._abi: Future[Abi] = submit(self._system_abi)
        self._narrow: Future[tuple[Root, bytes, Abi]] | None = None
        # A guest boots while modules are built: neither needs the other.
        self._first = None if wishes.cold else boot
        self._ahead = submit(self._boot_ahead, self._first) if self._first is not None else None

    def _fetch_kernel(self) -> KernelFiles:
        return self._source.kernel(self.target.kernel)

    def _fetch_toolchain(self) -> Root:
        return self._source.toolchain(self.target.kernel)

    def _fetch_headers(self) -> Headers:
        return self._source.headers(self.target.kernel)

    def _fetch_qemu(self) -> Qemu:
        from lab.guest import qemu  # noqa: PLC0415 - a thread's own

        path = self._wishes.qemu or self._settings.qemu
        settings = replace(self._settings, qemu=path)
        return qemu.qemu(settings, self.arch, self._cache, self._progress)

    def _make_initrd(self) -> Path:
        from lab.guest.initramfs import initramfs  # noqa: PLC0415 - as above
        from lab.kernels.build import build_agent  # noqa: PLC0415 - as above

        toolchain = self._toolchain.result()
        agent = build_agent(self._wishes.agent, toolchain, self.arch, self._cache, self._progress)
        return initramfs(agent, self._kernel.result(), self._cache)

    def _build_modules(self) -> Modules:
        from lab.kernels.build import build_trees  # noqa: PLC0415 - as above

        headers, toolchain = self._headers.result(), self._toolchain.result()
        wishes = self._wishes
        return build_trees(
            wishes.trees,
            headers,
            toolchain,
            self._cache,
            self._progress,
            wishes.patches,
            self._only,
            tools=self._tools(),
        )

    def _tools(self) -> Root | None:
        """Return the root of what the trees' own commands want; None where they want nothing."""
        packages = self._wishes.trees.tools
        return self._source.tools(self.target.kernel, packages) if packages else None

    def _boot_ahead(self, boot: BootOptions) -> Template:
        from lab.guest.template import template  # noqa: PLC0415 - as above

        return template(self.spec(boot), self._cache, self._progress)

    @property
    def booting(self) -> bool:
        """Whether a guest boots that nobody waits for yet."""
        return self._ahead is not None and self._ahead.running()

    def cover(
        self, modules: Collection[str], expected: Collection[str] = (), boot: BootOptions | None = None
    ) -> None:
        """Build modules if that was not begun: those that are expected. Build all if one needed is not known.

        `boot`: the kind of guest that is booted meanwhile, if none is.
        """
        if self._modules is None:
            self._only = frozenset(expected)
            self._modules = self._jobs.submit(self._build_modules)
            if self._first is None and boot is not None and not self._wishes.cold:
                self._first, self._ahead = boot, self._jobs.submit(self._boot_ahead, boot)
        if self._only and not self._only.issuperset(modules):
            self._only = frozenset()
            self._modules = self._jobs.submit(self._build_modules)
            for known in ("images", "_needs"):
                self.__dict__.pop(known, None)

    def _system_abi(self) -> Abi:
        from lab.kernels.uapi import system_abi  # noqa: PLC0415 - as above

        return system_abi(self._toolchain.result(), self.arch, self._cache, self._progress)

    def background(self, work: Callable[[], T]) -> Future[T]:
        """Have something done beside the preparations; it may wait for them."""
        return self._jobs.submit(work)

    @property
    def machine(self) -> Machine:
        """What a scenario's conditions look at."""
        return Machine(self.target.kernel.arch, self.target.kernel.version)

    @property
    def complaints(self) -> Complaints:
        """Which of what kernels say are complaints."""
        return known_complaints(self._wishes.complaints)

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
        self.cover(())
        assert self._modules is not None
        return self._modules.result()

    @cached_property
    def shipped(self) -> ShippedModules:
        """The modules that the kernel is shipped with."""
        from lab.kernels.shipped_modules import ShippedModules  # noqa: PLC0415 - as above

        return ShippedModules(self.kernel.modules, lambda: self._source.all_modules(self.target.kernel))

    @cached_property
    def images(self) -> Mapping[str, bytes]:
        """The modules' files as they are sent to a guest, by module name; the kernel's own among them."""
        return self._images(self.modules)

    def loads(self, modules: Loads) -> Loads:
        """Return modules to load, each behind those whose symbols it uses; built in ones are left out.

        Raises UsageError for one that is neither built here nor the kernel's, or lacks a parameter.
        """
        from lab.kernels.modinfo import unknown_parameter  # noqa: PLC0415 - as above

        found = with_needed(modules, self._needs, self.shipped, self.target.kernel.release)
        for module in found:
            if module.params and module.name not in self.modules.failed:
                wrong = unknown_parameter(self.images[module.name], dict(module.params))
                if wrong is not None:
                    raise UsageError(f"{module.name} {wrong}")
        return found

    @cached_property
    def _needs(self) -> Mapping[str, Sequence[str]]:
        from lab.kernels.modinfo import depends  # noqa: PLC0415 - as above

        needs: dict[str, Sequence[str]] = dict.fromkeys({**self.modules.failed, **self.modules.excluded}, ())
        return needs | {name: depends(path.read_bytes()) for name, path in self.modules.ko.items()}

    def patched(self, patches: Sequence[Path], only: Sequence[str] = ()) -> Mapping[str, bytes]:
        """Return the modules as they are with patches applied to a copy of their sources.

        `only`: those that are loaded; none: all. Raises ModuleFailed when one does not compile any more.
        """
        return self._whole(self._patched(patches, only, self._progress), patches)

    def mutated(self, patch: Path, module: str, needs: Sequence[str]) -> Mapping[str, bytes]:
        """Return the modules, of which one has a patch; without a word, and nothing is kept of it.

        `needs`: whose symbols it uses. Raises what patched() does.
        """
        from lab.progress import Progress  # noqa: PLC0415 - only `lab mutate` needs it

        built = self._patched([patch], (module, *needs), Progress(quiet=True))
        try:
            images = self._whole(built, [patch])
            others = {name: self.images[name] for name in self.modules.ko}
            return Images({**others, module: images[module]}, self.shipped)
        finally:
            self._cache.discard("modules", built.digest)

    def _patched(self, patches: Sequence[Path], only: Sequence[str], progress: Progress) -> Modules:
        from lab.kernels.build import build_trees  # noqa: PLC0415 - only deliberate faults are built here

        headers, toolchain = self._headers.result(), self._toolchain.result()
        return build_trees(
            self._wishes.trees,
            headers,
            toolchain,
            self._cache,
            progress,
            tuple(patches),
            only,
            tools=self._tools(),
        )

    def _whole(self, built: Modules, patches: Sequence[Path]) -> Mapping[str, bytes]:
        for name, output in built.failed.items():
            raise ModuleFailed(
                f"{name} does not compile with {', '.join(path.stem for path in patches)}", output
            )
        return self._images(built)

    def _images(self, built: Modules) -> Mapping[str, bytes]:
        return Images({name: path.read_bytes() for name, path in built.ko.items()}, self.shipped)

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

        directories: dict[Path, list[Path]] = {}
        for header in self.headers(names):
            directories.setdefault(header.include, []).append(header.path)
        for directory, headers in directories.items():
            own = header_abi(headers, directory, toolchain, system.arch, self._cache, self._progress)
            system = system.merged(own)
        return system

    def headers(self, names: Sequence[str]) -> list[Header]:
        """Return headers for user space by their names; raises UsageError for one that is not there."""
        found = []
        for name in names:
            header = self._wishes.trees.header(name)
            if header is None:
                raise UsageError(f"no header {name!r}{nearest(name, self._wishes.trees.headers())}")
            found.append(header)
        return found

    def _make_narrow(self) -> tuple[Root, bytes, Abi]:
        from lab.kernels.build import build_agent  # noqa: PLC0415 - a thread's own
        from lab.kernels.uapi import system_abi  # noqa: PLC0415 - as above

        arch = architecture(self.arch.compat.arch)
        found = self._source.toolchain(self.target.kernel, arch)
        agent = build_agent(self._wishes.agent, found, arch, self._cache, self._progress)
        return found, agent.read_bytes(), system_abi(found, arch, self._cache, self._progress)

    def narrow(self, uapi: Sequence[str]) -> narrow_.Narrow:
        """Return what 32-bit actors are made of; fetched and built when it is first asked for.

        Raises Unsupported where this kernel runs none.
        """
        reason = narrow_.why_not(32, self.arch, self.config)
        if reason is not None:
            raise Unsupported(reason)
        if self._narrow is None:
            self._narrow = self._jobs.submit(self._make_narrow)
        toolchain, program, system = self._narrow.result()
        names = tuple(uapi)
        if names not in self._narrow_abis:
            self._narrow_abis[names] = self._with_headers(system, names, toolchain)
        return narrow_.Narrow(program, self._narrow_abis[names])

    def narrow_program(self) -> Program:
        """Return the program of 32-bit actors, to be brought into a template; raises what narrow() does."""
        from lab.guest.loaded import Program  # noqa: PLC0415 - only long runs need it

        image, abi = self.narrow(()).program, self.abi(())
        return Program(
            narrow_.NAME, image, lambda agent: narrow_.send(image, agent, abi, timeout=self.patience)
        )

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

    def provenance(self, spec: BootSpec, *, turns: bool = False, patches: Sequence[Path] = ()) -> Provenance:
        """Return what guests of a kind are made of, after they were."""
        key = (spec.devices, spec.cmdline, turns, tuple(patches))
        if key not in self._provenances:
            every = (*self._wishes.patches, *patches)
            self._provenances[key] = replace(
                Provenance.of(self.target, self._wishes.seed, every),
                qemu=spec.qemu.version,
                accel=spec.accel,
                argv=described(spec, turns=turns),
                digests={
                    "kernel": self.kernel.digest,
                    "headers": self._headers.result().digest,
                    "toolchain": self._toolchain.result().digest,
                    "qemu": spec.qemu.digest,
                    "initrd": spec.initrd_digest,
                    "modules": self.modules.digest,
                    **{path.name: file_digest(path) for path in every},
                },
            )
        return self._provenances[key]

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
            reason = narrow_.why_not(word, self.arch, self.config)
            if reason is not None:
                raise Unsupported(reason)
            if word != 8 * self.arch.word:
                abis.append(self.narrow(scenario.uapi).abi)
        missing = scenario.missing(*abis, machine=self.machine)
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
        if boot not in self._templates and self._ahead is not None and boot == self._first:
            self._templates[boot] = self._ahead.result()
        elif boot not in self._templates:
            from lab.guest.template import template  # noqa: PLC0415 - as above

            self._templates[boot] = template(spec, self._cache, self._progress)
        return self._templates[boot]

    def close(self) -> None:
        """Let nothing new begin; what is under way ends by itself."""
        self._jobs.shutdown(wait=False, cancel_futures=True)


__all__ = ["Loads", "Ready", "Wishes", "with_needed"]
