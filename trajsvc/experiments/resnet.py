"""Residual networks of the papers' own size, with torchvision's names of modules and shapes of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

DEPTHS: Final = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""blocks of the four stages; blocks of 50 are bottlenecks of three convolutions"""


def resnet(depth: int, classes: int, *, small_images: bool, width: float = 1.0) -> torch.nn.Module:
    """Make ResNet-18, 34 or 50 (He et al. 2016) of ``width`` times their channels.

    ``small_images``: the first convolution is 3 × 3 without stride or pooling, as is usual for 32 × 32 pixels; else 7 × 7 with both.
    """
    from torch import nn

    wide = depth >= 50

    def channels(count: int) -> int:
        return max(1, round(width * count))

    def convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(before, after, size, stride, size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, before: int, inside: int, after: int, stride: int) -> None:
            super().__init__()
            shapes = [(before, inside, 1, 1), (inside, inside, 3, stride), (inside, after, 1, 1)]
            if not wide:
                shapes = [(before, inside, 3, stride), (inside, after, 3, 1)]
            self.count = len(shapes)
            for k, shape in enumerate(shapes, 1):
                setattr(self, f"conv{k}", convolution(*shape))
                setattr(self, f"bn{k}", nn.BatchNorm2d(shape[1]))
            self.downsample = None
            if stride > 1 or before != after:
                self.downsample = nn.Sequential(convolution(before, after, 1, stride), nn.BatchNorm2d(after))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside = x
            for k in range(1, self.count + 1):
                inside = getattr(self, f"bn{k}")(getattr(self, f"conv{k}")(inside))
                if k < self.count:
                    inside = inside.relu()
            return (inside + (x if self.downsample is None else self.downsample(x))).relu()

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            before = channels(64)
            self.conv1 = convolution(3, before, 3 if small_images else 7, 1 if small_images else 2)
            self.bn1 = nn.BatchNorm2d(before)
            for stage, blocks in enumerate(DEPTHS[depth], 1):
                inside = channels(64 * 2 ** (stage - 1))
                after, made = 4 * inside if wide else inside, []
                for k in range(blocks):
                    made.append(Block(before, inside, after, 2 if k == 0 and stage > 1 else 1))
                    before = after
                setattr(self, f"layer{stage}", nn.Sequential(*made))
            self.fc = nn.Linear(before, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.bn1(self.conv1(x)).relu()
            x = x if small_images else nn.functional.max_pool2d(x, 3, 2, 1)
            for stage in range(1, 5):
                x = getattr(self, f"layer{stage}")(x)
            return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]

    network = ResNet()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
