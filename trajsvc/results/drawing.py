"""What a run asks of the rooms above it: to be drawn in a notebook, and to be exported.

Those are made from runs and know them; a run finds them by name when they are asked for, so that opening one imports neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from trajsvc.results.measure_methods import Steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RunPlots(Protocol):
    """Plots of one run on matplotlib axes; ``trajsvc.figures.notebook`` has them. Without ``ax`` each makes a figure of its own."""

    def map(
        self, group: str = "network", ax: Axes | None = None, *, origin: int | None = None, steps: Steps = None
    ) -> Axes: ...

    def curves(
        self,
        names: str | Sequence[str] = "update_angle",
        ax: Axes | None = None,
        *,
        group: str = "network",
        steps: Steps = None,
    ) -> Axes: ...

    def layers(
        self, names: str | Sequence[str] = ("mds", "relative_mds"), ax: Axes | None = None, *, steps: Steps = None
    ) -> Axes: ...

    def qkv(
        self, what: str = "rms", ax: Axes | None = None, *, origin: int | None = None, steps: Steps = None
    ) -> Axes: ...


def drawing() -> Any:
    """Return the module that draws runs in notebooks."""
    return import_module("trajsvc.figures.notebook")


def exporting() -> Any:
    """Return the room that writes runs as tables."""
    return import_module("trajsvc.export")
