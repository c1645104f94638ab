"""What a set of gradients depends on, beside the run and its checkpoints: two sets of equal specs are the same set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trajsvc.gradients.options import GradientOptions, SetKind

_EVERY: Final = ("probe", "examples", "length", "shuffle", "precision", "mask", "tokenizer")
_LATER: Final = {"per_token": False, "batch_norm": "evaluation"}
"""options that came later, and what sets before them had: only another value is noted"""
_PERTURBED: Final = ("directions", "eta", "absolute", "perturbation", "seed")
_OF_KIND: Final[Mapping[SetKind, Sequence[str]]] = {
    "example": (),
    "batch": ("batch",),
    "full": (),
    "path": ("batch", "learning_rate", "momentum"),
    "points": ("batch", "directions", "sigma", "seed"),
    "anchored": ("anchor",),
    "weights": ("batch", *_PERTURBED),
    "inputs": _PERTURBED,
    "input_gradients": (),
}


def set_spec(kind: SetKind, options: GradientOptions, data: str, **more: Any) -> dict[str, Any]:
    """Return the spec of the set ``kind``: only those options that its vectors depend on, the digest of the
    ``data``, and what a probe adds.

    Where the data lie, how much memory there is and which steps are asked for are no part of it.
    """
    names = dict.fromkeys([*_EVERY, *_OF_KIND[kind]])
    if options.mask is not None:
        names["seed"] = None
    values = {name: getattr(options, name) for name in names}
    values |= {name: value for name, before in _LATER.items() if (value := getattr(options, name)) != before}
    if options.tokenizer is not None:
        values["tokenizer"] = Path(options.tokenizer).name
    return {"kind": kind, "data": data, **values, **more}


def set_name(kind: SetKind, kinds: Sequence[SetKind], name: str | None) -> str:
    """Return the name that a set is stored under: its kind, else ``name``, followed by the kind where several are computed at once."""
    if name is None:
        return kind
    return name if len(kinds) == 1 else f"{name}-{kind}"
