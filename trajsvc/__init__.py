"""trajsvc: what checkpoints say about how a network learned.

::

    import trajsvc

    run = trajsvc.analyze("checkpoints/pythia-70m")     # or trajsvc.open("pythia-70m")
    run.trajectory_map("layer/3")                       # labelled xarray objects
    run.layers().to_dataframe()

Names are imported when first used, so that ``import trajsvc`` costs nothing.
"""

from __future__ import annotations

from trajsvc.version import __version__

TYPE_CHECKING = False  # typing and importlib are left to those who need them: the command line takes care of ^C first
if TYPE_CHECKING:
    from typing import Any

    from trajsvc.analysis.analyze import analyze, audit
    from trajsvc.analysis.average_runs import average
    from trajsvc.analysis.cross_runs import cross
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
    from trajsvc.families.against_runs import against
    from trajsvc.gradients.compute_run import compute_gradients
    from trajsvc.results.open import open, runs
    from trajsvc.results.run import Run
    from trajsvc.spectra.compute_run import compute_spectra

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
    "against",
    "analyze",
    "audit",
    "average",
    "compute_gradients",
    "compute_spectra",
    "cross",
    "open",
    "runs",
]


def __getattr__(name: str) -> Any:
    """Find a public name in its module on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'trajsvc' has no attribute {name!r}")
    from importlib import import_module

    module = {
        "Run": "trajsvc.results.run",
        "open": "trajsvc.results.open",
        "runs": "trajsvc.results.open",
        "analyze": "trajsvc.analysis.analyze",
        "against": "trajsvc.families.against_runs",
        "audit": "trajsvc.analysis.analyze",
        "average": "trajsvc.analysis.average_runs",
        "compute_gradients": "trajsvc.gradients.compute_run",
        "compute_spectra": "trajsvc.spectra.compute_run",
        "cross": "trajsvc.analysis.cross_runs",
    }.get(name, "trajsvc.errors")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
