"""Choose where an analysis reads its slabs from: files on this machine, ranges over a network, or the copy of what came
over it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from storage_schema.files.inside import path_inside
from storage_schema.runs.writer import RunWriter
from trajsvc.errors import Cancelled
from trajsvc.gram.plan import Plan
from trajsvc.gram.slab_worker import RowSink, Theta
from trajsvc.sources.base import Cache
from trajsvc.trajectory.copy import CopiedTheta, ThetaSink
from trajsvc.trajectory.download import Importer, Told, import_files
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.prefetch import ReadAhead
from trajsvc.trajectory.remote import RemoteTheta

DEFAULT_ROOM = 2**31


@dataclass
class Reading:
    """The Θ of a job and the sink for its copy; ``begin`` before the first slab, ``close`` after the last, ``clear`` when committed."""

    theta: Theta
    sink: RowSink | None = None
    importer: Importer | None = None
    copying: ThetaSink | None = None
    """files of this machine are copied first, for others to read"""
    ahead: ReadAhead | None = None

    @property
    def proved(self) -> bool:
        """Whether the files' own digests were verified as they came, so that checksums of parts need not be."""
        return self.importer is not None or self.copying is not None

    @property
    def again(self) -> Theta:
        """The Θ for reading parts of it once more."""
        return RemoteTheta(self.ahead.trajectory) if self.ahead is not None else self.theta

    def begin(self, told: Told, stop: threading.Event) -> None:
        """Fetch what must be there before slabs are read. Raises Cancelled when ``stop`` is set."""
        if self.importer is not None:
            self.importer.run(told, stop.is_set)
        if self.copying is not None and isinstance(self.theta, CopiedTheta):
            import_files(self.theta.trajectory, self.copying, told, stop.is_set)
        if stop.is_set():
            raise Cancelled

    def close(self) -> None:
        """Stop reading; what a resumed job can use stays."""
        if self.ahead is not None:
            self.ahead.close()

    def clear(self) -> None:
        """Drop what was kept for a resumed job."""
        if self.ahead is not None:
            self.ahead.clear()


def read_from(
    trajectory: Trajectory,
    plan: Plan,
    writer: RunWriter,
    copy: ThetaSink | None,
    *,
    key: str,
    preview: bool,
    elsewhere: bool = False,
) -> Reading:
    """Choose how to read ``trajectory``.

    With ``copy``, its rows are kept as they pass, or before if slabs are computed ``elsewhere``. Of a ``preview`` only
    the sample is read. ``key`` names the job's own files on disk.
    """
    remote = trajectory.source.remote
    if remote is None:
        if copy is not None and elsewhere:
            return Reading(CopiedTheta(writer, trajectory), None, None, copy)
        return Reading(trajectory, copy)
    cache = remote.cache
    if copy is not None:
        importer = Importer(trajectory, remote, writer, copy, cache or Cache(Path(writer.work), DEFAULT_ROOM))
        return Reading(CopiedTheta(writer, trajectory), importer=importer)
    if cache is not None:
        own = Cache(path_inside(cache.folder, "windows", writer.name, key[:16]), cache.room)
        ahead = ReadAhead(trajectory, remote, plan, own, apart=preview)
        if ahead.useful:
            return Reading(ahead, ahead=ahead)
    return Reading(RemoteTheta(trajectory))
