# SPDX-License-Identifier: MIT
"""Kernels that are built from source: trees, releases of a mirror, configurations; none is compiled here."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pysequoia import SignatureMode, Tsk, sign
from tiny_archive import tarball

from lab import settings as settings_
from lab.errors import FetchError, HashMismatch, HostError, KernelNotOffered, SignatureError, UsageError
from lab.kernels.catalogue import Catalogue
from lab.kernels.debian import fetch as debian_fetch
from lab.kernels.debian.fetch import NotThere
from lab.kernels.model import Kernel
from lab.kernels.offered import Offered
from lab.kernels.several import Several
from lab.kernels.upstream import configure, kmake, mirror, pack, trees
from lab.kernels.upstream.release_source import Release
from lab.kernels.upstream.tree_source import Tree
from lab.progress import Progress
from lab.store.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.kernels.model import Target
    from lab.settings import Settings

QUIET = Progress(quiet=True)
MAKEFILE = "# SPDX\nVERSION = 6\nPATCHLEVEL = 6\nSUBLEVEL = 17\nEXTRAVERSION = -rc1\n"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    found = Cache(tmp_path / "cache")
    yield found
    found.close()


def load(cache: Cache, **given: str) -> Settings:
    return settings_.load({}, {"CHANLAB_CACHE": str(cache.root), **given})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "init").mkdir(parents=True)
    (path / "Makefile").write_text(MAKEFILE)
    (path / "init/main.c").write_text("int main;\n")
    return path


# --- trees ---------------------------------------------------------------------------------------------


def test_a_version_is_read() -> None:
    found = trees.version(MAKEFILE, "here")
    assert (found.number, found.extra, found.line) == ("6.6.17", "-rc1", "6.6")
    assert trees.version("VERSION = 7\nPATCHLEVEL = 1\n", "x").number == "7.1.0"
    with pytest.raises(UsageError, match="no tree of kernel sources"):
        trees.version("obj-m := x.o\n", "here")


def test_a_tree_that_changes_is_another(tree: Path) -> None:
    before = trees.directory(tree).content
    assert trees.directory(tree).content == before
    (tree / "init/main.c").write_text("int other;\n")
    os.utime(tree / "init/main.c", ns=(1, 1))
    after = trees.directory(tree).content
    assert after != before
    (tree / "Documentation").mkdir()
    (tree / "Documentation/x.rst").write_text("words")  # nobody compiles it
    assert trees.directory(tree).content == after
    (tree / "init/new.c").write_text("")
    assert trees.directory(tree).content != after


@pytest.mark.parametrize(
    ("name", "said"), [(".config", "make -C .* mrproper"), ("include/config/x", "was built in")]
)
def test_a_tree_that_was_built_in_says_what_to_do(tree: Path, name: str, said: str) -> None:
    (tree / name).parent.mkdir(exist_ok=True, parents=True)
    (tree / name).write_text("")
    with pytest.raises(UsageError) as error:
        trees.directory(tree)
    assert re.search(said, str(error.value)) is not None


def test_what_is_no_tree(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(UsageError, match="it has no Makefile"):
        trees.directory(tmp_path)
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    with pytest.raises(UsageError, match="a bare repository wants @REF"):
        trees.directory(tmp_path)
    with pytest.raises(UsageError, match="there is no directory /nowhere"):
        Tree("/nowhere", (), load(cache), cache, QUIET)


def test_a_directory_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    odd = tmp_path / "linux@home"
    odd.mkdir()
    assert trees.split_ref(str(odd)) == (odd, "")
    assert trees.split_ref(f"{odd}@v6.6") == (odd, "v6.6")
    assert trees.split_ref("/src/linux") == (Path("/src/linux"), "")


class HostsGit:
    """A root whose git is the host's: for a test of what is asked of it."""

    def command(self, program: str) -> list[str]:
        return [program]

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C"}


@pytest.fixture
def repository(tree: Path) -> tuple[Path, list[str]]:
    own = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *own, *words], cwd=tree, check=True, stdout=-1, text=True)
        return done.stdout.strip()

    git("init", "-q")
    commits = []
    for text in ("one", "two"):
        (tree / "init/main.c").write_text(text)
        git("add", ".")
        git("commit", "-qm", text)
        commits.append(git("rev-parse", "HEAD"))
    return tree, commits


