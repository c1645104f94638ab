"""From a job's spec to the options of its analysis."""

from __future__ import annotations

from typing import Final

from trajsvc.analysis.options import Options
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind

PLAN_THREADS: Final = 2
"""the plan of a job does not depend on how many workers there are, so that its bits do not either"""


def options_of(spec: JobSpec) -> Options:
    """How a job's run is analysed. An ingest keeps the parameters; a job of the service does so unless it was told not to."""
    from trajsvc.anatomy.rules_toml import parse_rules

    return Options(
        steps=spec.steps,
        memory=spec.memory,
        threads=PLAN_THREADS,
        device=spec.device,
        precision=spec.precision,
        dtype=spec.dtype,
        rules=None if spec.rules is None else parse_rules(spec.rules),
        heads=spec.heads,
        copy=True if spec.kind == Kind.INGEST else spec.copy_parameters,
        preview=spec.preview,
        recompute=spec.recompute or spec.kind == Kind.RECOMPUTE,
        skip_damaged=spec.skip_damaged,
    )
