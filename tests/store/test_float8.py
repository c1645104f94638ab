"""The 8-bit floating types: every code stands for the value that torch gives it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from storage_schema.format.float8 import FLOAT8, POWERS, table


@pytest.mark.parametrize("dtype", [*FLOAT8, POWERS])
def test_every_code_is_the_value_of_torch(dtype: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, dtype))
    expected = codes.to(torch.float64).numpy()
    np.testing.assert_array_equal(table(dtype), expected)
    numbers = np.isfinite(expected)
    assert np.array_equal(np.signbit(table(dtype)[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", FLOAT8)
def test_every_value_is_one_of_float16(dtype: str) -> None:
    np.testing.assert_array_equal(table(dtype).astype(np.float16).astype(np.float64), table(dtype))
