"""The kernels of the CPU and of a device keep the contract; rounding, and the columns of a block, by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.kernel import KernelContract
from contracts.plain_kernel import TORCH, PlainKernel
from hypothesis import given
from hypothesis import strategies as st

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.kernels.base import Kernel
from trajsvc.gram.kernels.fused import FusedKernel, runs_of
from trajsvc.gram.kernels.torch import TorchKernel
from trajsvc.gram.kernels.tree import TreeKernel
from trajsvc.gram.kernels.values import rounded


class TestPlain(KernelContract):
    def kernel(self, total: int, new: int, dtype: str | None) -> Kernel:
        return PlainKernel(total, new, dtype)


class TestFused(KernelContract):
    def kernel(self, total: int, new: int, dtype: str | None) -> Kernel:
        return FusedKernel(total, new, "float64", dtype)


class TestFusedInFloat32(KernelContract):
    tolerance = 1e-6

    def kernel(self, total: int, new: int, dtype: str | None) -> Kernel:
        return FusedKernel(total, new, "float32", dtype)


class TestTorch(KernelContract):
    def kernel(self, total: int, new: int, dtype: str | None) -> Kernel:
        return TorchKernel(total, new, "cpu", 3000, dtype)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
class TestTorchOnADevice(KernelContract):
    def kernel(self, total: int, new: int, dtype: str | None) -> Kernel:
        return TorchKernel(total, new, "cuda", 2**17, dtype)


class TestTheTreeOfUpdates(KernelContract):
    """The tree in which every leg begins at the point before is the update basis."""

    appends = False

    def kernel(self, total: int, new: int, dtype: str | None) -> Kernel:
        return TreeKernel(FusedKernel(total, total, "float64", dtype), range(total), 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_values_are_rounded_as_torch_rounds_them(dtype: str) -> None:
    """Ties, the largest numbers and those beyond, subnormal ones, infinities and NaN."""
    near = torch.from_numpy(np.random.default_rng(0).standard_normal(2000)).to(TORCH[dtype]).double().numpy()
    ties = near * (1 + {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}[dtype])
    large = [0.0, -0.0, 65519.0, 65520.0, 3.38e38, 3.3961e38, 3.5e38, 1e300, np.inf, -np.inf, np.nan]
    hard = np.concatenate([ties, ties * (1 + 2.0**-20), near * 1e-6, near * 1e-39, near * 1e-44, large])
    with np.errstate(all="ignore"):
        found = rounded(hard, dtype)
    np.testing.assert_array_equal(found, torch.from_numpy(hard).to(TORCH[dtype]).double().numpy())


@given(
    outer=st.integers(1, 6), stride=st.integers(1, 12), length=st.integers(1, 12), start=st.integers(0, 12),
    lo=st.integers(0, 80), size=st.integers(0, 80),
)  # fmt: skip
def test_runs_are_the_elements_of_an_extent_within_a_range(
    outer: int, stride: int, length: int, start: int, lo: int, size: int
) -> None:
    length = min(length, stride)
    start = min(start, stride - length)
    members = [o * stride + start + i for o in range(outer) for i in range(length)]
    found = [c for b, e in runs_of(Extent(outer, stride, start, length), lo, lo + size) for c in range(b, e)]
    assert found == [m for m in members if lo <= m < lo + size]
