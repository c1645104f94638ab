"""Read the small arrays of a run from their chunk: what zarr would answer, without what importing zarr takes.

A small array is one uncompressed chunk: numbers as little-endian bytes, or strings as zarr's ``vlen-utf8`` (a count, then every string's
length and bytes).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_COUNT: Final = struct.Struct("<I")
_PLAIN: Final = {"name": "bytes", "configuration": {"endian": "little"}}


def is_small(metadata: Mapping[str, Any]) -> bool:
    """Whether ``read`` reads the array of this zarr v3 metadata."""
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
    return metadata["codecs"] == [_PLAIN] and metadata["data_type"] in ("int64", "float64")


def read(metadata: Mapping[str, Any], chunk: Callable[[str], bytes]) -> NDArray[Any]:
    """The whole array; ``chunk`` gives the bytes of a chunk by its key below the array. ValueError where they are not the array's."""
    shape = tuple(metadata["shape"])
    text = metadata["data_type"] == "string"
    if 0 in shape:
        return np.empty(shape, dtype=object if text else metadata["data_type"])
    data = chunk("/".join(["c", *("0" for _ in shape)]))
    if text:
        return np.array(_strings(data, math.prod(shape)), dtype=object).reshape(shape)
    return np.frombuffer(data, np.dtype(metadata["data_type"]).newbyteorder("<")).reshape(shape).copy()


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
