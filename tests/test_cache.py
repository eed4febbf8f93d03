# SPDX-License-Identifier: MIT
"""The cache: made once, whole or not at all, by however many processes, and never taken from its users."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from lab.errors import CacheError, LabError
from lab.progress import Progress
from lab.store.cache import MANIFEST, Cache, Freed, digest, file_digest, tree_digest
from lab.store.inventory import INVENTORY

ROOT = Path(__file__).parents[1]


def fill(building: Path, _final: Path) -> None:
    (building / "file").write_text("made")


def refuse(_building: Path, _final: Path) -> None:
    raise AssertionError("must not be made again")


def left(cache: Cache) -> list[str]:
    return [path.name for name in ("tmp", "locks") for path in (cache.root / "v1" / name).iterdir()]


def python(text: str, *args: object) -> subprocess.Popen[str]:
    head = "import sys, time, os, signal\nfrom pathlib import Path\nfrom lab.store.cache import Cache\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(text), *map(str, args)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_hit_makes_nothing(tmp_path: Path) -> None:
    made = Cache(tmp_path).entry("root", "a", fill)
    assert (made / "file").read_text() == "made"
    assert Cache(tmp_path).entry("root", "a", refuse) == made
    assert Cache(tmp_path).peek("root", "a") == made
    assert Cache(tmp_path).peek("root", "b") is None


def test_the_maker_knows_the_last_place(tmp_path: Path) -> None:
    places: list[Path] = []
    made = Cache(tmp_path).entry("root", "a", lambda building, final: places.extend((building, final)))
    assert places[1] == made
    assert not places[0].exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_maker_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(building: Path, _final: Path) -> None:
        (building / "half").mkdir()
        raise error

    cache = Cache(tmp_path)
    with pytest.raises(error):
        cache.entry("root", "a", fail)
    assert left(cache) == []
    assert cache.peek("root", "a") is None
    cache.entry("root", "a", fill)


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    text = """
        def make(building, final):
            with open(sys.argv[2], "a") as log: log.write("made\\n")
            time.sleep(0.3)
        print(Cache(Path(sys.argv[1])).entry("root", "a", make))
    """
    runs = [python(text, tmp_path, tmp_path / "log") for _ in range(3)]
    said = [run.communicate(timeout=60) for run in runs]
    assert {out for out, _ in said} == {f"{tmp_path}/v1/root/a\n"}
    assert (tmp_path / "log").read_text() == "made\n"
    assert left(Cache(tmp_path)) == []


def test_two_threads_make_it_once(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path), list[Path]()

    def make(building: Path, _final: Path) -> None:
        made.append(building)
        time.sleep(0.1)

    threads = [threading.Thread(target=cache.entry, args=("root", "a", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


MAKER = """
    def make(building, final):
        (building / "half").write_text("x" * 100000)
        print("now", flush=True)
        sys.stdin.readline()
    Cache(Path(sys.argv[1])).entry("root", "a", make)
