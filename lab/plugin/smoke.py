# SPDX-License-Identifier: MIT
"""What is tried with a module for which nobody has written anything: whether it comes and goes, twice.

What a scenario's end looks at, the kernel's health and what the module leaves behind, is looked at here too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.errors import ModuleFailed
from lab.kernels.tree import DKMS
from lab.plugin.items import ScenarioItem, YamlFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from lab.kernels.tree import Tree
    from lab.scenario import Scenario, ScenarioFile

_HEAD = """\
channel: smoke
about: Modules come and go, twice.
complains: ['^(?:{own})\\b']
scenarios:
"""
_SCENARIO = """\
  - name: {module} comes and goes
    modules: [{module}]
    steps:
      - {{unload: {module}}}
      - {{load_module: {module}}}
{readable}      - {{unload: {module}}}
"""
_READABLE = """\
      - {{open: /sys/module/{module}/parameters/{name}, flags: O_RDONLY, as: {name}_}}
      - {{read: ${name}_, size: PAGE_SIZE}}
      - {{close: ${name}_}}
"""


def text(tree: Tree, modules: Sequence[str]) -> str:
    """Return a scenario file for modules of a tree."""
    # What a module prints without a level is at warning level: it may say of itself what it likes.
    own = "|".join(name.replace("_", "[-_]") for name in tree.modules or modules)
    found = [_HEAD.format(own=own or "-")]
    for module in modules:
        names = tree.readable(module)
        readable = "".join(_READABLE.format(module=module, name=name) for name in names)
        found.append(_SCENARIO.format(module=module, readable=readable))
    return "".join(found)


class Makefile(YamlFile):
    """The file that says which modules a tree makes."""

    def scenarios(self) -> ScenarioFile:
        """Return one for each module; raises LabError where they have to be built to know them and do not."""
        run = self.run
        tree = next(each for each in run.lab.wishes.trees.all if each.is_described_by(self.path))
        modules = sorted(tree.modules)
        if tree.dkms is not None and not self.config.option.collectonly:
            modules = self._by_dkms(tree) or modules
        elif not modules and not self.config.option.collectonly:
            built = run.lab.target(run.targets()[0]).modules
            modules = [name for name in built.names if built.homes[name] == tree.path]
        found = self.load(text(tree, modules))
        return replace(found, scenarios=tuple(map(_of_no_line, found.scenarios)))

    def _by_dkms(self, tree: Tree) -> list[str]:
        """Return the modules that a dkms.conf has for any of the run's kernels: it may differ.

        Raises ModuleFailed where it can be read for none, and nothing else tells.
        """
        lab, found = self.run.lab, dict[str, str]()
        failed = None
        for target in self.run.targets():
            try:
                built = lab.target(target).modules
            except ModuleFailed as error:  # which each of its scenarios tells
                failed = error
                continue
            for name in built.names:
                if built.homes[name] == tree.path:
                    found.setdefault(name, f"its {DKMS} has {name} for {target}, and not for this kernel")
        if failed is not None and not found and not tree.modules:
            raise failed
        lab.elsewhere |= found
        return sorted(found)


def _of_no_line(scenario: Scenario) -> Scenario:
    """Return a scenario that stands nowhere: the file has other lines than its text."""
    return replace(scenario, line=1, steps=tuple(replace(step, line=1) for step in scenario.steps))


def needless(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return of what was collected the modules that some other scenario loads on the same target."""
    loaded = {
        (name.replace("-", "_"), item.target)
        for item in items
        if isinstance(item, ScenarioItem) and not isinstance(item.parent, Makefile)
        for name in item.scenario.loads
    }
    return [
        item
        for item in items
        if isinstance(item, ScenarioItem)
        and isinstance(item.parent, Makefile)
        and {(name, item.target) for name in item.scenario.loads} <= loaded
    ]
