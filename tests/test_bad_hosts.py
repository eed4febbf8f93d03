# SPDX-License-Identifier: MIT
"""Hosts that lack something: each says so, and no module is blamed."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lab.errors import HostError
from lab.kernels.process import run, scratch_directory

ROOT = Path(__file__).parent.parent


def test_a_compiler_that_has_no_space_is_not_the_modules_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    said = "x.c:1: fatal error: error writing to /tmp/cc1.s: No space left on device"
    with pytest.raises(HostError, match="no space is left: x") as told:
        run(["sh", "-c", f"echo '{said}'; exit 1"], cwd=tmp_path, env=dict(os.environ))
    assert f"temporary files are in {tmp_path}" in told.value.hint


def test_what_only_speaks_of_space_may_go_on(tmp_path: Path) -> None:
    status, _ = run(["sh", "-c", "echo No space left on device"], cwd=tmp_path, env=dict(os.environ))
    assert status == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_for_a_patched_source(number: int) -> None:
    with pytest.raises(HostError, match="no space is left"), scratch_directory("x-"):
        raise OSError(number, os.strerror(number))


def test_other_trouble_with_files_is_what_it_is() -> None:
    with pytest.raises(PermissionError), scratch_directory("x-"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize("files", [24, 64])
def test_too_few_files_are_one_error(tmp_path: Path, files: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CHANLAB_CACHE": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "scenarios/ioctl.yaml"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
    )
    said = found.stdout + found.stderr
    assert f"this process may open {files} files at once, the lab needs 256" in said
    assert "Traceback" not in said
    assert found.returncode == 4