def test_a_commit_is_checked_out_beside_its_repository(
    repository: tuple[Path, list[str]], tmp_path: Path
) -> None:
    tree, (one, two) = repository
    root: Any = HostsGit()
    there = trees.Repository(tree, root)
    assert there.commit("HEAD") == two
    assert trees.version(there.read(one, "Makefile"), "x").number == "6.6.17"
    before = sorted((path, path.stat().st_mtime_ns) for path in tree.rglob("*"))
    to, index = tmp_path / "out", tmp_path / "index"
    there.check_out(one, to, index)
    kept = (to / "Makefile").stat().st_mtime_ns
    assert (to / "init/main.c").read_text() == "one"
    there.check_out(two, to, index)
    assert (to / "init/main.c").read_text() == "two"
    assert (to / "Makefile").stat().st_mtime_ns == kept  # make shall not see it as changed
    assert sorted((path, path.stat().st_mtime_ns) for path in tree.rglob("*")) == before
    with pytest.raises(UsageError, match="has no commit 'v9'"):
        there.commit("v9")
    with pytest.raises(UsageError, match="is no git repository"):
        trees.Repository(tmp_path, root)


# --- configurations ------------------------------------------------------------------------------------


def test_options_that_did_not_make_it_are_told_with_what_they_depend_on(tmp_path: Path) -> None:
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers/Kconfig").write_text(
        "config UIO\n\ttristate\n\tdepends on MMU && PCI\n\nconfig OTHER\n\tbool\n"
    )
    first, second = tmp_path / "a.config", tmp_path / "b.config"
    first.write_text("CONFIG_UIO=m\nCONFIG_TUN=m\nCONFIG_NOWHERE=y\nCONFIG_DRM=n\nCONFIG_SMP=y\n")
    second.write_text("# CONFIG_SMP is not set\n")
    config = "CONFIG_TUN=y\nCONFIG_MMU=y\n# CONFIG_PCI is not set\n"
    assert configure.unmet(config, [first, second], tmp_path) == [
        "CONFIG_UIO=m was asked for and is n: drivers/Kconfig has it depend on (MMU && PCI); MMU=y, PCI=n"
    ]


def test_fragments_say_each_thing_once_and_have_licences() -> None:
    for path in sorted(configure.FRAGMENTS.glob("*.config")):
        lines = path.read_text().splitlines()
        assert lines[0] == "# SPDX-License-Identifier: MIT"
        names = [line.partition("=")[0] for line in lines if line.startswith("CONFIG_")]
        assert sorted(names) == sorted(set(names)), path.name
        assert all(line.startswith(("#", "CONFIG_")) or not line for line in lines), path.name


def test_why_make_failed_is_its_first_error() -> None:
    text = "  CC a.o\n  CC b.o\na.c:1: warning: x\nb.c:2:3: error: y\n  CC c.o\nmake: *** [b.o] Error 1\n"
    assert kmake.errors(text).splitlines()[:3] == ["  CC b.o", "a.c:1: warning: x", "b.c:2:3: error: y"]
    assert kmake.errors("1\n2\n") == "1\n2"


def test_what_was_not_built_cannot_be_packed(tmp_path: Path) -> None:
    from lab.arch import ARCHITECTURES
    from lab.errors import BuildFailed

    root: Any = None
    with pytest.raises(BuildFailed, match=r"holds no kernel that was built: .*kernel\.release is missing"):
        pack.pack(tmp_path, tmp_path, tmp_path / "image", ARCHITECTURES["x86_64"], root, tmp_path)


# --- a mirror ------------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Tsk:
    made = Tsk.generate("test <test@example.org>")
    (tmp_path / "key.asc").write_text(str(made.extract_certificate()))
    return made


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    place = tmp_path / "www"
    (place / "v6.x").mkdir(parents=True)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(place)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield place, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def publish(place: Path, key: Tsk, names: Sequence[str], content: bytes = b"tar") -> None:
    digest = hashlib.sha256(content).hexdigest()
    text = "".join(f"{digest}  linux-{name}.tar.xz\n" for name in names)
    text += f"{digest}  linux-{names[0]}.tar.gz\n{digest}  patch-{names[0]}.xz\n"
    signed = sign(key.signer(), text.encode(), mode=SignatureMode.CLEAR)
    (place / "v6.x/sha256sums.asc").write_bytes(signed)


def mirrored(cache: Cache, served: tuple[Path, str], key_file: Path) -> Settings:
    return load(cache, CHANLAB_KERNEL_MIRROR=served[1], CHANLAB_KERNEL_KEYS=str(key_file))


