# SPDX-License-Identifier: MIT
"""The `lab` command: what there is, what this host can do, what the cache holds, how fast it all is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab import __version__
from lab.arch import DEFAULT, architecture, host
from lab.cli_modules import build, new
from lab.commands import COLUMNS, opened, table, told
from lab.errors import KernelNotOffered, LabError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lab.doctor import Diagnosis
    from lab.progress import Progress
    from lab.run.results import Cell
    from lab.settings import Settings
    from lab.store.cache import Cache

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lab")
def main() -> None:
    """Look after the lab; scenarios are run by pytest."""


main.add_command(build)
main.add_command(new)


@main.command()
@click.option("--refresh", is_flag=True, help="Ask the archive now.")
@click.option("--arch", multiple=True, default=(DEFAULT,), show_default=True, help="Repeatable; or `all`.")
@told
def kernels(*, refresh: bool, arch: Sequence[str]) -> None:
    """List the kernels on offer, where they come from and what of them is cached."""
    from lab.kernels import catalogue  # noqa: PLC0415 - as above
    from lab.kernels.debian import offers  # noqa: PLC0415 - as above

    settings, cache, progress = opened()
    names = catalogue.arch_names(arch)
    found = offers.load(settings, cache, progress, refresh=refresh, arches=names)
    rows = [
        (
            kernel.line,
            kernel.version,
            kernel.arch,
            kernel.flavour,
            kernel.release,
            kernel.compiler,
            kernel.origin,
            ("cached" if offers.is_cached(kernel, cache) else "") if kernel.buildable else "no headers",
        )
        for kernel in found.kernels
    ]
    table(("line", "version", "arch", "flavour", "release", "compiler", "from", ""), rows)
    for note in found.notes:
        click.echo(note)
    _releases(settings, cache, {kernel.line for kernel in found.kernels})


def _releases(settings: Settings, cache: Cache, there: Collection[str]) -> None:
    """List what is built from source when it is named: the newest release of each other line."""
    from lab.kernels.upstream import mirror  # noqa: PLC0415 - as above

    try:
        newest = mirror.lines(settings, cache)
    except KernelNotOffered as error:
        click.echo(f"{error.message}: {error.hint}")
        return
    others = {line: version for line, version in newest.items() if line not in there}
    click.echo(f"built from source when named (--kernel 6.6): {' '.join(others.values()) or 'none'}")


@main.command()
@told
def doctor() -> None:
    """Tell what this host can do, and what to do about what it cannot."""
    from lab import doctor as doctor_  # noqa: PLC0415 - as above

    settings, cache, progress = opened()
    bad = False
    for finding in doctor_.examine(settings, cache, progress, kvm=_kvm(settings, progress)):
        click.echo(f"{finding.mark:<5} {finding.subject}: {finding.text}")
        if finding.hint:
            click.echo(f"      -> {finding.hint}")
        bad = bad or finding.bad
    if bad:
        sys.exit(1)


def _kvm(settings: Settings, progress: Progress) -> Diagnosis:
    """Find out by trying whether KVM really works: a guest has to boot with it."""
    from lab.doctor import Diagnosis  # noqa: PLC0415 - as above
    from lab.house import WISHES  # noqa: PLC0415 - as above
    from lab.run.lab import Lab  # noqa: PLC0415 - as above
    from lab.scenario import BootOptions  # noqa: PLC0415 - as above

    lab = Lab(settings, WISHES, progress)
    try:
        (target,) = lab.targets(["6.12"], [host().name], ["stock"], fetch=False)
        if not lab.source.is_cached(target.kernel):
            return Diagnosis(
                "kvm", "note", "not tried: there is no kernel yet", "run a scenario, then ask again"
            )
        parts = lab.target(target)
        parts.spec(BootOptions())
        accel = parts.accel
        assert accel is not None
        if accel.name == "kvm":
            return Diagnosis("accelerator", "good", f"KVM works: {accel.why}")
        return Diagnosis(
            "accelerator",
            "note",
            f"guests are emulated (TCG): {accel.why}",
            "nothing has to be done; with a KVM that works, guests are some times faster",
        )
    except LabError as error:
        return Diagnosis("accelerator", "bad", f"no guest could be tried: {error.message}", error.hint)
    finally:
        lab.close()


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@told
def clean(*, dry_run: bool) -> None:
    """Free the cache of all that nobody uses now."""
    _, cache, _ = opened()
    if dry_run:
        for usage in cache.usage():
            click.echo(
                f"{_size(usage.bytes):>10}  {usage.kind}/{usage.key[:16]}{'  in use' if usage.held else ''}"
            )
        return
    freed = cache.clean()
    kept = f"; {freed.kept} in use stay" if freed.kept else ""
    click.echo(f"freed {_size(freed.bytes)} in {freed.entries} entries of {cache.root}{kept}")


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


@main.command()
@click.option("--arch", multiple=True, default=(DEFAULT,), show_default=True, help="Repeatable; or `all`.")
@click.option(
    "--wheel",
    type=click.Path(file_okay=False, path_type=Path),
    is_flag=False,
    flag_value=Path(),
    metavar="[DIR]",
    help="Pack them as a wheel, for other hosts, in DIR or here.",
)
@told
def turbo(*, arch: Sequence[str], wheel: Path | None) -> None:
    """Build a QEMU in which scenarios take a fraction of the time; all works without it too."""
    from lab.kernels import catalogue, turbo_build  # noqa: PLC0415 - as above
    from lab.kernels.process import end_all  # noqa: PLC0415 - as above

    settings, cache, progress = opened()
    arches = [architecture(name) for name in catalogue.arch_names(arch)]
    try:
        for line in turbo_build.plan(arches, settings, cache).lines(settings.jobs):
            click.echo(line)
        clones = [each.name for each in arches if not each.in_place]
        if clones:
            click.echo(f"{', '.join(clones)}: guests are clones with it too, for now: docs/speed.md")
        builds = turbo_build.build(arches, settings, cache, progress)
        for build in builds:
            size = build.program.stat().st_size
            click.echo(f"{build.about.arch}: QEMU {build.about.source} in {build.program} ({_size(size)})")
        if wheel is not None:
            made = turbo_build.wheel(builds, wheel, settings, cache, progress)
            click.echo(f"{made} ({_size(made.stat().st_size)}): `pip install` it where the lab runs")
    except KeyboardInterrupt:
        end_all()
        cache.interrupt()
        click.echo("interrupted: the same command goes on from here", err=True)
        sys.exit(130)
    finally:
        cache.close()


def _in_a_checkout(command: str) -> None:
    """Raise UsageError where the lab's own modules and scenarios are not at hand."""
    from lab.errors import UsageError  # noqa: PLC0415 - as above
    from lab.parts import in_a_checkout  # noqa: PLC0415 - as above

    if not in_a_checkout():
        raise UsageError(
            f"`lab {command}` is about the lab's own modules, which are not installed with it",
            hint="run it in a checkout of chanlab",
        )


