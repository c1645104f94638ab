"""trajsvc: what checkpoints say about how a network learned.

::

    import trajsvc

    run = trajsvc.analyze("checkpoints/pythia-70m")     # or trajsvc.open("pythia-70m")
    run.trajectory_map("layer/3")                       # labelled xarray objects
    run.layers().to_dataframe()

Names are imported when first used, so that ``import trajsvc`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trajsvc.version import __version__

if TYPE_CHECKING:
    from trajsvc.analysis.analyze import analyze, audit
    from trajsvc.errors import (
        Damaged,
        DamagedCheckpoint,
        DamagedStore,
        LimitExceeded,
        NotFound,
        Refused,
        TrajsvcError,
        TryAgain,
        UnsafeFile,
        UnsupportedFormat,
        UsageError,
    )
    from trajsvc.results.open import open
    from trajsvc.results.run import Run

__all__ = [
    "Damaged",
    "DamagedCheckpoint",
    "DamagedStore",
    "LimitExceeded",
    "NotFound",
    "Refused",
    "Run",
    "TrajsvcError",
    "TryAgain",
    "UnsafeFile",
    "UnsupportedFormat",
    "UsageError",
    "__version__",
    "analyze",
    "audit",
    "open",
]


def __getattr__(name: str) -> Any:
    """Find a public name in its module on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'trajsvc' has no attribute {name!r}")
    module = {
        "Run": "trajsvc.results.run",
        "open": "trajsvc.results.open",
        "analyze": "trajsvc.analysis.analyze",
        "audit": "trajsvc.analysis.analyze",
    }.get(name, "trajsvc.errors")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
