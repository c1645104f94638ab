"""The errors of a store stand in the one tree of errors, each with a kind of its own, the path and the hint kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage_schema import errors
from storage_schema.error_kinds import KINDS
from storage_schema.runs.store import RunStore
from trajsvc.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_TRY_AGAIN, EXIT_USAGE, TrajsvcError

ALL = errors.StoreError.__subclasses__()
KNOWN = {
    errors.RunMissing: ("run-not-found", EXIT_REFUSED, LookupError),
    errors.BadRunName: ("run-name", EXIT_USAGE, ValueError),
    errors.StoreDamaged: ("store-damaged", EXIT_FAILED, ValueError),
    errors.StoreVersion: ("store-version", EXIT_REFUSED, TrajsvcError),
    errors.StoreBusy: ("store-busy", EXIT_TRY_AGAIN, OSError),
    errors.DiskFull: ("disk-full", EXIT_TRY_AGAIN, OSError),
    errors.StoreUnwritable: ("store-unwritable", EXIT_REFUSED, OSError),
}


@pytest.mark.parametrize("cls", ALL)
def test_every_error_of_a_store_has_a_kind_and_says_where(cls: type[errors.StoreError]) -> None:
    with pytest.raises(TrajsvcError) as caught:
        raise cls("a/b.zarr", "it happened", "Do this.")
    error = caught.value
    assert (error.message, error.hint, error.file) == ("it happened", "Do this.", "a/b.zarr")
    assert error.problem_type == f"urn:trajsvc:problem:{error.kind}"
    assert error.outcome == KINDS[error.kind]
    if cls in KNOWN:
        assert (error.kind, error.outcome.exit_code) == KNOWN[cls][:2]
        assert isinstance(error, KNOWN[cls][2])


def test_kinds_are_told_apart() -> None:
    assert len({cls.of_class for cls in ALL}) == len(ALL) == 12


def test_a_folder_that_cannot_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, os.strerror(13), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(TrajsvcError) as caught, RunStore("nowhere/at-all").writer("run"):
        pytest.fail("written where nothing may be")
    assert caught.value.kind == "store-unwritable"
    assert "--store" in caught.value.hint
