# SPDX-License-Identifier: MIT
"""One build by kbuild in a directory of ours, in which one culprit does not take the others down."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import architecture, host
from lab.errors import BuildFailed, ModuleFailed
from lab.kernels.make_output import Output, first_errors, parse, relative
from lab.kernels.process import run, usable_cpus
from lab.kernels.toolchain import compiler, tool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.kernels.model import Headers
    from lab.kernels.roots import Root

# Stands in for a file that does not compile, whatever the user's Kbuild looks like: make then comes to the
# step that makes the modules of all the others.
_STUB = b'#include <linux/module.h>\nMODULE_LICENSE("GPL");\n'
_SAID = "said.json"  # beside the tree: what the compiler said when it last compiled each file
# modpost takes these as given, see ignore_undef_symbol() in scripts/mod/modpost.c
_GIVEN = re.compile(
    r"__this_module|_GLOBAL_OFFSET_TABLE_|\.TOC\.|_(?:rest|save)[gfv]pr_\w+|_mcount|__mcount_loc"
)
_NO_RULE = re.compile(r"No rule to make target '([^']+)\.o'")
_NO_C = (".cc", ".cpp", ".cxx", ".C")
_BLANK = re.compile(r"[^\w.+-]")
_EXPORT = re.compile(r"\bEXPORT_SYMBOL\w*\s*\(\s*(\w+)")


@dataclass(frozen=True)
class Built:
    """What came out, by the kernel's names of modules."""

    modules: dict[str, str]  # the .ko, relative to the tree
    failed: dict[str, str]
    warnings: dict[str, str]


