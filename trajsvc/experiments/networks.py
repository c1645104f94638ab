"""The small networks of the experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def lenet(width: float = 1.0, *, norm: bool = False) -> torch.nn.Sequential:
    """LeNet-s: conv 8, pool, conv 16, pool, fc 32, 10 with 3 × 3 kernels, 3,658 parameters; ``norm`` adds batch normalisation."""
    from torch import nn

    one, two, three = (max(1, round(width * n)) for n in (8, 16, 32))

    def after(channels: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(channels)] if norm else []

    return nn.Sequential(
        nn.Conv2d(1, one, 3, padding=1), *after(one), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(one, two, 3, padding=1), *after(two), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4 * two, three), nn.ReLU(), nn.Linear(three, 10),
    )  # fmt: skip


def residual() -> torch.nn.Module:
    """Six residual blocks of 8, 16 and 32 channels with batch normalisation, projections where the width changes, and a classifier."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            stride = 1 if before == after else 2
            self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(after)
            self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(after)
            self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (inside + self.shortcut(x)).relu()  # type: ignore[no-any-return]

    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        Block(8, 8), Block(8, 8), Block(8, 16), Block(16, 16), Block(16, 32), Block(32, 32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def deep(kind: str, depth: int, width: int = 32) -> torch.nn.Module:
    """``depth`` layers of ``width`` units with orthogonal weights: ``plain``, ``residual``, ``CReLU`` or ``looks-linear``.

    CReLU gives [relu(x), relu(−x)]; looks-linear networks use it with weights [W, −W], so that they are linear before they are trained.
    """
    import torch
    from torch import nn

    class CReLU(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x.relu(), (-x).relu()], dim=-1)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = orthogonal(width, width, 1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.linear(x).relu() / depth**0.5  # type: ignore[no-any-return]

    def orthogonal(before: int, after: int, gain: float, *, mirrored: bool = False) -> nn.Linear:
        layer = nn.Linear(before, after)
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            if mirrored:
                half = nn.init.orthogonal_(torch.empty(after, before // 2), gain)
                layer.weight.copy_(torch.cat([half, -half], dim=1))
            else:
                nn.init.orthogonal_(layer.weight, gain)
        return layer

    double, linear = kind in ("CReLU", "looks-linear"), kind == "looks-linear"
    gain = 1.0 if linear else 2.0**0.5
    inside = 2 * width if double else width
    layers: list[nn.Module] = [nn.Flatten(), orthogonal(64, width, 1.0), CReLU() if double else nn.ReLU()]
    for _ in range(depth - 1):
        if kind == "residual":
            layers.append(Residual())
        else:
            layers += [orthogonal(inside, width, gain, mirrored=linear), CReLU() if double else nn.ReLU()]
    return nn.Sequential(*layers, orthogonal(inside, 10, 1.0, mirrored=linear))
