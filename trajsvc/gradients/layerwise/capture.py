"""One forward and one backward pass of some examples together: inputs of layers and gradients of their outputs, caught by hooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from trajsvc.gradients.layerwise.factors import Contribution, Rows
from trajsvc.gradients.layerwise.network import Losses, losses_of
from trajsvc.gradients.layerwise.uses import Unclear, Use, replaced


@dataclass(frozen=True)
class Layer:
    """A module whose parameters are known by ``use``: attribute ("weight") → the tensor's name, of those that are asked for."""

    module: nn.Module
    use: Use
    names: Mapping[str, str]


@dataclass(frozen=True)
class Call:
    layer: Layer
    x: Tensor
    version: int
    edge: GradientEdge
    flat: bool
    """the first axis is longer than the examples: several positions of each, or something else"""


class Capture:
    """The calls of layers in a forward pass of ``count`` examples. Outputs that all examples share, as the vectors of the positions do,
    are repeated for each where ``expand`` is set, so that they have a gradient an example."""

    def __init__(self, layers: Sequence[Layer], count: int, expand: bool) -> None:
        self.layers, self.count, self.expand = layers, count, expand
        self.calls: list[Call] = []
        self.unclear: set[str] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles: list[RemovableHandle] = []
        try:
            for layer in self.layers:
                handles.append(self._watch(layer))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, layer: Layer) -> RemovableHandle:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
            return self._see(layer, args, kwargs, output)

        return layer.module.register_forward_hook(hook, prepend=True, with_kwargs=True)

    def _see(self, layer: Layer, args: Any, kwargs: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.requires_grad:
            return None
        inputs = [*args, *kwargs.values()]
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            self.unclear |= set(layer.names.values())
            return None
        x, shared = inputs[0], None
        if self.expand and self.count > 1 and isinstance(layer.module, nn.Embedding) and output.shape[0] == 1:
            x, output = (v.expand(self.count, *v.shape[1:]) for v in (x, output))
            shared = output
        flat = x.dim() > 0 and x.shape[0] != self.count
        self.calls.append(Call(layer, x.detach(), x._version, get_gradient_edge(output), flat))
        return shared

    def contributions(self, gradients: Sequence[Tensor | None]) -> dict[str, list[Contribution]]:
        """Give tensor → what every use of it adds. Names that are not clear come into ``unclear``."""
        found: dict[str, list[Contribution]] = {}
        for call, d in zip(self.calls, gradients, strict=True):
            if d is None:
                continue
            names = call.layer.names
            if call.x._version != call.version:
                self.unclear |= set(names.values())
                continue
            try:
                given = call.layer.use(call.layer.module, call.x, d.detach(), self.count)
            except (Unclear, RuntimeError):
                self.unclear |= set(names.values())
                continue
            for attribute, name in names.items():
                found.setdefault(name, []).append(given[attribute])
        return found


@dataclass(frozen=True)
class Passed:
    """What a pass gave: contributions by tensor, rows of tensors repeated for each example, gradients of the sum, and unclear names."""

    contributions: Mapping[str, list[Contribution]]
    total: Mapping[str, Tensor | None]
    unclear: frozenset[str]


def run(
    network: nn.Module,
    losses: Losses,
    examples: Sequence[Any],
    layers: Sequence[Layer],
    repeated: Mapping[str, tuple[nn.Module, str]],
    plain: Mapping[str, nn.Parameter],
    *,
    expand: bool,
) -> Passed:
    """Evaluate some examples together. ``repeated`` are tensors of first axis 1 that are repeated for each example; ``plain`` are those
    whose gradient of the sum of losses is wanted."""
    count = len(examples)
    capture = Capture(layers, count, expand)
    leaves = {name: _leaf(*where, count) for name, where in repeated.items()}
    with capture.watching(), replaced({where: leaves[name] for name, where in repeated.items()}):
        values = losses_of(network, losses, examples)
    inputs: list[Any] = [*(c.edge for c in capture.calls), *leaves.values(), *plain.values()]
    gradients = _gradients(values.sum(), inputs, again=count > 1)
    calls, rest = gradients[: len(capture.calls)], gradients[len(capture.calls) :]
    contributions = capture.contributions(calls)
    unclear = (
        capture.unclear | _of_others(values, capture.calls, calls, count) | _elsewhere(values, capture.calls, calls)
    )
    for name, found in zip(leaves, rest, strict=False):
        contributions[name] = [] if found is None else [Rows.of(found.reshape(count, -1))]
    return Passed(contributions, dict(zip(plain, rest[len(leaves) :], strict=True)), frozenset(unclear))


def _leaf(module: nn.Module, attribute: str, count: int) -> Tensor:
    parameter = module._parameters[attribute]
    assert parameter is not None
    return parameter.detach().expand(count, *parameter.shape[1:]).clone().requires_grad_()


def _gradients(total: Tensor, inputs: Sequence[Any], again: bool) -> list[Tensor | None]:
    if not inputs or not total.requires_grad:
        return [None] * len(inputs)
    found = torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=again)
    return [None if g is None else g.to_dense() if g.layout != torch.strided else g for g in found]


def _elsewhere(values: Tensor, calls: Sequence[Call], gradients: Sequence[Tensor | None]) -> set[str]:
    """Return the names of tensors that the losses depend on in other ways than by the calls of their layers.

    Each call is one edge of autograd's graph to the parameter; a use outside its module, whatever its value, is another.
    """
    counted = Counter(
        (name, id(call.layer.module._parameters[attribute]))
        for call, d in zip(calls, gradients, strict=True)
        if d is not None
        for attribute, name in call.layer.names.items()
    )
    edges = _edges(values.grad_fn)
    return {name for (name, parameter), number in counted.items() if edges[parameter] != number}


def _edges(root: Node | None) -> Counter[int]:
    """Count the edges of the graph that lead to each parameter, by its identity."""
    found: Counter[int] = Counter()
    ahead, seen = [root] if root is not None else [], {root}
    while ahead:
        for node, _ in ahead.pop().next_functions:
            variable = getattr(node, "variable", None)
            if variable is not None:
                found[id(variable)] += 1
            elif node is not None and node not in seen:
                seen.add(node)
                ahead.append(node)
    return found


def _of_others(values: Tensor, calls: Sequence[Call], gradients: Sequence[Tensor | None], count: int) -> set[str]:
    """Return the names of layers at whose outputs the positions are not those of one example after the other.

    A backward pass of Σ_i w_i ℓ_i gives w_i times the gradient at the positions of example i, and only there.
    """
    doubtful = [(c, d) for c, d in zip(calls, gradients, strict=True) if c.flat and d is not None]
    if count == 1 or not doubtful:
        return set()
    weights = 1.0 + torch.arange(count, dtype=values.dtype, device=values.device)
    weighted = _gradients((values * weights).sum(), [c.edge for c, _ in doubtful], again=False)
    return {
        name
        for (call, d), w in zip(doubtful, weighted, strict=True)
        if w is None or not _in_order(d, w, weights)
        for name in call.layer.names.values()
    }


def _in_order(d: Tensor, weighted: Tensor, weights: Tensor) -> bool:
    if not d.dim() or d.shape[0] % len(weights):
        return False
    expected = d.reshape(len(weights), -1) * weights[:, None]
    difference = (weighted.reshape(len(weights), -1) - expected).abs().max() if d.numel() else d.new_zeros(())
    return bool(difference <= torch.finfo(d.dtype).eps ** 0.5 * expected.abs().max()) if d.numel() else True
