# SPDX-License-Identifier: MIT
"""What one pytest process knows of the lab, from its beginning to its end."""

from __future__ import annotations

import os
import resource
import shlex
from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from lab.arch import DEFAULT
from lab.errors import LabError
from lab.plugin import ini, options
from lab.plugin.ending import end_at_once
from lab.plugin.options import DEFAULT_KERNEL
from lab.run.record import Verdict

if TYPE_CHECKING:
    from lab.guest.stress import Stress
    from lab.kernels.model import Target
    from lab.progress import Progress
    from lab.relay import Hub
    from lab.run.lab import Lab
    from lab.run.record import Record
    from lab.run.results import Records

RUN = pytest.StashKey["Run"]()
RECORD = "chanlab_record"  # what a report has of a scenario's record, as JSON
# What a worker of xdist's is told: the run's id and seed, and where to say what it does.
RUN_ID, SEED, PROGRESS = "chanlab_run", "chanlab_seed", "chanlab_progress"


_DESCRIPTORS = 256  # guests, locks and directories of one process


def _check_descriptors() -> None:
    """Raise the limit of open files where it is low; raises pytest.UsageError where that is impossible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _DESCRIPTORS:
        return
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        raise pytest.UsageError(
            f"this process may open {hard} files at once, the lab needs {_DESCRIPTORS}\n"
            "  raise the limit: `ulimit -n 1024`, or in limits.conf"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))


class Run:
    """What one pytest process knows of the lab; everything is made when first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lab: Lab | None = None
        self._targets: tuple[Target, ...] | None = None
        self.heard: list[str] = []  # what xdist's workers want said
        self.doubts: list[str] = []  # verdicts that do not stand
        self.verdicts: dict[str, Counter[str]] = {}  # how many scenarios had which, by target
        self._unbuilt: set[tuple[str, str]] = set()  # targets, and the modules that do not compile there
        self._records: Records | None = None
        self.lags = Counter[str]()  # what --stress did, here and in workers
        self._stress: Stress | None = None
        self._hub: Hub | None = None
        self.reported = False  # whether there is a line of dots
        # Nothing is captured yet: what is shown here reaches whoever waits, and not a report.
        self._stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self._config.option.lab_seed)

    @property
    def lab(self) -> Lab:
        """The lab of this process."""
        if self._lab is None:
            from lab import settings  # noqa: PLC0415 - only runs that have scenarios pay for it
            from lab.house import WISHES  # noqa: PLC0415 - as above
            from lab.run import lab as run_lab  # noqa: PLC0415 - as above

            _check_descriptors()
            end_at_once(worker=hasattr(self._config, "workerinput"))
            option = self._config.option
            trees = options.trees(self._config)
            wishes = replace(
                WISHES,
                trees=trees,
                source=options.kernels(self._config),
                seed=self.seed,
                run=option.chanlab_run,
                cold=option.cold,
                leaks=option.leaks,
                linger=option.linger,
                patches=tuple(trees.fault(name) for name in option.fault),
                qemu=option.qemu,
                journal=option.journal.absolute() if option.journal is not None else None,
            )
            self._lab = run_lab.Lab(settings.load(ini.of(self._config)), wishes, self.progress)
        return self._lab

    @cached_property
    def progress(self) -> Progress:
        """Where this process says what takes long: a worker of xdist's to the one with the terminal."""
        from lab.progress import Progress  # noqa: PLC0415 - as above

        worker = getattr(self._config, "workerinput", {})
        if PROGRESS in worker:
            from lab.relay import Remote  # noqa: PLC0415 - as above

            return Remote(worker[PROGRESS], worker["workerid"])
        return Progress(
            self._stderr,
            quiet=getattr(self._config.option, "verbose", 0) < 0 or bool(worker),
            fresh=self._fresh,
        )

    def _fresh(self) -> None:
        """End the line of dots, if there is one."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and self.reported:
            self.reported = False
            # With workers it does not know that there is one.
            terminal.currentfspath = terminal.currentfspath or -2
            terminal.ensure_newline()

    def hub(self) -> Hub:
        """Return where workers say what takes them long."""
        if self._hub is None:
            from lab.relay import Hub  # noqa: PLC0415 - only where there are workers

            end_at_once(worker=False)
            self._hub = Hub(self.progress)
        return self._hub

    def seen(self) -> None:
        """Take note that there is something to see: what takes long has to take longer to be told."""
        self.reported = True
        if self._hub is not None:
            from lab.relay import LATE  # noqa: PLC0415 - as above

            self._hub.patience = LATE

    def targets(self) -> tuple[Target, ...]:
        """Return the targets that the command line asks for.

        Raises pytest.UsageError with the lab's own words where it asks for what is not there.
        """
        if self._targets is None:
            option = self._config.option
            try:
                self._targets = self.lab.targets(
                    option.kernel or ([] if options.kernels(self._config).own else [DEFAULT_KERNEL]),
                    option.arch or [DEFAULT],
                    option.flavour or ["stock"],
                    fetch=not option.collectonly,
                )
            except LabError as error:
                raise pytest.UsageError(str(error)) from error
        return self._targets

    def again(self, nodeid: str, target: Target) -> str:
        """Return the one line that runs an item again as it ran here."""
        option = self._config.option
        words = ["pytest", nodeid, *(target.kernel.ask or ("--kernel", target.name))]
        if target.kernel.arch != DEFAULT:
            words += ["--arch", target.kernel.arch]
        if target.kernel.flavour != "stock":
            words += ["--flavour", target.kernel.flavour]
        words += ["--lab-seed", str(self.seed)]
        words += ["--cold"] if option.cold else []
        words += [word for path in option.kernel_config for word in ("--kernel-config", path)]
        words += ["--qemu", str(option.qemu)] if option.qemu is not None else []
        words += ["--stress"] if option.stress else []
        words += ["--leaks"] if option.leaks else []
        words += ["--linger", f"{option.linger:g}"] if option.linger else []
        words += [word for path in option.module for word in ("--module", path)]
        words += [word for name in option.fault for word in ("--fault", name)]
        return shlex.join(words)

    def first_time(self, record: Record) -> Record:
        """Return a record as it is to be told: what a compiler said of a module is said once for a target."""
        if record.verdict is not Verdict.BUILD_FAILED:
            return record
        key = (record.identity.target, record.title)
        if key not in self._unbuilt:
            self._unbuilt.add(key)
            return record
        (found, *rest) = record.findings
        return replace(record, findings=(replace(found, notes=("the compiler's lines are above",)), *rest))

    def disturb(self) -> None:
        """Begin what --stress asks for, until close().

        Raises pytest.UsageError where that is impossible.
        """
        from lab.guest.stress import Stress  # noqa: PLC0415 - only --stress needs it

        worker = getattr(self._config, "workerinput", {}).get("workerid", "")
        try:
            self._stress = Stress(f"{self.seed} {worker}", self.lags).__enter__()
        except LabError as error:
            raise pytest.UsageError(str(error)) from error

    def calm(self) -> None:
        """End what disturb() began."""
        if self._stress is not None:
            self._stress.close()

    def keep(self, record: Record) -> None:
        """Count a verdict, and keep the record for `lab channels`."""
        verdicts = self.verdicts.setdefault(record.identity.target, Counter())
        verdicts[record.verdict.value] += 1
        try:
            if self._records is None:
                self._records = self.lab.records(self._config.rootpath)
                self._records.shorten()
            self._records.add(record)
        except LabError as error:
            self.heard.append(f"what became of scenarios is not kept: {error.message}")

    def notes(self) -> list[str]:
        """Return what the lab wants said once at the end of a run."""
        own = self._lab.notes() if self._lab is not None else []
        return list(dict.fromkeys([*self.heard, *own]))

    def settle(self) -> None:
        """End the guests, and hear which verdicts do not stand."""
        if self._lab is not None:
            self.doubts += self._lab.settle()

    def close(self) -> None:
        """Let go of everything."""
        self.calm()
        if self._lab is not None:
            self._lab.close()
            if self._lab.settings.cache_gb and not hasattr(self._config, "workerinput"):
                self._lab.cache.shrink(self._lab.settings.cache_gb * 1e9)
            self._lab = None
        if self._hub is not None:
            self._hub.close()
        if "progress" in self.__dict__:
            self.progress.close()
        self._stderr.close()
