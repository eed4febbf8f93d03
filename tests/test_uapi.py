# SPDX-License-Identifier: MIT
"""What a compiler says about headers, read from object files that it made once.

tests/data/probe-gccN-dwarfM.elf: sample_uapi.h and two arrays, compiled as lab.kernels.probe does,
by gcc 14 (DWARF 5) and by gcc 10 with -gdwarf-4, which tells bit fields in another way.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from lab.abi import Abi, Structs
from lab.arch import X86_64
from lab.errors import BuildFailed, LabError
from lab.kernels import uapi
from lab.kernels.dwarf import Types, read_array, read_types
from lab.kernels.probe import could_be_integer
from lab.kernels.roots import Root
from lab.kernels.uapi import header_abi
from lab.progress import Progress
from lab.store.cache import Cache

DATA = Path(__file__).parent / "data"
OBJECTS = ("probe-gcc14-dwarf5.elf", "probe-gcc10-dwarf4.elf")


@pytest.fixture(params=OBJECTS)
def types(request: pytest.FixtureRequest) -> Types:
    with (DATA / request.param).open("rb") as file:
        return read_types(file)


@pytest.mark.parametrize("name", OBJECTS)
def test_values(name: str) -> None:
    with (DATA / name).open("rb") as file:
        assert read_array(file, "lab_values", 8, signed=True) == [4096, 0xC00C7301, -1, 0]
        assert read_array(file, "lab_unsigned", 1, signed=False) == [0, 0, 1, 0]
        with pytest.raises(LabError, match="has no lab_nothing"):
            read_array(file, "lab_nothing", 8, signed=True)


def test_enumerators(types: Types) -> None:
    wanted = {"SAMPLE_ONE": 1, "SAMPLE_TWO": 2, "SAMPLE_FLAGS": 3, "SAMPLE_IN": 0, "SAMPLE_OUT": 1}
    assert types.enumerators == wanted


def test_layouts(types: Types) -> None:
    structs = Structs(types.structs)
    square = structs["sample_square"]
    assert (square.size, square.offset_of("square")) == (12, 4)  # packed
    sample = structs["sample_t"]  # has only a typedef's name
    assert sample.offset_of("words[1][1]") == sample.offset_of("words") + 24
    assert sample["name"].kind == "bytes"
    assert sample["text"].kind == sample["next"].kind == sample["done"].kind == "pointer"
    assert sample["inner"].type == square
    # Members of anonymous members, one on top of the other.
    assert sample.offset_of("a") == sample.offset_of("b") == sample.offset_of("c") - 2
    assert sample.offset_of("named.x") == sample["named"].offset
    assert (sample["direction"].size, sample["direction"].kind) == (4, "uint")
    assert sample["tail"].flexible


def test_bit_fields(types: Types) -> None:
    sample = Structs(types.structs)["sample_t"]
    assert sample["low"].bits == (24 * 8, 3)
    assert sample["high"].bits == (24 * 8 + 3, 5)
    packed = sample.pack({"low": 5, "high": 17, "tail": b"end"}, X86_64)
    assert packed[24] == 5 | 17 << 3
    assert packed[sample["tail"].offset :].startswith(b"end")


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("0x10", True),
        ("(1U << 31)", True),
        ("sizeof(struct pollfd)", True),
        ("((__sighandler_t)1)", True),
        ("'a'", True),
        ("A_NAME", True),  # an enumerator, or a type: the compiler will say
        ("(a ? b : c)", True),
        ("", False),
        ("1.5", False),
        ("1e3", False),
        ("1, 2", False),
        ("(1", False),
        ("1)", False),
        (") (", False),
        ("{ 1 }", False),
        ("x = 1", False),
        ("x; y", False),
        ("x[1]", False),
        ('"text" 1', False),
        ("__attribute__((packed))", False),
        ("do", False),
    ],
)
def test_what_may_be_compiled_as_a_number(text: str, whether: bool) -> None:
    assert could_be_integer(text) is whether


# A compiler that knows one header: what the preprocessor and the compiler are asked, and what they answer.
COMPILER = """
import pathlib, re, shutil, sys
text = pathlib.Path('probe.c').read_text()
if 'missing.h' in text:
    print(f'probe.c:1:10: fatal error: missing.h'); sys.exit(1)
if '-dD' in sys.argv:
    print('# 1 "/elsewhere/types.h" 1'); print('#define ELSEWHERE 1')
    print(f'# 1 "{pathlib.Path(sys.argv[0]).parents[3] / "uapi/sample_uapi.h"}" 1')
    for line in ['LIMIT 4096', 'SQUARE _IOWR()', 'NAME "a" "b"', 'BROKEN nothing', 'MASK ~0UL', 'G ']:
        print('#define SAMPLE_' + line)
