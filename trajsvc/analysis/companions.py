"""The small files that make a folder of weights loadable: a model's configuration, its tokenizer, its preprocessor."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, cast

from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import CheckpointRef, CheckpointSource
from trajsvc.sources.files import Files
from trajsvc.sources.logs.places import Readable

COMPANION: Final = re.compile(
    r"(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|preprocessor_config|processor_config"
    r"|chat_template|adapter_config|modules|sentence_bert_config)\.json|merges\.txt|vocab\.txt|chat_template\.jinja"
    r"|(?:tokenizer|spiece|sentencepiece(?:\.bpe)?)\.model|tiktoken\.model|configuration_\w+\.py|modeling_\w+\.py|tokenization_\w+\.py"
)
LARGEST: Final = 2**27
"""bytes of all of them: files are taken in the order of their names while there is room"""
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
            names = sorted(p.name for p in place.iterdir() if COMPANION.fullmatch(p.name) and p.name not in found)
        except OSError:
            continue
        files = Files(_root(source, place))
        try:
            _take(found, files, str(place), names)
        finally:
            files.close()
        if "tokenizer.json" in found or "tokenizer_config.json" in found:
            break
    return found


def _root(source: CheckpointSource, place: Path) -> str:
    """Return the folder that links in ``place`` may lead into: the source's, and of a folder above that its own."""
    root = str(getattr(source, "root", place))
    return root if os.path.commonpath([root, os.path.realpath(place)]) == root else str(place)


def _take(found: dict[str, bytes], files: Readable, folder: str, names: Iterable[str]) -> None:
    """Add the files called ``names`` to ``found``, as far as there is room; one that cannot be read is left out."""
    for name in names:
        try:
            region = files.region(f"{folder}/{name}")
            if region.size + sum(map(len, found.values())) <= LARGEST:
                found[name] = bytes(region.bytes(0, region.size))
        except TrajsvcError:
            continue


def _in_folder_of_its_own(checkpoint: CheckpointRef) -> bool:
    """Return whether the folder's name is the checkpoint's, and not that of a run whose checkpoints are files."""
    return str(checkpoint.step) in Path(checkpoint.files[0].path).parent.name


def _remote(source: CheckpointSource, folder: str) -> dict[str, bytes]:
    names = getattr(source, "names", None)
    if names is None or not hasattr(source, "region"):
        return {}
    found: dict[str, bytes] = {}
    _take(found, cast(Readable, source), folder, filter(COMPANION.fullmatch, names(folder)))
    return found
