"""Read and write the arrays of a run, except theta, as zarr would, without the time that importing zarr takes.

A small array is one uncompressed chunk; the Grams are shards of one chunk a block. Numbers are little-endian bytes,
strings zarr's ``vlen-utf8`` (a count, then every string's length and bytes).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import release
from storage_schema.format.theta import shard_index

FILL: Final = {"float64": "NaN", "int64": -1, "string": ""}
"""What a reader that checks nothing sees of a lost chunk: undefined values, never zeros."""
_COUNT: Final = struct.Struct("<I")
TEXT: Final = {"name": "vlen-utf8", "configuration": {}}
PLAIN: Final = {"name": "bytes", "configuration": {"endian": "little"}}


def is_small(metadata: Mapping[str, Any]) -> bool:
    """Return whether ``read`` can read the array of this zarr v3 metadata."""
    if metadata.get("node_type") != "array":
        return False
    shape = metadata["shape"]
    chunk = metadata["chunk_grid"].get("configuration", {}).get("chunk_shape")
    if metadata["chunk_grid"]["name"] != "regular" or chunk != [max(1, n) for n in shape]:
        return False
    if metadata["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}:
        return False
    if metadata["data_type"] == "string":
        return [c["name"] for c in metadata["codecs"]] == ["vlen-utf8"]
    return metadata["codecs"] == [PLAIN] and metadata["data_type"] in ("int64", "float64")


def read(metadata: Mapping[str, Any], chunk: Callable[[str], bytes]) -> NDArray[Any]:
    """Read a whole array.

    ``chunk`` returns the bytes of a chunk by its key below the array. Raises ValueError if they do not fit the shape.
    """
    shape = tuple(metadata["shape"])
    text = metadata["data_type"] == "string"
    if 0 in shape:
        return np.empty(shape, dtype=object if text else metadata["data_type"])
    data = chunk("/".join(["c", *("0" for _ in shape)]))
    if text:
        return np.array(_strings(data, math.prod(shape)), dtype=object).reshape(shape)
    return np.frombuffer(data, np.dtype(metadata["data_type"]).newbyteorder("<")).reshape(shape).copy()


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Create ``folder`` and write a group without members into it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder, {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})


def write(folder: Path, values: NDArray[Any], dims: Sequence[str]) -> None:
    """Write an array of one chunk: int64, float64, or strings (as objects)."""
    text = values.dtype == object
    codec = TEXT if text else PLAIN
    chunks = [max(1, n) for n in values.shape]
    _write_metadata(folder, values, dims, chunks, [codec])
    if values.size:
        data = encoded(values.tolist()) if text else np.ascontiguousarray(values, _little(values)).tobytes()
        _chunk_file(folder, 0, values.ndim).write_bytes(data)


def write_sharded(folder: Path, values: NDArray[np.float64], dims: Sequence[str], span: int) -> None:
    """Write an array (n, …) in shards of ``span`` chunks, each of which is one of the n."""
    inner = [1, *values.shape[1:]]
    _write_metadata(folder, values, dims, [span, *values.shape[1:]], [sharded(inner)])
    step = 8 * math.prod(inner)
    for number, first in enumerate(range(0, len(values), span)):
        held = np.ascontiguousarray(values[first : first + span], "<f8")
        with _chunk_file(folder, number, values.ndim).open("wb") as file:
            file.write(held.data)
            file.write(shard_index(len(held), span, step))
        release(values)


def write_chunked(folder: Path, values: NDArray[np.float64], dims: Sequence[str], span: int) -> None:
    """Write an array (n, …) in chunks of ``span`` of the n, the last one filled up with NaN."""
    chunk = [span, *values.shape[1:]]
    _write_metadata(folder, values, dims, chunk, [PLAIN])
    for number, first in enumerate(range(0, len(values), span)):
        held = np.ascontiguousarray(values[first : first + span], "<f8")
        with _chunk_file(folder, number, values.ndim).open("wb") as file:
            file.write(held.data)
            file.write(np.full((span - len(held), *chunk[1:]), np.nan, "<f8").data)
        release(values)


def metadata(
    kind: str, shape: Sequence[int], dims: Sequence[str], chunks: Sequence[int], codecs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the zarr v3 metadata of an array of ``kind``: int64, float64 or string."""
    return {
        "shape": list(shape),
        "data_type": kind,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": FILL[kind],
        "codecs": list(codecs),
        "attributes": {},
        "dimension_names": list(dims),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def sharded(inner: Sequence[int]) -> dict[str, Any]:
    """Return the codec of a shard of raw chunks of shape ``inner``, its index at the end."""
    index = [PLAIN, {"name": "crc32c"}]
    shards = {"chunk_shape": list(inner), "codecs": [PLAIN], "index_codecs": index, "index_location": "end"}
    return {"name": "sharding_indexed", "configuration": shards}


def _write_metadata(
    folder: Path, values: NDArray[Any], dims: Sequence[str], chunks: Sequence[int], codecs: Sequence[Mapping[str, Any]]
) -> None:
    kind = "string" if values.dtype == object else values.dtype.name
    folder.mkdir(parents=True)
    _write_json(folder, metadata(kind, values.shape, dims, chunks, codecs))


def _write_json(folder: Path, metadata: Mapping[str, Any]) -> None:
    (folder / "zarr.json").write_text(json.dumps(metadata, indent=2, allow_nan=False))


def _chunk_file(folder: Path, number: int, axes: int) -> Path:
    path = folder.joinpath("c", str(number), *("0" for _ in range(axes - 1)))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _little(values: NDArray[Any]) -> np.dtype[Any]:
    return values.dtype.newbyteorder("<")


def encoded(texts: Sequence[str]) -> bytes:
    """Encode strings with zarr's codec ``vlen-utf8`` (``TEXT``)."""
    parts = [_COUNT.pack(len(texts))]
    for text in texts:
        raw = text.encode()
        parts += [_COUNT.pack(len(raw)), raw]
    return b"".join(parts)


def _strings(data: bytes, count: int) -> list[str]:
    if _COUNT.unpack_from(data)[0] != count:
        raise ValueError(f"{_COUNT.unpack_from(data)[0]} strings for {count}")
    found, at = [], _COUNT.size
    for _ in range(count):
        length = _COUNT.unpack_from(data, at)[0]
        at += _COUNT.size
        found.append(data[at : at + length].decode())
        at += length
    return found
