"""What lies in a folder: recognising one checkpoint by the names of its files. Opens nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from trajsvc.errors import Refused, TrajsvcError, UnsupportedFormat
from trajsvc.sources.formats.shards import SHARD
from trajsvc.sources.formats.torch_dcp import METADATA
from trajsvc.sources.steps import WEIGHT_SUFFIXES, StepName

SAFETENSORS: Final = ".safetensors"
TORCH_SUFFIXES: Final = tuple(s for s in WEIGHT_SUFFIXES if s != SAFETENSORS)
_INNER_FOLDERS: Final = ("pytorch_model_fsdp_0", "model_and_optim", "model")
"""Where trainers keep a torch.distributed.checkpoint within a checkpoint's folder."""
_PREFERRED: Final = (
    "pytorch_model.bin", "model.pt", "model.pth", "model.bin", "model.ckpt", "checkpoint.pt", "checkpoint.pth", "weights.pt",
    "weights.pth", "adapter_model.bin",
)  # fmt: skip
_NOT_WEIGHTS: Final = re.compile(
    r"(?:^|[-_.])(?:optim|optimizer|opt(?=\.\w+$)|sched|scheduler|lr_scheduler|scaler|rng|rng_state|random_states?|training_args|train_state"
    r"|trainer_state|dataloader|sampler|tokenizer|optim_states|model_states|optim_rng)(?=$|[-_.\d])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Weights:
    """The files of one checkpoint that hold its parameters, and those that were passed over for them."""

    folder: str
    files: tuple[str, ...]
    """names in ``folder``; an index comes first"""
    format: str
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """Names in a folder: files (links and pipes among them) and folders."""

    path: str
    files: frozenset[str]
    folders: frozenset[str]

    @classmethod
    def read(cls, path: str) -> Folder:
        with os.scandir(path) as entries:
            listed = [(e.name, _is_folder(e)) for e in entries]
        files = frozenset(n for n, is_folder in listed if not is_folder)
        return cls(path, files, frozenset(n for n, is_folder in listed if is_folder))

    def __truediv__(self, name: str) -> str:
        return os.path.join(self.path, name)  # noqa: PTH118 (text in, text out: thousands of files)

    def inner(self, name: str) -> Folder:
        """The folder ``name`` in this one. Raises OSError."""
        return Folder.read(self / name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_weights(name: str) -> bool:
    """Whether a file of this name may hold parameters: by its suffix, and not one of the files that trainers write beside them."""
    return name.lower().endswith(WEIGHT_SUFFIXES) and not _NOT_WEIGHTS.search(name) and not name.startswith(".")


def weights_of(folder: Folder) -> Weights | None:
    """The parameters of the checkpoint that a folder is: safetensors before torch's formats, one file before shards. None when it
    holds none. Raises Refused (``ambiguous-checkpoint``)."""
    safe = sorted(n for n in folder.files if is_weights(n) and n.endswith(SAFETENSORS))
    torch = sorted(n for n in folder.files if is_weights(n) and not n.endswith(SAFETENSORS))
    found = _of_family(folder, safe, SAFETENSORS, "safetensors", ("model.safetensors",))
    if found is None:
        found = _distributed(folder) or _of_family(folder, torch, ".bin", "torch-zip", _PREFERRED)
    if found is None:
        return None
    own_shards = os.path.splitext(found.files[-1])[1] if found.format.endswith("-sharded") else None  # noqa: PTH122
    passed = (n for n in (*safe, *torch) if n not in found.files and not (own_shards and n.endswith(own_shards)))
    return Weights(found.folder, found.files, found.format, tuple(passed))


def _of_family(
    folder: Folder, names: Sequence[str], suffix: str, form: str, preferred: Sequence[str]
) -> Weights | None:
    single = [n for n in names if not SHARD.fullmatch(n)]
    if names and preferred[0] in names:
        return Weights(folder.path, (preferred[0],), form)
    indexes = sorted(n for n in folder.files if n.endswith(f"{suffix}.index.json"))
    shards = tuple(n for n in names if SHARD.fullmatch(n))
    if indexes:
        index = f"{preferred[0]}.index.json"
        if len(indexes) > 1 and index not in indexes:
            raise _ambiguous(folder, indexes)
        return Weights(folder.path, (index if index in indexes else indexes[0], *shards), f"{form}-sharded")
    if shards:
        return Weights(folder.path, shards, f"{form}-sharded")
    chosen = next((n for n in preferred if n in single), single[0] if len(single) == 1 else None)
    if chosen is None and single:
        raise _ambiguous(folder, single)
    return Weights(folder.path, (chosen,), form) if chosen else None


def _distributed(folder: Folder) -> Weights | None:
    if METADATA in folder.files and any(n.endswith(".distcp") for n in folder.files):
        parts = sorted(n for n in folder.files if n.endswith(".distcp"))
        return Weights(folder.path, (METADATA, *parts), "distcp")
    for name in _INNER_FOLDERS:
        if name in folder.folders:
            inner = folder.inner(name)
            if METADATA in inner.files and (found := _distributed(inner)):
                return found
    return None


def _ambiguous(folder: Folder, names: Collection[str]) -> Refused:
    shown = sorted(names)
    return Refused(
        "ambiguous-checkpoint",
        f"{folder.path} holds {', '.join(shown[:4])}{' …' if len(shown) > 4 else ''}; which of them is the checkpoint is not said",
        hint="Give a pattern that meets one file in each folder, in quotes: 'run/*/model.pt'.",
        file=folder.path,
    )


def unsupported(folder: Folder) -> TrajsvcError | None:
    """The refusal of a folder in a format that is recognised and not read, with what to run; None for any other folder."""
    for name, what, hint, recognised in _UNSUPPORTED:
        if any(recognised.fullmatch(n) for n in (*folder.files, *(f"{n}/" for n in folder.folders))):
            return UnsupportedFormat(f"unsupported-{name}", f"{folder.path} is {what}", hint=hint, file=folder.path)
    return None


_UNSUPPORTED: Final = (
    (
        "deepspeed",
        "a DeepSpeed checkpoint, whose parameters are spread over flat partitions",
        "Convert each step with the script in its run: python zero_to_fp32.py RUN OUTPUT --safe_serialization -t global_stepN",
        re.compile(r"(?:.*zero_pp_rank_.*|.*_optim_states\.pt|mp_rank_\d+_model_states\.pt|zero_to_fp32\.py)"),
    ),
    (
        "megatron",
        "a Megatron checkpoint, whose tensors are cut over ranks",
        "Convert it with Megatron's tools/checkpoint/convert.py to a Hugging Face or torch checkpoint.",
        re.compile(r"(?:latest_checkpointed_iteration\.txt|mp_rank_\d+(?:_\d+)*/|model_optim_rng\.pt)"),
    ),
    (
        "orbax",
        "an Orbax or Flax checkpoint",
        "Restore it with Orbax (or flax.serialization) and write each step with safetensors.flax.save_file.",
        re.compile(r"(?:_CHECKPOINT_METADATA|manifest\.ocdbt|flax_model.*\.msgpack|.*\.orbax-checkpoint.*/?|checkpoint_\d+)"),
    ),
    (
        "tensorflow",
        "a TensorFlow checkpoint",
        "Load it with transformers (from_tf=True) or TensorFlow, and write each step with safetensors.",
        re.compile(r"(?:.*\.ckpt.*\.index|.*\.data-\d{5}-of-\d{5}|tf_model.*\.h5|saved_model\.pb)"),
    ),
)  # fmt: skip
"""Formats that are recognised: name, what it is, what to do, and a file or folder (with its slash) that only they have."""


@dataclass(frozen=True)
class Found:
    """One checkpoint: its name, its files, or why it cannot be used."""

    name: StepName
    weights: Weights
    config_folders: tuple[str, ...]
    problem: TrajsvcError | None = None
