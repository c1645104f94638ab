"""Probes and data by the names that an operator gave them: nothing else can be asked for, and what they are is a job's identity."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from job_making import make_spec

from trajsvc.errors import Cancelled, NotFound, UsageError
from trajsvc.gradients.options import GradientChoices
from trajsvc.jobs.registered import Registered
from trajsvc.jobs.spec import GradientWork, JobSpec
from trajsvc.jobs.states import Kind
from trajsvc.settings import RegisteredProbe, ServiceSettings


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.txt"
    path.write_bytes(b"to be or not to be " * 100_000)
    return path


@pytest.fixture
def registered(text: Path) -> Registered:
    probes = {
        "pythia": RegisteredProbe(probe="causal-lm", tokenizer=text.parent),
        "own": RegisteredProbe(probe="my.probes:make"),
    }
    return Registered(probes, {"text": text})


def test_names_stand_for_what_the_operator_registered(registered: Registered, text: Path) -> None:
    work = GradientWork(probe="pythia", data="text", sets=("full",), examples=7, name="mine")
    options = registered.options(work, memory=2**26)
    assert (options.probe, options.data, options.tokenizer) == ("causal-lm", str(text), str(text.parent))
    assert (options.sets, options.examples, options.memory) == (("full",), 7, 2**26)
    same = {name: getattr(work, name) for name in GradientChoices.model_fields if name not in ("probe", "data")}
    assert {name: getattr(options, name) for name in same} == same


@pytest.mark.parametrize("words", [{"probe": "causal-lm"}, {"probe": "my.probes:make"}, {"data": "/etc/passwd"}])
def test_what_is_not_registered_is_refused_with_what_is(registered: Registered, words: dict[str, str]) -> None:
    work = GradientWork(**{"probe": "pythia", "data": "text", **words})
    with pytest.raises(NotFound) as refused:
        registered.options(work, 2**26)
    what = next(iter(words))
    assert refused.value.kind == f"{what}-not-registered"
    assert {"probe": "own, pythia", "data": "text"}[what] in refused.value.hint
    with pytest.raises(NotFound):
        registered.digests(work)


def test_the_digests_are_of_the_bytes_and_of_what_is_registered(registered: Registered, text: Path) -> None:
    work = GradientWork(probe="pythia", data="text")
    first = registered.digests(work)
    assert first["data"] == hashlib.sha256(text.read_bytes()).hexdigest()
    assert registered.digests(work.model_copy(update={"probe": "own"}))["probe"] != first["probe"]
    text.write_bytes(b"something else")
    assert registered.digests(work)["data"] == hashlib.sha256(b"something else").hexdigest()


def test_reading_much_data_stops_when_it_is_told_to(registered: Registered) -> None:
    with pytest.raises(Cancelled):
        registered.digests(GradientWork(probe="pythia", data="text"), stop=lambda: True)


def test_ids_and_files_are_checked_when_the_service_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Registered({"no id": RegisteredProbe(probe="causal-lm")})
    with pytest.raises(NotFound) as missing:
        Registered({}, {"text": tmp_path / "nowhere.txt"})
    assert missing.value.kind == "file-missing"


def test_a_probe_may_be_a_word_or_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "trajsvc.toml"
    config.write_text(
        'probes.a = "causal-lm"\n[probes.b]\nprobe = "causal-lm"\ntokenizer = "/t"\n[gradient_data]\nx = "/x.npy"\n'
    )
    monkeypatch.setenv("TRAJSVC_CONFIG", str(config))
    found = ServiceSettings()
    assert found.probes == {
        "a": RegisteredProbe(probe="causal-lm"),
        "b": RegisteredProbe(probe="causal-lm", tokenizer=Path("/t")),
    }
    assert found.gradient_data == {"x": Path("/x.npy")}
    monkeypatch.setenv("TRAJSVC_PROBES", '{"c": "image-classifier"}')
    assert ServiceSettings().probes["c"] == RegisteredProbe(probe="image-classifier")


def test_every_choice_of_a_job_of_gradients_is_its_identity_and_no_other_job_changes_its_own() -> None:
    plain = make_spec()
    assert "gradients" not in plain.model_dump()
    assert "uses" not in plain.model_dump()
    work = GradientWork(probe="pythia", data="text")
    job = make_spec(kind=Kind.GRADIENTS, gradients=work, uses={"data": "1", "run": "2", "probe": "3"})
    assert JobSpec.stored(job.model_dump(mode="json")) == job
    others = [
        job.model_copy(update={"gradients": work.model_copy(update={"examples": 65})}),
        job.model_copy(update={"gradients": work.model_copy(update={"name": "mine"})}),
        *(job.model_copy(update={"uses": {**job.uses, name: "x"}}) for name in job.uses),
    ]
    assert len({plain.digest(), job.digest(), *(other.digest() for other in others)}) == 7