"""


def test_waiting_for_another_is_said(tmp_path: Path) -> None:
    with python(MAKER, tmp_path) as run, (tmp_path / "said").open("w") as stream:
        assert run.stdout is not None
        assert run.stdin is not None
        assert run.stdout.readline() == "now\n"
        threading.Timer(0.2, run.stdin.close).start()
        Cache(tmp_path, Progress(stream)).entry("root", "a", refuse, progress_text="the root")
    assert (tmp_path / "said").read_text() == "waiting for another run: the root ...\n"


def test_threads_of_one_run_wait_in_silence(tmp_path: Path) -> None:
    started, goes_on = threading.Event(), threading.Event()

    def make(_building: Path, _final: Path) -> None:
        started.set()
        goes_on.wait(10)

    thread = threading.Thread(target=Cache(tmp_path).entry, args=("root", "a", make))
    thread.start()
    started.wait(10)
    threading.Timer(0.1, goes_on.set).start()
    with (tmp_path / "said").open("w") as stream:
        Cache(tmp_path, Progress(stream)).entry("root", "a", refuse)
    thread.join()
    assert (tmp_path / "said").read_text() == ""


def test_an_interrupt_ends_waiting(tmp_path: Path) -> None:
    run = python(MAKER, tmp_path)
    assert run.stdout is not None
    assert run.stdout.readline() == "now\n"
    cache = Cache(tmp_path)
    threading.Timer(0.1, cache.interrupt).start()
    with pytest.raises(LabError, match="interrupted"):
        cache.another().entry("root", "a", refuse)
    run.communicate(timeout=30)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_maker_is_in_nobodys_way(tmp_path: Path, how: signal.Signals) -> None:
    run = python(MAKER, tmp_path)
    assert run.stdout is not None
    assert run.stdout.readline() == "now\n"
    run.send_signal(how)
    run.communicate(timeout=30)
    cache = Cache(tmp_path)
    assert bool(left(cache)) == (how == signal.SIGKILL)
    cache.entry("root", "a", fill)
    assert left(cache) == []


def test_cleaning_sweeps_what_a_killed_run_left(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    half = tmp_path / "v1/tmp/root+b+x1"
    half.mkdir()
    (half / "file").write_bytes(b"x" * 100000)
    assert cache.clean().bytes >= 100000
    assert left(cache) == []


def test_cleaning_leaves_what_is_being_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def make(building: Path, _final: Path) -> None:
        fill(building, building)
        Cache(tmp_path).clean()
        assert (building / "file").exists()

    assert (cache.entry("root", "a", make) / "file").exists()


def test_cleaning_takes_only_what_nobody_holds(tmp_path: Path) -> None:
    user = Cache(tmp_path)
    user.entry("root", "held", fill)
    other = Cache(tmp_path)
    other.entry("root", "free", fill)
    other.close()
    cleaner = Cache(tmp_path)
    assert {(one.key, one.held) for one in cleaner.usage()} == {("held", True), ("free", False)}
    freed = cleaner.clean()
    assert (freed.entries, freed.kept) == (1, 1)
    assert freed.bytes > 0
    user.close()
    assert cleaner.clean().entries == 1
    assert cleaner.usage() == []


def test_an_entry_is_held_while_a_block_runs(tmp_path: Path) -> None:
    cleaner = Cache(tmp_path)
    made = cleaner.entry("root", "a", fill)
    cleaner.close()
    with Cache(tmp_path).hold(made):
        assert cleaner.clean().kept == 1
    assert cleaner.clean().entries == 1
    with pytest.raises(CacheError, match="gone"), Cache(tmp_path).hold(made):
        pass


def test_looking_does_not_disturb(tmp_path: Path) -> None:
    Cache(tmp_path).entry("root", "a", fill)
    stop = threading.Event()
    looker = Cache(tmp_path)

    def look() -> None:
        while not stop.is_set():
            looker.usage()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(50):
            cache = Cache(tmp_path)
            cache.entry("root", "a", refuse)
            cache.close()
    finally:
        stop.set()
        thread.join()


def test_cleaning_by_kind_and_age(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for kind in ("root", "kernel"):
        cache.entry(kind, "a", fill)
    cache.remember("fact", 1)
    cache.close()
    assert cache.clean(kinds={"root"}, unused_seconds=3600).entries == 0
    assert cache.clean(kinds={"root"}).entries == 1
    assert cache.peek("kernel", "a") is not None
    assert cache.recall("fact") == 1


def test_discarding_spares_what_another_uses(tmp_path: Path) -> None:
    one, two = Cache(tmp_path), Cache(tmp_path)
    one.entry("root", "a", fill)
    two.entry("root", "a", refuse)
    assert not one.discard("root", "a")
    assert two.discard("root", "a")
    assert one.peek("root", "a") is None
    assert one.discard("root", "a")


@pytest.mark.parametrize("manifest", ["", "{}", '{"format": 99}', "[]", None])
def test_an_entry_of_another_version_is_made_anew(tmp_path: Path, manifest: str | None) -> None:
    place = tmp_path / "v1/root/a"
    place.mkdir(parents=True)
    (place / "old").write_text("x")
    if manifest is not None:
        (place / MANIFEST).write_text(manifest)
    made = Cache(tmp_path).entry("root", "a", fill)
    assert sorted(path.name for path in made.iterdir()) == [INVENTORY, MANIFEST, "file"]


def test_other_versions_are_let_be(tmp_path: Path) -> None:
    (tmp_path / "v99/root/a").mkdir(parents=True)
    Cache(tmp_path).clean()
    assert (tmp_path / "v99/root/a").is_dir()


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    run = python(
        """
        import resource
        cache = Cache(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def make(building, final):
            (building / "big").write_bytes(bytes(100000))
        try:
            cache.entry("root", "a", make)
        except Exception as error:
            print(type(error).__name__, error)
        """,
        tmp_path,
    )
    said, _ = run.communicate(timeout=60)
    assert said.startswith("CacheError no space for the cache")
    assert "lab clean" in said
    assert left(Cache(tmp_path)) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_the_disks_refusals_become_cache_errors(tmp_path: Path, number: int) -> None:
    def fail(building: Path, _final: Path) -> None:
        raise OSError(number, os.strerror(number), str(building / "x"))

    with pytest.raises(CacheError, match=os.strerror(number)) as error:
        Cache(tmp_path).entry("root", "a", fail)
    assert "CHANLAB_CACHE" in error.value.hint


def test_trouble_elsewhere_is_not_the_caches(tmp_path: Path) -> None:
    def fail(_building: Path, _final: Path) -> None:
        raise PermissionError(errno.EACCES, "no", "/etc/shadow")

    with pytest.raises(PermissionError):
        Cache(tmp_path / "cache").entry("root", "a", fail)


def test_an_unusable_directory_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="cannot write the cache") as error:
        Cache(tmp_path / "file/cache")
    assert "CHANLAB_CACHE" in error.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_is_explained(tmp_path: Path) -> None:
    Cache(tmp_path)
    (tmp_path / "v1/tmp").chmod(0o500)
    with pytest.raises(CacheError, match="cannot write the cache"):
        Cache(tmp_path)


def test_read_only_directories_are_removed_too(tmp_path: Path) -> None:
    def make(building: Path, _final: Path) -> None:
        (building / "tree").mkdir()
        (building / "tree/file").write_text("x")
        (building / "tree").chmod(0o500)

    cache = Cache(tmp_path)
    made = cache.entry("root", "a", make)
    assert cache.discard("root", "a")
    assert not made.exists()


def test_facts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.recall("x") is None
    for name in ("x", "with space/and slash", "ä" * 300):
        cache.remember(name, {"a": [1, None]})
        assert Cache(tmp_path).recall(name) == {"a": [1, None]}
    cache.forget("x")
    cache.forget("x")
    assert cache.recall("x") is None
    (tmp_path / "v1/facts/y.json").write_text("{half")
    assert cache.recall("y") is None


@pytest.mark.parametrize(
    ("kind", "key"), [("tmp", "a"), ("../x", "a"), ("root", "../a"), ("root", "a+b"), ("", "a")]
)
def test_names_that_could_leave_are_refused(tmp_path: Path, kind: str, key: str) -> None:
    with pytest.raises(ValueError, match="not a k"):
        Cache(tmp_path).entry(kind, key, fill)


def test_digests() -> None:
    assert digest("a", 1, {"x": 1, "y": [b"\x00"]}) == digest("a", 1, {"y": [b"\x00"], "x": 1})
    assert digest("a", "b") != digest("ab")
    assert digest(None) != digest("None")
    with pytest.raises(TypeError):
        digest(Path("/x"))


def test_tree_digests_see_names_contents_links_and_modes(tmp_path: Path) -> None:
    def change(how: str) -> str:
        tree = tmp_path / how
        tree.mkdir()
        (tree / ("other" if how == "name" else "file")).write_text("y" if how == "contents" else "x")
        (tree / "link").symlink_to("there" if how == "link" else "here")
        if how == "mode":
            (tree / "file").chmod(0o755)
        return tree_digest(tree)

    first = change("nothing")
    assert len({first, *(change(how) for how in ("name", "contents", "link", "mode"))}) == 5
    assert change("nothing else") == first
    assert file_digest(tmp_path / "nothing/file") == file_digest(tmp_path / "link/file")


def test_a_manifest_says_what_an_entry_is(tmp_path: Path) -> None:
    made = Cache(tmp_path).entry("root", "a", fill)
    manifest = json.loads((made / MANIFEST).read_text())
    assert (manifest["kind"], manifest["key"]) == ("root", "a")
    assert manifest["bytes"] > 0


def test_a_cache_keeps_to_its_limit(tmp_path: Path) -> None:
    def make(building: Path, _final: Path) -> None:
        (building / "file").write_bytes(b"x" * (100 << 10))

    with closing(Cache(tmp_path)) as maker:
        for age, key in enumerate(("newest", "middle", "oldest", "grown")):
            path = maker.entry("thing", key, make, fixed=key != "grown")
            os.utime(path / MANIFEST, (time.time() - 3600 * (age + 1),) * 2)
    (tmp_path / "v1/thing/grown/more").write_bytes(b"x" * (300 << 10))  # as a build's directory does
    with closing(Cache(tmp_path)) as user, closing(Cache(tmp_path)) as cleaner:
        held = user.entry("thing", "oldest", refuse)
        os.utime(held / MANIFEST, (time.time() - 4 * 3600,) * 2)
        assert cleaner.shrink(1 << 30) == Freed(0, 0, 0)
        freed = cleaner.shrink(250 << 10)
        assert (freed.entries, freed.kept) == (2, 1)
        assert freed.bytes >= 500 << 10
        assert sorted(cleaner.keys("thing")) == ["newest", "oldest"]  # the latter is in use
