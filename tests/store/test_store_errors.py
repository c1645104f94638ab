"""Every problem of the store has its word and class in trajsvc, with the file and the hint kept."""

from __future__ import annotations

import inspect

import pytest

from storage_schema import problems
from trajsvc.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_TRY_AGAIN, EXIT_USAGE, TrajsvcError
from trajsvc.store_errors import store_errors

ALL = [
    cls
    for _, cls in inspect.getmembers(problems, inspect.isclass)
    if issubclass(cls, problems.StoreProblem) and cls is not problems.StoreProblem
]
KNOWN = {
    problems.RunMissing: ("run-not-found", EXIT_REFUSED),
    problems.BadRunName: ("run-name", EXIT_USAGE),
    problems.StoreDamaged: ("store-damaged", EXIT_FAILED),
    problems.StoreVersion: ("store-version", EXIT_REFUSED),
    problems.StoreBusy: ("store-busy", EXIT_TRY_AGAIN),
    problems.DiskFull: ("disk-full", EXIT_TRY_AGAIN),
}


@pytest.mark.parametrize("cls", ALL)
def test_every_problem_is_translated(cls: type[problems.StoreProblem]) -> None:
    with pytest.raises(TrajsvcError) as caught, store_errors():
        raise cls("a/b.zarr", "it happened", "Do this.")
    error = caught.value
    assert (error.message, error.hint, error.file) == ("it happened", "Do this.", "a/b.zarr")
    assert error.problem_type.startswith("urn:trajsvc:problem:")
    assert isinstance(error.__cause__, cls)
    if cls in KNOWN:
        assert (error.kind, error.outcome.exit_code) == KNOWN[cls]


def test_kinds_are_told_apart() -> None:
    kinds = set()
    for cls in ALL:
        with pytest.raises(TrajsvcError) as caught, store_errors():
            raise cls("p", "m")
        kinds.add(caught.value.kind)
    assert len(kinds) == len(ALL) == 12


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), store_errors():
        raise KeyError("x")


def test_a_folder_that_cannot_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import os
    from pathlib import Path

    from storage_schema.runs.store import RunStore

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, os.strerror(13), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(TrajsvcError) as caught, store_errors(), RunStore("nowhere/at-all").writer("run"):
        pytest.fail("written where nothing may be")
    assert caught.value.kind == "store-unwritable"
    assert "--store" in caught.value.hint
