"""Recognise one checkpoint in a folder by the names of its files. Opens nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from trajsvc.errors import NotFound, Refused, TrajsvcError, UnsupportedFormat
from trajsvc.sources.formats.recognised import shards, unsupported
from trajsvc.sources.formats.shards import SHARD
from trajsvc.sources.formats.torch_dcp import METADATA
from trajsvc.sources.formats.torch_series import Place
from trajsvc.sources.name_patterns import pattern_of
from trajsvc.sources.named import PATHS, Naming
from trajsvc.sources.states import (
    Choice,
    Wish,
    ambiguous,
    choose,
    is_model,
    is_no_average,
    matched,
    words_of,
)
from trajsvc.sources.steps import WEIGHT_SUFFIXES, StepName, parse_step

SAFETENSORS: Final = ".safetensors"
TORCH_SUFFIXES: Final = tuple(s for s in WEIGHT_SUFFIXES if s != SAFETENSORS)
_INNER_FOLDERS: Final = ("pytorch_model_fsdp_0", "model_and_optim", "model")
"""Where trainers keep a torch.distributed.checkpoint within a checkpoint's folder."""
_PREFERRED: Final = ("pytorch_model", "model", "checkpoint", "weights", "adapter_model")
_LOOKED_INTO: Final = 50
"""folders in a checkpoint's that are looked into"""
_SIDES: Final = frozenset({"runs", "logs", "wandb", "tensorboard", "eval", "results", "samples"})
_NOT_WEIGHTS: Final = re.compile(
    r"(?:^|[-_.])(?:optim|optimizer|opt(?=\d*\.\w+$)|sched|scheduler|lr_scheduler|scaler|rng|rng_state|random_states?|training_args|train_state"
    r"|trainer_state|dataloader|sampler|tokenizer|optim_states|model_states|optim_rng|extra_state|replay_buffer|ema_decay)(?=$|[-_.\d])"
    r"|^(?:data|dataset|args|config|vocab|metrics|history|losses|pytorch_variables|stats|results|predictions|recipe_state|meta)(?:[-_]\d+)?\.\w+$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Weights:
    """The files of one checkpoint that hold its parameters, and those that were ignored in their favour."""

    folder: str
    files: tuple[str, ...]
    """names in ``folder``; an index comes first"""
    format: str
    passed_over: tuple[str, ...] = ()
    """files that hold the same or nothing of interest: another format's, another precision's"""
    others: tuple[str, ...] = ()
    """states beside the one that was chosen, by the names that ``--state`` takes"""
    chosen: str = ""
    """the name of the chosen one, where there are ``others``"""
    wish: Wish = ()
    """what of ``--state`` is left for within the files"""


@dataclass(frozen=True)
class Folder:
    """Names in a folder: files (links and pipes among them) and folders."""

    path: str
    files: frozenset[str]
    folders: frozenset[str]

    @classmethod
    def read(cls, path: str, naming: Naming = PATHS) -> Folder:
        """List the folder called ``path``. Raises OSError."""
        with os.scandir(naming.path(path)) as entries:
            listed = [(e.name, _is_folder(e)) for e in entries]
        files = frozenset(n for n, is_folder in listed if not is_folder)
        folders = frozenset(n for n, is_folder in listed if is_folder)
        return cls(path, files, folders) if naming is PATHS else NamedFolder(path, files, folders, naming)

    @property
    def base(self) -> str:
        """The folder's own name."""
        return os.path.basename(self.path)  # noqa: PTH119

    def __truediv__(self, name: str) -> str:
        return os.path.join(self.path, name)  # noqa: PTH118 (text in, text out: thousands of files)

    def inner(self, name: str) -> Folder:
        """List the folder ``name`` in this one. Raises OSError."""
        return Folder.read(self / name)


@dataclass(frozen=True)
class NamedFolder(Folder):
    """A folder whose files have names that are not their paths."""

    naming: Naming = PATHS

    @property
    def base(self) -> str:
        return os.path.basename(self.naming.path(self.path))  # noqa: PTH119

    def inner(self, name: str) -> Folder:
        return Folder.read(self / name, self.naming)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_weights(name: str) -> bool:
    """Return whether a file of this name may hold parameters: by its suffix, and not one of the files that trainers
    write beside them.
    """
    return name.lower().endswith(WEIGHT_SUFFIXES) and not _NOT_WEIGHTS.search(name) and not name.startswith(".")


def usual(name: str) -> bool:
    """Return whether a file has a name that a checkpoint's only file has: ``model.pt``, ``pytorch_model.bin``."""
    return _stem(name) in _PREFERRED


def weights_of(folder: Folder, wish: Wish = ()) -> Weights | None:
    """Return the files that hold the parameters of the checkpoint that a folder is.

    These are its own files, else those of the folders in it (``unet``, ``actor``).

    Safetensors come before torch's formats, one file before shards. Of several models the one that ``wish`` names is
    taken, else the one that is not an average. None if the folder holds none, or a trainer's shards of which none is a
    model. Raises Refused (``ambiguous-checkpoint``).
    """
    inner = _nested(folder) if wish or not _has_weights(folder) else {}
    name, left = matched(list(inner), wish)
    if name is None and shards(folder) is None:
        own = _own(folder, wish)
        if own is not None:
            beside = tuple(n for n in _nested(folder, deeper=False) if n not in _SIDES) if folder.folders else ()
            return replace(own, others=(*own.others, *beside))
    if not inner:
        return None
    if name is not None:
        choice = Choice(name, tuple(n for n in inner if n != name))
    else:
        choice = choose(list(inner), lambda names: _asked(folder.path, "models in", names, wish))
    found = weights_of(inner[choice.chosen], left)
    return None if found is None else replace(found, others=(*found.others, *choice.others), chosen=choice.chosen)


def _asked(path: str, what: str, names: Sequence[str], wish: Wish) -> Refused | NotFound:
    asked = ambiguous(path, what, names, wish, kind="ambiguous-checkpoint")
    if not wish:
        pattern = pattern_of(names)
        how = (
            f"say where their step is: --step-pattern '{pattern}'"
            if pattern
            else "give each a name with its step, as step_100"
        )
        asked.hint = f"{asked.hint} If they are checkpoints of one run, {how}."
    return asked


def _own(folder: Folder, wish: Wish) -> Weights | None:
    safe = sorted(n for n in folder.files if is_weights(n) and n.endswith(SAFETENSORS))
    torch = sorted(n for n in folder.files if is_weights(n) and not n.endswith(SAFETENSORS))
    found = _of_family(folder, safe, SAFETENSORS, "safetensors", wish)
    if found is None or (wish and found.wish == wish):
        other = _distributed(folder, wish) or _of_family(folder, torch, ".bin", "torch-zip", wish)
        found = other if found is None or (other is not None and other.wish != wish) else found
    if found is None:
        return None
    rest = [
        n
        for n in (*safe, *torch)
        if n not in found.files
        and not (found.format.endswith("-sharded") and SHARD.fullmatch(n) and n.startswith(_stem(found.files[-1])))
    ]
    others = [
        _stem(n)
        for n in rest
        if not ((shard := SHARD.fullmatch(n)) and shard[1] == _stem(found.files[0]))
        and (words_of(_stem(n)) != words_of(_stem(found.files[0])) or _numbered_apart(n, found.files[0]))
    ]
    passed = [n for n in rest if _stem(n) not in others]
    return replace(found, passed_over=tuple(passed), others=tuple(dict.fromkeys(others)), chosen=_stem(found.files[0]))


def _of_family(folder: Folder, names: Sequence[str], suffix: str, form: str, wish: Wish) -> Weights | None:
    """Return the checkpoint among files of one format."""
    models: dict[str, tuple[tuple[str, ...], str]] = {_stem(n): ((n,), form) for n in names if not SHARD.fullmatch(n)}
    pieces: dict[str, list[str]] = {}
    for name in names:
        if match := SHARD.fullmatch(name):
            pieces.setdefault(match[1], []).append(name)
    indexes = {_stem(n.removesuffix(".index.json")): n for n in folder.files if n.endswith(f"{suffix}.index.json")}
    for stem, index in indexes.items():
        models.setdefault(stem, ((index, *pieces.get(stem, ())), f"{form}-sharded"))
    for stem, parts in pieces.items():
        models.setdefault(stem, (tuple(parts), f"{form}-sharded"))
    if not models:
        return None
    wished, left = matched(list(models), wish)
    taken = (
        wished
        or next((n for n in models if is_no_average(n)), None)
        or next((n for n in _PREFERRED if n in models), None)
        or _plainest(list(models))
    )
    if taken is None:

        def refuse(names: Sequence[str]) -> Refused | NotFound:
            return _asked(folder.path, "the files", names, wish)

        taken = choose(list(models), refuse).chosen
    files, found_form = models[taken]
    return Weights(folder.path, files, found_form, wish=left)


def _plainest(names: Sequence[str]) -> str | None:
    """Return the name to which the others only add a precision or a number: ``model`` of ``model``, ``model.fp16``.

    None if there is none.
    """
    shortest = min(names, key=len)
    alike = all(n.startswith(shortest) and words_of(n) == words_of(shortest) for n in names)
    return shortest if alike else None


def _numbered_apart(name: str, chosen: str) -> bool:
    """Return whether a name differs from ``chosen`` by a number, which makes it another model.

    ``pytorch_model_1.bin`` beside ``pytorch_model.bin`` is; ``model.fp16`` beside ``model`` is not.
    """
    return bool(re.fullmatch(r"[-_]?\d+", _stem(name).removeprefix(_stem(chosen)))) and _stem(name) != _stem(chosen)


def _stem(name: str) -> str:
    if match := SHARD.fullmatch(name):
        return match[1]
    name = name.removesuffix(".index.json")
    suffix = next((s for s in WEIGHT_SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _has_weights(folder: Folder) -> bool:
    return shards(folder) is None and (
        any(is_weights(n) for n in folder.files)
        or any(n.endswith(".index.json") for n in folder.files)
        or _is_dcp(folder)
    )


def _nested(folder: Folder, deeper: bool = True) -> dict[str, Folder]:
    """Return the folders in a checkpoint's that hold weights, by name; those one level deeper by both names."""
    found: dict[str, Folder] = {}
    named = (n for n in folder.folders if not n.startswith(".") and is_model(n) and parse_step(n) is None)
    for name in sorted(named)[:_LOOKED_INTO]:
        try:
            inner = folder.inner(name)
        except OSError:
            continue
        if _is_run(inner):
            continue
        if _has_weights(inner):
            found[name] = inner
        elif deeper and name not in _SIDES:
            found |= {f"{name}/{n}": f for n, f in _nested(inner, deeper=False).items()}
    return found


def _is_run(folder: Folder) -> bool:
    """Return whether a folder holds several numbered checkpoints."""
    names = (*folder.folders, *(n for n in folder.files if is_weights(n) and not SHARD.fullmatch(n)))
    return sum(parse_step(n) is not None for n in names) > 1


def nested_refusal(folder: Folder) -> UnsupportedFormat | None:
    """Return the error for a format in a checkpoint's inner folders that is recognised and not read.

    None if there is none.
    """
    for name in sorted(n for n in folder.folders if not n.startswith("."))[:_LOOKED_INTO]:
        try:
            inner = folder.inner(name)
        except OSError:
            continue
        if problem := unsupported(inner):
            return problem
    return None


def _is_dcp(folder: Folder) -> bool:
    return METADATA in folder.files and any(n.endswith(".distcp") for n in folder.files)


def _distributed(folder: Folder, wish: Wish) -> Weights | None:
    if _is_dcp(folder):
        parts = sorted(n for n in folder.files if n.endswith(".distcp"))
        return Weights(folder.path, (METADATA, *parts), "distcp", wish=wish)
    for name in _INNER_FOLDERS:
        if name in folder.folders:
            inner = folder.inner(name)
            if METADATA in inner.files and (found := _distributed(inner, wish)):
                return found
    return None


@dataclass(frozen=True)
class Found:
    """One checkpoint: its name, its files, or why it cannot be used."""

    name: StepName
    weights: Weights
    config_folders: tuple[str, ...]
    problem: TrajsvcError | None = None
    inside: Place = ()
    """where in its file the checkpoint is, where the file holds several"""
