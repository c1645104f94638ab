"""Sets of gradients of a run on a server: their Grams come over the network, which is exact, and measures are computed here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.runs.beside import GRADIENTS
from storage_schema.runs.contents import BlockTable
from storage_schema.runs.gradient_source import GroupRecord
from trajsvc.client import Client

_SCALAR, _WHOLE = "scalar.", "whole."


class ServerGradients:
    """The sets of the run ``run`` on a server, as ``VectorSets``."""

    def __init__(self, client: Client, run: str) -> None:
        self.client, self.run = client, run

    def names(self) -> tuple[str, ...]:
        return tuple(row["set"] for row in self.client.get(f"runs/{self.run}/gradients"))

    def open(self, name: str) -> ServerSet:
        if name not in (names := self.names()):
            raise GRADIENTS.no_such(name, names)
        return ServerSet(self.client, f"runs/{self.run}/gradients/{name}")


class ServerSet:
    """One set on a server, as a ``VectorSet``."""

    def __init__(self, client: Client, path: str) -> None:
        self.client, self.path = client, path
        facts: dict[str, Any] = client.get(path)
        self.name: str = facts["set"]
        self.kind: str = facts["kind"]
        self.spec: dict[str, Any] = facts["options"]
        self.n: int = facts["n"]
        self.labels: tuple[str, ...] = tuple(facts["labels"])
        self.scalars: tuple[str, ...] = tuple(facts["scalars"])
        self.steps: list[int] = facts["steps"]
        self.stale: list[int] = facts["stale"]
        self.digest: str = facts["digest"]
        rows = facts["block_table"]
        words = {n: tuple(r[n] for r in rows) for n in ("name", "tensor", "part", "layer", "component")}
        size = np.array([r["size"] for r in rows], dtype=np.int64)
        self.blocks = BlockTable(**words, size=size, offset=np.cumsum(size) - size)

    def group(self, step: int, group: str, blocks: Sequence[int]) -> GroupRecord:
        """See ``VectorSet.group``."""
        return group_of_arrays(self.client.arrays(f"{self.path}/gram", group=group, step=step))


def arrays_of_group(record: GroupRecord) -> dict[str, NDArray[Any]]:
    """Encode a group's record as arrays of a .npz file: ``gram``, ``error``, ``same``, ``scalar.*``, ``whole.*`` and
    ``facts`` (JSON).
    """
    found: dict[str, NDArray[Any]] = {
        "gram": record.gram,
        "error": np.array(record.error),
        "facts": np.array(json.dumps(dict(record.facts))),
    }
    if record.same is not None:
        found["same"] = record.same
    found |= {_SCALAR + name: np.asarray(values) for name, values in record.scalars.items()}
    return found | {_WHOLE + name: np.asarray(values) for name, values in record.whole.items()}


def group_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> GroupRecord:
    """Decode the record that ``arrays_of_group`` encoded."""
    return GroupRecord(
        arrays["gram"],
        float(arrays["error"]),
        arrays.get("same"),
        _named(arrays, _SCALAR),
        _named(arrays, _WHOLE),
        json.loads(str(arrays["facts"])),
    )


def _named(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
