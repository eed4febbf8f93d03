# SPDX-License-Identifier: MIT
"""What commands of a tree's own find around them: programs of private roots, on a copy of the tree."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from lab.arch import architecture, host
from lab.errors import ModuleFailed
from lab.kernels.dkms import missing_program, tail
from lab.kernels.process import run
from lab.kernels.sources import File
from lab.kernels.toolchain import compiler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.kernels.model import Headers
    from lab.kernels.roots import Root

_SHEBANG = re.compile(rb"#![ \t]*(/\S*/)([^\s/]+)([^\n]*)")


class Surroundings:
    """Where a tree's commands run: its copy, and the root of the kernel's compiler."""

    def __init__(
        self,
        tree: Path,
        name: str,
        headers: Headers,
        toolchain: Root,
        lock: int,
        tools: Root | None = None,
    ) -> None:
        self.tree = tree
        self.name = name  # what the user calls it
        self.headers = headers
        self.arch = architecture(headers.kernel.arch)
        self.toolchain = toolchain
        self._tools = tools  # what the user wants besides
        self.lock = lock  # the descriptor that keeps others from this tree

    @property
    def variables(self) -> list[str]:
        """What makes make compile for the kernel."""
        return [
            f"CC={compiler(self.toolchain, self.arch)}",
            f"ARCH={self.arch.kernel}",
            f"CROSS_COMPILE={self.arch.gnu}-",
        ]

    def environment(self) -> dict[str, str]:
        """Return a whole environment: nothing of the host's is on the PATH."""
        return {
            **programs(self.toolchain, self._tools),
            "LC_ALL": "C",
            # Debian's .kernelvariables, up to 6.1, take the cross compiler from these.
            "DEB_BUILD_ARCH": host().debian,
            "DEB_HOST_ARCH": self.arch.debian,
            "DEB_HOST_GNU_TYPE": self.arch.gnu,
        }

    def make(self, words: Sequence[str]) -> tuple[int, str]:
        """Run make; return its status and what was said."""
        argv = [*self.toolchain.command("make"), *words]
        return run(argv, cwd=self.tree, env=self.environment(), keep=(self.lock,))

    def shell(self, line: str, before: Sequence[str] = (), after: Sequence[str] = ()) -> tuple[int, str]:
        """Run a line of the tree's own in the copy's top; return its status and what was said.

        Each make that it calls by that name gets words in front of its own, and variables behind them: the
        last one of a name counts, and make hands them down to those that it starts.
        """
        programs = self.tree.parent / "bin"
        programs.mkdir(exist_ok=True)
        bash = self.toolchain.command("bash")[0]
        words = [
            shlex.join([*self.toolchain.command("make"), *before]),
            '"$@"',
            shlex.join([*self.variables, *after]),
        ]
        wrapper = programs / "make"
        wrapper.unlink(missing_ok=True)
        wrapper.write_text(f"#!{bash}\nexec {' '.join(words)}\n")
        wrapper.chmod(0o755)
        environment = self.environment()
        environment |= {
            "PATH": f"{programs}:{environment['PATH']}",
            "PWD": str(self.tree),
            **dict(word.split("=", 1) for word in self.variables),
        }
        return run([bash, "-c", line, "bash"], cwd=self.tree, env=environment, keep=(self.lock,))

    def prepare(self, line: str, what: str) -> None:
        """Run a command that has to go well before make; `what`: who asks for it.

        Raises ModuleFailed with the last of what it said.
        """
        status, said = self.shell(line)
        if status:
            said = said.replace(f"{self.tree}/", f"{self.name}/")
            raise ModuleFailed(
                f"{self.name} cannot be prepared for {self.headers.kernel.release}: {what} fails with status "
                f"{status}",
                f"$ {line.replace(str(self.tree), self.name)}\n{tail(said)}",
                hint=missing_program(said),
            )

    def can_run(self, program: str) -> bool:
        """Tell whether a file of the copy can be run."""
        return os.access(self.tree / program, os.X_OK)


def programs(toolchain: Root, tools: Root | None) -> dict[str, str]:
    """Return a whole environment with the programs of a compiler's root, and behind these what is added."""
    found = toolchain.environment()
    if tools is not None:
        found["PATH"] += f":{tools.environment()['PATH']}"
    return found


def bound(files: Mapping[str, File], toolchain: Root, tools: Root | None = None) -> dict[str, File]:
    """Return a tree's files with scripts that the roots' interpreters run, not the host's.

    One that the roots lack is looked for by env, in vain: that tells which it is. /bin/sh stays, which every
    host has and make uses anyway.
    """
    return {
        path: File(_bound(file.data, toolchain, tools), executable=True) if file.executable else file
        for path, file in files.items()
    }


def _bound(data: bytes, toolchain: Root, tools: Root | None) -> bytes:
    found = _SHEBANG.match(data)
    if found is None or found[1] + found[2] == b"/bin/sh":
        return data
    name, line = found[2].decode("ascii", "replace"), f"#!{toolchain.command('env')[0]} ".encode() + found[2]
    for root in (toolchain, tools):
        if root is not None and (root.path / "usr/bin" / name).exists():
            line = f"#!{root.command(name)[0]}".encode() + found[3]
            break
    return line + data[found.end() :]


__all__ = ["Surroundings", "bound", "programs"]
