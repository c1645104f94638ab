"""Formats that are recognised and not read: what each is, and what to run to have it read.

Recognised by the names of files, and for a few by their first bytes. A trainer's shards are named as such before anything in them
could be taken for a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

from trajsvc.errors import UnsupportedFormat


class Names(Protocol):
    """Names in a folder."""

    @property
    def path(self) -> str: ...
    @property
    def files(self) -> frozenset[str]: ...
    @property
    def folders(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Format:
    """A format: its name, a description, a hint what to do, and names that only it has (folders end in a slash)."""

    name: str
    what: str
    hint: str
    names: str
    """a regular expression, compiled when it is first needed: most runs need few of them"""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.names)

    def found_in(self, folder: Names) -> bool:
        """Return whether a folder holds files of this format; of one whose names have a group ``rank``, those of at
        least two ranks.
        """
        met = [m for n in _listed(folder) if (m := self.pattern.fullmatch(n))]
        return len({m["rank"] for m in met}) > 1 if "rank" in self.pattern.groupindex else bool(met)


_NUMPY: Final = (
    "Write each step with safetensors: safetensors.numpy.save_file(dict(numpy.load(FILE)), 'step-N.safetensors'). "
    "Names that hold a / may stay as they are."
)
_KERAS: Final = (
    "Write each step with safetensors: safetensors.numpy.save_file({v.path: v.numpy() for v in model.weights}, 'step-N.safetensors') "
    "after keras.models.load_model(FILE), or model.load_weights(FILE)."
)

SHARDED: Final = (
    Format(
        "verl", "sharded FSDP ranks of verl",
        "Merge them with verl's model merger: python -m verl.model_merger merge --backend fsdp --local_dir {path} --target_dir OUT "
        "(verl before 0.4: scripts/model_merger.py). Have training save whole weights with "
        "checkpoint.save_contents=['model','hf_model'].",
        r"model_world_size_(?!1_)\d+_rank_\d+\.pt",
    ),
    Format(
        "fsdp", "an FSDP checkpoint that every rank saved for itself (LOCAL_STATE_DICT)",
        "It can be loaded by as many ranks alone: save it again there with StateDictType.FULL_STATE_DICT "
        "(accelerate: fsdp_state_dict_type: FULL_STATE_DICT), or as sharded one and `accelerate merge-weights`.",
        r"pytorch_model_fsdp_rank[-_]?(?P<rank>\d+)\.bin",
    ),
    Format(
        "tensor-parallel", "a checkpoint in Meta's layout, whose tensors are cut over ranks",
        "Convert it with transformers: python -m transformers.models.llama.convert_llama_weights_to_hf --input_dir {path} "
        "--model_size SIZE --output_dir OUT",
        r"consolidated\.(?P<rank>\d+)\.pth",
    ),
    Format(
        "metaseq", "a checkpoint of metaseq or fairseq in shards of ranks",
        "Merge it with metaseq: python -m metaseq.scripts.reshard_fsdp, or fairseq's consolidate_fsdp_shards.",
        r".*-(?P<rank>(?:shard|model_part-)\d+(?:-shard\d+)?)\.pt",
    ),
    Format(
        "ranks", "a checkpoint that every rank saved a part of",
        "Merge its parts with the tool of the project that wrote them (OLMo: python scripts/unshard.py {path} OUT), or save the full state "
        "dict on rank 0.",
        r"(?:.*[-_.])?rank[-_]?(?P<rank>\d+)(?:[-_.].*)?\.(?:pt|pth|bin|ckpt|safetensors)",
    ),
)  # fmt: skip
"""Sharded formats whose files look like models, though none is a complete one."""

TRAINERS: Final = (
    Format(
        "neox", "a GPT-NeoX checkpoint, whose layers lie in files of their own",
        "Convert it with GPT-NeoX: python tools/ckpts/convert_neox_to_hf.py --input_dir {path} --config_file CONFIG --output_dir OUT",
        r"layer_\d+-model_\d+-model_states\.pt",
    ),
    Format(
        "deepspeed", "a DeepSpeed checkpoint, whose parameters are spread over flat partitions",
        "Convert each step with the script in its run: python zero_to_fp32.py RUN OUTPUT --safe_serialization -t global_stepN",
        r"(?:.*zero_pp_rank_.*|.*_optim_states\.pt|mp_rank_\d+_model_states\.pt|zero_to_fp32\.py)",
    ),
    Format(
        "megatron", "a Megatron checkpoint, whose tensors are cut over ranks",
        "Convert it with Megatron-LM: python tools/checkpoint/convert.py --model-type GPT --loader core --saver hf --load-dir {path} "
        "--save-dir OUT (Megatron-Bridge and NeMo: their export to Hugging Face).",
        r"(?:latest_checkpointed_iteration\.txt|mp_rank_\d+(?:_\d+)*/|model_optim_rng\.pt)",
    ),
    Format(
        "orbax", "an Orbax or Flax checkpoint",
        "Restore it with Orbax (or flax.serialization) and write each step with safetensors.flax.save_file.",
        r"(?:_CHECKPOINT_METADATA|manifest\.ocdbt|flax_model.*\.msgpack|.*\.orbax-checkpoint.*/?|checkpoint_\d+)",
    ),
    Format(
        "tensorflow", "a TensorFlow checkpoint",
        "Load it with transformers (from_tf=True) or TensorFlow, and write each step with safetensors.",
        r"(?:.*\.ckpt.*\.index|.*\.data-\d{5}-of-\d{5}|tf_model.*\.h5|saved_model\.pb)",
    ),
)  # fmt: skip

FILES: Final = (
    Format("keras", "Keras models", _KERAS, r"(?i).*\.(?:keras|weights\.h5|tf)"),
    Format("hdf5", "HDF5 files", _KERAS, r"(?i).*\.(?:h5|hdf5)"),
    Format("npz", "NumPy archives", _NUMPY, r"(?i).*\.npz"),
    Format(
        "npy", "NumPy arrays, one a tensor",
        "Write each step as one file: safetensors.numpy.save_file({p.stem: numpy.load(p) for p in folder.glob('*.npy')}, "
        "'step-N.safetensors').",
        r"(?i).*\.npy",
    ),
    Format(
        "gguf", "GGUF models, whose tensors are quantised for inference",
        "Give the checkpoints that they were made from; llama.cpp's gguf-py reads a GGUF's tensors where they are lost.",
        r"(?i).*\.(?:gguf|ggml)",
    ),
    Format(
        "msgpack", "Flax checkpoints in msgpack",
        "Restore each with flax.serialization.msgpack_restore(open(FILE, 'rb').read()) and write it with "
        "safetensors.flax.save_file(flax.traverse_util.flatten_dict(params, sep='.'), 'step-N.safetensors').",
        r"(?i).*\.(?:msgpack|flax)",
    ),
    Format(
        "onnx", "ONNX programs",
        "Give the checkpoints of the training; or write each program's weights: {t.name: onnx.numpy_helper.to_array(t) for t in "
        "onnx.load(FILE).graph.initializer} with safetensors.numpy.save_file.",
        r"(?i).*\.onnx",
    ),
    Format(
        "sb3", "zip files of Stable-Baselines3",
        "Unpack each into a folder of its own, unzip -d rl_model_N_steps rl_model_N_steps.zip: policy.pth in it is read.",
        r"(?i).*_steps\.zip|rl_model.*\.zip|best_model\.zip",
    ),
    Format(
        "zip", "zip files",
        "Unpack each into a folder of its own, with the step in its name: what is in it is read then.",
        r"(?i).*\.zip",
    ),
    Format(
        "archive", "compressed archives",
        "Unpack each into a folder of its own, with the step in its name.",
        r"(?i).*\.(?:tar|tgz|tar\.gz|tar\.zst|gz|zst|nemo)",
    ),
    Format(
        "pickle", "plain pickles, whose tensors cannot be found without running the code in them",
        "If you trust it, load each once in the environment that wrote it and write its arrays: "
        "safetensors.numpy.save_file(params, 'step-N.safetensors'), or torch.save(state_dict, 'step-N.pt').",
        r"(?i).*\.(?:pkl|pickle|joblib|dill|cloudpickle)",
    ),
    Format(
        "tflite", "TensorFlow Lite programs", "Give the checkpoints of the training.", r"(?i).*\.tflite"
    ),
    Format("coreml", "Core ML programs", "Give the checkpoints of the training.", r"(?i).*\.(?:mlmodel|mlpackage/?)"),
)  # fmt: skip
"""Files in formats that are not read, by their suffix."""

_SIDE: Final = re.compile(
    r"(?:.*(?:optim|rng|random_state|scheduler|scaler|tokenizer|vocab|data|dataset|replay|buffer|history|log|args|config|loss|metric).*"
    r"|random_states_\d+\.pkl|events\.out.*)",
    re.I,
)
"""Files that lie beside checkpoints and hold no weights."""


def shards(folder: Names) -> Format | None:
    """Return the trainer's format of a folder whose files are parts of one model; None if they are not."""
    return next((f for f in SHARDED if f.found_in(folder)), None)


