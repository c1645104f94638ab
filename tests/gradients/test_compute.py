"""From a stored run and a file of examples to sets in the store: what is computed, kept, gone on with, refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs as tiny

import trajsvc
from trajsvc.errors import Cancelled, NotFound, Refused, UsageError
from trajsvc.gradients.compute import (
    GradientObserver,
    GradientOutcome,
    GradientTask,
    compute_gradients,
    compute_task,
    one_by_one,
)
from trajsvc.gradients.options import SET_KINDS, GradientOptions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints, their run in ``store``, and data."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny.analysed(tiny.checkpoints(folder / "checkpoints"), folder / "store")
    tiny.data(folder / "data.npz")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """The same, to write into; the checkpoints stay where they are."""
    shutil.copytree(made / "store", tmp_path / "store")
    shutil.copy(made / "data.npz", tmp_path / "data.npz")
    return tmp_path


def compute(place: Path, options: GradientOptions | None = None, **more: Any) -> GradientOutcome:
    chosen = options or tiny.chosen(place / "data.npz")
    return compute_gradients(place / "store", tiny.RUN, chosen, by_path=True, **more)


def gram(place: Path, name: str, step: int) -> np.ndarray:
    run = trajsvc.open(place / "store", tiny.RUN)
    return run.gradients(name).stored.record(step).gram


def test_what_is_stored_is_the_gram_of_the_gradients_of_the_networks_in_the_files(place: Path) -> None:
    outcome = compute(place)
    assert (outcome.sets, outcome.computed, outcome.there) == (("example", "batch"), tiny.STEPS, ())
    for step in tiny.STEPS:
        expected = tiny.rows(step, place / "data.npz")
        size = np.linalg.norm(expected, axis=1)
        assert np.abs(gram(place, "example", step).sum(axis=0) - expected @ expected.T).max() < 1e-12 * size.max() ** 2
        means = expected.reshape(4, 2, -1).mean(axis=1)
        assert np.abs(gram(place, "batch", step).sum(axis=0) - means @ means.T).max() < 1e-12 * size.max() ** 2
    run = trajsvc.open(place / "store", tiny.RUN)
    assert run.gradients("example").measure("coherence").sizes == {"step": 4}
    groups = {run.gradients("example").stored.blocks.name[i] for i in range(6)}
    assert groups == {"first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight", "last.bias"}


def test_what_is_there_is_not_computed_again_and_more_steps_are_added(place: Path) -> None:
    options = tiny.chosen(place / "data.npz", steps="0,20")
    assert compute(place, options).computed == (0, 20)
    assert compute(place, options).computed == ()
    both = compute(place, tiny.chosen(place / "data.npz", steps="all"))
    assert (both.computed, both.there) == ((10, 30), (0, 20))


def test_batches_alone_go_on_with_batches_beside_examples(place: Path) -> None:
    compute(place, tiny.chosen(place / "data.npz", steps="0"))
    compute(place, tiny.chosen(place / "data.npz", sets="batch", steps="10"))
    alone, beside = gram(place, "batch", 10), gram(place, "batch", 0)
    assert alone.shape == beside.shape


def test_other_options_under_the_name_are_refused_unless_they_are_to_replace_it(place: Path) -> None:
    compute(place, tiny.chosen(place / "data.npz", sets="example", steps="0"))
    other = tiny.chosen(place / "data.npz", sets="example", steps="0", examples=6)
    with pytest.raises(Refused) as caught:
        compute(place, other)
    assert caught.value.kind == "gradients-exist"
    compute(place, other, name="six")
    assert gram(place, "six", 0).shape[1:] == (6, 6)
    compute(place, other, overwrite=True)
    assert gram(place, "example", 0).shape[1:] == (6, 6)


def test_a_computation_that_is_stopped_goes_on_at_the_next_checkpoint(place: Path) -> None:
    class Stopper(GradientObserver):
        done: list[int] = []  # noqa: RUF012

        def stored(self, step: int, done: int, total: int) -> None:
            self.done.append(step)

    watch = Stopper()
    with pytest.raises(Cancelled):
        compute(place, observer=watch, stop=lambda: len(watch.done) >= 2)
    assert watch.done == [0, 10]
    assert compute(place).computed == (20, 30)


def test_nothing_is_stored_after_an_observer_forbids_it(place: Path) -> None:
    class Fence(GradientObserver):
        def committing(self) -> None:
            raise RuntimeError("no longer")

    with pytest.raises(RuntimeError, match="no longer"):
        compute(place, observer=Fence())
    assert compute(place).computed == tiny.STEPS


def test_tasks_travel_and_come_back_in_any_order(place: Path) -> None:
    def pool(tasks: Sequence[GradientTask], stop: Any) -> Iterator[tuple[GradientTask, Any]]:
        for task in reversed(tasks):
            sent: GradientTask = pickle.loads(pickle.dumps(task))
            yield task, compute_task(sent, stop)

    assert compute(place, pool=pool).computed == tiny.STEPS
    elsewhere = {step: gram(place, "example", step) for step in tiny.STEPS}
    compute(place, name="here", pool=one_by_one)
    for step in tiny.STEPS:
        assert gram(place, "here-example", step).tobytes() == elsewhere[step].tobytes()


def test_differences_to_an_anchor_depend_on_both_checkpoints(place: Path) -> None:
    compute(place, tiny.chosen(place / "data.npz", sets="anchored"))
    difference = tiny.rows(30, place / "data.npz") - tiny.rows(0, place / "data.npz")
    found = gram(place, "anchored", 30).sum(axis=0)
    assert np.abs(found - difference @ difference.T).max() < 1e-12 * found.max()
    assert not gram(place, "anchored", 0).any()
    stored = trajsvc.open(place / "store", tiny.RUN).gradients("anchored").stored
    assert stored.spec["anchor"] == 0
    with pytest.raises(NotFound) as caught:
        compute(place, tiny.chosen(place / "data.npz", sets="anchored", anchor=7))
    assert caught.value.kind == "step-not-found"


def test_full_gradients_are_one_record_and_points_one_too(place: Path) -> None:
    outcome = compute(place, tiny.chosen(place / "data.npz", sets="full,points", steps="0..20"))
    assert outcome.computed == (0, 20)
    run = trajsvc.open(place / "store", tiny.RUN)
    full = run.gradients("full").stored
    assert (full.steps, full.labels) == ([20], ("0", "10", "20"))
    rows = np.stack([tiny.rows(step, place / "data.npz").mean(axis=0) for step in (0, 10, 20)])
    found = full.record(20).gram.sum(axis=0)
    assert np.abs(found - rows @ rows.T).max() < 1e-12 * found.max()
    assert run.gradients("points").stored.steps == [0]
    with pytest.raises(Refused) as caught:
        compute(place, tiny.chosen(place / "data.npz", sets="full", steps="all"))
    assert caught.value.kind == "gradients-exist"


def test_every_set_but_those_of_inputs_is_computed_and_measured(place: Path) -> None:
    kinds = [kind for kind in SET_KINDS if not kind.startswith("input")]
    compute(place, tiny.chosen(place / "data.npz", sets=",".join(kinds), steps="10,30"))
    run = trajsvc.open(place / "store", tiny.RUN)
    assert set(run.gradient_sets()) == set(kinds)
    for kind, name in (("weights", "kappa_weights"), ("path", "kappa_weights_step"), ("batch", "gain_ratio")):
        values = np.asarray(run.gradients(kind).measure(name))
        assert np.isfinite(values).all()
        assert (values > 0).all()
    with pytest.raises(UsageError) as caught:
        compute(place, tiny.chosen(place / "data.npz", sets="inputs"))
    assert caught.value.kind == "bad-probe"


@pytest.mark.parametrize("name", ["Smaller", "Larger", "Wider"])
def test_a_network_that_is_not_the_checkpoints_is_refused_with_the_tensors(place: Path, name: str) -> None:
    with pytest.raises(Refused) as caught:
        compute(place, tiny.chosen(place / "data.npz", probe=f"tiny_runs:{name}"))
    assert caught.value.kind == "network-mismatch"
    words = {"Smaller": "no place for last.bias", "Larger": "further.weight, further.bias", "Wider": "last.weight"}
    assert words[name] in caught.value.message


def test_too_few_examples_or_no_batch_say_how_many_there_are(place: Path) -> None:
    for options, words in (({"examples": 25}, "24 examples"), ({"examples": 4, "batch": 5}, "no batch of 5")):
        with pytest.raises(Refused) as caught:
            compute(place, tiny.chosen(place / "data.npz", **options))
        assert caught.value.kind == "too-few-examples"
        assert words in caught.value.message


def test_another_file_of_examples_is_another_set(place: Path) -> None:
    compute(place, tiny.chosen(place / "data.npz", steps="0"))
    other = tiny.data(place / "more.npz", 30)
    with pytest.raises(Refused) as caught:
        compute(place, tiny.chosen(other, steps="0"))
    assert caught.value.kind == "gradients-exist"
    same = shutil.copy(place / "data.npz", place / "moved.npz")
    assert compute(place, tiny.chosen(Path(same), steps="0")).computed == ()


def test_a_single_precision_network_is_close_to_the_double_one(place: Path) -> None:
    compute(place, tiny.chosen(place / "data.npz", sets="example,path", steps="10"))
    single = tiny.chosen(place / "data.npz", sets="example,path", steps="10", precision="float32")
    compute(place, single, name="single")
    for kind in ("example", "path"):
        exact, rough = gram(place, kind, 10), gram(place, f"single-{kind}", 10)
        assert 0.0 < np.abs(rough - exact).max() < 1e-5 * np.abs(exact).max()


def test_a_run_that_is_not_there_or_a_task_without_its_probe_is_refused(place: Path) -> None:
    with pytest.raises(NotFound) as caught:
        compute_gradients(place / "store", "other", tiny.chosen(place / "data.npz"))
    assert caught.value.kind == "run-not-found"
    with pytest.raises(NotFound) as caught:
        compute_gradients(place / "store", tiny.RUN, tiny.chosen(place / "data.npz"))  # module:object, not allowed
    assert caught.value.kind == "probe-not-found"
    task = GradientTask(place / "store", tiny.RUN, 0, ("example",), tiny.chosen(place / "data.npz"))
    with pytest.raises(NotFound):
        compute_task(replace(task, by_path=False))


@pytest.mark.parametrize(("name", "words"), [("Reduced", "shape ()"), ("Bare", "no examples, network, losses")])
def test_an_object_that_is_no_probe_is_told_what_it_lacks(place: Path, name: str, words: str) -> None:
    for sets in ("example", "path"):
        with pytest.raises(UsageError) as caught:
            compute(place, tiny.chosen(place / "data.npz", sets=sets, probe=f"tiny_runs:{name}"))
        assert caught.value.kind == "bad-probe"
        assert words in caught.value.message