@main.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@told
def check(files: tuple[Path, ...]) -> None:
    """Check scenario files without running anything (default: all of scenarios/)."""
    from lab.language import reader  # noqa: PLC0415 - as above
    from lab.plugin import ini, options  # noqa: PLC0415 - as above
    from lab.verbs import table as verbs  # noqa: PLC0415 - as above

    paths = sorted(files or Path("scenarios").glob("*.yaml"))
    if not paths:
        raise click.UsageError("no scenario files here: name some")
    mistakes = reader.check(paths, root=Path.cwd(), verbs=verbs(), trees=options.trees(ini.config()))
    for mistake in mistakes:
        click.echo(str(mistake))
    if mistakes:
        sys.exit(1)
    click.echo(f"{len(paths)} files are well")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@told
def channels(*, as_json: bool) -> None:
    """Tell how each channel's scenarios went on each target, by the last run of each."""
    import json  # noqa: PLC0415 - as above

    from lab.language import reader  # noqa: PLC0415 - as above
    from lab.plugin import ini, options  # noqa: PLC0415 - as above
    from lab.run.results import Records, cells  # noqa: PLC0415 - as above
    from lab.verbs import table as verbs  # noqa: PLC0415 - as above

    _, cache, _ = opened(quiet=as_json)
    root = Path.cwd()
    paths = sorted(root.glob("scenarios/*.yaml"))
    if not paths:
        raise click.UsageError("no scenario files in scenarios/: run it where they are")
    files = [reader.load(path, root=root, verbs=verbs(), trees=options.trees(ini.config())) for path in paths]
    found = cells(Records(cache, root), files)
    if as_json:
        click.echo(json.dumps([cell.to_json() for cell in found], indent=1))
        return
    if not found:
        click.echo("nothing was run here yet: pytest scenarios/ --kernel 6.12")
        return
    _show_channels(found)


def _show_channels(cells: Sequence[Cell]) -> None:
    shown = {(cell.channel, cell.target): str(cell) for cell in cells}
    names = list(dict.fromkeys(cell.channel for cell in cells))
    targets = list(dict.fromkeys(cell.target for cell in cells))
    for start in range(0, len(targets), COLUMNS):
        some = targets[start : start + COLUMNS]
        table(("channel", *some), [(name, *(shown[name, target] for target in some)) for name in names])
        click.echo()
    click.echo("N passed, Nu unsupported, N? not run yet")
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for reason, number in cell.unsupported.items():
            reasons.setdefault((cell.channel, reason), []).append(f"{cell.target} ({number})")
    for (channel, reason), where in reasons.items():
        click.echo(f"unsupported: {channel}: {reason}: {', '.join(where)}")
    for cell in cells:
        for name, what in cell.failed.items():
            click.echo(f"FAILED {cell.target}: {cell.channel}: {name}: {what}")


