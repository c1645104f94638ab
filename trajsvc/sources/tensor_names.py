"""Normalise tensor names: remove wrappers' prefixes, and bring checkpoints of one run to the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trajsvc.errors import DamagedCheckpoint
from trajsvc.sources.base import TensorEntry

_ANYWHERE: Final = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing put around a module, wherever it sits."""
_LEADING: Final = ("module.",)
"""What data-parallel wrappers put around the whole model."""
_LIGHTNING: Final = ("model.", "net.")
"""Names that a LightningModule commonly gives its network."""
_NEOX_ALIASES: Final = {"lm_head.weight": "embed_out.weight"}
"""GPT-NeoX: the output embedding's name in newer files → in older ones."""


def plain_name(name: str) -> str:
    """Return ``name`` without wrappers' parts."""
    for part in _ANYWHERE:
        if name.startswith(part) or f".{part}" in name:
            name = f".{name}".replace(f".{part}", ".")[1:]
    return name


def strip_wrappers(names: Sequence[str], *, lightning: bool = False, file: str = "") -> dict[str, str]:
    """Return stored name → name as the model has it.

    ``_orig_mod.`` and FSDP's parts are removed wherever they are; ``module.`` is removed when every name begins with
    it, and in Lightning's files so is a ``model.`` or ``net.`` common to all. Raises DamagedCheckpoint
    (``name-conflict``) when two names become one.
    """
    plain = {n: plain_name(n) for n in names}
    for prefix in (*_LEADING, *(_LIGHTNING if lightning else ()), *_LEADING):
        if plain and all(p.startswith(prefix) and p != prefix for p in plain.values()):
            plain = {n: p.removeprefix(prefix) for n, p in plain.items()}
            if prefix in _LIGHTNING:
                lightning = False
                break
    seen: dict[str, str] = {}
    for name, short in plain.items():
        if short in seen:
            raise DamagedCheckpoint(
                "name-conflict",
                f"{name} and {seen[short]} are both {short} once the wrappers' prefixes are removed",
                hint="Save the state dict of the unwrapped model.",
                file=file or None,
                tensor=name,
            )
        seen[short] = name
    return plain


def harmonise(
    checkpoints: Sequence[Mapping[str, TensorEntry]], config: Mapping[str, Any] | None = None
) -> list[dict[str, TensorEntry]]:
    """Return the checkpoints of one run under one spelling.

    A checkpoint saved from the bare base model (``layers.0…``) takes the prefix that others have
    (``gpt_neox.layers.0…``), and where a GPT-NeoX run has both ``lm_head.weight`` and ``embed_out.weight`` the latter
    is used. A name is changed only if the tensors that take the prefix agree in shape with those that have it. Entries
    stay as they are: their ``name`` is the one in the file.
    """
    spelling = _Spelling(checkpoints, config)
    return [{spelling.of(tensors, n): e for n, e in tensors.items()} for tensors in checkpoints]


class _Spelling:
    """Renames by set of names: a run has few different sets, whatever its length."""

    def __init__(self, checkpoints: Sequence[Mapping[str, TensorEntry]], config: Mapping[str, Any] | None) -> None:
        self.sets: dict[frozenset[str], Mapping[str, TensorEntry]] = {}
        for tensors in checkpoints:
            self.sets.setdefault(frozenset(tensors), tensors)
        self.renames: dict[frozenset[str], dict[str, str]] = {names: {} for names in self.sets}
        for names, tensors in self.sets.items():
            self.renames[names].update(self._prefixed(names, tensors))
        self._alias(config)
        self._last: tuple[Mapping[str, TensorEntry] | None, dict[str, str]] = (None, {})

    def of(self, tensors: Mapping[str, TensorEntry], name: str) -> str:
        if self._last[0] is not tensors:
            self._last = (tensors, self.renames[frozenset(tensors)])
        return self._last[1].get(name, name)

    def _prefixed(self, names: frozenset[str], tensors: Mapping[str, TensorEntry]) -> dict[str, str]:
        best: dict[str, str] = {}
        for others, theirs in self.sets.items():
            if others == names:
                continue
            for prefix in {n.partition(".")[0] + "." for n in others if "." in n}:
                if not any(n.startswith(prefix) for n in names):
                    found = _with_prefix(tensors, theirs, prefix)
                    best = max(best, found, key=len)
        return best

    def _alias(self, config: Mapping[str, Any] | None) -> None:
        every = {r.get(n, n) for names, r in self.renames.items() for n in names}
        neox = any(n.startswith("gpt_neox.") for n in every) or (config or {}).get("model_type") == "gpt_neox"
        if not neox:
            return
        for new, old in _NEOX_ALIASES.items():
            if new in every and old in every:
                for names, renames in self.renames.items():
                    if new in names and old not in names:
                        renames[new] = old


def _with_prefix(mine: Mapping[str, TensorEntry], theirs: Mapping[str, TensorEntry], prefix: str) -> dict[str, str]:
    """Return renames of ``mine`` to ``prefix`` + name, or none when the two are not the same model under two spellings."""
    agreed = [n for n in mine if prefix + n in theirs and theirs[prefix + n].shape == mine[n].shape]
    if 2 * len(agreed) < len([n for n in theirs if n.startswith(prefix)]) or not agreed:
        return {}
    # Old buffers are not in the other file, but they belong to the same modules: they go along by their first part.
    inside = {n.partition(".")[0] for n in agreed}
    renames = {n: prefix + n for n in mine if n not in theirs and n.partition(".")[0] in inside}
    return {} if any(new in mine for new in renames.values()) else renames
