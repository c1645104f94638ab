"""Check that what was chosen within checkpoints is one thing: the model of each file, and of two files of one model the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from storage_schema.format.arrays import FLOAT_TYPES
from storage_schema.models.results import Finding
from trajsvc.sources.base import CheckpointRef, CheckpointSource, CheckpointTensors, TensorEntry
from trajsvc.sources.states import is_average
from trajsvc.trajectory.matrix import Excluded
from trajsvc.trajectory.values import Values, alike

Headers = list[tuple[CheckpointRef, CheckpointTensors]]

COMPARED: Final = 16
"""Tensors that are compared of two files: half of them the largest, the others spread over all."""


def without_averages_alone(headers: Headers) -> tuple[Headers, list[Excluded], list[Finding]]:
    """Leave out the checkpoints whose files hold an average alone, where others hold the model."""
    alone = [c for c, header in headers if header.state and is_average(header.state)]
    if not alone or len(alone) == len(headers):
        return headers, [], []
    state = next(h.state for c, h in headers if c is alone[0])
    steps = [c.step for c in alone]
    message = (
        f"{'step' if len(steps) == 1 else 'steps'} {', '.join(map(str, steps[:8]))}{' …' if len(steps) > 8 else ''} hold"
        f"{'s' if len(steps) == 1 else ''} {state} alone, and others the model; left out"
    )
    return (
        [(c, h) for c, h in headers if c not in alone],
        [Excluded(c.step, c.label, f"holds {state} alone, and others the model") for c in alone],
        [Finding(kind="missing-weights", message=message, steps=tuple(steps), details={"state": state})],
    )


def other_values(source: CheckpointSource, headers: Headers) -> list[Finding]:
    """Report files beside those that are read that should hold the same model and hold other values."""
    found: dict[tuple[str, str], list[int]] = {}
    first: dict[tuple[str, str], str] = {}
    for checkpoint, header in headers:
        for file, tensors in header.beside.items():
            name = _differing(source, checkpoint, header.tensors, tensors)
            if name is not None:
                key = checkpoint.files[0].path.rpartition("/")[2], file
                found.setdefault(key, []).append(checkpoint.step)
                first.setdefault(key, name)
    return [
        Finding(
            kind="files-differ",
            message=f"{read} is read, and {file} beside it holds other values of the same tensors ({first[read, file]}, first at step "
            f"{steps[0]}): they are of two trainings, or of two times. {_other(file)}",
            steps=tuple(steps),
            tensors=(first[read, file],),
            details={"read": read, "beside": file},
        )
        for (read, file), steps in found.items()
    ]


def _other(file: str) -> str:
    return "Keep the one that is meant" if "*" in file else f"A quoted pattern reads the other: '…/*/{file}'"


def _differing(
    source: CheckpointSource,
    checkpoint: CheckpointRef,
    mine: Mapping[str, TensorEntry],
    theirs: Mapping[str, TensorEntry],
) -> str | None:
    """Return the first of some tensors that two files of a checkpoint hold with other values; None if there is none."""
    values = Values(source, [(checkpoint, mine), (checkpoint, theirs)])
    both = [
        n
        for n, e in mine.items()
        if comparable(e) and n in theirs and comparable(theirs[n]) and theirs[n].shape == e.shape
    ]
    for name in some_of(both, mine):
        windows = [*values.windows(0, name, 1), *values.windows(1, name, 1)]
        one, other = values.read(windows)
        if not alike(one, other, mine[name].dtype, theirs[name].dtype):
            return name
    return None


def comparable(entry: TensorEntry) -> bool:
    """Return whether values of a tensor can be read in windows."""
    return entry.dtype in FLOAT_TYPES and entry.strides is None and entry.size > 0


def some_of(names: Sequence[str], entries: Mapping[str, TensorEntry]) -> list[str]:
    """Return at most ``COMPARED`` of some tensors."""
    largest = sorted(names, key=lambda n: -entries[n].size)[: COMPARED // 2]
    rest = [n for n in names if n not in largest]
    return [*largest, *rest[:: max(1, -(-len(rest) // (COMPARED - len(largest))))]]
