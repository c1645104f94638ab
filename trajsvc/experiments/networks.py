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
