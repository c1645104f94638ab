"""Make the options of an analysis from a job's spec."""

from __future__ import annotations

from typing import Final

from trajsvc.analysis.options import Options, RunOptions
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind

PLAN_THREADS: Final = 2
"""the plan of a job does not depend on how many workers there are, so that its bits do not either"""


def options_of(spec: JobSpec) -> Options:
    """Return the options of a job's analysis. An ingest keeps the parameters; other jobs do unless told not to."""
    chosen = {name: getattr(spec, name) for name in RunOptions.model_fields}
    if spec.kind == Kind.INGEST:
        chosen["copy_parameters"] = True
    if spec.kind == Kind.RECOMPUTE:
        chosen["recompute"] = True
    return Options(**chosen, threads=PLAN_THREADS)