elif '-P' in sys.argv:
    for n, name in re.findall('__lab__ lab_(\\\\d+)_ = (\\\\w+)', text):
        print(f'__lab__ lab_{n}_ = ' + {'SAMPLE_NAME': '"a\\\\n" "b"'}.get(name, '0'))
elif '-fsyntax-only' in sys.argv and 'BROKEN' in text:
    line = [n for n, line in enumerate(text.splitlines(), 1) if 'BROKEN' in line][0]
    print('uapi.h:9:9: error: nothing'); print(f'probe.c:{line}:9: note: in expansion'); sys.exit(1)
elif '-o' in sys.argv:
    shutil.copy(DATA, 'probe')
"""


class FakeToolchain:
    def __init__(self, base: Path) -> None:
        programs = base / "root/usr/bin"
        programs.mkdir(parents=True)
        gcc = programs / "x86_64-linux-gnu-gcc-14"
        gcc.write_text(f"#!{sys.executable}\nDATA = {str(DATA / OBJECTS[0])!r}\n{COMPILER}")
        gcc.chmod(gcc.stat().st_mode | stat.S_IXUSR)
        self.root = Root(base / "root", "r", {})
        self.include = base / "uapi"
        self.include.mkdir()
        (self.include / "sample_uapi.h").write_bytes((DATA / "sample_uapi.h").read_bytes())
        self.cache = Cache(base / "cache")

    def ask(self, *names: str) -> Abi:
        headers = [self.include / name for name in names]
        return header_abi(headers, self.include, self.root, X86_64, self.cache, Progress(quiet=True))


def test_a_users_header(tmp_path: Path) -> None:
    toolchain = FakeToolchain(tmp_path)
    found = toolchain.ask("sample_uapi.h")
    assert found.constants["SAMPLE_LIMIT"] == 4096
    assert found.constants["SAMPLE_SQUARE"] == 0xC00C7301
    assert found.constants["SAMPLE_MASK"] == (1 << 64) - 1  # told by its type from -1
    assert found.constants["SAMPLE_TWO"] == 2
    assert found.strings == {"SAMPLE_NAME": "a\nb"}
    assert found.structs["sample_square"].size == 12
    # What does not compile is left out and takes nobody down; other headers' macros are theirs.
    assert not {"SAMPLE_BROKEN", "SAMPLE_G", "ELSEWHERE"} & set(found.constants)
    assert toolchain.ask("sample_uapi.h") == found


def test_a_header_that_no_program_could_include(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"missing\.h: no program could include it on x86_64") as caught:
        FakeToolchain(tmp_path).ask("missing.h")
    assert "fatal error: missing.h" in caught.value.output


class Asked:
    """Counts how often a compiler would be asked about one.h."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch) -> None:
        self.times = 0
        patch.setattr(uapi, "_user", self._user)
        patch.setattr("lab.store.cache.sync", lambda *_, **__: None)  # a busy disk is not what this is about
        self._toolchain = FakeToolchain(base)
        self.root, self.include = self._toolchain.root.path, self._toolchain.include

    def _user(self, *_: object) -> Abi:
        self.times += 1
        return Abi(X86_64)

    def __call__(self, name: str, text: str) -> int:
        """Write a header, ask for one.h, and return how often compilers have been asked by now."""
        path = self.include / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._toolchain.ask("one.h")
        return self.times


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(tmp_path, monkeypatch)


def test_a_header_is_read_anew_when_what_it_includes_changes(asked: Asked) -> None:
    assert asked("one.h", '#include <linux/types.h>\n#include "two.h"\n') == 1
    assert asked("other.h", "1") == 1
    assert asked("two.h", "1") == 2  # was not there, or the system's
    assert asked("other.h", "2") == 2
    assert asked("two.h", '#include "three.h"\n') == 3
    assert asked("three.h", "1") == 4
    assert asked("linux/types.h", "1") == 5  # was the system's until now
    assert asked("other.h", "3") == 5
    assert asked("three.h", "#include OTHER\n") == 6
    assert asked("other.h", "4") == 7  # it could be that one


@pytest.mark.parametrize(
    "place",
    [
        "include",
        "include/{gnu}",
        "{gnu}/include",
        "lib/gcc/{gnu}/14/include",
        "lib/gcc-cross/{gnu}/14/include",
    ],
)
def test_what_system_headers_get_instead_of_their_own_counts(asked: Asked, place: str) -> None:
    assert asked("one.h", "#include <bits/two.h>\n") == 1
    assert asked("bits/odd.h", "1") == 1
    system = asked.root / "usr" / place.format(gnu=X86_64.gnu) / "bits"
    system.mkdir(parents=True)
    assert asked("bits/odd.h", "2") == 1
    (system / "odd.h").write_text("")
    assert asked("bits/odd.h", "3") == 2
    assert asked("bits/odd.h", "4") == 3
