"""The probe ``causal-lm``: next-token losses of a language model on windows of a text.

The file is text (UTF-8), which is tokenised whole and without special tokens, or a ``.npy`` of token ids. It is cut into consecutive
windows of ``length`` tokens from its start; a rest is left out. Example i is window i, its loss the mean of its length − 1 next-token
cross-entropies in nats. With ``per_token`` every one of them is the loss of an example of its own, window after window, each
seeing the tokens before it in its window. The network is one that transformers makes from the checkpoint's config.json, in evaluation mode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.regular import open_file, read_file
from trajsvc.errors import NotFound, Refused
from trajsvc.gradients.probes.base import ProbeContext, file_digest
from trajsvc.gradients.probes.transformers_network import in_float64, network_of, transformers

if TYPE_CHECKING:
    import torch

Tokens = NDArray[np.int64]

Window = Tokens | tuple[Tokens, np.int64]
"""a window, or with ``per_token`` a window and the position whose prediction is the loss"""
BYTES: Final = "bytes"
"""``--tokenizer bytes``: the ids are the values of the file's bytes"""
_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


class CausalLM:
    """Windows of tokens, and the mean next-token cross-entropy of each."""

    def __init__(self, context: ProbeContext) -> None:
        """Read and cut the file. Raises NotFound (``data-not-found``, ``tokenizer-not-found``), Refused (``bad-data``), UsageError
        (``extra-missing``)."""
        file_digest(context.data)
        tokens = _tokens(context)
        length = context.options.length
        count = len(tokens) // length
        _check(tokens, count, length, context)
        self.digest = hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest()
        windows = tokens[: count * length].reshape(count, length)
        self.per_token = context.options.per_token
        self.losses_per_example = 1 if self.per_token else length - 1
        self.examples: Sequence[Window] = list(windows)
        if self.per_token:
            self.examples = [(window, at) for window in windows for at in np.arange(length - 1)]

    def network(self, config: Mapping[str, Any] | None) -> torch.nn.Module:
        return network_of(config, "causal language model")

    def losses(self, network: torch.nn.Module, examples: Sequence[Window]) -> torch.Tensor:
        ids = _ids(network, examples)
        with in_float64():
            return self._losses(network(input_ids=ids, use_cache=False).logits, ids, examples)

    def inputs(self, network: torch.nn.Module, examples: Sequence[Window]) -> torch.Tensor:
        """Return the embeddings of the tokens, (examples, length, width): a token itself cannot be moved a little."""
        embed: Any = network.get_input_embeddings()  # type: ignore[operator]
        return embed(_ids(network, examples))  # type: ignore[no-any-return]

    def losses_at(self, network: torch.nn.Module, inputs: torch.Tensor, examples: Sequence[Window]) -> torch.Tensor:
        with in_float64():
            ids = _ids(network, examples)
            return self._losses(network(inputs_embeds=inputs, use_cache=False).logits, ids, examples)

    def _losses(self, logits: torch.Tensor, ids: torch.Tensor, examples: Sequence[Window]) -> torch.Tensor:
        """Cross-entropies (examples): the mean over the positions of each, or the one that it names."""
        import torch
        from torch.nn.functional import cross_entropy

        found = cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
        if not self.per_token:
            return found.mean(dim=1)
        places = torch.stack([torch.as_tensor(example[1]) for example in examples]).to(ids.device)
        return found.gather(1, places[:, None])[:, 0]


def _ids(network: torch.nn.Module, examples: Sequence[Window]) -> torch.Tensor:
    import torch

    device = next(network.parameters()).device
    windows = [example[0] if isinstance(example, tuple) else example for example in examples]
    return torch.stack([torch.as_tensor(window) for window in windows]).to(device)


def _tokens(context: ProbeContext) -> Tokens:
    path, tokenizer = context.data, context.options.tokenizer
    if path.suffix == ".npy":
        return _stored_ids(path)
    if tokenizer == BYTES:
        return np.frombuffer(read_file(path), np.uint8).astype(np.int64)
    try:
        text = read_file(path).decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "Give UTF-8 text, or token ids as .npy."
        raise Refused("bad-data", f"{path} is not UTF-8 text: {error}", hint=hint, file=path) from None
    return _encoded(text, _tokenizer(context))


def _stored_ids(path: Path) -> Tokens:
    try:
        with open_file(path) as file:
            ids = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        hint = "Write it with numpy.save: whole numbers, no objects."
        raise Refused("bad-data", f"{path} is no array of numbers: {error}", hint=hint, file=path) from None
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu":
        hint = "Token ids are whole numbers; windows are cut from them in order."
        raise Refused(
            "bad-data", f"{path} holds no token ids but {getattr(ids, 'dtype', 'an archive')}", hint=hint, file=path
        )
    return ids.reshape(-1).astype(np.int64)


def _tokenizer(context: ProbeContext) -> Path:
    """Where the tokenizer lies: named, else beside the checkpoint, else beside the folders of all checkpoints."""
    if context.options.tokenizer is not None:
        places = [Path(context.options.tokenizer).expanduser()]
    else:
        places = [] if context.folder is None else [context.folder, context.folder.parent]
    for place in places:
        if place.is_file() or any((place / name).is_file() for name in _FILES):
            return place
    looked = " and ".join(map(str, places)) or "this machine, where the checkpoints do not lie"
    hint = (
        f"Name its folder with --tokenizer, take --tokenizer {BYTES} for a network of bytes, or give token ids as .npy."
    )
    raise NotFound("tokenizer-not-found", f"there is no tokenizer in {looked}", hint=hint)


def _encoded(text: str, place: Path) -> Tokens:
    library = transformers()
    file = place if place.is_file() else place / "tokenizer.json"
    try:
        if file.is_file():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(file))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            ids = tokenizer.encode(text, add_special_tokens=False).ids
        else:
            found = library.AutoTokenizer.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
            ids = found(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    except Exception as error:  # the libraries raise what they like about a damaged file
        hint = "Name another with --tokenizer, or give token ids as .npy."
        raise Refused("bad-data", f"the tokenizer in {place} cannot be read: {error}", hint=hint, file=place) from error
    return np.asarray(ids, dtype=np.int64)


def _check(tokens: Tokens, count: int, length: int, context: ProbeContext) -> None:
    config = context.config or {}
    size, longest = config.get("vocab_size"), config.get("max_position_embeddings") or config.get("n_positions")
    if not count:
        hint = "Give a longer text, or shorter windows with --length."
        raise Refused(
            "bad-data", f"{context.data} has {len(tokens)} tokens, fewer than one window of {length}", hint=hint
        )
    if tokens.min() < 0 or (isinstance(size, int) and tokens.max() >= size):
        hint = "The text was tokenised for another network: name the right --tokenizer."
        words = f"{context.data} has token ids {tokens.min()} … {tokens.max()}, the network a vocabulary of {size}"
        raise Refused("bad-data", words, hint=hint)
    if isinstance(longest, int) and length > longest:
        hint = f"Give --length {longest} or less."
        raise Refused("bad-data", f"windows of {length} tokens, but the network takes at most {longest}", hint=hint)