def unsupported(folder: Names) -> UnsupportedFormat | None:
    """Return the error for a folder in a format that is recognised and not read, with what to run.

    None for any other folder.
    """
    found = next((f for f in (*SHARDED, *TRAINERS) if f.found_in(folder)), None) or of_files(folder.files)
    return None if found is None else refusal(found, folder.path)


def refusal(found: Format, path: str) -> UnsupportedFormat:
    """Return the error for a format that is not read, found at ``path``."""
    holds = "holds" if found in FILES else "is"
    message = f"{path} {holds} {found.what}, which are not read" if holds == "holds" else f"{path} is {found.what}"
    hint = found.hint.replace("{path}", path)
    return UnsupportedFormat(f"unsupported-{found.name}", message, hint=hint, file=path)


def of_files(names: Iterable[str]) -> Format | None:
    """Return the format of most of these files if it is one that is not read; files beside checkpoints do not count."""
    counts: dict[str, int] = {}
    for name in names:
        found = None if _SIDE.fullmatch(name) else next((f for f in FILES if f.pattern.fullmatch(name)), None)
        if found is not None:
            counts[found.name] = counts.get(found.name, 0) + 1
    if not counts:
        return None
    most = max(counts, key=lambda name: counts[name])
    return next(f for f in FILES if f.name == most)


def of_bytes(head: bytes) -> Format | None:
    """Return the format of a file without a suffix, by its first bytes."""
    names = {b"\x89HDF\r\n\x1a\n": "hdf5", b"GGUF": "gguf", b"\x93NUMPY": "npy", b"\x1f\x8b": "archive"}
    name = next((n for magic, n in names.items() if head.startswith(magic)), None)
    if name is None and head[:1] in b"\x81\x82\x83\x84\x85\x86\x87\x88\xde\xdf" and head[:1]:
        name = "msgpack"
    return next((f for f in FILES if f.name == name), None)


def _listed(folder: Names) -> list[str]:
    return [*folder.files, *(f"{n}/" for n in folder.folders)]