@main.command()
@click.option("--kernel", default="6.12", show_default=True, help="On which kernel.")
@click.option("--arch", multiple=True, default=(DEFAULT,), show_default=True, help="Repeatable; or `all`.")
@click.option(
    "-n", "--runs", default=20, show_default=True, type=click.IntRange(min=1), help="Scenarios a mode."
)
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Side by side, at most."
)
@click.option("--stock", is_flag=True, help="Cold boots and clones of Debian's QEMU, whatever is set.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@told
def bench(*, kernel: str, arch: Sequence[str], runs: int, workers: int, stock: bool, as_json: bool) -> None:
    """Measure what a scenario costs on this host: cold, in a clone, in place."""
    _in_a_checkout("bench")
    from lab.measure import bench as bench_  # noqa: PLC0415 - as above

    settings, _, progress = opened(quiet=as_json)
    plan = bench_.Plan(kernel, tuple(arch), runs, workers, stock)
    if not bench_.main(settings, progress, plan, table, as_json=as_json):
        sys.exit(1)


@main.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@told
def compare(files: tuple[Path, ...]) -> None:
    """Compare runs written with `pytest --journal FILE`: the last one with all others.

    What the others do not agree on among themselves is not held against the last one.
    """
    from lab.run import journal  # noqa: PLC0415 - as above

    if len(files) < 2:
        raise click.UsageError("two journals are needed: one to compare with another")
    *one_way, other = (journal.read(path) for path in files)
    found = journal.compare(one_way, other)
    for line in (*(f"only in one of them: {name}" for name in found.missing), *found.differences):
        click.echo(line)
    click.echo(
        f"{found.scenarios} scenarios, {found.values} values, {found.unsteady} of them unsteady, "
        f"{len(found.differences)} differences"
    )
    if found.differences or found.missing:
        sys.exit(1)


@main.command()
@click.option("--kernel", "kernels_", multiple=True, default=("6.12",), show_default=True, help="Repeatable.")
@click.option("--arch", multiple=True, default=(DEFAULT,), show_default=True, help="Repeatable; or `all`.")
@click.option("--channel", multiple=True, help="Only this one. Repeatable.")
@click.option("--patch", multiple=True, type=_FILE, help="Change the modules by this first. Repeatable.")
@click.option("--against", type=_FILE, help="Prices to compare with.  [default: docs/price.json]")
@click.option("--write", is_flag=True, help="Keep them in docs/price.json and docs/channels.md.")
@click.option("--json", "as_json", is_flag=True, help="For programs, and for --against.")
@told
def price(
    *,
    kernels_: Sequence[str],
    arch: Sequence[str],
    channel: Sequence[str],
    patch: Sequence[Path],
    against: Path | None,
    write: bool,
    as_json: bool,
) -> None:
    """Count the instructions of a round trip of each channel; tell, and leave with 1, where 2 % changed."""
    _in_a_checkout("price")
    from lab.measure import price as price_  # noqa: PLC0415 - as above

    if write and (patch or against):
        raise click.UsageError("--write keeps the prices of the modules as they are, compared with nothing")
    settings, _, progress = opened(quiet=as_json)
    patches = tuple(path.resolve() for path in patch)
    wanted = price_.Wanted(kernels_, arch, channel, patches, against, write=write, as_json=as_json)
    if not price_.main(settings, progress, wanted, table):
        sys.exit(1)


@main.command()
@click.argument("modules", nargs=-1, required=True, type=_FILE)
@click.option("--kernel", "kernels_", multiple=True, default=("6.12",), show_default=True, help="Repeatable.")
@click.option("--arch", multiple=True, default=(DEFAULT,), show_default=True, help="Repeatable; or `all`.")
@click.option(
    "--only", multiple=True, metavar="TEXT", help="Only mutants with this in their name. Repeatable."
)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Only so many of each module.")
@click.option("--seed", default=0, show_default=True, help="Which ones --sample draws.")
@click.option("--scenarios", multiple=True, type=_FILE, help="These instead of the channel's. Repeatable.")
@click.option("--list", "listed", is_flag=True, help="Name the mutants and try none.")
@click.option("--patch", is_flag=True, help="Print them as patches and try none.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@told
def mutate(
    *,
    modules: Sequence[Path],
    kernels_: Sequence[str],
    arch: Sequence[str],
    only: Sequence[str],
    sample: int | None,
    seed: int,
    scenarios: Sequence[Path],
    listed: bool,
    patch: bool,
    as_json: bool,
) -> None:
    """Make one small mistake after the other in MODULES (kmod/X.c) and tell which no scenario notices.

    A run that was ended goes on with the same command. Leaves with 1 where a mutant survives that
    docs/mutants.yaml has no argument for.
    """
    _in_a_checkout("mutate")
    from lab.mutate import run as mutate_  # noqa: PLC0415 - as above

    wanted = mutate_.Wanted(modules, kernels_, arch, sample, seed, only, scenarios, as_json=as_json)
    if listed or patch:
        mutate_.show_mutants(modules, wanted, as_patch=patch)
        return
    settings, _, progress = opened(quiet=as_json)
    try:
        if not mutate_.main(settings, progress, wanted, table):
            sys.exit(1)
    except KeyboardInterrupt:
        click.echo("interrupted: the same command goes on from here", err=True)
        sys.exit(130)


__all__ = ["main"]