def test_a_line_is_its_newest_release(
    cache: Cache, served: tuple[Path, str], key: Tsk, tmp_path: Path
) -> None:
    publish(served[0], key, ["6.6", "6.6.9", "6.6.17", "6.60.1", "6.1.5"])
    settings = mirrored(cache, served, tmp_path / "key.asc")
    sums = mirror.sums("v6.x", settings, cache)
    assert list(sums) == ["6.60.1", "6.6.17", "6.6.9", "6.6", "6.1.5"]
    assert mirror.newest("6.6", sums) == "6.6.17"
    assert mirror.newest("6.6.9", sums) == "6.6.9"
    assert mirror.newest("6.9", sums) is None
    (served[0] / "v6.x/sha256sums.asc").unlink()
    assert mirror.sums("v6.x", settings, cache) == sums  # kept
    release = Release((), settings, cache, QUIET)
    (target,) = release.select(["6.6"], ["x86_64"], ["stock"], fetch=True)
    assert (str(target), target.kernel.version) == ("6.6-x86_64", "6.6.17")
    assert target.kernel.release == "6.6.17-chanlab"
    assert {str(each) for each in release.select(["6.6"], ["arm64", "s390x"], ["stock"], fetch=True)} == {
        "6.6-arm64",
        "6.6-s390x",
    }
    with pytest.raises(KernelNotOffered, match=r"has no 6\.9") as error:
        release.select(["6.9"], ["x86_64"], ["stock"], fetch=True)
    assert "6.60, 6.6, 6.1" in str(error.value)
    with pytest.raises(KernelNotOffered):
        release.select([">=6.1"], ["x86_64"], ["stock"], fetch=True)


@pytest.mark.parametrize("what", ["another key", "changed", "unsigned", "nothing"])
def test_a_list_that_is_not_signed_as_it_is_is_refused(
    cache: Cache, served: tuple[Path, str], key: Tsk, tmp_path: Path, what: str
) -> None:
    publish(served[0], Tsk.generate("other <o@example.org>") if what == "another key" else key, ["6.6.17"])
    listed = served[0] / "v6.x/sha256sums.asc"
    if what == "changed":
        listed.write_bytes(listed.read_bytes().replace(b"6.6.17.tar.xz", b"6.6.18.tar.xz"))
    if what == "unsigned":
        listed.write_text(f"{'0' * 64}  linux-6.6.17.tar.xz\n")
    if what == "nothing":
        listed.unlink()
    with pytest.raises(FetchError if what == "nothing" else SignatureError) as error:
        mirror.sums("v6.x", mirrored(cache, served, tmp_path / "key.asc"), cache)
    assert served[1] in str(error.value)


