"""Write the weights of a network that an experiment trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def save_weights(network: torch.nn.Module, path: Path) -> None:
    """Write the state of ``network`` as a safetensors file.

    The bytes are written here and not by the library, whose error for a full disk is none of the operating system's.
    """
    from safetensors.torch import save

    path.write_bytes(save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))
