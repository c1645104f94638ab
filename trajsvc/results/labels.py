"""Label a measure's result as an ``xarray.DataArray`` whose axes are numbered by steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import GroupGram, Measure

if TYPE_CHECKING:
    from xarray import DataArray


def axis(dim: str, length: int, steps: NDArray[np.int64], origin: int | None = None) -> NDArray[np.int64]:
    """Return the numbers of an axis of ``length`` at T ``steps``.

    Along steps: the steps themselves; of T − 1, those without the ``origin``, or without the first; of T − 2, the inner
    ones. An update is numbered by the step it arrives at; an angle between two updates by the step they meet at. Lags
    and components are counted, lags from 0 and components from 1.
    """
    if dim.startswith(("lag", "component")):
        return np.arange(length, dtype=np.int64) + (0 if dim.startswith("lag") else 1)
    if length == len(steps):
        return steps
    if length == len(steps) - 1:
        return steps[1:] if origin is None else steps[steps != origin]
    return steps[1 : 1 + length]


def called(dim: str, of_run: str) -> str:
    """Return the name of a measure's axis in a run that counts ``of_run``.

    >>> called("step_2", "epoch")
    'epoch_2'
    """
    return of_run + dim.removeprefix("step") if dim.startswith("step") else dim


def numbers_of(of_run: str) -> str:
    """Return what the numbers of checkpoints are, in the plural."""
    return {"index": "indices", "tokens": "tokens"}.get(of_run, f"{of_run}s")


def label(
    measure: Measure, value: Any, gram: GroupGram, parameters: Mapping[str, Any] | None = None
) -> DataArray | float:
    """Label ``value`` of ``measure``: a float for a scalar, else a DataArray whose attributes describe it."""
    if not measure.dims:
        return float(value)
    import xarray

    given = {k: v for k, v in (parameters or {}).items() if v is not None}
    array = np.asarray(value, dtype=np.float64)
    origin = given.get("origin")
    coords = {dim: axis(dim, length, gram.steps, origin) for dim, length in zip(measure.dims, array.shape, strict=True)}
    attributes = {
        "units": measure.units,
        "definition": measure.definition,
        "source": measure.source,
        "group": gram.group,
        "parameters": gram.parameters,
        **given,
    }
    return xarray.DataArray(array, dims=measure.dims, coords=coords, name=measure.name, attrs=attributes)


def plain(value: Any) -> Any:
    """Convert numbers and arrays to what JSON has: lists, with null for NaN and infinities."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
