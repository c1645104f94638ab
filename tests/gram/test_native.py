"""Compiled kernels: kept once for a machine, by one process or several, loaded only where nobody else can have written them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trajsvc.gram.kernels import native

pytestmark = [pytest.mark.timing, pytest.mark.dear]

CODE = """
import sys
from trajsvc.gram.kernels import native
before = native.is_compiled(True)
library = native.library(True)
print(before, native.is_compiled(True), library.lanes)
"""


def run(folder: Path | str, **environment: str) -> subprocess.Popen[str]:
    given = {**os.environ, "TRAJSVC_KERNEL_CACHE": str(folder), **environment}
    return subprocess.Popen([sys.executable, "-c", CODE], env=given, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out.split()


@pytest.mark.slow
def test_a_kernel_is_compiled_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    assert said(run(folder)) == ["False", "True", "8"]
    [kept] = folder.iterdir()
    written = kept.stat().st_mtime_ns
    assert said(run(folder)) == ["True", "True", "8"]
    assert [(p, p.stat().st_mtime_ns) for p in folder.iterdir()] == [(kept, written)]


@pytest.mark.slow
def test_several_processes_compile_at_once(tmp_path: Path) -> None:
    started = [run(tmp_path) for _ in range(3)]
    assert {said(process)[1] for process in started} == {"True"}
    assert [p.suffix for p in tmp_path.iterdir()] == [".o"]


@pytest.mark.slow
def test_where_nothing_can_be_kept_it_is_compiled_every_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert said(run(blocked / "cache"))[:2] == ["False", "False"]
    assert said(run(""))[:2] == ["False", "False"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_code_that_others_may_have_written_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJSVC_KERNEL_CACHE", str(tmp_path))
    said(run(tmp_path))
    [kept] = tmp_path.iterdir()
    assert native.is_compiled(True)
    kept.chmod(0o666)
    assert not native.is_compiled(True)
    kept.chmod(0o600)
    tmp_path.chmod(0o777)
    assert not native.is_compiled(True)
    tmp_path.chmod(0o700)
    elsewhere = tmp_path.with_name("elsewhere.o")
    kept.rename(elsewhere)
    kept.symlink_to(elsewhere)
    assert not native.is_compiled(True)


@pytest.mark.slow
def test_code_that_is_damaged_is_compiled_anew(tmp_path: Path) -> None:
    said(run(tmp_path))
    [kept] = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1] + b"x"):
        kept.write_bytes(damaged)
        assert said(run(tmp_path)) == ["False", "True", "8"]
        assert kept.read_bytes() == whole
