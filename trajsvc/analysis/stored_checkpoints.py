"""The checkpoints of a stored run where they lie now, proved to be those that were analysed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from storage_schema.runs.reader import StoredRun
from trajsvc.analysis import identity
from trajsvc.analysis.options import CHOICES, Options
from trajsvc.analysis.selected import source_of, trajectory_of
from trajsvc.errors import NotFound, Refused, RunExists
from trajsvc.sources.base import CheckpointSource, never
from trajsvc.trajectory.matrix import Row, Trajectory

_GONE: Final = "Name where they lie now with --source, or put them back."


class StoredCheckpoints:
    """Opens the checkpoints of a stored run. ``source`` is where they lie now, where that is not what the run says."""

    def __init__(
        self, run: StoredRun, source: CheckpointSource | str | None = None, stop: Callable[[], bool] = never
    ) -> None:
        self.run, self.stop = run, stop
        self._given = source
        self._opened: CheckpointSource | None = None
        choices = {k: v for k, v in (run.attributes.get("choices") or {}).items() if k in CHOICES}
        state = (run.attributes.get(identity.ATTRIBUTE) or {}).get("state")
        self.options = Options.of({"state": state, **choices})

    @property
    def source(self) -> CheckpointSource:
        """The source, opened. Raises Refused (``source-gone``) where it cannot be."""
        if self._opened is None:
            self._opened = self._given if self._given is not None and not isinstance(self._given, str) else self._open()
        return self._opened

    def _open(self) -> CheckpointSource:
        where = self._given if isinstance(self._given, str) else identity.stored_source(self.run)
        try:
            return source_of(where, self.options, self.run.path.parent.parent, self.stop)
        except NotFound as error:
            words = f"the checkpoints of {self.run.name} are not at {where}"
            raise Refused("source-gone", words, hint=_GONE) from error

    def close(self) -> None:
        if self._opened is not None and self._given is not self._opened:
            self._opened.close()

    def trajectory(self, step: int) -> Trajectory:
        """Return the matrix of one checkpoint, proved to be the one that is stored.

        Raises Refused (``source-gone``, ``checkpoint-changed``) and what reading headers raises.
        """
        try:
            found = trajectory_of(self.source, self.options.with_(steps=str(step)))
            identity.check(self.run, found, state=self.options.state)
        except RunExists as error:
            hint = "Analyse the run again (`trajsvc analyze`), then repeat this."
            words = f"step {step} at {self.source.uri} is not the checkpoint that was analysed"
            raise Refused("checkpoint-changed", words, hint=hint, step=step) from error
        except NotFound as error:
            words = f"step {step} of {self.run.name} is no longer at {self.source.uri}: {error.message}"
            raise Refused("source-gone", words, hint=_GONE, step=step) from error
        return found

    def folder(self, row: Row) -> Path | None:
        """Return the folder of a checkpoint on this machine, None beyond a network."""
        return None if self.source.remote is not None else Path(row.checkpoint.files[0].path).parent

    def config(self, step: int) -> Mapping[str, Any] | None:
        """Return the config.json of a checkpoint, None where there is none."""
        return self.trajectory(step).config
