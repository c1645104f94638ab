"""What the processes of ``work_server`` do: functions of the server's resources, a request's arguments and a stop, to JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from api.requests import Recomputation, Submission
from api.resources import Resources
from api.submissions import audited, planned, recomputation, repinned, submission
from trajsvc.jobs.spec import JobSpec
from trajsvc.sources.transport.cancel import Stop


def _plan(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    spec = submission(resources, Submission.model_validate(arguments["body"]), stop)
    return json.dumps(planned(resources, spec, stop), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _audit(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    spec = submission(resources, Submission.model_validate(arguments["body"]), stop)
    return audited(resources, spec, stop).model_dump_json(by_alias=True)


def _submit(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    return submission(resources, Submission.model_validate(arguments["body"]), stop).model_dump_json()


def _recompute(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    body = Recomputation.model_validate(arguments["body"])
    return recomputation(resources, arguments["run"], body, stop).model_dump_json()


def _repin(resources: Resources, arguments: Mapping[str, Any], stop: Stop) -> str:
    return repinned(resources, JobSpec.stored(arguments["spec"]), stop).model_dump_json()


WORK: Final[Mapping[str, Callable[[Resources, Mapping[str, Any], Stop], str]]] = {
    "plan": _plan, "audit": _audit, "submit": _submit, "recompute": _recompute, "repin": _repin,
}  # fmt: skip
