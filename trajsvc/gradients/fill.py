"""Put a checkpoint's values into a network, all of them or none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Block
from trajsvc.errors import Refused
from trajsvc.gradients.checkpoint import Checkpoint
from trajsvc.gradients.converted import is_of_library, read_by_library

if TYPE_CHECKING:
    import torch

_SAID: Final = 4
"""names of tensors that an error lists"""


def filled(module: torch.nn.Module, checkpoint: Checkpoint) -> torch.nn.Module:
    """Return the module filled with the checkpoint's tensors, by name."""
    import torch

    found, missing = _by_name(module, checkpoint.tensors)
    if missing and is_of_library(module):
        return _converted(module, checkpoint)
    if missing:
        raise _mismatch(checkpoint, missing)
    _check_unused(checkpoint, checkpoint.parameters - _used(module, checkpoint.tensors))
    _check_statistics(module, checkpoint, found)
    places = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, values in found.items():
            if tuple(places[name].shape) != values.shape:
                raise _mismatch(checkpoint, [f"{name} ({tuple(places[name].shape)}, stored {values.shape})"])
            places[name].copy_(torch.from_numpy(np.ascontiguousarray(values)))
    return module


def _by_name(module: torch.nn.Module, tensors: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Values for the module's parameters and floating buffers, and the parameters that have none. A tied parameter has several names."""
    prefix = prefix_of(module)
    ours: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        ours.setdefault(id(parameter), []).append(name)
    found: dict[str, NDArray[Any]] = {}
    missing = []
    for names in ours.values():
        stored = next((s for n in names if (s := match(n, prefix, tensors)) is not None), None)
        if stored is None:
            missing.append(names[0])
        else:
            found[names[0]] = tensors[stored]
    for name, buffer in module.named_buffers():
        stored = match(name, prefix, tensors) if buffer.is_floating_point() and buffer.ndim else None
        if stored is not None:
            found[name] = tensors[stored]
    return found, missing


def _used(module: torch.nn.Module, tensors: Mapping[str, object]) -> set[str | None]:
    """Return the tensors that have a place in the module."""
    prefix = prefix_of(module)
    named = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    return {match(name, prefix, tensors) for name in (*named, *(name for name, _ in module.named_buffers()))}


def _check_unused(checkpoint: Checkpoint, names: Collection[str | None]) -> None:
    """Raise Refused (``network-mismatch``) where the probe's network has no place for parameters of the run."""
    if names:
        raise Refused(
            "network-mismatch",
            f"the probe's network has no place for {_listed(sorted(map(str, names)))} of step {checkpoint.step}",
            hint="Is the probe of this architecture? An analysis with --exclude leaves tensors out that no network is to have.",
            step=checkpoint.step,
        )


def _check_statistics(module: torch.nn.Module, checkpoint: Checkpoint, found: Collection[str]) -> None:
    """Raise Refused (``network-mismatch``) where running statistics that the module evaluates by are not in the checkpoint."""
    from torch.nn.modules.batchnorm import _NormBase

    norms = (name for name, part in module.named_modules() if isinstance(part, _NormBase) and part.track_running_stats)
    wanted = [f"{name}.{which}".removeprefix(".") for name in norms for which in ("running_mean", "running_var")]
    lacking = [name for name in wanted if name not in found]
    if lacking:
        raise Refused(
            "network-mismatch",
            f"step {checkpoint.step} has no running statistics {_listed(lacking)}, by which the network is evaluated",
            hint="A run's own copy keeps parameters only: name where the checkpoints lie with --source.",
            step=checkpoint.step,
        )


def prefix_of(module: torch.nn.Module) -> str:
    return str(getattr(module, "base_model_prefix", "") or "\0")


def match(name: str, prefix: str, tensors: Mapping[str, object]) -> str | None:
    """Return the tensor of a name, with or without the prefix that a network's head puts before its trunk."""
    bare = name.removeprefix(f"{prefix}.")
    return next((n for n in (name, bare, f"{prefix}.{name}") if n in tensors), None)


def _converted(module: torch.nn.Module, checkpoint: Checkpoint) -> torch.nn.Module:
    """Return a network whose files have other names than its modules: the library that made it knows both."""
    values = {name: torch_of(v) for name, v in checkpoint.tensors.items()}
    found, missing, unexpected = read_by_library(module, values, next(module.parameters()).dtype)
    if missing:
        raise _mismatch(checkpoint, missing)
    _check_unused(checkpoint, checkpoint.parameters & unexpected)
    return found


def torch_of(values: NDArray[Any]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values))


def fill_blocks(module: torch.nn.Module, blocks: tuple[Block, ...], checkpoint: Checkpoint) -> None:
    """Fill the module from the blocks of a run's own copy."""
    import torch

    parameters = dict(module.named_parameters())
    left = set(parameters) - {b.tensor for b in blocks}
    missing = sorted(left) + [b.name for b in blocks if b.name not in checkpoint.blocks]
    if missing:
        raise _mismatch(checkpoint, missing)
    _check_unused(checkpoint, checkpoint.blocks.keys() - {b.name for b in blocks})
    _check_statistics(module, checkpoint, ())
    with torch.no_grad():
        for block in blocks:
            values = torch.from_numpy(checkpoint.blocks[block.name])
            if values.numel() != block.size:
                raise _mismatch(checkpoint, [f"{block.name} ({block.size} values, stored {values.numel()})"])
            part(parameters[block.tensor].data.view(-1), block).copy_(values.view(block.extent.outer, -1))


def part(flat: torch.Tensor, block: Block) -> torch.Tensor:
    """Return a view of a block's elements, (outer, length), in a flat tensor."""
    e = block.extent
    return flat.as_strided((e.outer, e.length), (e.stride, 1), flat.storage_offset() + e.start)


def _mismatch(checkpoint: Checkpoint, names: list[str]) -> Refused:
    hint = (
        "Is the probe of this architecture? --probe module:object names one that builds the network of these tensors."
    )
    return Refused(
        "network-mismatch",
        f"step {checkpoint.step} has no fitting values for {_listed(names)} of the probe's network",
        hint=hint,
        step=checkpoint.step,
    )


def _listed(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - _SAID} more" if len(names) > _SAID else ""
    return f"{', '.join(names[:_SAID])}{more}"
