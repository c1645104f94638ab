"""A probe's network with the parameters of a checkpoint, and what its blocks are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Block
from trajsvc.anatomy.dissect import dissect
from trajsvc.anatomy.rules_toml import parse_rules
from trajsvc.errors import Refused
from trajsvc.gradients.checkpoint import Checkpoint
from trajsvc.gradients.probes.base import Probe
from trajsvc.gradients.probes.transformers_network import transformers

if TYPE_CHECKING:
    import torch

    from trajsvc.analysis.options import Precision, RunOptions

_SAID: Final = 4
"""names of tensors that an error lists"""


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
        module = _filled(module, checkpoint)
    names = _stored_names(module, checkpoint)
    blocks = _dissected(module, names, checkpoint, options)
    back = {stored: own for own, stored in names.items()}
    places = tuple(replace(block, tensor=back[block.tensor]) for block in blocks)
    if not checkpoint.tensors:
        _fill_blocks(module, places, checkpoint)
    return Network(module.to(device), blocks, places, checkpoint.step)


def _dissected(
    module: torch.nn.Module, names: Mapping[str, str], checkpoint: Checkpoint, options: RunOptions
) -> tuple[Block, ...]:
    """The blocks of the module's parameters under their names in the files."""
    tensors = {names[name]: (tuple(p.shape), "float64") for name, p in module.named_parameters()}
    rules = None if options.rules is None else parse_rules(options.rules, "the rules file")
    return dissect(tensors, checkpoint.config, rules=rules, heads=options.heads).blocks


def _stored_names(module: torch.nn.Module, checkpoint: Checkpoint) -> dict[str, str]:
    """The module's name of a parameter → its name in the files: the same, with or without the trunk's prefix, else that of the one tensor
    of equal values that has no other name."""
    prefix = _prefix(module)
    named = dict(module.named_parameters())
    found = {name: stored for name in named if (stored := _match(name, prefix, checkpoint.tensors)) is not None}
    free = {name: v for name, v in checkpoint.tensors.items() if name not in set(found.values())}
    for name in named.keys() - found.keys():
        ours = named[name].detach().double().cpu().numpy()
        equal = [n for n, v in free.items() if v.shape == ours.shape and np.allclose(v, ours, rtol=1e-6, atol=0.0)]
        found[name] = equal[0] if len(equal) == 1 else name
        free.pop(found[name], None)
    return {name: found[name] for name in named}


def _filled(module: torch.nn.Module, checkpoint: Checkpoint) -> torch.nn.Module:
    """The module with the checkpoint's tensors, by name."""
    import torch

    found, missing = _by_name(module, checkpoint.tensors)
    if missing and hasattr(module, "from_pretrained"):
        return converted(module, checkpoint)
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
    prefix = _prefix(module)
    ours: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        ours.setdefault(id(parameter), []).append(name)
    found: dict[str, NDArray[Any]] = {}
    missing = []
    for names in ours.values():
        stored = next((s for n in names if (s := _match(n, prefix, tensors)) is not None), None)
        if stored is None:
            missing.append(names[0])
        else:
            found[names[0]] = tensors[stored]
    for name, buffer in module.named_buffers():
        stored = _match(name, prefix, tensors) if buffer.is_floating_point() and buffer.ndim else None
        if stored is not None:
            found[name] = tensors[stored]
    return found, missing


def _used(module: torch.nn.Module, tensors: Mapping[str, object]) -> set[str | None]:
    """The tensors that have a place in the module."""
    prefix = _prefix(module)
    named = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    return {_match(name, prefix, tensors) for name in (*named, *(name for name, _ in module.named_buffers()))}


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


def _prefix(module: torch.nn.Module) -> str:
    return str(getattr(module, "base_model_prefix", "") or "\0")


def _match(name: str, prefix: str, tensors: Mapping[str, object]) -> str | None:
    """The tensor of a name, with or without the prefix that a network's head puts before its trunk."""
    bare = name.removeprefix(f"{prefix}.")
    return next((n for n in (name, bare, f"{prefix}.{name}") if n in tensors), None)


def converted(module: Any, checkpoint: Checkpoint) -> torch.nn.Module:
    """A network of the transformers library whose files have other names than its modules: the library itself knows both."""
    import torch

    logging: Any = transformers().utils.logging
    values = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in checkpoint.tensors.items()}
    kind = next(module.parameters()).dtype
    shown, loud = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        found, said = type(module).from_pretrained(
            None, config=module.config, state_dict=values, dtype=kind, output_loading_info=True
        )
    finally:
        logging.set_verbosity(loud)
        if shown:
            logging.enable_progress_bar()
    wrong = [*said.get("missing_keys", ()), *said.get("mismatched_keys", ())]
    if wrong:
        raise _mismatch(checkpoint, [str(w) for w in wrong])
    _check_unused(checkpoint, checkpoint.parameters & set(said.get("unexpected_keys", ())))
    return found.to(kind).eval()  # type: ignore[no-any-return]


def _fill_blocks(module: torch.nn.Module, blocks: tuple[Block, ...], checkpoint: Checkpoint) -> None:
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
    """A view of a block's elements, (outer, length), in a flat tensor."""
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
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _SAID} more" if len(names) > _SAID else ""
    return f"{', '.join(names[:_SAID])}{more}"
