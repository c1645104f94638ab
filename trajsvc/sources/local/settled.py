"""A source without the checkpoints that are still being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from storage_schema.models.results import Finding
from storage_schema.models.training_log import TrainingLog
from trajsvc.sources.base import (
    CheckpointRef,
    CheckpointSource,
    CheckpointTensors,
    ReadRequest,
    RemoteReading,
    Steps,
    never,
)
from trajsvc.sources.local.source import settled
from trajsvc.steps import select_steps


class SettledSource:
    """A ``CheckpointSource`` that shows only those checkpoints of another whose files have been unchanged for ``quiet``
    seconds.
    """

    def __init__(self, source: CheckpointSource, quiet: float) -> None:
        self.source, self.quiet = source, quiet

    @property
    def uri(self) -> str:
        return self.source.uri

    @property
    def name(self) -> str:
        return self.source.name

    @cached_property
    def _parted(self) -> tuple[tuple[CheckpointRef, ...], tuple[CheckpointRef, ...]]:
        whole: list[CheckpointRef] = []
        growing: list[CheckpointRef] = []
        for checkpoint in self.source.checkpoints():
            (whole if settled(checkpoint, self.quiet) else growing).append(checkpoint)
        return tuple(whole), tuple(growing)

    @property
    def remote(self) -> RemoteReading | None:
        return self.source.remote

    def checkpoints(self, steps: Steps = None) -> tuple[CheckpointRef, ...]:
        whole = self._parted[0]
        return tuple(whole[i] for i in select_steps(steps, [c.step for c in whole]))

    def findings(self) -> tuple[Finding, ...]:
        growing = [
            Finding(
                kind="growing",
                severity="info",
                message=f"step {c.step} is still being written; it is left for later",
                steps=(c.step,),
            )
            for c in self._parted[1]
        ]
        return (*self.source.findings(), *growing)

    def tensors(self, checkpoint: CheckpointRef) -> CheckpointTensors:
        return self.source.tensors(checkpoint)

    def read(self, file: str, offset: int, out: memoryview) -> None:
        self.source.read(file, offset, out)

    def read_many(self, wanted: Sequence[ReadRequest], stop: Callable[[], bool] = never) -> None:
        self.source.read_many(wanted, stop)

    def training_log(self, checkpoints: Sequence[CheckpointRef]) -> TrainingLog:
        return self.source.training_log(checkpoints)

    def refresh(self) -> None:
        self.source.refresh()
        self.__dict__.pop("_parted", None)

    def unchanged(self, checkpoint: CheckpointRef) -> bool:
        return self.source.unchanged(checkpoint)

    def portable(self) -> CheckpointSource | None:
        return self.source.portable()

    def close(self) -> None:
        self.source.close()
