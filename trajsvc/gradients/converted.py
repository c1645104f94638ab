"""Networks of the transformers library whose files name tensors otherwise than its modules do: the library itself knows both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trajsvc.gradients.checkpoint import Checkpoint
from trajsvc.gradients.probes.transformers_network import transformers

if TYPE_CHECKING:
    import torch


def is_of_library(module: torch.nn.Module) -> bool:
    """Whether the module can be read by the library."""
    return hasattr(module, "from_pretrained") and hasattr(module, "config")


def read_by_library(
    module: Any, values: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> tuple[torch.nn.Module, list[str], set[str]]:
    """Return another module of the same configuration with ``values``, names of those that it lacks or that do not fit, and of those that
    it has no place for."""
    with _quiet():
        found, said = type(module).from_pretrained(
            None, config=module.config, state_dict=dict(values), dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )  # fmt: skip
    others = [f"{name} ({tuple(own)}, stored {tuple(stored)})" for name, stored, own in said.get("mismatched_keys", ())]
    wrong = [*sorted(map(str, said.get("missing_keys", ()))), *sorted(others)]
    return found.to(dtype).eval(), wrong, {str(name) for name in said.get("unexpected_keys", ())}


def names_read(module: torch.nn.Module, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the module's name of a parameter → the file's, for tensors that are read as they are.

    The library reads tensors that are filled with their own number, and where a number ends up says which tensor that is.
    """
    import torch

    names = list(checkpoint.tensors)
    shapes = {name: tuple(values.shape) for name, values in checkpoint.tensors.items()}
    numbered = {name: torch.full((), float(i)).expand(shapes[name]).contiguous() for i, name in enumerate(names)}
    made, _, _ = read_by_library(module, numbered, torch.float32)
    found = {}
    for name, parameter in made.named_parameters():
        low, high = (int(v) for v in parameter.detach().aminmax()) if parameter.numel() else (-1, -1)
        if low == high and 0 <= low < len(names) and shapes[names[low]] == tuple(parameter.shape):
            found[name] = names[low]
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Have the library show no progress and say nothing while it reads."""
    logging: Any = transformers().utils.logging
    shown, loud = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(loud)
        if shown:
            logging.enable_progress_bar()
