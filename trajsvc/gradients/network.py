"""A probe's network with the parameters of a checkpoint, and what its blocks are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trajsvc.anatomy.blocks import Block
from trajsvc.anatomy.dissect import dissect
from trajsvc.anatomy.rules_toml import parse_rules
from trajsvc.gradients.checkpoint import Checkpoint
from trajsvc.gradients.converted import is_of_library, names_read
from trajsvc.gradients.fill import fill_blocks, filled, match, prefix_of
from trajsvc.gradients.probes.base import Probe

if TYPE_CHECKING:
    import torch

    from trajsvc.analysis.options import Precision, RunOptions


@dataclass(frozen=True)
class Network:
    """A module in evaluation mode with a checkpoint's parameters.

    ``blocks`` are those of the run, by the names that its tensors have in the files; ``places`` are the same, each over the module's own
    named parameter.
    """

    module: torch.nn.Module
    blocks: tuple[Block, ...]
    places: tuple[Block, ...]
    step: int

    @property
    def parameters(self) -> int:
        return sum(b.size for b in self.blocks)


def network_at(
    probe: Probe, checkpoint: Checkpoint, options: RunOptions, precision: Precision = "float64", device: str = "cpu"
) -> Network:
    """Build the probe's network and fill it with a checkpoint's values, which are rounded once, to ``precision``.

    Raises Refused (``network-mismatch``) where parameters of the network have no values in the checkpoint, or of other shapes.
    """
    import torch

    module = probe.network(checkpoint.config)
    module = module.to(dtype=torch.float64 if precision == "float64" else torch.float32).eval()
    if checkpoint.tensors:
        module = filled(module, checkpoint)
    names = _stored_names(module, checkpoint)
    blocks = _dissected(module, names, checkpoint, options)
    back = {stored: own for own, stored in names.items()}
    places = tuple(replace(block, tensor=back[block.tensor]) for block in blocks)
    if not checkpoint.tensors:
        fill_blocks(module, places, checkpoint)
    return Network(module.to(device), blocks, places, checkpoint.step)


def _dissected(
    module: torch.nn.Module, names: Mapping[str, str], checkpoint: Checkpoint, options: RunOptions
) -> tuple[Block, ...]:
    """Return the blocks of the module's parameters under their names in the files."""
    tensors = {names[name]: (tuple(p.shape), "float64") for name, p in module.named_parameters()}
    rules = None if options.rules is None else parse_rules(options.rules, "the rules file")
    return dissect(tensors, checkpoint.config, rules=rules, heads=options.heads).blocks


def _stored_names(module: torch.nn.Module, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the module's name of a parameter → its name in the files: the same, with or without the trunk's prefix,
    else the one under which the library that made the module reads it."""
    prefix = prefix_of(module)
    named = dict(module.named_parameters())
    found = {name: stored for name in named if (stored := match(name, prefix, checkpoint.tensors)) is not None}
    if len(found) < len(named) and checkpoint.tensors and is_of_library(module):
        found = names_read(module, checkpoint) | found
    return {name: found.get(name, name) for name in named}
