# SPDX-License-Identifier: MIT
"""What comes before make: what a dkms.conf says, patches, commands that make sources, the order of trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.errors import ModuleFailed, UsageError
from lab.kernels import dkms
from lab.kernels.sources import patched, read_sources
from lab.kernels.surroundings import bound, programs
from lab.kernels.tree import DKMS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from lab.kernels.dkms import Conf
    from lab.kernels.model import Headers
    from lab.kernels.roots import Root
    from lab.kernels.sources import File
    from lab.kernels.surroundings import Surroundings
    from lab.kernels.tree import Tree, Trees
    from lab.progress import Progress

_FUZZ = 2  # patch's own default: dkms asks for none


def sources_of(tree: Tree) -> dict[str, File]:
    """Return the files of a tree; raises UsageError when nothing there says what to build."""
    return read_sources(tree.path, prepared=bool(tree.prepare))


def conf_of(
    tree: Tree, files: Mapping[str, File], headers: Headers, toolchain: Root, tools: Root | None
) -> Conf | None:
    """Return what a tree's dkms.conf says for a kernel; None where it has none. Raises ModuleFailed."""
    if tree.dkms is None:
        return None
    kernel = headers.kernel
    facts = dkms.Facts(kernel.release, architecture(kernel.arch).uname[0], headers.kdir)
    return dkms.read(
        files,
        tree.path.resolve().name,
        facts,
        bash=toolchain.command("bash"),
        environment=programs(toolchain, tools),
    )


def made_ready(
    files: Mapping[str, File],
    tree: Tree,
    conf: Conf | None,
    toolchain: Root,
    tools: Root | None,
    packages: Collection[str],
) -> dict[str, File]:
    """Return a tree's files as they are built; `packages`: those that it may depend on.

    Raises ModuleFailed where its dkms.conf has a patch that does not apply, or depends on what is not there.
    """
    if conf is not None:
        _check_depends(conf, tree.path.resolve().name, packages)
        files = _with_patches(conf, files, tree, toolchain)
    return bound(files, toolchain, tools)


def before_make(tree: Tree, conf: Conf | None, around: Surroundings, progress: Progress) -> None:
    """Run what makes sources of a tree in its copy; raises ModuleFailed."""
    if tree.prepare:
        around.prepare(_filled(tree.prepare, around), "chanlab_prepare")
    if conf is not None and conf.pre_build:
        _pre_build(conf, around, progress)


def _check_depends(conf: Conf, name: str, packages: Collection[str]) -> None:
    missing = [each for each in conf.depends if each not in packages]
    if missing:
        raise ModuleFailed(
            f"{name} needs modules of {', '.join(missing)}, by BUILD_DEPENDS in its dkms.conf",
            "no other tree of this run is that",
            hint=f"name it too, --module DIR: the one whose dkms.conf has PACKAGE_NAME={missing[0]}",
        )


def _with_patches(conf: Conf, files: Mapping[str, File], tree: Tree, toolchain: Root) -> dict[str, File]:
    """Return the files with the patches of a dkms.conf, as dkms applies them: with patch's usual fuzz."""
    name = tree.path.resolve().name
    for patch in conf.patches:
        if f"patches/{patch}" not in files:
            raise ModuleFailed(
                f"{name}/{DKMS} names the patch {patch}", f"{name}/patches/{patch} is not there"
            )
    try:
        return patched(
            files, [tree.path / "patches" / patch for patch in conf.patches], toolchain, fuzz=_FUZZ
        )
    except UsageError as error:
        raise ModuleFailed(f"{name} cannot be patched as its {DKMS} says", error.message) from error


def _filled(line: str, around: Surroundings) -> str:
    """Return a command with places put in: braces are the shell's too, so nothing else is looked at."""
    headers = around.headers
    places = {dkms.TREE: around.tree, "{kdir}": headers.kdir, "{release}": headers.kernel.release}
    for word, place in places.items():
        line = line.replace(word, str(place))
    return line


def _pre_build(conf: Conf, around: Surroundings, progress: Progress) -> None:
    line = conf.pre_build.replace(dkms.TREE, str(around.tree))
    program = line.split()[0]
    if around.can_run(program):
        around.prepare(line, f"PRE_BUILD of its {DKMS}")
    else:  # and so does dkms
        progress.note(f"{around.name}: {program}, which is PRE_BUILD, is no program, and is passed over")


def in_order(trees: Trees, headers: Headers, toolchain: Root, tools: Root | None) -> list[tuple[Tree, str]]:
    """Return the trees, each behind those that its dkms.conf depends on, and the packages that they are."""
    if len(trees.all) == 1:
        return [(tree, "") for tree in trees.all]
    packages: dict[str, Tree] = {}
    needs: dict[Tree, tuple[str, ...]] = {}
    for tree in trees.all:
        try:
            conf = conf_of(tree, sources_of(tree), headers, toolchain, tools)
        except ModuleFailed:  # which is told when it is built
            conf = None
        packages.setdefault(conf.package if conf is not None else str(tree.path), tree)
        needs[tree] = conf.depends if conf is not None else ()
    found: dict[Tree, None] = {}

    def add(tree: Tree, above: tuple[Tree, ...]) -> None:
        for name in needs[tree]:
            if name in packages and packages[name] not in above:
                add(packages[name], (*above, tree))
        found[tree] = None

    for tree in trees.all:
        add(tree, (tree,))
    called = {tree: name for name, tree in packages.items()}
    return [(tree, called.get(tree, "")) for tree in found]


__all__ = ["before_make", "conf_of", "in_order", "made_ready", "sources_of"]