class Kbuild:
    """A tree of sources that is built, perhaps not for the first time."""

    def __init__(
        self,
        tree: Path,
        name: str,
        headers: Headers,
        toolchain: Root,
        *,
        lock: int,
        only: Sequence[str] = (),
        exports: Sequence[Path] = (),
        make: Sequence[str] = (),
    ) -> None:
        self._tree = tree
        self._only = only  # modules, for a Kbuild that looks at LAB_ONLY; none: all
        self._variables = [word.replace("{tree}", str(tree)) for word in make]
        self._others = exports  # Module.symvers of trees whose symbols this one may use
        self._lock = lock  # the descriptor that keeps others from this tree
        self._name = name  # what the user calls the tree
        self._headers = headers
        self._arch = architecture(headers.kernel.arch)
        self._toolchain = toolchain
        self._sources = {str(path.relative_to(tree)) for path in tree.rglob("*.[chS]")}
        self._culprits: dict[str, str] = {}  # source -> the compiler's lines
        self._exports: dict[str, set[str]] = {}  # culprit -> what it would have exported
        self._said: dict[str, str] = (
            self._read_said()
        )  # source -> warnings, from this build or an earlier one
        self._btf = self._pahole_is_there()

    def build(self) -> Built:
        """Build all modules.

        Raises ModuleFailed when make fails and no file of the tree is to blame, or when there is no module.
        """
        for _ in range(len(self._sources) + 2):
            (self._tree / "Module.symvers").unlink(missing_ok=True)  # so that modpost always looks again
            status, output = self._make()
            self._note_said(output)
            if status == 0:
                break
            if not self._set_aside(output):
                raise self._nobody_to_blame(output)
        else:
            raise self._nobody_to_blame(output)
        (self._tree.parent / _SAID).write_text(json.dumps(self._said))
        return self._sort_out(output)

    def _nobody_to_blame(self, output: Output) -> ModuleFailed:
        title = f"{self._name} does not build for {self._headers.kernel.release}"
        return ModuleFailed(title, output.text, hint=self._missing(output.text))

    def _missing(self, text: str) -> str:
        """Return what there is instead of a source that kbuild looks for."""
        found = _NO_RULE.search(text)
        if found is None:
            return ""
        stem = self._tree / found[1].removeprefix(f"{self._name}/")
        others = sorted(path.name for path in stem.parent.glob(f"{stem.name}.*") if path.suffix in _NO_C)
        there = f", and {others[0]} is none: a kernel has no C++" if others else ""
        return f"kbuild finds no {stem.name}.c{there}"

    def _make(self) -> tuple[int, Output]:
        argv = [
            *self._toolchain.command("make"),
            "-k",
            f"-j{usable_cpus()}",
            "-O",  # what one command says stays together
            "-C",
            str(self._headers.kdir),
            f"M={self._tree}",
            f"CC={compiler(self._toolchain, self._arch)}",
            f"ARCH={self._arch.kernel}",
            f"CROSS_COMPILE={self._arch.gnu}-",
            # Undefined symbols are found here and held against the module that has them; as errors they
            # would keep modpost from making any module.
            "KBUILD_MODPOST_WARN=1",
            # Reports of the kernel name files as the user knows them, and a module is the same wherever the
            # cache lies. A blank would be the shell's.
            f"KCFLAGS=-ffile-prefix-map={self._tree}/={_BLANK.sub('_', self._name)}/",
            "modules",
        ]
        argv += self._variables
        if self._others:
            argv.append(f"KBUILD_EXTRA_SYMBOLS={' '.join(map(str, self._others))}")
        if self._only:
            argv.append(f"LAB_ONLY={' '.join(self._only)}")
        if not self._btf:
            argv.append("CONFIG_DEBUG_INFO_BTF_MODULES=")
        environment = {
            **self._toolchain.environment(),
            "LC_ALL": "C",
            # Debian's .kernelvariables, up to 6.1, take the cross compiler from these.
            "DEB_BUILD_ARCH": host().debian,
            "DEB_HOST_ARCH": self._arch.debian,
            "DEB_HOST_GNU_TYPE": self._arch.gnu,
        }
        status, text = run(argv, cwd=self._tree, env=environment, keep=(self._lock,))
        return status, parse(text, str(self._tree), self._sources, self._name)

    # --- what went wrong ---------------------------------------------------------------------------------

    def _set_aside(self, output: Output) -> bool:
        """Replace the culprits of a failed run by stubs; False when there is none to blame."""
        found = False
        for step in output.failed:
            if step.kind == "BTF" and self._btf:
                self._btf = False  # the module works without it
                found = True
                continue
            for source in self._sources_of(step.target):
                found |= self._blame(source, step.text)
        for line in output.modpost:
            for module, sources in self._members().items():
                if _is_about(line, module):
                    for source in sources:
                        found |= self._blame(source, line)
        return found

    def _blame(self, source: str, text: str) -> bool:
        if source in self._culprits:
            return False
        self._culprits[source] = text
        self._said.pop(source, None)
        path = self._tree / source
        self._exports[source] = set(_EXPORT.findall(path.read_text(errors="replace")))
        path.write_bytes(b"" if source.endswith(".S") else _STUB)
        return True

    def _sources_of(self, target: str) -> list[str]:
        """Return the files behind what make could not make: an object, or a module made of several."""
        stem = re.sub(r"\.(?:mod\.[oc]|mod|ko|o)$", "", target)
        own = [source for source in (f"{stem}.c", f"{stem}.S") if source in self._sources]
        return own or self._members().get(stem, [])

    def _members(self) -> dict[str, list[str]]:
        """Return the sources of each module that kbuild got so far as to list."""
        return {module: self._sources_in(self._tree / f"{module}.mod") for module in self._listed()}

    def _listed(self) -> list[str]:
        """Return the modules, as paths in the tree without a suffix."""
        try:
            lines = (self._tree / "modules.order").read_text().split()
        except FileNotFoundError:
            return []
        return [relative(line, str(self._tree)).rpartition(".")[0] for line in lines]

    def _sources_in(self, listing: Path) -> list[str]:
        """Read X.mod: the objects of a module; up to 5.17 all in the first line."""
        try:
            words = listing.read_text().split()
        except FileNotFoundError:
            return []
        stems = [relative(word, str(self._tree)).removesuffix(".o") for word in words if word.endswith(".o")]
        return [name for stem in stems for name in (f"{stem}.c", f"{stem}.S") if name in self._sources]

    # --- what came out -----------------------------------------------------------------------------------

    def _sort_out(self, output: Output) -> Built:
        members = self._members()
        if not members:
            raise ModuleFailed(
                f"{self._name} has no module to build",
                "its Kbuild (or Makefile) sets no obj-m",
                hint="one line is enough, `obj-m := mine.o` for mine.c",
            )
        failed: dict[str, str] = {}
        for module, sources in members.items():
            texts = dict.fromkeys(self._culprits[source] for source in sources if source in self._culprits)
            if texts:
                failed[module] = first_errors("\n".join(texts))
        good = [module for module in members if module not in failed]
        for module, symbols in self._undefined(good).items():
            failed[module] = self._explain(module, symbols)
        warnings = {
            module: "\n".join(
                [self._said[source] for source in sources if source in self._said]
                + [line for line in output.warnings if _is_about(line, module)]
            )
            for module, sources in members.items()
            if module not in failed
        }
        return Built(
            {_kernel_name(module): f"{module}.ko" for module in good if module not in failed},
            {_kernel_name(module): text for module, text in failed.items()},
            {_kernel_name(module): text for module, text in warnings.items() if text},
        )

    def _undefined(self, modules: list[str]) -> dict[str, list[str]]:
        """Return the symbols that nobody exports, by module.

        modpost's own list is cut after ten, so the modules are asked. What a failed module would have
        exported is missing too, so those that use it fail with it, and so on.
        """
        symvers = (self._headers.kdir / "Module.symvers", *self._others)
        kernel = {symbol for path in symvers for symbol in _exported(path)}
        own = _exported_by(self._tree / "Module.symvers", self._tree)
        needs = self._needs(modules)
        bad: dict[str, list[str]] = {}
        while True:
            there = kernel | {symbol for symbol, owner in own.items() if owner in needs and owner not in bad}
            worse = {
                module: missing
                for module, symbols in needs.items()
                if module not in bad
                and (missing := [s for s in symbols if s not in there and not _GIVEN.fullmatch(s)])
            }
            if not worse:
                return bad
            bad |= worse

    def _needs(self, modules: list[str]) -> dict[str, list[str]]:
        if not modules:
            return {}
        argv = [
            *tool(self._toolchain, self._arch, "nm"),
            "-A",
            "-P",
            "-u",
            *(f"{module}.ko" for module in modules),
        ]
        status, output = run(argv, cwd=self._tree, env=self._toolchain.environment())
        if status:
            raise BuildFailed("nm cannot read what was built", output)
        found: dict[str, list[str]] = {module: [] for module in modules}
        for line in output.splitlines():  # 'lab_x.ko: symbol U'; weak ones (w) may be missing
            file, _, rest = line.partition(": ")
            symbol, _, kind = rest.partition(" ")
            if kind.startswith("U"):
                found[file.removesuffix(".ko")].append(symbol)
        return found

    def _explain(self, module: str, symbols: list[str]) -> str:
        lines = []
        missing = dict.fromkeys(symbols)
        for source, exported in self._exports.items():
            lost = [symbol for symbol in missing if symbol in exported]
            if lost:
                lines.append(
                    f"{self._name}/{module}.ko uses {', '.join(lost)} of {self._name}/{source}, "
                    "which does not build"
                )
                missing = {symbol: None for symbol in missing if symbol not in lost}
        lines += [f'ERROR: modpost: "{symbol}" [{self._name}/{module}.ko] undefined!' for symbol in missing]
        return "\n".join(lines)

    # --- what the compiler said about what it compiled earlier -------------------------------------------

    def _note_said(self, output: Output) -> None:
        for step in output.steps:
            if step.kind in ("CC", "AS") and not step.failed:
                for source in self._sources_of(step.target):
                    if source in self._culprits:
                        continue
                    self._said.pop(source, None)
                    if step.text:
                        self._said[source] = step.text

    def _read_said(self) -> dict[str, str]:
        try:
            said: dict[str, str] = json.loads((self._tree.parent / _SAID).read_bytes())
        except (OSError, ValueError):
            return {}
        return {source: text for source, text in said.items() if source in self._sources}

    def _pahole_is_there(self) -> bool:
        return (self._toolchain.path / "usr/bin/pahole").exists()


def _is_about(line: str, module: str) -> bool:
    """Whether a line of modpost's names a module."""
    return re.search(rf"\b{re.escape(module)}\b", line.partition("modpost: ")[2]) is not None


def _kernel_name(module: str) -> str:
    return module.rpartition("/")[2].replace("-", "_")


def _exported(symvers: Path) -> set[str]:
    try:
        lines = symvers.read_text().splitlines()
    except FileNotFoundError:
        return set()
    return {line.split("\t", 2)[1] for line in lines if "\t" in line}


def _exported_by(symvers: Path, tree: Path) -> dict[str, str]:
    """Return exported symbols and the module of this tree that has each."""
    try:
        lines = symvers.read_text().splitlines()
    except FileNotFoundError:
        return {}
    fields = (line.split("\t") for line in lines if line.count("\t") >= 2)
    return {words[1]: words[2].removeprefix(f"{tree}/") for words in fields}