def test_without_a_mirror_or_a_key_the_setting_is_named(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(KernelNotOffered, match="CHANLAB_KERNEL_MIRROR"):
        mirror.sums("v6.x", load(cache), cache)
    url = {"CHANLAB_KERNEL_MIRROR": "http://127.0.0.1:9"}
    with pytest.raises(KernelNotOffered, match="no key is known") as error:
        mirror.sums("v6.x", load(cache, **url), cache)
    assert "CHANLAB_KERNEL_KEYS=FILE" in str(error.value)
    with pytest.raises(HostError, match="cannot be read"):
        mirror.sums("v6.x", load(cache, **url, CHANLAB_KERNEL_KEYS=str(tmp_path / "none")), cache)
    (tmp_path / "none").write_text("no key")
    with pytest.raises(HostError, match="names no OpenPGP key"):
        mirror.sums("v6.x", load(cache, **url, CHANLAB_KERNEL_KEYS=str(tmp_path / "none")), cache)


@pytest.fixture
def released(cache: Cache, served: tuple[Path, str], key: Tsk, tmp_path: Path) -> tuple[Release, Path]:
    """A release that is selected, and where the mirror has its tarball."""
    content = tarball({"linux-6.6.17/Makefile": MAKEFILE.encode(), "linux-6.6.17/init/main.c": b"int main;"})
    publish(served[0], key, ["6.6.17"], content)
    place = served[0] / "v6.x/linux-6.6.17.tar.xz"
    place.write_bytes(content)
    release = Release((), mirrored(cache, served, tmp_path / "key.asc"), cache, QUIET)
    release.select(["6.6"], ["x86_64"], ["stock"], fetch=True)
    return release, place


def test_the_sources_of_a_release(released: tuple[Release, Path]) -> None:
    release, place = released
    found = release._sources("6.6.17")
    assert (found.path / "Makefile").read_text() == MAKEFILE
    place.unlink()
    assert release._sources("6.6.17") == found  # kept


@pytest.mark.parametrize("what", ["truncated", "changed", "gone"])
def test_a_tarball_that_is_not_the_signed_one_is_refused(
    released: tuple[Release, Path], cache: Cache, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_fetch, "_BACKOFF_SECONDS", 0.0)
    release, place = released
    whole = place.read_bytes()
    if what == "gone":
        place.unlink()
    else:
        place.write_bytes(whole[:-40] if what == "truncated" else whole[:-1] + b"?")
    with pytest.raises(NotThere if what == "gone" else HashMismatch, match="CHANLAB_KERNEL_MIRROR"):
        release._sources("6.6.17")
    assert cache.keys("kernel-source") == []  # nothing half-made is kept
    place.write_bytes(whole)
    assert (release._sources("6.6.17").path / "init/main.c").exists()  # and the next run goes on


def test_before_anything_was_fetched_a_release_is_what_it_is_called(
    cache: Cache, key: Tsk, tmp_path: Path
) -> None:
    settings = load(
        cache, CHANLAB_KERNEL_MIRROR="http://127.0.0.1:9", CHANLAB_KERNEL_KEYS=str(tmp_path / "key.asc")
    )
    (target,) = Release((), settings, cache, QUIET).select(["6.6"], ["x86_64"], ["stock"], fetch=False)
    assert str(target) == "6.6-x86_64"


# --- all of them ---------------------------------------------------------------------------------------


def kernel(line: str, arch: str = "x86_64") -> Kernel:
    return Kernel(line, f"{line}.1", "1", f"{line}.1-x", arch, "stock", "somewhere", "gcc", buildable=True)


class Source:
    """A source that has some lines, or one of the user's own."""

    def __init__(self, *lines: str, says: str = "") -> None:
        self.name = "mine"
        self._catalogue = Catalogue(tuple(kernel(line) for line in lines), 1.0)
        self._says = says

    def select(
        self, kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str], *, fetch: bool
    ) -> tuple[Target, ...]:
        assert fetch
        if self._says:
            raise KernelNotOffered(self._says, hint="set it")
        return tuple(self._catalogue.select(kernels, arches, flavours))

    def offers(self, arches: Sequence[str]) -> Catalogue:
        return Catalogue(tuple(each for each in self._catalogue.kernels if each.arch in arches), 1.0)

    def is_cached(self, kernel: Kernel) -> bool:
        return kernel in self._catalogue.kernels


def several(own: Any, first: Any, then: Any) -> Several:
    return Several(own, first, then)


def test_a_name_is_debians_kernel_where_debian_has_it() -> None:
    source = several([], Source("6.1", "6.12"), Source("6.6"))
    found = source.select(["6.12", "6.6", "newest"], ["x86_64"], ["stock"], fetch=True)
    assert [str(each) for each in found] == ["6.12-x86_64", "6.6-x86_64"]
    assert all(source.is_cached(each.kernel) for each in found)  # each is asked of the source that has it


def test_what_nobody_has_tells_both() -> None:
    with pytest.raises(KernelNotOffered, match=r"no kernel 6\.6 is on offer") as error:
        several([], Source("6.1"), Source(says="no mirror")).select(
            ["6.6"], ["x86_64"], ["stock"], fetch=True
        )
    assert "nearest: 6.1" in str(error.value)
    assert "no mirror\n  set it" in str(error.value)


def test_the_users_own_kernels_are_wanted_without_a_name() -> None:
    own = Source("6.9")
    source = several([own], Source("6.12"), Source())
    assert [str(each) for each in source.select([], ["x86_64"], ["stock"], fetch=True)] == ["mine-x86_64"]
    both = source.select(["6.12"], ["x86_64"], ["stock"], fetch=True)
    assert [str(each) for each in both] == ["mine-x86_64", "6.12-x86_64"]
    with pytest.raises(UsageError, match="mine has no kernel for arm64"):
        source.select([], ["arm64"], ["stock"], fetch=True)


def test_a_run_without_own_kernels_knows_it() -> None:
    assert not Offered().own
    assert Offered(trees=("/x",)).own
    assert Offered(packages=(Path("/x"),)).own


def test_a_fragment_that_is_not_there(cache: Cache) -> None:
    with pytest.raises(UsageError, match="--kernel-config /nowhere: there is no such file"):
        Offered(fragments=(Path("/nowhere"),))(load(cache), cache, QUIET)


def test_a_build_wants_room(tmp_path: Path) -> None:
    trees.check_space(tmp_path, 100, 100.0, "linux")
    with pytest.raises(HostError, match=r"linux takes 100 MB of disk .* has 99 MB free"):
        trees.check_space(tmp_path, 100, 99.0, "linux")
