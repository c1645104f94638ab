"""Choose the kernel for a device: the fused one on the CPU, torch on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trajsvc.errors import UsageError
from trajsvc.gram.kernels import fused, native
from trajsvc.gram.kernels.base import Kernel
from trajsvc.gram.plan import Plan

GPU_CHUNK = 2**17
"""Columns multiplied at once on a device: few launches, and T × 2^17 float64 is small beside its memory."""


def kernel_factory(device: str, plan: Plan) -> Callable[[], Kernel]:
    """Return a factory of a worker's kernels for ``device``: ``cpu``, ``cuda``, ``cuda:1`` … or ``torch:cpu`` (the
    device kernel on the CPU).

    Raises UsageError (``device-unavailable``).
    """
    check_device(device)
    return KernelFactory.of(device, plan)


@dataclass(frozen=True)
class KernelFactory:
    """Makes kernels, in this process or in another."""

    device: str
    rows: int
    new: int
    precision: str
    dtype: str | None = None

    @classmethod
    def of(cls, device: str, plan: Plan) -> KernelFactory:
        """Return the factory of a plan's kernels, for a device that may be on another machine."""
        return cls(device, plan.rows, plan.new, plan.precision, plan.dtype)

    def __call__(self) -> Kernel:
        if self.device == "cpu":
            return fused.FusedKernel(self.rows, self.new, self.precision, self.dtype)
        from trajsvc.gram.kernels.torch import TorchKernel

        return TorchKernel(self.rows, self.new, self.device.removeprefix("torch:"), GPU_CHUNK, self.dtype)


def workspace(device: str, rows: int, precision: str) -> int:
    """Return the bytes of this machine's memory that a kernel takes."""
    return fused.workspace(rows, precision) if device == "cpu" else rows * GPU_CHUNK * 24


def must_compile(device: str, precision: str) -> bool:
    """Return whether the kernel will be compiled before it runs, which takes a second or two, once on a machine."""
    return device == "cpu" and not native.is_compiled(precision == "float64")


def check_device(device: str) -> None:
    """Raise UsageError (``device-unavailable``) unless this machine can compute on ``device``."""
    if device in ("cpu", "torch:cpu"):
        return
    import torch

    kind, _, rest = device.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and (rest or "0").isdecimal() and int(rest or "0") < count:
        return
    have = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
    raise UsageError("device-unavailable", f"there is no device {device!r} here", hint=f"Available: {have}.")
