# SPDX-License-Identifier: MIT
"""The commands of `lab` for modules of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.arch import DEFAULT
from lab.commands import COLUMNS, opened, table, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.kernels.matrix import Cell


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@told
def new(directory: Path) -> None:
    """Write a module with scenarios into DIRECTORY, to begin with: it passes as it is."""
    from lab.new import new as new_  # noqa: PLC0415 - as above

    for path in new_(directory):
        click.echo(f"  {path}")
    click.echo(f"now: cd {directory} && pytest --kernel 6.12")


@click.command()
@click.argument("directories", nargs=-1, type=click.Path(path_type=Path))
@click.option("--kernel", multiple=True, help="Repeatable; or `all`.  [default: 6.12]")
@click.option(
    "--kernel-tree", multiple=True, metavar="DIR[@REF]", help="One that is built first; repeatable."
)
@click.option("--arch", multiple=True, default=(DEFAULT,), show_default=True, help="Repeatable; or `all`.")
@click.option("--flavour", multiple=True, default=("stock",), show_default=True, help="Repeatable; or `all`.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@told
def build(
    *,
    directories: tuple[Path, ...],
    kernel: Sequence[str],
    kernel_tree: Sequence[str],
    arch: Sequence[str],
    flavour: Sequence[str],
    as_json: bool,
) -> None:
    """Compile modules for each kernel, and say what does not build where.

    DIRECTORIES are those with the modules' Kbuild; without any, those that the ini file names.
    """
    import json  # noqa: PLC0415 - as above
    from dataclasses import asdict  # noqa: PLC0415 - as above

    from lab.kernels import tree  # noqa: PLC0415 - as above
    from lab.kernels.matrix import matrix  # noqa: PLC0415 - as above
    from lab.kernels.offered import Offered  # noqa: PLC0415 - as above
    from lab.plugin import ini, options  # noqa: PLC0415 - as above

    named = {directory.absolute(): "the command line" for directory in directories}
    config = ini.config()
    trees = tree.trees(named, *options.building(config)) if named else options.trees(config)
    if not trees.all:
        raise click.UsageError("no modules: name a directory, or chanlab_modules in the ini file")
    settings, cache, progress = opened(quiet=as_json)
    wanted = kernel or (() if kernel_tree else (options.DEFAULT_KERNEL,))
    try:
        source = Offered(tuple(kernel_tree))(settings, cache, progress)
        targets = source.select(wanted, arch, flavour, fetch=True)
        cells = list(matrix(trees, targets, source, cache, progress))
    finally:
        cache.close()
    if as_json:
        click.echo(json.dumps([asdict(cell) for cell in cells], indent=1))
    else:
        _show_matrix(cells)
    if any(cell.failed for cell in cells):
        sys.exit(1)


def _show_matrix(cells: Sequence[Cell]) -> None:
    words = {(cell.module, cell.target): cell.word for cell in cells}
    modules = list(dict.fromkeys(cell.module for cell in cells))
    targets = list(dict.fromkeys(cell.target for cell in cells))
    for start in range(0, len(targets), COLUMNS):
        some = targets[start : start + COLUMNS]
        rows = [(module or "?", *(words.get((module, target), "-") for target in some)) for module in modules]
        table(("module", *some), rows)
        click.echo()
    said: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        for word, text in (
            ("FAILED", cell.failed),
            ("warnings", cell.warnings),
            ("not for it", cell.excluded),
        ):
            if text:
                said.setdefault((word, cell.module, text), []).append(cell.target)
    for (word, module, text), where in said.items():
        click.echo(f"{word}: {module or 'all modules'} on {', '.join(where)}")
        click.echo("".join(f"  {line}\n" for line in text.splitlines()), nl=False)


__all__ = ["build", "new"]
