"""Torch's zip checkpoints: where each tensor's bytes lie, found without running the pickle in them.

``torch.save`` writes a zip archive: ``data.pkl`` describes the objects, ``data/0``, ``data/1`` … are the storages, uncompressed, so a
tensor is a byte range of the file. The pickle is read by ``inert_pickle``, which calls nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trajsvc.errors import DamagedCheckpoint, UnsupportedFormat
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.files import Region
from trajsvc.sources.formats.limits import MAX_ELEMENTS, check_name, check_rank
from trajsvc.sources.formats.pickle_reader import Built, Global, Persistent, read_pickle
from trajsvc.sources.formats.sniff import refuse_impostors, refuse_other_torch
from trajsvc.sources.formats.zip_directory import ZipDirectory

SAVE_WEIGHTS: Final = "Save the weights alone: torch.save(model.state_dict(), PATH), or safetensors.torch.save_file."

STORAGE_TYPES: Final[Mapping[str, tuple[str, int]]] = {
    "HalfStorage": ("float16", 2), "BFloat16Storage": ("bfloat16", 2), "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8), "CharStorage": ("int8", 1), "ShortStorage": ("int16", 2), "IntStorage": ("int32", 4),
    "LongStorage": ("int64", 8), "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
    "ComplexFloatStorage": ("complex64", 8), "ComplexDoubleStorage": ("complex128", 16), "UntypedStorage": ("uint8", 1),
    "_UntypedStorage": ("uint8", 1),
}  # fmt: skip
DTYPES: Final[Mapping[str, int]] = {
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1,
    "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex64": 8, "complex128": 16, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
"""Names of ``torch.dtype`` → bytes an element."""

_REFUSED: Final[Mapping[str, str]] = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_qtensor": "quantised",
    "_rebuild_meta_tensor_no_storage": "on the meta device, without values",
    "_rebuild_wrapper_subclass": "of a class of its own",
    "_rebuild_device_tensor_from_numpy": "stored through numpy",
    "_rebuild_device_tensor_from_cpu_tensor": "on a device of its own",
    "_rebuild_xla_tensor": "stored through numpy",
}
_REBUILDS: Final = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_NUMPY_ARRAYS: Final = ("_reconstruct", "_frombuffer")
_UNWRAPPED: Final = 8


@dataclass(frozen=True, slots=True)
class Refusal:
    """A tensor whose values are not plain bytes of the file, and what it is."""

    what: str


def refused_as(refusal: Refusal, path: str, tensor: str) -> UnsupportedFormat:
    """Return the error for a tensor that cannot be read, with what to save in its place."""
    hint = "Save it as a plain dense tensor: tensor.to_dense(), tensor.dequantize(), torch.from_numpy(array)."
    if refusal.what == _REFUSED["_rebuild_wrapper_subclass"]:
        hint = (
            "A sharded tensor (DTensor) is saved whole with tensor.full_tensor(), or the state dict with "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)); "
            "a checkpoint of verl with `python -m verl.model_merger merge --backend fsdp --local_dir ACTOR --target_dir OUT`."
        )
    return UnsupportedFormat(
        "unsupported-tensor", f"{path}: tensor {tensor!r} is {refusal.what}", hint=hint, file=path, tensor=tensor
    )


class TorchArchive:
    """One archive: ``root`` is what it holds (dictionaries, numbers, inert records), ``tensor`` places a tensor found in it."""

    def __init__(self, region: Region) -> None:
        """Read an archive's directory and pickle.

        Raises DamagedCheckpoint, UnsupportedFormat (``legacy-torch``, ``torchscript``, ``big-endian``), UnsafeFile,
        LimitExceeded.
        """
        refuse_other_torch(region, refuse_impostors(region))
        self.region, self.path = region, region.path
        self.directory = ZipDirectory(region)
        self.prefix = self._prefix()
        self._refuse_big_endian()
        self.root = read_pickle(self._pickle(), region.path)
        self._ranges: dict[str, tuple[int, int]] = {}

    def tensor(self, name: str, value: object) -> TensorEntry | Refusal | None:
        """Locate the tensor ``value``; return a Refusal for one that cannot be read, None if it is not a tensor.

        Raises DamagedCheckpoint (``missing-storage``, ``short-storage``, ``bad-view``, ``expanded-tensor``,
        ``malformed-torch``).
        """
        found = _rebuilt(value)
        if found is None or isinstance(found, Refusal):
            return found
        return self._placed(name, *found)

    def _placed(self, name: str, function: str, arguments: object) -> TensorEntry | Refusal:
        if not isinstance(arguments, tuple) or len(arguments) < 4 or not isinstance(arguments[0], Persistent):
            raise self._bad(name, "is not described as torch describes tensors")
        storage, first, shape, strides = arguments[:4]
        described = self._storage(name, storage.key)
        if isinstance(described, Refusal):
            return described
        dtype, itemsize, key, nbytes = described
        if function == "_rebuild_tensor_v3":
            dtype = arguments[6].name if len(arguments) > 6 and isinstance(arguments[6], Global) else ""
            if dtype not in DTYPES:
                return Refusal(f"of the type {dtype[:40] or 'unknown'}")
            itemsize = DTYPES[dtype]
        shape, strides = sizes(shape), sizes(strides)
        if shape is None or strides is None or len(shape) != len(strides) or type(first) is not int or first < 0:
            raise self._bad(name, "has no shape, strides and offset that fit each other")
        return self._entry(name, dtype, itemsize, (key, nbytes), first, shape, strides)

    def _entry(
        self, name: str, dtype: str, itemsize: int, storage: tuple[str, int], first: int, shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> TensorEntry:  # fmt: skip
        check_name(self.path, name)
        check_rank(self.path, name, shape)
        key, nbytes = storage
        begin, stored = self._range(name, key, nbytes)
        entry = TensorEntry(
            name, dtype, shape, self.path, self.region.base + begin + first * itemsize, _strides(shape, strides),
            f"{self.path}@{self.region.base}/{key}", self.region.base + begin, stored, self._crc(key),
        )  # fmt: skip
        span = 1 + sum((d - 1) * s for d, s in zip(shape, strides, strict=True)) if entry.size else 0
        if entry.size and (first + span) * itemsize > nbytes:
            raise self._bad(
                name, f"needs elements up to {first + span:,}, but its storage has {nbytes // itemsize:,}", "bad-view"
            )
        if entry.size * itemsize > nbytes:
            raise self._bad(
                name, f"has {entry.size:,} elements made of {nbytes // itemsize:,} stored ones", "expanded-tensor",
                "Save it with .contiguous() or .clone().",
            )  # fmt: skip
        return entry

    def _storage(self, name: str, key: object) -> tuple[str, int, str, int] | Refusal:
        """Return type, bytes an element, record and bytes of a storage, from the tuple that refers to it."""
        if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage" or not isinstance(key[1], Global):
            raise self._bad(name, "has a storage that is not described as torch describes them")
        _, kind, record, location, count = key[:5]
        if location == "meta":
            return Refusal(_REFUSED["_rebuild_meta_tensor_no_storage"])
        if kind.name.startswith("Q"):
            return Refusal("quantised")
        if kind.name not in STORAGE_TYPES:
            return Refusal(f"of the type {kind.name[:40]}")
        dtype, itemsize = STORAGE_TYPES[kind.name]
        if not isinstance(record, str) or type(count) is not int or not 0 <= count < MAX_ELEMENTS:
            raise self._bad(name, "has a storage without a name and a size")
        return dtype, itemsize, record, count * itemsize

    def _range(self, name: str, key: str, nbytes: int) -> tuple[int, int]:
        member = f"{self.prefix}data/{key}"
        if key not in self._ranges:
            if member not in self.directory.members:
                raise self._bad(
                    name, f"has its values in {member[:80]}, which the archive does not have", "missing-storage"
                )
            self._ranges[key] = self.directory.range(member)
        if self._ranges[key][1] < nbytes:
            raise self._bad(
                name,
                f"needs a storage of {nbytes:,} bytes, but {member[:80]} has {self._ranges[key][1]:,}",
                "short-storage",
            )
        return self._ranges[key]

    def _crc(self, key: str) -> int | None:
        # A checksum of zero means that the writer left it out (torch can), or one case in 2**32.
        return self.directory.members[f"{self.prefix}data/{key}"].crc32 or None

    def _bad(self, tensor: str, what: str, kind: str = "malformed-torch", hint: str = "") -> DamagedCheckpoint:
        tensor = tensor[:200]
        hint = hint or "Fetch or copy the file again, or save it again with torch.save."
        return DamagedCheckpoint(
            kind, f"{self.path}: tensor {tensor!r} {what}", hint=hint, file=self.path, tensor=tensor
        )

    def _prefix(self) -> str:
        names = self.directory.members
        found = [n for n in names if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(found) != 1:
            raise self.directory.bad(
                f"this zip archive has {len(found) or 'no'} data.pkl, so torch.save did not write it", "malformed-torch",
                "Give checkpoints written by torch.save, or safetensors files.",
            )  # fmt: skip
        prefix = found[0][: -len("data.pkl")]
        if f"{prefix}constants.pkl" in names or any(n.startswith(f"{prefix}code/") for n in names):
            raise UnsupportedFormat(
                "torchscript",
                f"{self.path} is a TorchScript program, not a checkpoint",
                hint="Load it with torch.jit.load and save its weights: torch.save(module.state_dict(), PATH).",
                file=self.path,
            )
        return prefix

    def _refuse_big_endian(self) -> None:
        name = f"{self.prefix}byteorder"
        if name in self.directory.members and self.directory.data(name, 64) != b"little":
            raise UnsupportedFormat(
                "big-endian", f"{self.path} was written on a big-endian machine",
                hint="Load it with torch and save it again on a little-endian machine.", file=self.path,
            )  # fmt: skip

    def _pickle(self) -> bytes:
        name = f"{self.prefix}data.pkl"
        data = self.directory.data(name)
        expected = self.directory.members[name].crc32
        if expected and zlib.crc32(data) != expected:
            raise self.directory.bad(f"{name} does not have its checksum", "checksum-mismatch")
        return data


def mapping(value: object) -> Mapping[Any, Any] | None:
    """Return the items of a dictionary, or of a call that makes one (OrderedDict, defaultdict, a subclass of dict);
    else None.
    """
    if isinstance(value, dict):
        return value
    if isinstance(value, Built) and (value.items or _is_dictionary(value.function)):
        return value.items
    return None


def is_tensor(value: object) -> bool:
    """Return whether a value would be a tensor or an array, readable or not."""
    return _rebuilt(value) is not None


def _rebuilt(value: object) -> tuple[str, object] | Refusal | None:
    """Return the function that rebuilds a tensor, and its arguments; a Refusal if it cannot be read, None if there is
    none.
    """
    call = _unwrapped(value)
    if call is None or not isinstance(call.function, Global):
        return None
    function = call.function
    if function.name in _REFUSED:
        return Refusal(_REFUSED[function.name])
    if function.module.startswith("numpy") and function.name in _NUMPY_ARRAYS:
        return Refusal("a numpy array")
    return (function.name, call.arguments) if function.name in _REBUILDS else None


def _is_dictionary(function: object) -> bool:
    return isinstance(function, Global) and function.name.rpartition(".")[2] in (
        "OrderedDict",
        "defaultdict",
        "dict",
        "Counter",
    )


def _unwrapped(value: object) -> Built | None:
    """Return the innermost call that rebuilds a tensor: parameters and subclasses wrap one."""
    for _ in range(_UNWRAPPED):
        if not isinstance(value, Built) or not isinstance(value.function, Global):
            return None
        arguments = value.arguments
        name = value.function.name
        if not isinstance(arguments, tuple) or not arguments:
            return value
        if name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            value = arguments[0]
        elif name == "_rebuild_from_type_v2" and len(arguments) >= 3:
            value = Built(arguments[0], arguments[2])
        else:
            return value
    return None


def sizes(value: object) -> tuple[int, ...] | None:
    """Return a shape or strides given as a tuple, a list, or a call of torch.Size.

    None unless they are non-negative integers.
    """
    if isinstance(value, Built) and value.function == Global("torch", "Size") and isinstance(value.arguments, tuple):
        value = value.arguments[0] if value.arguments else ()
    if not isinstance(value, tuple | list) or not all(type(v) is int and 0 <= v < MAX_ELEMENTS for v in value):
        return None
    return tuple(value)


def _strides(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return ``strides``, or None for C order without gaps (the strides of dimensions of length 1 mean nothing)."""
    if 0 in shape:
        return None
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != expected:
            return strides
        expected *= length
    return None
