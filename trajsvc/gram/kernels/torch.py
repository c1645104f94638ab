"""Which kernel runs where: numpy on the CPU, torch on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trajsvc.errors import UsageError
from trajsvc.gram.extents import Rectangle
from trajsvc.gram.kernels.base import ChunkGram, Kernel, RowGroup, rounded_type
from trajsvc.gram.kernels.cpu import CpuKernel, careful_gram
from trajsvc.gram.plan import Plan

GPU_CHUNK = 2**17
"""Columns multiplied at once on a device: few launches, and T × 2^17 float64 is small beside its memory."""


class TorchKernel:
    """The same arithmetic on any torch device, in float64 throughout: raw bytes are shipped as stored, widened and differenced
    there, and multiplied by float64 products, which cost little on a device whose bus is the limit."""

    def __init__(self, rows: int, device: str, dtype: str | None = None) -> None:
        self.rows = rows
        self._dtype = rounded_type(dtype)
        self.device = torch.device(device)
        self._values = torch.empty((rows, 0), dtype=torch.float64, device=self.device)

    def widen(self, groups: Sequence[RowGroup], place: Rectangle) -> None:
        parts = []
        for group in groups:
            rows = group.values.shape[0]
            piece = group.values.as_strided(
                (rows, place.outer, place.length),
                (group.values.stride(0), place.stride, 1),
                group.values.storage_offset() + place.at,
            )
            shipped = piece.contiguous().to(self.device, non_blocking=True)
            values = shipped.view(rows, place.size)
            if self._dtype is not None:
                values = values.to(self._dtype)
            parts.append(values.to(torch.float64))
        self._values = parts[0] if len(parts) == 1 else torch.cat(parts)

    def gram(self, new: int) -> ChunkGram:
        values = self._values
        work = torch.empty_like(values)
        work[0] = values[0]
        torch.sub(values[1:], values[:-1], out=work[1:])
        product = work[self.rows - new :] @ work.T
        norms = torch.einsum("ij,ij->i", work, work)
        if bool(torch.isfinite(norms.sum())):
            return ChunkGram(product.cpu().numpy(), None)
        return careful_gram(values.cpu().numpy(), new)

    def widened(self) -> NDArray[np.floating]:
        return self._values.cpu().numpy()


def kernel_factory(device: str, plan: Plan) -> Callable[[], Kernel]:
    """How to make a worker's kernel for ``device``: ``cpu``, ``cuda``, ``cuda:1`` … or ``torch:cpu`` (the device kernel on the CPU).

    Raises UsageError (``device-unavailable``).
    """
    check_device(device)
    return KernelFactory.of(device, plan)


@dataclass(frozen=True)
class KernelFactory:
    """Makes kernels, in this process or in another."""

    device: str
    rows: int
    chunk: int
    precision: str
    dtype: str | None = None

    @classmethod
    def of(cls, device: str, plan: Plan) -> KernelFactory:
        """Of a plan, for a device that may be elsewhere."""
        return cls(device, plan.rows, plan.chunk, plan.precision, plan.dtype)

    def __call__(self) -> Kernel:
        if self.device == "cpu":
            return CpuKernel(self.rows, self.chunk, self.precision, self.dtype)
        return TorchKernel(self.rows, self.device.removeprefix("torch:"), self.dtype)


def check_device(device: str) -> None:
    """Raises UsageError (``device-unavailable``) unless ``device`` can be computed on here."""
    kind, _, rest = device.partition(":")
    if device in ("cpu", "torch:cpu"):
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and (rest or "0").isdecimal() and int(rest or "0") < count:
        return
    have = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
    raise UsageError("device-unavailable", f"there is no device {device!r} here", hint=f"Available: {have}.")
