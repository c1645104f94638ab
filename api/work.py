"""What the processes of ``work_server`` do: functions of the server's resources, a request's arguments and a stop, to JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from api.requests import CrossSubmission, GradientSubmission, Recomputation, SpectrumSubmission, Submission
from api.resources import Resources
from api.submissions import (
    audited,
    cross_job,
    gradient_job,
    pinned,
    planned,
    recomputation,
    repeated,
    spectrum_job,
    submission,
)
from trajsvc.jobs.spec import JobSpec
from trajsvc.sources.transport.cancel import Stop


def _plan(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    spec = submission(resources, Submission.model_validate(arguments["body"]), stop)
    return json.dumps(planned(resources, spec, stop), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _audit(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    spec = pinned(resources, Submission.model_validate(arguments["body"]), stop)
    return audited(resources, spec, stop).model_dump_json(by_alias=True)


def _submit(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    return submission(resources, Submission.model_validate(arguments["body"]), stop).model_dump_json()


def _recompute(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    body = Recomputation.model_validate(arguments["body"])
    return recomputation(resources, arguments["run"], body, stop).model_dump_json()


def _gradients(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    body = GradientSubmission.model_validate(arguments["body"])
    return gradient_job(resources, arguments["run"], body, arguments["digests"], stop).model_dump_json()


def _spectra(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    return spectrum_job(
        resources, arguments["run"], SpectrumSubmission.model_validate(arguments["body"])
    ).model_dump_json()


def _cross(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    return cross_job(resources, CrossSubmission.model_validate(arguments["body"])).model_dump_json()


def _again(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    return repeated(resources, JobSpec.stored(arguments["spec"]), arguments["digests"], stop).model_dump_json()


WORK: Final[Mapping[str, Callable[[Resources, Mapping[str, Any], Stop], str]]] = {
    "plan": _plan, "audit": _audit, "submit": _submit, "recompute": _recompute, "gradients": _gradients,
    "spectra": _spectra, "cross": _cross, "again": _again,
}  # fmt: skip
