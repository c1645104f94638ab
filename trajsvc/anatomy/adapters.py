"""Names of adapters' tensors: those of the base model's modules, and what an adapter's library puts in or behind them.

PEFT calls the two factors of a projection ``base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight`` and ``lora_B``, with
the adapter's own name before ``weight`` in a training's checkpoints; a module that it wraps keeps its own tensors under
``base_layer``, one that is trained whole under ``modules_to_save``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_FACTOR: Final = re.compile(r"\.(?:lora|hada|lokr|oft|boft|ia3|vera|randlora|glora|dora)_\w+(?:\.[\w-]+){0,2}\Z")
_WRAPPED: Final = re.compile(r"\.(?:base_layer|original_module|modules_to_save(?:\.(?!weight\Z|bias\Z)[\w-]+)?)(?=\.)")


@lru_cache(maxsize=2**16)
def base_name(name: str) -> str:
    """Return the base model's name of the tensor that a tensor belongs to: ``….q_proj.lora_A.weight`` →
    ``….q_proj.weight``.
    """
    return _FACTOR.sub(".weight", _WRAPPED.sub("", name))


def is_factor(name: str) -> bool:
    """Return whether a tensor is an adapter's own factor, whose shape is not one of the base model's."""
    return _FACTOR.search(_WRAPPED.sub("", name)) is not None
