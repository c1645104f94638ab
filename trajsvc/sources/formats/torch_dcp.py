"""Folders of torch.distributed.checkpoint: one tensor in pieces that several ranks wrote.

``.metadata`` is a pickle that says which chunk of which tensor lies in which ``.distcp`` file, from which byte to which; every chunk is
a small ``torch.save`` archive of its own. Both are read without running them. A tensor becomes runs of elements, each a byte range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import PurePosixPath
from typing import Any, Final

from storage_schema.models.results import Finding
from trajsvc.errors import DamagedCheckpoint, UnsafeFile, UnsupportedFormat
from trajsvc.sources.base import Piece, TensorEntry
from trajsvc.sources.files import Region
from trajsvc.sources.formats.limits import MAX_TENSORS, check_name, check_rank
from trajsvc.sources.formats.pickle_reader import Built, Global, read_pickle
from trajsvc.sources.formats.torch_state import STATE_KEYS
from trajsvc.sources.formats.torch_zip import DTYPES, Refusal, TorchArchive, sizes
from trajsvc.sources.states import Choice, Wish, ambiguous, choose, is_average, is_model, matched, no_such_state

METADATA: Final = ".metadata"
MAX_PIECES: Final = 4096
"""Runs that one tensor may consist of. Tensors cut along their last dimension need one for every row and rank."""
_CONVERT: Final = "Convert it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt`."
_OTHERS: Final = ("optim", "scheduler", "dataloader", "train_state", "rng")

Offsets = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Chunk:
    file: str
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[tuple[Offsets, tuple[int, ...]], ...]


def read_dcp(
    metadata: Region, region: Callable[[str], Region], wish: Wish = ()
) -> tuple[dict[str, TensorEntry], dict[str, str], tuple[Finding, ...]]:
    """Read the tensors of the model in a folder of torch.distributed.checkpoint, or of the state that ``wish`` names.

    Returns the tensors, what was left out, and a finding about what was chosen if the folder holds several models.

    ``region`` opens a file of the folder by name. Raises DamagedCheckpoint (``malformed-dcp``, ``missing-shard``, …),
    UnsupportedFormat (``unsupported-sharding``, ``unsupported-tensor``), UnsafeFile.
    """
    reader = _Folder(metadata, region)
    names, left_out, choice = _model_names(reader.tensors, reader.paths, wish, metadata.path)
    found = None if choice is None else choice.finding("each checkpoint holds several models")
    entries = {short: reader.entry(reader.tensors[name], short) for name, short in names.items()}
    return entries, left_out, () if found is None else (found,)


def _model_names(
    tensors: Mapping[str, _Tensor], paths: Mapping[str, tuple[Any, ...]], wish: Wish, path: str
) -> tuple[dict[str, str], dict[str, str], Choice | None]:
    """Return stored name → name in the model, the first parts of those that are not the model's, and the choice that
    was made.
    """
    top = {n: str(paths[n][0]) if len(paths.get(n, ())) > 1 else "" for n in tensors}
    states = list(dict.fromkeys(t for t in top.values() if t and is_model(t)))
    if wish and not states:
        states = list(dict.fromkeys(n.partition(".")[0] for n in tensors if "." in n))
        top = {n: n.partition(".")[0] for n in tensors}
    key, left = matched(states, wish)
    if left:
        raise no_such_state(path, wish, states)
    if key is None:
        key = next((k for k in STATE_KEYS if k in states), None)
    if key is None and len(states) > 1 and any(is_average(s) for s in states):
        key = choose(
            states, lambda names: ambiguous(path, "tensors under", names, wish, kind="ambiguous-state-dict")
        ).chosen
    others = tuple(s for s in states if s != key)
    choice = Choice(key, others) if key is not None and others else None
    if key is not None:
        mine = {n: n.removeprefix(f"{key}.") for n in tensors if top[n] == key}
    else:
        mine = {n: n for n in tensors if not n.lower().startswith(_OTHERS)}
        # Flat names: "model." is a folder of the trainer's only where the optimizer's names lie beside it.
        if len(mine) < len(tensors) and mine and all(n.startswith("model.") for n in mine):
            mine = {n: n.removeprefix("model.") for n in mine}
    rest = {n.partition(".")[0] for n in tensors if n not in mine}
    return mine, {n: "optimizer state" if "optim" in n else "not the model's state dict" for n in sorted(rest)}, choice


class _Folder:
    """What ``.metadata`` says: tensors with their chunks, where the chunks lie, and how names were nested."""

    def __init__(self, metadata: Region, region: Callable[[str], Region]) -> None:
        self.path, self.region = metadata.path, region
        state = self._state(read_pickle(metadata.bytes(0, metadata.size), metadata.path), "Metadata")
        self.tensors = dict(self._tensors(state.get("state_dict_metadata")))
        self.places = dict(self._places(state.get("storage_data")))
        planner = state.get("planner_data")
        self.paths = {k: v for k, v in planner.items() if isinstance(v, tuple)} if isinstance(planner, dict) else {}

    def entry(self, tensor: _Tensor, name: str) -> TensorEntry:
        placed = sorted((self._placed(tensor, o, s, name) for o, s in tensor.chunks), key=lambda p: p[0])
        if not placed:
            raise self._bad(f"{tensor.name!r} has no chunks", tensor.name)
        if placed[0][1] == tensor.shape or 0 in tensor.shape:
            return replace(placed[0][2], name=name, shape=tensor.shape)
        pieces = tuple(sorted(self._pieces(tensor, placed), key=lambda p: p.lo))
        at = 0
        for piece in pieces:
            if piece.lo != at:
                raise self._bad(
                    f"the chunks of {tensor.name!r} leave a gap or overlap at element {min(at, piece.lo):,}",
                    tensor.name,
                )
            at = piece.hi
        if at != prod(tensor.shape):
            raise self._bad(f"the chunks of {tensor.name!r} do not cover it", tensor.name)
        return replace(placed[0][2], name=name, shape=tensor.shape, storage=None, crc32=None, pieces=pieces)

    def _placed(
        self, tensor: _Tensor, offsets: Offsets, shape: tuple[int, ...], name: str
    ) -> tuple[Offsets, tuple[int, ...], TensorEntry]:
        place = self.places.get((tensor.name, offsets)) or self.places.get((tensor.name, None))
        if place is None:
            raise self._bad(f"nothing says where the chunk of {tensor.name!r} at {list(offsets)} lies", tensor.name)
        archive = TorchArchive(self.region(place.file).part(place.begin, place.length))
        entry = archive.tensor(name, archive.root)
        if isinstance(entry, Refusal):
            raise UnsupportedFormat(
                "unsupported-tensor", f"{archive.path}: tensor {name!r} is {entry.what}", hint=_CONVERT, file=archive.path,
                tensor=name,
            )  # fmt: skip
        if entry is None or entry.shape != shape or entry.dtype != tensor.dtype:
            raise self._bad(f"the chunk of {tensor.name!r} at {list(offsets)} is not what {METADATA} says", tensor.name)
        return offsets, shape, entry

    def _pieces(self, tensor: _Tensor, placed: list[tuple[Offsets, tuple[int, ...], TensorEntry]]) -> Iterator[Piece]:
        item, count = DTYPES[tensor.dtype], 0
        for offsets, shape, entry in placed:
            runs, length = _runs(tensor.shape, offsets, shape)
            count += len(runs)
            if count > MAX_PIECES or entry.strides is not None:
                what = f"{count:,} runs or more" if entry.strides is None else "transposed chunks"
                raise UnsupportedFormat(
                    "unsupported-sharding",
                    f"{self.path}: tensor {tensor.name!r} lies in {what}; at most {MAX_PIECES:,} contiguous ones are read",
                    hint=f"It was cut along an inner dimension. {_CONVERT}", file=self.path, tensor=tensor.name,
                )  # fmt: skip
            for number, low in enumerate(runs):
                yield Piece(low, low + length, entry.file, entry.offset + number * length * item)

    def _tensors(self, words: object) -> Iterator[tuple[str, _Tensor]]:
        if not isinstance(words, dict) or len(words) > 4 * MAX_TENSORS:
            raise self._bad("it does not list its tensors")
        for name, value in words.items():
            if not isinstance(name, str):
                raise self._bad("a tensor's name is not text")
            if self._is(value, "BytesStorageMetadata"):
                continue
            state = self._state(value, "TensorStorageMetadata")
            properties, shape, chunks = state.get("properties"), sizes(state.get("size")), state.get("chunks")
            dtype = (
                properties.state[0] if isinstance(properties, Built) and isinstance(properties.state, tuple) else None
            )
            if (
                shape is None
                or not isinstance(chunks, list)
                or not isinstance(dtype, Global)
                or dtype.name not in DTYPES
            ):
                raise self._bad(f"the tensor {name[:200]!r} is not described by type, size and chunks", name)
            check_name(self.path, name)
            check_rank(self.path, name, shape)
            yield name, _Tensor(name, dtype.name, shape, tuple(self._chunk(name, shape, c) for c in chunks))

    def _chunk(self, name: str, shape: tuple[int, ...], value: object) -> tuple[Offsets, tuple[int, ...]]:
        state = self._state(value, "ChunkStorageMetadata")
        offsets, lengths = sizes(state.get("offsets")), sizes(state.get("sizes"))
        if offsets is None or lengths is None or not len(offsets) == len(lengths) == len(shape):
            raise self._bad(f"a chunk of {name[:200]!r} has no offsets and sizes", name)
        if any(o + n > s for o, n, s in zip(offsets, lengths, shape, strict=True)):
            raise self._bad(f"a chunk of {name[:200]!r} reaches out of its shape {list(shape)}", name)
        return offsets, lengths

    def _places(self, words: object) -> Iterator[tuple[tuple[str, Offsets | None], _Chunk]]:
        if not isinstance(words, dict):
            raise self._bad("it does not say where its chunks lie")
        for key, value in words.items():
            index, state = self._state(key, "MetadataIndex"), self._state(value, "_StorageInfo")
            name, file = index.get("fqn"), state.get("relative_path")
            begin, length = state.get("offset"), state.get("length")
            if (
                not isinstance(name, str)
                or not isinstance(file, str)
                or type(begin) is not int
                or type(length) is not int
            ):
                raise self._bad("it says of a chunk neither file nor place")
            if PurePosixPath(file).name != file or file in (".", "..") or "\0" in file:
                raise UnsafeFile(
                    "unsafe-shard-path", f"{self.path}: {name[:200]!r} is said to be in {file[:200]!r}, which is not in its folder",
                    hint="Chunks lie beside .metadata, under plain names.", file=self.path, tensor=name[:200],
                )  # fmt: skip
            if state.get("transform_descriptors"):
                raise UnsupportedFormat(
                    "unsupported-sharding", f"{self.path}: the chunks were transformed when they were saved (compressed?)",
                    hint=_CONVERT, file=self.path,
                )  # fmt: skip
            yield (name, sizes(index.get("offset"))), _Chunk(file, begin, length)

    def _is(self, value: object, name: str) -> bool:
        return isinstance(value, Built) and isinstance(value.function, Global) and value.function.name == name

    def _state(self, value: object, name: str) -> dict[Any, Any]:
        if not isinstance(value, Built) or not self._is(value, name) or not isinstance(value.state, dict):
            raise self._bad(f"where {name} should be there is something else")
        return value.state

    def _bad(self, what: str, tensor: str | None = None) -> DamagedCheckpoint:
        return DamagedCheckpoint(
            "malformed-dcp", f"{self.path}: {what}", hint="Fetch or copy the checkpoint's folder again.", file=self.path,
            tensor=tensor and tensor[:200],
        )  # fmt: skip


def _runs(whole: tuple[int, ...], offsets: Offsets, shape: tuple[int, ...]) -> tuple[list[int], int]:
    """Return the beginnings of a chunk's runs in the flat tensor (C order), in the chunk's own order, and their common
    length.

    The chunk's last dimensions that are whole, and the one before them, make one run; the dimensions before that number
    the runs.
    """
    if 0 in shape:
        return [], 0
    last = len(shape)
    while last > 0 and shape[last - 1] == whole[last - 1]:
        last -= 1
    cut = max(last - 1, 0)
    strides = [prod(whole[d + 1 :]) for d in range(len(whole))]
    length = prod(shape[cut:])
    if prod(shape[:cut]) > MAX_PIECES:
        return [0] * (MAX_PIECES + 1), length
    starts = [sum(o * s for o, s in zip(offsets, strides, strict=True))]
    for d in range(cut):
        starts = [b + i * strides[d] for b in starts for i in range(shape[d])]
    return starts, length
