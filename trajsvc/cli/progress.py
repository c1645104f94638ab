"""Show the progress of an analysis on stderr: bytes, rate, time left, and the current estimate of the MDS."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trajsvc.cli.output import errors_console, safe

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.status import Status

    from trajsvc.gram.engine import Progress, ProgressCallback
    from trajsvc.gram.plan import Plan
    from trajsvc.trajectory.matrix import Trajectory

ESTIMATE_SECONDS = 1.0


class LiveObserver:
    """Show an analysis on a terminal, or in a few plain lines if stderr is not one."""

    def __init__(self) -> None:
        self.console = errors_console()
        self.bars: Bars | None = None
        self._status: Status | None = None
        self._estimated = 0.0
        self._resumed = False

    def listing(self, uri: str) -> None:
        """Show that a source is being listed over the network, which may take a while."""
        if self.console.is_terminal:
            self._status = self.console.status(f"asking the Hub for the revisions and headers of {safe(uri)}")
            self._status.start()

    def opened(self, trajectory: Trajectory) -> None:
        self._ended()
        rows = trajectory.rows
        span = f"steps {rows[0].step} … {rows[-1].step}" if rows else ""
        self.console.print(
            f"{safe(trajectory.source.uri)}: {len(rows)} checkpoints, {span}, {trajectory.parameters:,} parameters, "
            f"{trajectory.anatomy.architecture}",
            highlight=False,
        )
        for left in trajectory.excluded:
            self.console.print(f"  left out: step {left.step}, {safe(left.reason)}", style="yellow", highlight=False)

    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None:
        kept = plan.rows - plan.new
        what = f"appending {appended} checkpoints to the {kept} that are stored" if appended else "reading"
        self.console.print(
            f"{what}: {size(trajectory.bytes)} in {len(plan.slabs)} slabs, {plan.threads} threads, "
            f"{size(plan.projected_memory)} of memory",
            highlight=False,
        )

    def sized(self, plan: Plan) -> None:
        return None

    def note(self, message: str) -> None:
        self.console.print(safe(message), highlight=False)

    def progress(self) -> ProgressCallback:
        return self._show

    def copied(self, done: int, total: int) -> None:
        """Show the progress of files that came over the network and were verified."""
        if not self.console.is_terminal:
            return
        if self.bars is None:
            self.bars = new_bars(self.console)
            self.bars.add_task("fetching", total=total, completed=done, note="")
            self.bars.start()
        self.bars.update(self.bars.task_ids[0], completed=done)
        if done >= total:
            self.close()

    def committing(self) -> None:
        return None

    def _show(self, progress: Progress) -> None:
        if progress.bytes_resumed and not self._resumed:
            self._resumed = True
            before = f"{size(progress.bytes_resumed)} of {size(progress.bytes)}"
            share = f"{progress.bytes_resumed / progress.bytes:.0%}"
            self.console.print(f"resumed: {before} ({share}) were computed before", highlight=False)
        if self.console.is_terminal:
            self._bar(progress)
        if progress.state.exact or progress.bytes_done >= progress.bytes:
            self.close()

    def _bar(self, progress: Progress) -> None:
        if self.bars is None:
            self.bars = new_bars(self.console)
            self.bars.add_task("computing", total=progress.bytes, completed=progress.bytes_resumed, note="")
            self.bars.start()
        task = self.bars.task_ids[0]
        self.bars.update(task, completed=progress.bytes_done)
        sampled = progress.state.cursor >= progress.state.plan.sample_slabs
        if sampled and time.monotonic() - self._estimated > ESTIMATE_SECONDS:
            self._estimated = time.monotonic()
            self.bars.update(task, note=estimate(progress))

    def _ended(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def close(self) -> None:
        """Remove the bars; safe to call again."""
        self._ended()
        if self.bars is not None:
            self.bars.stop()
            self.bars = None


def new_bars(console: object) -> Bars:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,  # type: ignore[arg-type]
        transient=True,
    )


def estimate(progress: Progress) -> str:
    """Format the network's MDS from the sums so far: ``MDS 0.8731 ± 0.0004``."""
    from trajsvc.analysis.forecast import network_mds

    value, error = network_mds(progress)
    if value is None:
        return ""
    return f"MDS {value:.4f}" + (f" ± {error:.2g}" if error and error > 1e-12 else "")


def size(count: float) -> str:
    """Format bytes for people: ``281.7 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
