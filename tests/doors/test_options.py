"""One set of options at every door: a field of ``Options`` that a door lacks, or a door's own option that is none of its, fails here."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import trajsvc
from api.requests import GradientSubmission, Recomputation, SpectrumSubmission, Submission
from trajsvc.analysis.options import Options, RunOptions, bad_option
from trajsvc.cli.gradient_options import GRADIENTS
from trajsvc.cli.main import make_app
from trajsvc.cli.options import ANALYSIS, SERVED
from trajsvc.errors import UsageError
from trajsvc.families.beside import GradientsTable, SpectraTable
from trajsvc.families.file import Member, MemberOptions
from trajsvc.gradients.options import GradientChoices, GradientOptions
from trajsvc.jobs.options import options_of
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind

OF_A_RUN = set(RunOptions.model_fields)
ALL = set(Options.model_fields)
GIVEN = {
    "steps": "every:2",
    "revisions": ("stage1-*",),
    "commits": "main",
    "state": "student",
    "step_pattern": r"run_(?P<step>\d+)",
    "skip_damaged": True,
    "rules": '[mine]\nextends = "gpt-neox"\n',
    "exclude": ("teacher.*", "pos_encoder.pe"),
    "rename": ("visual.=model.visual.",),
    "heads": 4,
    "precision": "float32",
    "dtype": "bfloat16",
    "preview": 0.25,
    "copy_parameters": True,
    "archive": True,
    "rows": True,
    "recompute": True,
    "replace": True,
    "memory": 2**28,
    "device": "cpu",
}
"""one value for every option, none of them the default but the device"""


def command(name: str) -> Any:
    group = typer.main.get_command(make_app())
    return group.commands[name]  # type: ignore[attr-defined]


def taken(name: str) -> set[str]:
    """The options of an analysis that a command takes."""
    return {p.name for p in command(name).params if p.name} & ALL


def test_the_machine_owns_few_options() -> None:
    assert ALL - OF_A_RUN == set(SERVED) == {"threads", "cache", "connections"}
    assert set(GIVEN) == OF_A_RUN, "a new option wants a value here"


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("analyze", set()),
        ("plan", set()),
        ("batch", set()),
        ("watch", {"preview", "recompute"}),  # it adds exact rows to what is stored
        ("submit", set(SERVED)),
    ],
)
def test_every_command_that_analyses_takes_every_option(name: str, without: set[str]) -> None:
    assert taken(name) == ALL - without
    assert set(ANALYSIS) == ALL
    for parameter in command(name).params:
        if parameter.name in ALL:
            assert parameter.help, parameter.name


def test_python_takes_every_option() -> None:
    parameters = set(inspect.signature(trajsvc.analyze).parameters)
    assert parameters - {"source", "store", "name"} == {Options.model_fields[f].alias or f for f in ALL}


@pytest.mark.parametrize("model", [Submission, Recomputation, JobSpec, MemberOptions, Member])
def test_http_jobs_and_family_files_take_every_option(model: type[RunOptions]) -> None:
    assert issubclass(model, RunOptions)
    assert set(model.model_fields) >= OF_A_RUN
    assert {model.model_fields[f].alias for f in OF_A_RUN} == {RunOptions.model_fields[f].alias for f in OF_A_RUN}


def test_the_page_s_form_has_every_option_of_a_submission() -> None:
    text = (Path(__file__).parents[2] / "api/web/base/submission.js").read_text("utf-8")
    fields = set(re.findall(r'\{ name: "(\w+)"', text))
    assert fields == {field.alias or name for name, field in Submission.model_fields.items()}


def test_the_page_s_form_has_every_option_of_a_submission_of_gradients() -> None:
    text = (Path(__file__).parents[2] / "api/web/base/gradientform.js").read_text("utf-8")
    fields = re.findall(r'\{ name: "(\w+)"', text)
    assert sorted(fields) == sorted(GradientSubmission.model_fields)


def test_every_option_of_gradients_is_at_every_door() -> None:
    shown = {p.name for p in typer.main.get_command(make_app()).commands["gradients"].commands["compute"].params}  # type: ignore[attr-defined]
    assert set(GradientOptions.model_fields) <= shown
    assert set(GRADIENTS) == set(GradientOptions.model_fields)
    assert set(GradientChoices.model_fields) <= set(GradientSubmission.model_fields)
    promised = json.loads((Path(__file__).parents[2] / "api/openapi.json").read_text("utf-8"))
    assert set(promised["components"]["schemas"]["GradientSubmission"]["properties"]) == set(
        GradientSubmission.model_fields
    )


def test_the_promise_of_http_has_every_option() -> None:
    promised = json.loads((Path(__file__).parents[2] / "api/openapi.json").read_text("utf-8"))
    for schema in ("Submission", "Recomputation"):
        properties = promised["components"]["schemas"][schema]["properties"]
        assert set(properties) >= {RunOptions.model_fields[f].alias or f for f in OF_A_RUN}


def test_a_job_carries_every_option_to_its_analysis() -> None:
    spec = JobSpec(kind=Kind.TRAJECTORY, run="run", source="hf://a/b", **GIVEN)
    again = JobSpec.stored(json.loads(spec.model_dump_json()))
    assert again == spec
    assert again.digest() == spec.digest()
    options = options_of(again)
    assert {name: getattr(options, name) for name in GIVEN} == GIVEN


def test_a_job_of_the_version_before_is_read_as_it_was_written() -> None:
    stored = {
        "kind": "trajectory", "run": "pythia", "source": "runs:pythia", "steps": None, "revisions": [], "commits": None,
        "copy_parameters": None, "precision": "float32", "dtype": None, "device": "cpu", "rules": None, "heads": None,
        "preview": None, "skip_damaged": False, "recompute": False, "memory": 2**28, "family": None,
        "pins": {"files": "0" * 64},
    }  # fmt: skip
    spec = JobSpec.stored(stored)
    assert {k: v for k, v in json.loads(spec.model_dump_json()).items() if k in stored} == stored


def test_a_family_s_member_carries_every_option() -> None:
    words = {RunOptions.model_fields[k].alias or k: list(v) if isinstance(v, tuple) else v for k, v in GIVEN.items()}
    member = Member.model_validate({"source": "/runs/a", **words})
    assert member.given() == {**words, **{name: GIVEN[name] for name in ("revisions", "exclude", "rename")}}


@pytest.mark.parametrize(
    ("table", "command_of", "body"),
    [(SpectraTable, "spectra", SpectrumSubmission), (GradientsTable, "gradients", GradientSubmission)],
)
def test_a_family_s_tables_take_what_their_commands_and_requests_take(table: Any, command_of: str, body: Any) -> None:
    shown = {p.name for p in command(command_of).commands["compute"].params}
    of_the_command = shown - {"run", "store", "source", "form", "quiet"}
    assert set(table.model_fields) == of_the_command
    of_the_server = set(body.model_fields) - {"priority"}
    assert of_the_server <= set(table.model_fields)


def test_words_are_read_alike_at_every_door() -> None:
    options = Options.of(memory="256MiB", preview="1%", cache="1GB", steps=[0, 4, 8], revisions="step*", heads=None)
    assert (options.memory, options.preview, options.cache) == (2**28, 0.01, 10**9)
    assert (options.steps, options.revisions, options.heads) == ("0,4,8", ("step*",), None)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"precision": "float8"}, "bad-precision"),
        ({"dtype": "int4"}, "bad-dtype"),
        ({"memory": "lots"}, "bad-size"),
        ({"preview": "all of it"}, "bad-share"),
        ({"heads": 0}, "bad-option"),
        ({"steps": [None, 4]}, "bad-option"),
        ({"colour": "red"}, "bad-option"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_by_its_name(given: dict[str, object], kind: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options.of(given)
    assert caught.value.kind == kind
    assert next(iter(given)) in caught.value.message or str(next(iter(given.values()))) in caught.value.message
    assert bad_option.__doc__
