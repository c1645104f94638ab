"""What the parameters of known layers get as gradients, from the layer's input and the gradient of its output.

Each function takes the layer, its input x, the gradient d of its output and the number of examples C, and gives parameter → its
gradients: an ``Outer``, or ``Rows``. Positions (of a sequence, of patches) are summed; the first axis is the example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajsvc.gradients.layerwise.factors import Contribution, Outer, Rows

Use = Callable[[nn.Module, Tensor, Tensor, int], Mapping[str, Contribution]]


class Unclear(Exception):
    """The axes of a layer's input do not say which example a position belongs to."""


def by_example(values: Tensor, count: int, width: int) -> Tensor:
    """Arrange values as (C, T, width): their first axis is the example, or the positions of one example after the other."""
    if count > 1 and (not values.dim() or values.shape[0] % count):
        raise Unclear(f"{tuple(values.shape)} is not of {count} examples")
    return values.reshape(count, values.numel() // max(1, count * width), width)


def _linear(layer: nn.Module, x: Tensor, d: Tensor, count: int) -> dict[str, Contribution]:
    assert isinstance(layer.weight, Tensor)
    out, into = layer.weight.shape
    gradient = by_example(d, count, int(out))
    weight = Outer(gradient, by_example(x, count, int(into)), int(out))
    return {"weight": weight, "bias": Rows.summed(gradient)}


def _conv1d_of_transformers(layer: nn.Module, x: Tensor, d: Tensor, count: int) -> dict[str, Contribution]:
    assert isinstance(layer.weight, Tensor)
    into, out = layer.weight.shape
    gradient = by_example(d, count, int(out))
    return {"weight": Outer(by_example(x, count, int(into)), gradient, int(into)), "bias": Rows.summed(gradient)}


def _embedding(layer: nn.Module, x: Tensor, d: Tensor, count: int) -> dict[str, Contribution]:
    assert isinstance(layer, nn.Embedding)
    gradient = by_example(d, count, layer.embedding_dim)
    tokens = by_example(x, count, 1)[..., 0].long()
    if layer.padding_idx is not None:
        gradient = gradient.masked_fill((tokens == layer.padding_idx)[..., None], 0.0)
    return {"weight": Outer(tokens, gradient, layer.num_embeddings)}


def _convolution(layer: nn.Module, x: Tensor, d: Tensor, count: int) -> dict[str, Contribution]:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    if x.dim() != len(layer.kernel_size) + 2:
        raise Unclear(f"{tuple(x.shape)} has no axis of examples")
    groups, out = layer.groups, layer.out_channels
    patches, gradient = _patches(layer, x), by_example(d.movedim(1, -1), count, out)
    bias = Rows.summed(gradient)
    if groups == 1:
        return {"weight": Outer(gradient, by_example(patches, count, patches.shape[-1]), out), "bias": bias}
    left = gradient.reshape(count, -1, groups, out // groups)
    right = by_example(patches, count, patches.shape[-1]).reshape(*left.shape[:3], -1)
    weight = torch.einsum("ctgo,ctgi->cgoi", left, right).reshape(count, -1)
    return {"weight": Rows.of(weight), "bias": bias}


def _patches(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """Arrange what the kernel sees at each place: (C, places …, channels · kernel), channels first as in the weight."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    spatial = len(layer.kernel_size)
    for axis in range(2, spatial + 2):
        size, stride, gap = (int(v[axis - 2]) for v in (layer.kernel_size, layer.stride, layer.dilation))
        x = x.unfold(axis, gap * (size - 1) + 1, stride)[..., ::gap]
    places = range(2, spatial + 2)
    order = [0, *places, 1, *range(spatial + 2, 2 * spatial + 2)]
    return x.permute(order).flatten(spatial + 1)


def _norm_of_channels(layer: nn.Module, x: Tensor, d: Tensor, count: int) -> dict[str, Contribution]:
    if x.dim() < 2:
        raise Unclear(f"{tuple(x.shape)} has no axis of examples")
    return _norm(layer, x, d.movedim(1, -1), count, lambda values: values.movedim(1, -1))


def _norm_of_features(layer: nn.Module, x: Tensor, d: Tensor, count: int) -> dict[str, Contribution]:
    return _norm(layer, x, d, count, lambda values: values)


def _norm(
    layer: nn.Module, x: Tensor, d: Tensor, count: int, order: Callable[[Tensor], Tensor]
) -> dict[str, Contribution]:
    """Differentiate by scale and shift of y = scale · f(x) + shift, or (1 + scale) · f(x): f is the output at 1 less that at 0."""
    scale = layer.weight
    assert isinstance(scale, Tensor)
    with torch.no_grad():
        values = [_output(layer, x, value) for value in (1.0, 0.0)]
    gradient = by_example(d, count, scale.numel())
    normal = by_example(order(values[0] - values[1]), count, scale.numel())
    return {"weight": Rows.summed(gradient * normal), "bias": Rows.summed(gradient)}


def _output(layer: nn.Module, x: Tensor, scale: float) -> Tensor:
    weight, shift = layer._parameters["weight"], layer._parameters.get("bias")
    assert weight is not None
    found = {(layer, "weight"): torch.full_like(weight, scale)}
    if shift is not None:
        found[layer, "bias"] = torch.zeros_like(shift)
    with replaced(found):
        output = layer.forward(x)
    assert isinstance(output, Tensor)
    return output


@contextmanager
def replaced(values: Mapping[tuple[nn.Module, str], Tensor]) -> Iterator[None]:
    """Let modules compute with other tensors in the place of their parameters."""
    kept = {(module, name): module._parameters[name] for module, name in values}
    try:
        for (module, name), value in values.items():
            module._parameters[name] = value  # type: ignore[assignment]
        yield
    finally:
        for (module, name), parameter in kept.items():
            module._parameters[name] = parameter


_KNOWN: tuple[tuple[type[nn.Module], Use], ...] = (
    (nn.Linear, _linear),
    (nn.Embedding, _embedding),
    (nn.Conv1d, _convolution),
    (nn.Conv2d, _convolution),
    (nn.Conv3d, _convolution),
    (nn.LayerNorm, _norm_of_features),
    (nn.RMSNorm, _norm_of_features),
    (nn.GroupNorm, _norm_of_channels),
    (nn.BatchNorm1d, _norm_of_channels),
    (nn.BatchNorm2d, _norm_of_channels),
    (nn.BatchNorm3d, _norm_of_channels),
    (nn.InstanceNorm1d, _norm_of_channels),
    (nn.InstanceNorm2d, _norm_of_channels),
    (nn.InstanceNorm3d, _norm_of_channels),
)


def use_of(module: nn.Module) -> Use | None:
    """Say how the parameters of a module get their gradients; None where its kind is not known.

    A subclass counts where it computes as the known layer does. Norms of transformers are known by their names.
    """
    kind = type(module)
    if isinstance(module, nn.Embedding) and (module.scale_grad_by_freq or module.max_norm is not None):
        return None
    for known, use in _KNOWN:
        if isinstance(module, known) and kind.forward is known.forward:
            return use
    if kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils":
        return _conv1d_of_transformers
    weight = module._parameters.get("weight")
    if kind.__name__.endswith("Norm") and weight is not None and set(module._parameters) <= {"weight", "bias"}:
        return _norm_of_features
    return None
