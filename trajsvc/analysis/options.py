"""How a run is analysed: one set of options for every door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from trajsvc.anatomy.architectures import Rules


DEFAULT_SAMPLE = 0.01


@dataclass(frozen=True)
class Options:
    """How a run is analysed. Sizes in bytes."""

    steps: str | Sequence[int] | None = None
    memory: int = 512 * 2**20
    threads: int = 2
    device: str = "cpu"
    precision: str = "float32"
    dtype: str | None = None
    """float16, bfloat16, float32: values are rounded to it first, as if the run had been stored so"""
    rules: Rules | None = None
    heads: int | None = None
    copy: bool | None = None
    """None: a run from a network is copied, one on this machine is not; a stored run goes on as it was"""
    archive: bool = False
    preview: float | None = None
    recompute: bool = False
    skip_damaged: bool = False


def check_dtype(dtype: str | None) -> str | None:
    """``dtype`` itself. Raises UsageError (``bad-dtype``)."""
    if dtype not in (None, "float16", "bfloat16", "float32"):
        raise UsageError("bad-dtype", f"no type {dtype!r}", hint="Use float16, bfloat16 or float32.")
    return dtype


def keeps_copy(options: Options) -> bool:
    """Whether the parameters will be kept in the store."""
    return bool(options.copy or options.archive)
