"""A run on a server with the methods of a local one: it fetches Grams, which are exact, and computes every measure
here.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.results import Hyperparameter
from storage_schema.runs.contents import BlockTable, CheckpointTable, GroupRows, GroupTrees
from trajsvc.anatomy.blocks import Group
from trajsvc.client import Client
from trajsvc.errors import NotFound
from trajsvc.results.remote_gradients import ServerGradients
from trajsvc.results.remote_spectra import ServerSpectra
from trajsvc.results.run import Run

if TYPE_CHECKING:
    from trajsvc.results.remote_cross import RemoteCross


class ServerGrams:
    """A run's Grams on a server, as a ``GramStore``."""

    def __init__(self, client: Client, name: str) -> None:
        self.client, self.name = client, name
        facts = client.get(f"runs/{name}")
        self.attributes: dict[str, Any] = facts["attributes"]
        self.digest: str = facts["digest"]
        self.generation: int = facts["generation"]
        self.tags: tuple[str, ...] = tuple(facts["row"]["tags"])
        self.notes: str = facts["row"]["notes"]
        self.hyperparameters = [Hyperparameter.model_validate(one) for one in facts["hyperparameters"]]
        self.size: int = facts["row"]["bytes"]
        self._last: tuple[str, dict[str, NDArray[Any]]] | None = None

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return list(self.client.get(f"runs/{self.name}/checkpoints"))

    @property
    def checkpoint_count(self) -> int:
        return len(self._rows)

    @cached_property
    def checkpoints(self) -> CheckpointTable:
        import json

        rows = self._rows
        return CheckpointTable(
            step=np.array([r["step"] for r in rows], dtype=np.int64),
            label=tuple(r["label"] for r in rows),
            fingerprint=tuple(r["fingerprint"] for r in rows),
            dtype=tuple(r["dtype"] for r in rows),
            files=tuple(json.dumps([{"path": f} for f in r["files"]]) for r in rows),
        )

    @cached_property
    def blocks(self) -> BlockTable:
        rows = self.client.get(f"runs/{self.name}/blocks")
        words = {n: tuple(r[n] for r in rows) for n in ("name", "tensor", "part", "layer", "component")}
        return BlockTable(
            **words,
            size=np.array([r["size"] for r in rows], dtype=np.int64),
            offset=np.array([r["offset"] for r in rows], dtype=np.int64),
        )

    @property
    def gradients(self) -> ServerGradients:
        return ServerGradients(self.client, self.name)

    def nonfinite(self) -> NDArray[np.int64]:
        """Return 0 for each usable checkpoint and 1 for the others, (1, T)."""
        return np.array([[0 if r["usable"] else 1 for r in self._rows]], dtype=np.int64)

    def group_gram(self, group: str, blocks: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        found = self._arrays(group)
        return found["gram"], found["rounding"]

    def group_changes(self, group: str, blocks: Sequence[int]) -> NDArray[np.float64] | None:
        return self._arrays(group).get("changes")

    @cached_property
    def has_rows(self) -> bool:
        return bool(self.attributes.get("rows"))

    def group_rows(self, group: str, blocks: Sequence[int]) -> GroupRows | None:
        try:
            found = self.client.arrays(f"runs/{self.name}/rows/norms", group=group)
        except NotFound as error:
            if error.kind == "rows-not-found":
                return None
            raise
        return GroupRows(found["block"], found["index"], found["norms"])

    def row_statistics(self, group: str) -> NDArray[np.float64] | None:
        """Return what ``trajsvc.measures.row_statistics.statistics_of`` gives for the group; None where its rows were not kept."""
        return self.client.arrays(f"runs/{self.name}/gram", group=group, rows=True).get("rows")

    def group_trees(self, group: str, blocks: Sequence[int]) -> GroupTrees | None:
        found = self._arrays(group)
        if "tree_gram" not in found:
            return None
        return GroupTrees(found["tree_start"], found["tree_gram"], int(found["scale"]))

    def group_left_out(self, group: str, blocks: Sequence[int]) -> NDArray[np.float64] | None:
        return self._arrays(group).get("left_out")

    def _arrays(self, group: str) -> dict[str, NDArray[Any]]:
        """Return the server's arrays of a group; the last group is cached, since its parts are asked for in turn."""
        held = self._last
        if held is not None and held[0] == group:
            return held[1]
        try:
            found = self.client.arrays(f"runs/{self.name}/gram", group=group)
        except NotFound as error:
            if error.kind == "run-not-found":
                raise
            raise NotFound("group-not-found", error.message, hint=error.hint) from None
        self._last = (group, found)
        return found


class RemoteRun(Run):
    """A run on a server. Grams come once for each group; origins, steps and measures are computed here."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.grams = ServerGrams(client, name)
        super().__init__(name, self.grams)
        weakref.finalize(self, client.close)

    def _row_statistics(self, group: Group) -> NDArray[np.float64] | None:
        return self.grams.row_statistics(group.id)

    def spectrum_answers(self) -> ServerSpectra:
        return ServerSpectra(self.client, self.name)

    def cross(self, other: Run, rename: Sequence[str] = (), common: bool = False) -> RemoteCross:
        """Return this run against another one of the server, which raises NotFound (``cross-not-found``) if it was not computed."""
        from trajsvc.results.remote_cross import RemoteCross

        return RemoteCross(self.client, self.name, other.name, rename, common)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, at {self.client.address}>"


def open_remote(address: str, name: str) -> RemoteRun:
    """Open the run ``name`` of the server at ``address``.

    Raises NotFound (``run-not-found``), TryAgain (``server-unreachable``).
    """
    client = Client(address)
    try:
        return RemoteRun(client, name)
    except BaseException:
        client.close()
        raise
