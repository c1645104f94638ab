"""Hyperparameters from the files that trainers leave beside checkpoints. Nothing in them is executed.

A file that is missing, too large or malformed says nothing, and is never an error. ``training_args.bin`` is a pickle of the trainer's
own classes and is not read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from storage_schema.models.results import Hyperparameter, Scalar
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import CheckpointRef
from trajsvc.sources.logs.places import Readable, below

MOST_BYTES: Final = 2**18
MOST_YAML: Final = 2**16
"""bytes of all YAML files of a run: its parser takes 30 µs a value"""
MOST: Final = 200
"""hyperparameters that are kept"""
MOST_VISITED: Final = 20_000
"""values of a file that are looked at: aliases of YAML can stand for any number"""
LONGEST_NAME: Final = 100
LONGEST_TEXT: Final = 200
LONGEST_LIST: Final = 4
DEEPEST: Final = 6
CONFIG: Final = "config.json"
NAMES: Final = (
    "hparams.yaml", "hparams.json", "hyperparameters.yaml", "hyperparameters.json", "args.json", "args.yaml", "training_args.json",
    ".hydra/config.yaml", "config.yaml",
)  # fmt: skip
_VERSIONS: Final = "lightning_logs"
_MODEL: Final = {
    "model_type", "hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "num_layers", "num_attention_heads", "n_head",
    "num_heads", "num_key_value_heads", "head_dim", "intermediate_size", "n_inner", "d_ff", "vocab_size", "max_position_embeddings",
    "n_positions", "hidden_act", "activation_function", "rope_theta", "rotary_pct", "tie_word_embeddings", "num_local_experts",
    "num_experts", "num_experts_per_tok", "attention_dropout", "hidden_dropout", "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps",
    "initializer_range", "use_parallel_residual", "sliding_window", "dtype", "torch_dtype",
}  # fmt: skip
"""what is kept of a model's configuration"""
_SECRET: Final = re.compile(
    r"secret|passw|credential|api_?key|access_?key|auth|(^|[._])(token|key)$|_token$", re.IGNORECASE
)
_UNNAMED: Final = re.compile(r"[^A-Za-z0-9_.:/-]")


def hyperparameters(files: Readable, root: str | None, checkpoints: Sequence[CheckpointRef]) -> list[Hyperparameter]:
    """Return what the files of the run's folder ``root`` and of its last checkpoint say, at most ``MOST``; of several the first.

    Nested keys are joined by dots, short lists numbered; what is no number, text or boolean, is longer than ``LONGEST_TEXT``, or is
    named like a secret is left out. Of a model's ``config.json`` what shapes the network is kept.
    """
    found: dict[str, Hyperparameter] = {}
    left = MOST_YAML
    for path, origin in _places(files, root, checkpoints):
        text = _text(files, path)
        yaml = not path.endswith(".json")
        left -= len(text) if yaml else 0
        for name, value in _flat({} if yaml and left < 0 else _told(path, text)):
            if len(found) < MOST:
                found.setdefault(name, Hyperparameter(name=name, value=value, origin=origin))
    return [found[name] for name in sorted(found)]


def _places(files: Readable, root: str | None, checkpoints: Sequence[CheckpointRef]) -> Iterator[tuple[str, str]]:
    """Yield the paths of files that are there, each with its name as people know it."""
    last = checkpoints[-1].files[0].path.rpartition("/")[0] if checkpoints else None
    folders = [folder for folder in dict.fromkeys((root, last)) if folder is not None]
    wanted = [(below(folder, name), name) for folder in folders for name in NAMES]
    if root is not None and _VERSIONS in files.names(root):
        versions = files.names(below(root, _VERSIONS))[-1:]
        wanted += [(below(root, name), name) for name in (f"{_VERSIONS}/{v}/hparams.yaml" for v in versions)]
    wanted += [(below(folder, CONFIG), CONFIG) for folder in folders]
    return ((path, name) for path, name in wanted if files.exists(path))


def _text(files: Readable, path: str) -> bytes:
    try:
        region = files.region(path)
        return region.bytes(0, region.size) if region.size <= MOST_BYTES else b""
    except (TrajsvcError, OSError):
        return b""


def _told(path: str, text: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(text) if path.endswith(".json") else _of_yaml(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    if path.rpartition("/")[2] == CONFIG and ("model_type" in told or "architectures" in told):
        return {name: value for name, value in told.items() if name in _MODEL}
    return told


def _of_yaml(text: bytes) -> Any:
    from trajsvc.sources.logs.plain_yaml import parse  # few runs have such a file, and the parser takes long to import

    return parse(text)


def _flat(told: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    """Yield the values of nested tables and short lists by names joined with dots."""
    left = MOST_VISITED
    held: list[tuple[str, Any, int]] = [("", told, 0)]
    while held and left > 0:
        at, value, depth = held.pop()
        left -= 1
        if isinstance(value, dict):
            if set(value) == {"desc", "value"}:  # as Weights & Biases keeps a value
                held.append((at, value["value"], depth))
            elif depth < DEEPEST:
                inner = [(f"{at}.{key}" if at else str(key), one, depth + 1) for key, one in list(value.items())[:left]]
                held += reversed(inner)
        elif isinstance(value, list) and len(value) <= LONGEST_LIST and depth < DEEPEST:
            held += [(f"{at}.{k}", one, depth + 1) for k, one in reversed(list(enumerate(value)))]
        elif (name := _name(at)) is not None and _kept(value):
            yield name, value


def _name(text: str) -> str | None:
    """Return a name in which what none may have is ``_``; None for one that is too long or sounds like a secret."""
    name = _UNNAMED.sub("_", text[: LONGEST_NAME + 1])
    if not name or len(name) > LONGEST_NAME or _SECRET.search(name):
        return None
    return name if name[0].isalpha() or name[0] == "_" else None


def _kept(value: object) -> bool:
    if isinstance(value, str):
        folder = value.startswith(("/", "~", "file:"))  # says nothing of a training, and where its owner's files are
        return 0 < len(value) <= LONGEST_TEXT and value.isprintable() and not folder
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63)
