"""What a stored set of gradient Grams says of itself: the ``zarr.json`` of its group, which is also its manifest.

A run's sets lie in ``<run>.zarr/gradients/<set>/``, each a zarr v3 group of its own::

    gram       (step, block, vector, vector_2)  float64   inner products of the set's vectors, by block
    same       (step, block, vector)            int64     equal numbers for equal vectors; where the set knows it
    scalar_*   (step, block or whole, …)        float64   sums that some measures need beside the Gram
    step       (step)                           int64     in the order in which they were computed
    block, tensor, part, layer, component, size (block)   the blocks of the network that the probe built
    vector     (vector)                         string    names of the vectors, where they have any

Every file of a step is written before the group's ``zarr.json`` names it, with its size and SHA-256, and that file is replaced whole:
a reader finds the steps before, or these and the new one. ``sha256`` among its attributes is the checksum of the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from storage_schema.errors import StoreDamaged, StoreVersion
from storage_schema.format.manifest import FileEntry

FOLDER: Final = "gradients"
HEAD: Final = "zarr.json"
FORMAT: Final = "trajsvc-gradients"
FORMAT_VERSION: Final = 1
SHARD_BYTES: Final = 2**21
"""Size that a file of a Gram is kept below, so that one layer is read, and proved, without the rest."""
SHARDS: Final = 64
"""Files that the Gram of a step is cut into at most."""
_SEAL: Final = "sha256"


@dataclass(frozen=True)
class RecordHead:
    """One checkpoint of a set: where it was taken and which files hold it."""

    step: int
    used: Mapping[int, str]
    """step → fingerprint of every checkpoint whose parameters it depends on, its own among them"""
    error: float
    """of an inner product, relative to the product of the norms"""
    facts: Mapping[str, Any]
    files: Mapping[str, FileEntry]


@dataclass(frozen=True)
class SetHead:
    """A set: what it is of, its shape, and its records by row; None for a row that is being written anew."""

    kind: str
    spec: Mapping[str, Any]
    """what it depends on beside the run and its checkpoints, as JSON; sets of equal specs are the same"""
    n: int
    blocks: int
    span: int
    """blocks in one file of the Gram"""
    labels: tuple[str, ...]
    same: bool
    scalars: Mapping[str, tuple[int, ...]]
    """name → shape at one checkpoint"""
    files: Mapping[str, FileEntry]
    """those that no row owns: tables"""
    rows: tuple[RecordHead | None, ...] = field(default=())

    def to_bytes(self, members: Mapping[str, Any]) -> bytes:
        """Return the group's ``zarr.json``, with ``members`` as its consolidated metadata."""
        attributes = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "spec": dict(self.spec),
            "n": self.n,
            "blocks": self.blocks,
            "span": self.span,
            "labels": list(self.labels),
            "same": self.same,
            "scalars": {name: list(shape) for name, shape in self.scalars.items()},
            "files": _plain(self.files),
            "rows": [None if row is None else _row(row) for row in self.rows],
        }
        consolidated = {"kind": "inline", "must_understand": False, "metadata": dict(members)}
        node = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": attributes,
            "consolidated_metadata": consolidated,
        }
        attributes[_SEAL] = _seal(node)
        return json.dumps(node, indent=1, allow_nan=False).encode()


def span_of(blocks: int, n: int) -> int:
    """Blocks in one file of the Gram of n vectors."""
    return min(blocks, max(1, SHARD_BYTES // (8 * n * n), -(-blocks // SHARDS)))


def parse_head(raw: bytes, path: Path) -> SetHead:
    """Parse the ``zarr.json`` of a set.

    Raises StoreDamaged if its checksum is wrong, StoreVersion if the format is not this program's.
    """
    try:
        node = json.loads(raw)
        words = node["attributes"]
        sealed = words.pop(_SEAL)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(path) from None
    if sealed != _seal(node):
        raise _damaged(path)
    if (words["format"], words["format_version"]) != (FORMAT, FORMAT_VERSION):
        raise StoreVersion(
            path,
            f"the gradients are of format {words['format']} {words['format_version']}; "
            f"this program knows {FORMAT} {FORMAT_VERSION}",
            "Upgrade trajsvc, or compute them again with this version.",
        )
    return SetHead(
        kind=words["kind"],
        spec=words["spec"],
        n=words["n"],
        blocks=words["blocks"],
        span=words["span"],
        labels=tuple(words["labels"]),
        same=words["same"],
        scalars={name: tuple(shape) for name, shape in words["scalars"].items()},
        files=_entries(words["files"]),
        rows=tuple(None if row is None else _of_row(row) for row in words["rows"]),
    )


def _row(row: RecordHead) -> dict[str, Any]:
    used = {str(step): fingerprint for step, fingerprint in row.used.items()}
    return {
        "step": row.step,
        "used": used,
        "error": row.error,
        "facts": dict(row.facts),
        "files": _plain(row.files),
    }


def _of_row(words: Mapping[str, Any]) -> RecordHead:
    used = {int(step): fingerprint for step, fingerprint in words["used"].items()}
    return RecordHead(words["step"], used, words["error"], words["facts"], _entries(words["files"]))


def _plain(files: Mapping[str, FileEntry]) -> dict[str, list[Any]]:
    return {key: list(files[key]) for key in sorted(files)}


def _entries(files: Mapping[str, Any]) -> dict[str, FileEntry]:
    return {key: FileEntry(*entry) for key, entry in files.items()}


def _seal(node: Mapping[str, Any]) -> str:
    plain = json.dumps(node, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def _damaged(path: Path) -> StoreDamaged:
    return StoreDamaged(
        path,
        "the record of these gradients is damaged",
        "Restore it from a copy, or compute them again with --replace.",
    )
