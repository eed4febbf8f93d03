# SPDX-License-Identifier: MIT
"""What the command line and the ini file may say, and how many workers that makes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.arch import ARCHITECTURES, DEFAULT
from lab.errors import LabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from lab.kernels.offered import Offered
    from lab.kernels.tree import Trees

DEFAULT_KERNEL = "6.12"  # the line that Debian's stable release ships
_SCENARIOS = "scenarios"  # what a directory of them is called
_YAML = (".yaml", ".yml")
_CHANNEL = re.compile(rb"^channel[ \t]*:", re.MULTILINE)  # what each of them has in its head
_LOOKED_AT = 1 << 16  # bytes


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the lab's options, and its settings as ini options of the same names."""
    group = parser.getgroup("chanlab", "guests under QEMU")
    group.addoption(
        "--kernel",
        action="append",
        default=None,
        metavar="SPEC",
        help="6.12, 6.12.107, '>=6.1', oldest, newest or all; repeatable "
        f"(default: {DEFAULT_KERNEL}; `lab kernels` lists what there is)",
    )
    group.addoption(
        "--kernel-tree",
        action="append",
        default=[],
        metavar="DIR[@REF]",
        help="a kernel that is built out of a tree of sources, or a git repository's commit; repeatable",
    )
    group.addoption(
        "--kernel-image",
        action="append",
        default=[],
        metavar="FILE",
        help="a kernel that was built: bzImage",
    )
    group.addoption(
        "--kernel-build",
        action="append",
        default=[],
        metavar="DIR",
        help="where the kernel of --kernel-image was built: its modules, and what modules are built against",
    )
    group.addoption(
        "--kernel-packages",
        action="append",
        default=[],
        metavar="DIR",
        help="a kernel out of .deb files: linux-image, linux-headers, as `make bindeb-pkg` makes them",
    )
    group.addoption(
        "--kernel-config",
        action="append",
        default=[],
        metavar="FILE",
        help="a fragment of the configuration of kernels that are built, above the lab's own; repeatable",
    )
    group.addoption(
        "--arch",
        action="append",
        default=None,
        metavar="ARCH",
        help=f"{', '.join(ARCHITECTURES)} or all; repeatable (default: {DEFAULT})",
    )
    group.addoption(
        "--flavour",
        action="append",
        default=None,
        metavar="NAME",
        help="stock, cloud, rt … or all (default: stock)",
    )
    group.addoption(
        "--cold", action="store_true", help="boot a guest for each scenario instead of cloning one"
    )
    group.addoption(
        "--lab-seed", type=int, default=None, help="the run's seed (default: a new one, which is printed)"
    )
    group.addoption(
        "--journal",
        type=Path,
        default=None,
        metavar="FILE",
        help="append what each scenario's steps and the kernel gave, for `lab compare`",
    )
    group.addoption("--qemu", type=Path, default=None, metavar="PATH", help="a QEMU of your own")
    group.addoption(
        "--module",
        action="append",
        default=[],
        metavar="DIR",
        help="a source tree of modules: a directory with a Kbuild or a Makefile; repeatable "
        "(default: what chanlab_modules names in the ini file)",
    )
    group.addoption(
        "--fault",
        action="append",
        default=[],
        metavar="NAME",
        help="apply faults/NAME.patch of a tree to a copy of the modules, to see a scenario fail; repeatable",
    )
    group.addoption(
        "--stress",
        action="store_true",
        help="let the CPUs of guests lag behind one another at random while twice as many workers run as "
        "there are CPUs (or -n)",
    )
    group.addoption(
        "--leaks",
        action="store_true",
        help="make each scenario several times more in its guest, and fail where the kernel has more objects "
        "or pages in use each time",
    )
    group.addoption(
        "--linger",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="let each guest live on after its scenario, and fail it for what the kernel says by then",
    )
    from lab.settings import SETTINGS  # noqa: PLC0415 - pytest starts without the lab's parts

    parser.addini(
        "chanlab_scenarios",
        "directories whose YAML files are scenario files (default: one called scenarios, where that and a "
        "kernel are named on the command line)",
        type="paths",
        default=[],
    )
    parser.addini(
        "chanlab_modules", "source trees of modules, as --module names them", type="paths", default=[]
    )
    parser.addini(
        "chanlab_make",
        "variables that make is told when modules are built, {tree} is where: CONFIG_X=m PWD={tree}",
        type="args",
        default=[],
    )
    parser.addini(
        "chanlab_prepare",
        "a command that is run before make in the copy that is built: {tree} is where that is, {kdir} what "
        "modules are built against, {release} which kernel",
        default="",
    )
    parser.addini(
        "chanlab_tools",
        "Debian packages whose programs the trees' Makefiles and commands want: python3 gawk",
        type="args",
        default=[],
    )
    for setting in SETTINGS:
        parser.addini(setting.name, f"{setting.meaning} (default: {setting.default})", default="")


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Decide how many workers there are before xdist looks at it, whichever plugin was registered first."""
    try_modules(config)
    decide_workers(config)
    return (yield)


def try_modules(config: pytest.Config) -> None:
    """Where no place is named, collect modules too: those without scenarios are tried.

    What --module names is all that is wanted then, with the scenarios of the ini file.
    Raises pytest.UsageError for what is no tree of modules.
    """
    if not asked(config):
        return
    try:
        found = trees(config)
    except LabError as error:
        raise pytest.UsageError(str(error)) from error
    makefiles = [str(tree.makefile) for tree in found.all if tree.makefile is not None]
    source = config.args_source
    if source is config.ArgsSource.TESTPATHS:
        config.args = [*config.args, *makefiles]
    elif source is config.ArgsSource.INVOCATION_DIR and config.option.module:
        config.args = [*map(str, config.getini("chanlab_scenarios")), *makefiles]


def decide_workers(config: pytest.Config) -> None:
    """Set the number of workers where -n does not."""
    option = config.option
    # A worker of xdist's comes by here too, with the option reset: it must not start workers of its own.
    if hasattr(config, "workerinput"):
        return
    if getattr(option, "numprocesses", 0) is not None:
        if asked(config) and not option.pyargs and not all(map(_is_there, config.args)):
            # What pytest says of that xdist's workers keep to themselves: "no tests ran" is all that is left.
            option.numprocesses = 0
        return
    if option.dist != "no" or _by_hand(option):
        return
    from lab import workers  # noqa: PLC0415 - only a process that may start some needs it

    if option.stress:
        option.numprocesses = workers.crowd()
        return
    # What -k and --lf leave is known when all is read; mostly it is little.
    chosen = option.keyword and not option.keyword.startswith("not ")
    if chosen or getattr(option, "lf", False):  # -p no:cacheprovider: there is no --lf
        return
    places = [Path(arg) for arg in config.args if "::" not in arg]
    wanted = [*(option.kernel or ()), *own_kernels(option)]
    targets = workers.targets(wanted, option.arch or "", option.flavour or "")
    count = workers.roughly([place for place in places if holds_scenarios(config, place)], targets)
    named = (Path(arg.partition("::")[0]) for arg in config.args if "::" in arg)
    count += sum(holds_scenarios(config, place) for place in named)
    if (found := workers.number(count)) > 1:
        option.numprocesses = found


def _is_there(arg: str) -> bool:
    return Path(arg.partition("::")[0]).exists()


def _by_hand(option: Any) -> bool:
    """Whether somebody is looking at what one process does, or nothing is run."""
    # Who says `-p no:capture` has no such option.
    found = {name: getattr(option, name, None) for name in ("collectonly", "usepdb", "trace", "capture")}
    return bool(found["collectonly"] or found["usepdb"] or found["trace"] or found["capture"] == "no")


def holds_scenarios(config: pytest.Config, place: Path) -> bool:
    """Tell whether a place on the command line is one of scenarios."""
    path = Path(os.path.abspath(place))  # noqa: PTH100 - as pytest does: no link is resolved
    return (place.suffix in _YAML and asked(config)) or _below(config, path) or is_makefile(config, path)


def asked(config: pytest.Config) -> bool:
    """Tell whether the command line asks for guests: then a YAML file that it names is one of scenarios."""
    option = config.option
    return bool(option.kernel or own_kernels(option) or option.arch or option.flavour or option.module)


def trees(config: pytest.Config) -> Trees:
    """Return the source trees that a command line names, or else the ini file.

    Raises UsageError for what is no directory.
    """
    from lab.kernels import tree  # noqa: PLC0415 - as above

    asked = {Path(os.path.abspath(name)): "--module" for name in getattr(config.option, "module", ())}  # noqa: PTH100 - as pytest does
    found: list[Path] = config.getini("chanlab_modules")
    named = asked or dict.fromkeys(found, "chanlab_modules in the ini file")
    return tree.trees(named, *building(config))


def building(config: pytest.Config) -> tuple[list[str], str, list[str]]:
    """Return what the ini file says about how trees are built, as tree.trees() takes it."""
    return config.getini("chanlab_make"), config.getini("chanlab_prepare"), config.getini("chanlab_tools")


def is_makefile(config: pytest.Config, path: Path) -> bool:
    """Tell whether a file says which modules a tree makes that the command line asks to be tried."""
    from lab.kernels.tree import DKMS, MAKEFILES, TEMPLATES  # noqa: PLC0415 - as above

    if path.name not in (*MAKEFILES, DKMS, *TEMPLATES) or not asked(config):
        return False
    return any(tree.is_described_by(path) for tree in trees(config).all)


def is_scenario_file(config: pytest.Config, path: Path) -> bool:
    """Tell whether a file in a directory is one of scenarios: others have YAML files of their own."""
    return path.suffix in _YAML and _below(config, path)


def _below(config: pytest.Config, path: Path) -> bool:
    """Tell whether a path is in a directory that the ini file names, or the command line asks for."""
    places: list[Path] = list(config.getini("chanlab_scenarios"))
    if asked(config):
        named = (Path(arg.partition("::")[0]).absolute() for arg in config.args)
        places += [place for place in named if _SCENARIOS in place.parts or _is_one(path)]
    return any(place == path or place in path.parents for place in places)


def _is_one(path: Path) -> bool:
    """Tell whether a file looks like one of scenarios, in a directory that is named and has no such name."""
    try:
        return path.suffix in _YAML and _CHANNEL.search(path.read_bytes()[:_LOOKED_AT]) is not None
    except OSError:
        return False


def own_kernels(option: Any) -> list[str]:
    """Return the kernels that are named without their versions."""
    return [*option.kernel_tree, *option.kernel_image, *option.kernel_packages]


def kernels(config: pytest.Config) -> Offered:
    """Return the sources of kernels that the command line names; raises UsageError for half of one."""
    from lab.kernels.offered import Offered  # noqa: PLC0415 - pytest starts without the lab's parts

    option, here = config.option, config.invocation_params.dir
    images, builds = option.kernel_image, option.kernel_build
    if len(images) != len(builds):
        raise UsageError(
            f"--kernel-image names {len(images)} kernels, and --kernel-build {len(builds)} directories",
            hint="each image has the directory that it was built in",
        )
    return Offered(
        tuple(option.kernel_tree),
        tuple((here / image, here / build) for image, build in zip(images, builds, strict=True)),
        tuple(here / name for name in option.kernel_packages),
        tuple(here / name for name in option.kernel_config),
    )
