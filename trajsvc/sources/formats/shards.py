"""Checkpoints in several files: the index that says which tensor is in which, and shards without one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from storage_schema.models.results import Finding
from trajsvc.errors import DamagedCheckpoint, UnsafeFile
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.files import Region
from trajsvc.sources.formats.json_file import read_object

SHARD: Final = re.compile(r"(.*)-(\d{2,})-of-(\d{2,})(\.safetensors|\.bin)")
_INCOMPLETE: Final = "Fetch or copy the missing file, or leave the checkpoint out with --steps."


def read_index(region: Region) -> dict[str, str]:
    """Return tensor → file name of an index's ``weight_map``.

    Raises DamagedCheckpoint (``bad-index``), UnsafeFile (``unsafe-shard-path``) for a file name with folders in it.
    """
    words = read_object(region, "bad-index").get("weight_map")
    if not isinstance(words, dict) or not words or not all(isinstance(v, str) and v for v in words.values()):
        raise DamagedCheckpoint(
            "bad-index",
            f"{region.path} has no weight_map of tensors to files",
            hint="Fetch or copy the index again.",
            file=region.path,
        )
    for tensor, shard in words.items():
        if PurePosixPath(shard).name != shard or shard in (".", "..") or "\\" in shard or "\0" in shard:
            raise UnsafeFile(
                "unsafe-shard-path",
                f"{region.path}: the tensor {tensor[:200]!r} is said to be in {shard[:200]!r}, which is not a file beside the index",
                hint="Shards lie in the index's own folder, under plain names.",
                file=region.path,
                tensor=tensor[:200],
            )
    return words


def complete_set(names: Sequence[str], folder: str) -> list[str]:
    """Return the shards ``name-0000i-of-0000N`` in order.

    Raises DamagedCheckpoint (``missing-shard``) when one is missing.
    """
    matches = [m for n in names if (m := SHARD.fullmatch(n))]
    stem, _, count, suffix = matches[0].groups()
    width = len(count)
    wanted = [f"{stem}-{i:0{width}d}-of-{count}{suffix}" for i in range(1, min(int(count), 10_000) + 1)]
    missing = [n for n in wanted if n not in names]
    if missing:
        raise missing_shard(f"{folder}/{missing[0]}", len(missing))
    return wanted


def missing_shard(path: str, count: int = 1, tensor: str | None = None) -> DamagedCheckpoint:
    more = f" ({count} of its shards are missing)" if count > 1 else ""
    return DamagedCheckpoint(
        "missing-shard", f"the shard {path} does not exist{more}", hint=_INCOMPLETE, file=path, tensor=tensor
    )


def merge(
    index: Mapping[str, str] | None,
    shards: Mapping[str, Mapping[str, TensorEntry]],
    path: Callable[[str], str],
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Return all tensors of a sharded checkpoint in the index's order, and what its shards hold beside them.

    ``shards`` maps file name to that shard's tensors. Raises DamagedCheckpoint (``tensor-missing``, ``tensor-in-two-shards``).
    """
    home: dict[str, str] = {}
    for shard, tensors in shards.items():
        for name in tensors:
            if name in home:
                raise DamagedCheckpoint(
                    "tensor-in-two-shards",
                    f"the tensor {name!r} is in {path(home[name])} and in {path(shard)}",
                    hint="Shards of two savings are mixed: fetch or copy the checkpoint again.",
                    file=path(shard),
                    tensor=name,
                )
            home[name] = shard
    if index is None:
        return {n: e for tensors in shards.values() for n, e in tensors.items()}, {}
    for name, shard in index.items():
        if name not in shards[shard]:
            raise DamagedCheckpoint(
                "tensor-missing",
                f"the tensor {name[:200]!r} is not in {path(shard)}, where the index says it is",
                hint="Index and shards are of two savings: fetch or copy the checkpoint again.",
                file=path(shard),
                tensor=name[:200],
            )
    left_out = {n: "not in the index" for n in home if n not in index}
    return {n: shards[s][n] for n, s in index.items()}, left_out


def stale_shards(names: Sequence[str], used: Sequence[str], folder: str) -> tuple[Finding, ...]:
    """Report files that look like shards and that the index does not name."""
    suffix = PurePosixPath(used[0]).suffix
    stale = sorted(n for n in names if n not in used and n.endswith(suffix) and SHARD.fullmatch(n))
    if not stale:
        return ()
    return (
        Finding(
            kind="stale-shard",
            message=f"{folder}: {', '.join(stale[:3])} {'are' if len(stale) > 1 else 'is'} not in the index, and left out",
            details={"files": stale},
        ),
    )
