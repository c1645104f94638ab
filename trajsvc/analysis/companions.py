"""The small files that make a folder of weights loadable: a model's configuration, its tokenizer, its preprocessor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from trajsvc.errors import NotFound, TrajsvcError
from trajsvc.sources.base import CheckpointRef, CheckpointSource

COMPANION: Final = re.compile(
    r"(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|preprocessor_config|processor_config"
    r"|chat_template|adapter_config|modules|sentence_bert_config)\.json|merges\.txt|vocab\.txt|chat_template\.jinja"
    r"|(?:tokenizer|spiece|sentencepiece(?:\.bpe)?)\.model|tiktoken\.model|configuration_\w+\.py|modeling_\w+\.py|tokenization_\w+\.py"
)
LARGEST: Final = 2**26
"""bytes of a file above which it is no companion"""
ABOVE: Final = 2
"""folders above the checkpoint's in which they may lie, as the tokenizer of a whole run does"""


def companions(source: CheckpointSource, checkpoint: CheckpointRef) -> dict[str, bytes]:
    """Return the companions of a checkpoint by name: those beside its weights, else those of the folders above it.

    On the Hub those of its revision that lie beside the weights.
    """
    folder = checkpoint.files[0].path.rpartition("/")[0]
    if source.remote is not None:
        return _remote(source, folder)
    here = Path(folder)
    places = [here, *list(here.parents)[:ABOVE]] if _in_folder_of_its_own(checkpoint) else [here]
    found: dict[str, bytes] = {}
    for place in places:
        try:
            names = sorted(p.name for p in place.iterdir() if COMPANION.fullmatch(p.name) and p.is_file())
        except OSError:
            continue
        for name in names:
            if name not in found and (place / name).stat().st_size <= LARGEST:
                found[name] = (place / name).read_bytes()
        if "tokenizer.json" in found or "tokenizer_config.json" in found:
            break
    return found


def _in_folder_of_its_own(checkpoint: CheckpointRef) -> bool:
    """Return whether the folder's name is the checkpoint's, and not that of a run whose checkpoints are files."""
    return str(checkpoint.step) in Path(checkpoint.files[0].path).parent.name


def _remote(source: CheckpointSource, folder: str) -> dict[str, bytes]:
    names = getattr(source, "names", None)
    region = getattr(source, "region", None)
    if names is None or region is None:
        return {}
    found = {}
    for name in names(folder):
        if not COMPANION.fullmatch(name):
            continue
        try:
            file = region(f"{folder}/{name}")
            if file.size <= LARGEST:
                found[name] = bytes(file.bytes(0, file.size))
        except (NotFound, TrajsvcError):
            continue
    return found
