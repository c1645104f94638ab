"""Run a computation of gradients with progress on stderr; ^C stops it at the next example."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trajsvc.cli.interrupts import stop_on_interrupt
from trajsvc.cli.output import errors_console
from trajsvc.errors import Cancelled
from trajsvc.gradients.compute import GradientObserver, compute_gradients

if TYPE_CHECKING:
    from trajsvc.gradients.compute import GradientOutcome
    from trajsvc.gradients.options import GradientOptions


class LiveGradients(GradientObserver):
    """A line for every checkpoint."""

    def planned(self, total: int, done: int) -> None:
        """Say how many checkpoints there are, and how many are stored."""
        there = f", {done} of them stored already" if done else ""
        errors_console().print(f"gradients at {total} checkpoints{there}", highlight=False)

    def stored(self, step: int, done: int, total: int) -> None:
        """Say that a checkpoint is done."""
        errors_console().print(f"  step {step}: {done} of {total}", highlight=False)


def run_gradients(
    store: Path,
    run: str,
    options: GradientOptions,
    *,
    name: str | None,
    overwrite: bool,
    source: str | None,
    device: str,
    quiet: bool,
) -> GradientOutcome:
    """Compute and keep the sets of ``options``; what is stored stays where this is stopped."""
    observer = GradientObserver() if quiet else LiveGradients()
    with stop_on_interrupt() as stop:
        try:
            return compute_gradients(
                store, run, options, name=name, overwrite=overwrite, source=source, by_path=True, observer=observer,
                stop=stop.is_set, device=device,
            )  # fmt: skip
        except (Cancelled, KeyboardInterrupt):
            if not quiet:
                errors_console().print("stopped; the same command goes on where it was", highlight=False)
            raise KeyboardInterrupt from None
