# SPDX-License-Identifier: MIT
"""One build by kbuild in a directory of ours, in which one culprit does not take the others down."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import BuildFailed, ModuleFailed
from lab.kernels.dkms import TREE, missing_program, tail
from lab.kernels.make_output import Output, first_errors, parse, relative
from lab.kernels.process import run, usable_cpus
from lab.kernels.toolchain import tool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.kernels.dkms import Conf, Wanted
    from lab.kernels.surroundings import Surroundings

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
_SAYS_NOTHING = "make could not make it, and said nothing of why"
_BLANK = re.compile(r"[^\w.+-]")
_EXPORT = re.compile(r"\bEXPORT_SYMBOL\w*\s*\(\s*(\w+)")


@dataclass(frozen=True)
class Built:
    """What came out, by the kernel's names of modules."""

    modules: dict[str, str]  # the .ko, relative to the tree
    failed: dict[str, str]
    warnings: dict[str, str]
    symvers: str = ""  # Module.symvers: what others may use


class Kbuild:
    """A tree of sources that is built, perhaps not for the first time."""

    def __init__(
        self,
        around: Surroundings,
        *,
        only: Sequence[str] = (),
        exports: Sequence[Path] = (),
        make: Sequence[str] = (),
        conf: Conf | None = None,
    ) -> None:
        self._around = around
        self._tree = tree = around.tree
        self._only = only  # modules, for a Kbuild that looks at LAB_ONLY; none: all
        self._variables = [word.replace(TREE, str(tree)) for word in make]
        self._others = exports  # Module.symvers of trees whose symbols this one may use
        self._conf = conf  # which says how it is built, where there is a dkms.conf
        self._name = around.name  # what the user calls the tree
        self._headers = around.headers
        self._arch = around.arch
        self._toolchain = around.toolchain
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
            self._forget()
            status, output = self._make()
            self._note_said(output)
            # `make …; find …`, as xtables-addons has it, is well when find is.
            if status == 0 and not (self._conf and output.failed):
                break
            if not self._set_aside(output):
                if status == 0:
                    break
                raise self._nobody_to_blame(output)
        else:
            raise self._nobody_to_blame(output)
        (self._tree.parent / _SAID).write_text(json.dumps(self._said))
        return self._sort_out(output)

    def _forget(self) -> None:
        """Remove what modpost left, so that it always looks again and nothing is taken for this run's."""
        if self._conf is None:
            (self._tree / "Module.symvers").unlink(missing_ok=True)
            return
        for name in ("Module.symvers", "modules.order"):
            for path in self._tree.rglob(name):
                path.unlink()

    def _nobody_to_blame(self, output: Output) -> ModuleFailed:
        title = f"{self._name} does not build for {self._headers.kernel.release}"
        return ModuleFailed(
            title, output.text, hint=self._missing(output.text) or missing_program(output.text)
        )

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
        before = ["-k", f"-j{usable_cpus()}", "-O"]  # -O: what one command says stays together
        words = [
            # Undefined symbols are found here and held against the module that has them; as errors they
            # would keep modpost from making any module.
            "KBUILD_MODPOST_WARN=1",
            # Reports of the kernel name files as the user knows them, and a module is the same wherever the
            # cache lies. A blank would be the shell's.
            f"KCFLAGS=-ffile-prefix-map={self._tree}/={_BLANK.sub('_', self._name)}/",
        ]
        words += self._variables
        if self._others:
            words.append(f"KBUILD_EXTRA_SYMBOLS={' '.join(map(str, self._others))}")
        if self._only:
            words.append(f"LAB_ONLY={' '.join(self._only)}")
        if not self._btf:
            words.append("CONFIG_DEBUG_INFO_BTF_MODULES=")
        words.append("V=0")  # V=1, as two of ten packages have it, would hide which command said what
        if self._conf is None:
            places = ["-C", str(self._headers.kdir), f"M={self._tree}"]
            status, text = self._around.make([*before, *places, *self._around.variables, *words, "modules"])
        else:
            line = self._conf.make.replace(TREE, str(self._tree))
            status, text = self._around.shell(line, before, words)
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
        if not own and self._conf is not None:  # relative to a directory below, where that is M=
            found = [source for source in self._sources if source.endswith((f"/{stem}.c", f"/{stem}.S"))]
            own = found if len(found) == 1 else []
        return own or self._members().get(stem, [])

    def _members(self) -> dict[str, list[str]]:
        """Return the sources of each module that kbuild got so far as to list."""
        return {module: self._sources_in(module, place) for module, place in self._listed().items()}

    def _places(self) -> list[str]:
        """Return the directories that kbuild was told as M=; '' is the top, others end in a /."""
        if self._conf is None:
            return [""]
        found: list[Path] = []
        for path in sorted(self._tree.rglob("modules.order")):  # those of directories below are in it
            if not any(path.is_relative_to(other) for other in found):
                found.append(path.parent)
        return ["" if path == self._tree else f"{path.relative_to(self._tree)}/" for path in found]

    def _listed(self) -> dict[str, str]:
        """Return the modules, as paths in the tree without a suffix, and the place that each is of."""
        found: dict[str, str] = {}
        for place in self._places():
            try:
                lines = (self._tree / place / "modules.order").read_text().split()
            except FileNotFoundError:
                continue
            found |= {self._path(line, place).rpartition(".")[0]: place for line in lines}
        return found

    def _path(self, word: str, place: str) -> str:
        """Return a file by its path in the tree: newer kbuild writes it relative to M=."""
        path = relative(word, str(self._tree))
        return path if word.startswith("/") else f"{place}{path}"

    def _sources_in(self, module: str, place: str) -> list[str]:
        """Read X.mod: the objects of a module; up to 5.17 all in the first line."""
        try:
            words = (self._tree / f"{module}.mod").read_text().split()
        except FileNotFoundError:
            return []
        stems = [self._path(word, place).removesuffix(".o") for word in words if word.endswith(".o")]
        return [name for stem in stems for name in (f"{stem}.c", f"{stem}.S") if name in self._sources]

    def _file(self, module: str) -> str:
        """Return the file of a module: the line that makes it may move it to where dkms.conf says."""
        file = f"{module}.ko"
        if self._conf is None or (self._tree / file).exists():
            return file
        name = module.rpartition("/")[2]
        return next((_file_of(each) for each in self._conf.modules if each.name == name), file)

    # --- what came out -----------------------------------------------------------------------------------

    def _sort_out(self, output: Output) -> Built:
        members = self._members()
        if not members and not (self._conf and self._conf.modules):
            raise ModuleFailed(
                f"{self._name} has no module to build",
                "its Kbuild (or Makefile) sets no obj-m",
                hint="one line is enough, `obj-m := mine.o` for mine.c",
            )
        failed: dict[str, str] = {}
        for module, sources in members.items():
            texts = dict.fromkeys(self._culprits[source] for source in sources if source in self._culprits)
            if texts:
                failed[module] = first_errors("\n".join(texts)).strip() or _SAYS_NOTHING
        good = [module for module in members if module not in failed]
        if self._conf is not None:
            good = [module for module in good if (self._tree / self._file(module)).exists()]
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
        files = {module: self._file(module) for module in good if module not in failed}
        built = Built(
            {_kernel_name(module): file for module, file in files.items()},
            {_kernel_name(module): text for module, text in failed.items()},
            {_kernel_name(module): text for module, text in warnings.items() if text},
            "".join(_text(self._tree / place / "Module.symvers") for place in self._places()),
        )
        self._compare(built, output)
        hint = missing_program(output.text)  # of a $(shell …), say: make itself goes on without it
        if hint:
            for name, text in built.failed.items():
                built.failed[name] = f"{text}\n{hint}"
        return built

    def _compare(self, built: Built, output: Output) -> None:
        """Hold what was made against what dkms.conf says is made."""
        if self._conf is None:
            return
        for name in self._conf.excluded:
            for part in (built.modules, built.failed, built.warnings):
                part.pop(name, None)
        for wanted in self._conf.made:
            name, file = wanted.kernel_name, _file_of(wanted)
            if name not in built.modules and name not in built.failed:
                said = f"{self._name}/{file} was to be built, by its dkms.conf, and make made none"
                built.failed[name] = "\n".join(filter(None, [said, tail(output.text)]))
            elif built.modules.get(name, file) != file:
                said = f"dkms looks for {self._name}/{file}, and make made {self._name}/{built.modules[name]}"
                built.warnings[name] = "\n".join(filter(None, [said, built.warnings.get(name)]))

    def _undefined(self, modules: list[str]) -> dict[str, list[str]]:
        """Return the symbols that nobody exports, by module.

        modpost's own list is cut after ten, so the modules are asked. What a failed module would have
        exported is missing too, so those that use it fail with it, and so on.
        """
        symvers = (self._headers.kdir / "Module.symvers", *self._others)
        kernel = {symbol for path in symvers for symbol in _exported(path)}
        own: dict[str, str] = {}
        for place in self._places():
            found = _exported_by(self._tree / place / "Module.symvers")
            own |= {symbol: self._path(owner, place) for symbol, owner in found.items()}
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
        files = {self._file(module): module for module in modules}
        argv = [*tool(self._toolchain, self._arch, "nm"), "-A", "-P", "-u", *files]
        status, output = run(argv, cwd=self._tree, env=self._toolchain.environment())
        if status:
            raise BuildFailed("nm cannot read what was built", output)
        found: dict[str, list[str]] = {module: [] for module in modules}
        for line in output.splitlines():  # 'lab_x.ko: symbol U'; weak ones (w) may be missing
            file, _, rest = line.partition(": ")
            symbol, _, kind = rest.partition(" ")
            if kind.startswith("U"):
                found[files[file]].append(symbol)
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


def _file_of(wanted: Wanted) -> str:
    return f"{wanted.location}{wanted.name}.ko"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _exported(symvers: Path) -> set[str]:
    return {line.split("\t", 2)[1] for line in _text(symvers).splitlines() if "\t" in line}


def _exported_by(symvers: Path) -> dict[str, str]:
    """Return exported symbols and the module that has each, as kbuild wrote it."""
    fields = (line.split("\t") for line in _text(symvers).splitlines() if line.count("\t") >= 2)
    return {words[1]: words[2] for words in fields}
