"""The contract of ``Kernel``: what the plain one gives, of every stored type, mixed, rounded, scattered, appended, not finite."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.plain_kernel import TORCH, PlainKernel
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.kernels.base import Kernel, RowGroup
from trajsvc.gram.kernels.fused import WINDOW
from trajsvc.gram.pairs import matrices, pair_count

TYPES = ["float16", "bfloat16", "float32", "float64"]


def stored_rows(values: NDArray[np.float64], types: list[str], at: int = 0) -> list[RowGroup]:
    """(T, n) values as rows of raw bytes that begin ``at`` bytes after a cache line."""
    groups: list[RowGroup] = []
    for t, row in enumerate(values):
        raw = torch.from_numpy(row.copy()).to(TORCH[types[t]]).view(torch.uint8).numpy()
        room = np.zeros(len(raw) + 128, np.uint8)
        start = -room.ctypes.data % 64 + at
        room[start : start + len(raw)] = raw
        groups.append(RowGroup(t, types[t], room[start : start + len(raw)][None]))
    if len(set(types)) > 1:
        return groups
    return [RowGroup(0, types[0], np.concatenate([g.raw for g in groups]))]


def gram(
    kernel: Kernel, rows: list[RowGroup], extent: Extent, lo: int, hi: int, total: int, new: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    sums, nonfinite = np.zeros((2, pair_count(total, new))), np.zeros(total, np.int64)
    with np.errstate(all="ignore"):
        seen = kernel.multiply(rows, extent, lo, hi, sums, nonfinite)
    return sums.sum(axis=0), nonfinite, seen


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    total = draw(st.sampled_from([1, 2, 3, 8, 9, 16, 17, 33, 64]))
    columns = draw(st.sampled_from([1, 5, 16, 100, 4096, 4097, 6000, 9000]))
    mixed = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
    if draw(st.booleans()):
        stride = draw(st.sampled_from([3, 40, 4500]))
        length = draw(st.integers(1, stride))
        extent = Extent(max(1, columns // stride), stride, draw(st.integers(0, stride - length)), length)
    else:
        extent = Extent(1, columns, 0, columns)
    return {
        "total": total,
        "new": draw(st.integers(1, total)),
        "columns": max(columns, extent.outer * extent.stride),
        "types": [mixed[t % len(mixed)] for t in range(total)],
        "extent": extent,
        "lo": draw(st.sampled_from([0, WINDOW])),
        "dtype": draw(st.sampled_from([None, None, "float16", "bfloat16", "float32"])),
        "at": draw(st.sampled_from([0, 8])),
        "broken": draw(st.integers(0, 3)),
        "seed": draw(st.integers(0, 2**20)),
    }


class KernelContract(ABC):
    """Tests of any ``Kernel``. ``tolerance``: how far an inner product may be off, of the product of the norms; ``appends``: whether the
    kernel takes fewer new rows than rows."""

    tolerance = 1e-14
    appends = True

    @abstractmethod
    def kernel(self, total: int, new: int, dtype: str | None) -> Kernel: ...

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.differing_executors])
    @given(case=cases())
    def test_a_kernel_gives_what_the_plain_one_gives(self, case: dict[str, object]) -> None:
        total, new, columns, extent, dtype = (case[k] for k in ("total", "new", "columns", "extent", "dtype"))
        assert isinstance(total, int)
        assert isinstance(new, int)
        assert isinstance(columns, int)
        assert isinstance(extent, Extent)
        new = new if self.appends else total
        lo = case["lo"] if case["lo"] < columns else 0  # type: ignore[operator]
        rng = np.random.default_rng(case["seed"])  # type: ignore[arg-type]
        values = rng.standard_normal((1, columns)) + 1e-2 * np.cumsum(rng.standard_normal((total, columns)), axis=0)
        for _ in range(case["broken"]):  # type: ignore[call-overload]
            values[rng.integers(total), rng.integers(columns)] = rng.choice([np.nan, np.inf, -np.inf])
        rows = stored_rows(values[:, lo:], case["types"], case["at"])  # type: ignore[arg-type]
        wanted, counted, size = gram(PlainKernel(total, new, dtype), rows, extent, lo, columns, total, new)  # type: ignore[arg-type]
        found, nonfinite, seen = gram(self.kernel(total, new, dtype), rows, extent, lo, columns, total, new)  # type: ignore[arg-type]
        assert seen == size
        assert nonfinite.tolist() == counted.tolist()
        [plain] = PlainKernel(total, total, dtype).widened(rows, extent, lo, columns)  # type: ignore[arg-type]
        norms = np.ones(total)
        if size and not case["broken"]:
            norms = np.linalg.norm(np.diff(plain, axis=0, prepend=0.0), axis=1)
        scale = np.outer(norms, norms)[total - new :] + 1e-300
        difference = np.abs(matrices(found, total, new) - matrices(wanted, total, new)) / scale
        assert difference.max(initial=0.0) <= self.tolerance * (1 if not case["broken"] else 100 * max(size, 1))

    def test_the_values_that_a_kernel_shows_are_rounded_and_in_order(self) -> None:
        values = np.random.default_rng(0).standard_normal((5, 9000))
        extent = Extent(3, 3000, 700, 1100)
        for types in (["float32"] * 5, ["float64", "float32", "bfloat16", "float16", "float64"]):
            rows = stored_rows(values[:, WINDOW:], types)
            [plain] = PlainKernel(5, 5, "float16").widened(rows, extent, WINDOW, 9000)
            found = [part.copy() for part in self.kernel(5, 5, "float16").widened(rows, extent, WINDOW, 9000)]
            np.testing.assert_array_equal(np.concatenate(found, axis=1), plain)
