"""Every set of vectors against explicit gradients by autograd, at the parameters and inputs that the probe was evaluated at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_network import (
    PointsProbe,
    block_grams,
    closeness,
    flat,
    gradient,
    job,
    network_of,
    tanh_network,
)

from trajsvc.errors import Cancelled, LimitExceeded, Refused, UsageError
from trajsvc.gradients.options import SET_KINDS, SetKind
from trajsvc.gradients.sets.base import SetJob
from trajsvc.gradients.sets.choose import compute_sets
from trajsvc.gradients.sets.moved_weights import weights_set
from trajsvc.gradients.sets.of_checkpoints import anchored_set, full_set
from trajsvc.gradients.sets.of_examples import batch_set, example_set
from trajsvc.gradients.sets.of_inputs import input_gradients_set, inputs_set
from trajsvc.gradients.sets.trained import path_set, points_set

CLOSE = 1e-13


def of_examples(work: SetJob) -> np.ndarray:
    return np.stack([gradient(work.module, [e]) for e in work.examples])


def of_batches(work: SetJob) -> np.ndarray:
    return np.stack([gradient(work.module, [work.examples[i] for i in b]) for b in work.batches])


def evaluated_at(work: SetJob) -> np.ndarray:
    """The parameters at which the probe was evaluated that are not the network's own, in order."""
    own = flat(work.module)
    return np.stack([w for w, _ in work.probe.seen if not np.array_equal(w, own)])


@pytest.mark.parametrize("mask", [None, 1.0])
def test_examples_and_batches_are_those_of_autograd(mask: float | None) -> None:
    work = job(mask=mask)
    found = compute_sets(work, ("example", "batch"))
    assert closeness(found["example"].gram, block_grams(work.module, of_examples(work))) < CLOSE
    assert closeness(found["batch"].gram, block_grams(work.module, of_batches(work))) < CLOSE
    alone = batch_set(work)
    assert closeness(alone.gram, found["batch"].gram) < CLOSE
    assert alone.scalars.keys() == found["batch"].scalars.keys()
    assert alone.same is not None
    assert found["batch"].same is not None
    assert found["example"].labels == tuple(map(str, range(12)))
    assert found["example"].facts["mode"] == "evaluation"


def test_shuffled_examples_are_drawn_once_and_named() -> None:
    work = job(shuffle=5, examples=8)
    found = example_set(work)
    drawn = [int(label) for label in found.labels]
    assert len(set(drawn)) == 8
    assert drawn != sorted(drawn)
    rows = np.stack([gradient(work.module, [work.probe.examples[i]]) for i in drawn])
    assert closeness(found.gram, block_grams(work.module, rows)) < CLOSE


def test_batches_of_the_same_examples_are_the_same() -> None:
    probe = PointsProbe(8)
    a, b = probe.examples[:2]
    probe.examples = [a, b, b, a, a, b, *probe.examples[6:]]
    work = job(probe, examples=8, batch=2)
    of_examples, alone = compute_sets(work, ("example", "batch"))["batch"].same, batch_set(work).same
    for same in (of_examples, alone):
        assert same is not None
        assert (same[:, 0] == same[:, 2]).all()
    assert of_examples is not None
    assert (
        of_examples[:, 0] == of_examples[:, 1]
    ).all()  # by themselves they differ by what order does to rounding, on some processors
    assert len(np.unique(of_examples[0])) == 2


def test_coordinate_ratios_are_those_of_two_disjoint_halves() -> None:
    work = job(batch=2)  # six batches
    found = batch_set(work)
    rows = of_batches(work)
    mean = rows[3:].mean(axis=0)
    ratios = ((mean - rows[:3]) ** 2).sum(axis=0) / (rows[:3] ** 2).sum(axis=0)
    assert float(found.scalars["coordinate_ratio_sum"].sum()) == pytest.approx(ratios.sum(), rel=1e-12)
    assert float(found.scalars["coordinate_count"].sum()) == ratios.size
    assert found.facts["estimates"] == 3


def test_anchored_vectors_are_differences_of_the_same_example() -> None:
    other = tanh_network(7)
    work = replace(job(anchor=3), elsewhere=lambda step: network_of(other, step))
    found = anchored_set(work)
    expected = of_examples(work) - np.stack([gradient(other, [e]) for e in work.examples])
    assert closeness(found.gram, block_grams(work.module, expected)) < CLOSE
    assert found.facts["anchor"] == 3


def test_an_anchor_that_is_the_checkpoint_itself_leaves_nothing() -> None:
    found = anchored_set(job(anchor=0))
    assert not found.gram.any()


def test_an_anchor_close_by_keeps_its_digits() -> None:
    """Differences of 1e-9 of the gradients: subtracted Grams would have none left."""
    work = job(anchor=3)
    other = tanh_network()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1e-9)
    near = replace(work, elsewhere=lambda step: network_of(other, step))
    expected = of_examples(work) - np.stack([gradient(other, [e]) for e in work.examples])
    assert closeness(anchored_set(near).gram, block_grams(work.module, expected)) < 1e-5


def test_full_gradients_are_one_for_each_checkpoint() -> None:
    others = {step: tanh_network(step) for step in (10, 20, 30)}
    work = SetJob(network_of(others[30], 30), PointsProbe(), job(batch=5).options)
    work = replace(work, steps=(10, 20, 30), elsewhere=lambda step: network_of(others[step], step))
    found = full_set(work)
    rows = np.stack([gradient(others[step], work.examples) for step in (10, 20, 30)])
    assert closeness(found.gram, block_grams(work.module, rows)) < CLOSE
    assert found.labels == ("10", "20", "30")


def test_another_network_at_another_checkpoint_is_refused() -> None:
    other = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    with pytest.raises(Refused, match="step 3 has other parameters"):
        anchored_set(replace(job(anchor=3), elsewhere=lambda step: network_of(other, step)))


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("kind", ["targeted", "limited", "random"])
def test_moved_weights_answer_as_autograd_says(kind: str, absolute: bool) -> None:
    work = job(perturbation=kind, absolute=absolute, eta=1e-2)
    found = weights_set(work)
    w = flat(work.module)
    points = evaluated_at(work)
    moves = points - w
    batch = [work.examples[i] for i in work.batches[0]]
    base = gradient(work.module, batch)
    rows = np.stack([base, *(gradient(work.module, batch, at) - base for at in points)])
    assert closeness(found.gram, block_grams(work.module, rows)) < CLOSE
    assert found.facts["etas"] == [1e-2, 1e-3]
    assert found.scalars["perturbation_squares"].sum(axis=0) == pytest.approx((moves**2).sum(axis=1), rel=1e-10)
    assert float(found.scalars["weight_squares"].sum()) == pytest.approx(w @ w, rel=1e-12)
    assert moves[:3] == pytest.approx(10.0 * moves[3:], rel=1e-9, abs=1e-14)
    _check_moves(kind, absolute, work, moves[:3], w, base)


def _check_moves(kind: str, absolute: bool, work: SetJob, moves: np.ndarray, w: np.ndarray, base: np.ndarray) -> None:
    lengths = np.linalg.norm(moves, axis=1)
    if not absolute:
        assert lengths == pytest.approx(1e-2 * np.linalg.norm(w), rel=1e-10)
    along = {"targeted": np.stack([gradient(work.module, [work.examples[i]]) for i in work.batches[0]])}.get(kind)
    if along is not None:
        cosines = np.abs(moves @ along.T) / np.outer(lengths, np.linalg.norm(along, axis=1))
        assert cosines.max(axis=1) == pytest.approx(1.0, abs=1e-12)
        assert len(set(cosines.argmax(axis=1))) == 3  # each example once before any comes again
        if absolute:
            assert lengths == pytest.approx(1e-2, rel=1e-10)
    elif kind == "limited":
        cosines = moves @ base / lengths / np.linalg.norm(base)
        assert cosines == pytest.approx([1.0, -1.0, 1.0], abs=1e-12)
        if absolute:
            assert np.abs(moves).max(axis=1) == pytest.approx(1e-2, rel=1e-10)
    elif absolute:
        assert np.std(moves / 1e-2) == pytest.approx(np.std(w), rel=0.35)


def test_moves_of_a_quadratic_answer_by_its_hessian() -> None:
    """½ (w − c)ᵀ H (w − c): d_k = H ω_k exactly, ω_k along the examples' gradients H (w − c_i)."""
    h = torch.tensor([[3.0, 1.0], [1.0, 0.5]], dtype=torch.float64)

    class Quadratic:
        digest = "quadratic"
        examples = (torch.tensor([0.3, -0.2]), torch.tensor([-1.0, 0.7]))

        def losses(self, network: torch.nn.Module, examples: list[torch.Tensor]) -> torch.Tensor:
            apart = network.weight[0] - torch.stack([e.double() for e in examples])
            return torch.einsum("ni,ij,nj->n", apart, h, apart) / 2.0

    module = torch.nn.Linear(2, 1, bias=False).double()
    work = SetJob(network_of(module), Quadratic(), job(examples=2, batch=2, directions=2, eta=0.1).options)  # type: ignore[arg-type]
    found = weights_set(work)
    w = module.weight.detach().numpy()[0]
    gradients = np.stack([h.numpy() @ (w - c.double().numpy()) for c in Quadratic.examples])
    ratios = np.linalg.norm(gradients @ h.numpy(), axis=1) / np.linalg.norm(gradients, axis=1)
    answers = np.sqrt(np.diagonal(found.gram[0]))[1:3] / (0.1 * np.linalg.norm(w))
    assert sorted(answers) == pytest.approx(sorted(ratios), rel=1e-10)
    assert max(answers) <= np.linalg.eigvalsh(h.numpy()).max()


def test_a_path_is_the_training_that_it_says() -> None:
    work = job(learning_rate=0.1, momentum=0.9)
    found = path_set(work)
    w, v = flat(work.module), np.zeros(flat(work.module).size)
    gradients, updates, weights, responses = [], [], [], []
    for batch in work.batches:
        examples = [work.examples[i] for i in batch]
        g = gradient(work.module, examples, w)
        v = 0.9 * v + g
        weights.append(w @ w)
        responses.append(np.sum((gradient(work.module, examples, w - 0.1 * v) - g) ** 2))
        gradients.append(g)
        updates.append(-0.1 * v)
        w = w - 0.1 * v
    assert closeness(found.gram, block_grams(work.module, np.stack(gradients))) < 1e-12
    steps = np.stack(updates)
    assert closeness(found.scalars["update_gram"], block_grams(work.module, steps)) < 1e-12
    assert found.scalars["update_squares"].sum(axis=0) == pytest.approx((steps**2).sum(axis=1), rel=1e-10)
    assert found.scalars["weight_squares"].sum(axis=0) == pytest.approx(weights, rel=1e-10)
    assert found.scalars["response_squares"].sum(axis=0) == pytest.approx(responses, rel=1e-8)


def test_points_are_drawn_with_their_spread_and_repeat_bit_for_bit() -> None:
    work = job(directions=40, sigma=0.5)
    found = points_set(work)
    points = evaluated_at(work)
    assert points.shape == (40, flat(work.module).size)
    assert points.std() == pytest.approx(0.5, rel=0.1)
    assert abs(np.corrcoef(points).ravel()[1:40]).max() < 0.9
    rows = np.stack(
        [gradient(work.module, [work.examples[i] for i in work.batches[k % 3]], at) for k, at in enumerate(points)]
    )
    assert closeness(found.gram, block_grams(work.module, rows)) < CLOSE
    again = points_set(job(directions=40, sigma=0.5))
    assert again.gram.tobytes() == found.gram.tobytes()
    assert points_set(job(directions=40, sigma=0.5, seed=1)).gram.tobytes() != found.gram.tobytes()


@pytest.mark.parametrize("kind", ["targeted", "random"])
def test_moved_inputs_answer_as_autograd_says(kind: str) -> None:
    work = job(perturbation=kind, examples=5, eta=1e-2)
    found = inputs_set(work)
    xs = np.stack([e[0].numpy() for e in work.examples])
    seen = [x for _, x in work.probe.seen]
    rows, moves = [], np.zeros((5, 3, 3))
    for i, example in enumerate(work.examples):
        near = [x for x in seen if len(x) == 1 and 0.0 < np.linalg.norm(x[0] - xs[i]) < 0.02 * np.linalg.norm(xs[i])]
        moves[i] = np.stack([x[0] - xs[i] for x in near])
        base = gradient(work.module, [example])
        rows += [base, *(gradient(work.module, [example], x=x) - base for x in near)]
    assert closeness(found.gram, block_grams(work.module, np.stack(rows))) < CLOSE
    assert found.scalars["input_squares"][0] == pytest.approx((xs**2).sum(axis=1), rel=1e-12)
    assert found.scalars["perturbation_squares"][0] == pytest.approx((moves**2).sum(axis=2), rel=1e-9)
    lengths = np.linalg.norm(moves, axis=2)
    assert lengths == pytest.approx(np.tile(1e-2 * np.linalg.norm(xs, axis=1)[:, None], (1, 3)), rel=1e-9)
    units = moves / lengths[:, :, None]
    assert units == pytest.approx(np.tile(units[:1], (5, 1, 1)), abs=1e-9)  # the same directions for all


def test_gradients_of_the_input_are_those_of_autograd() -> None:
    work = job()
    found = input_gradients_set(work)
    x = torch.stack([e[0] for e in work.examples]).requires_grad_()
    loss = ((work.module(x) - torch.stack([e[1] for e in work.examples])).pow(2).sum(dim=1) / 2.0).sum()
    h = torch.autograd.grad(loss, x)[0].numpy()
    assert found.gram[0] == pytest.approx(h @ h.T, rel=1e-12)
    assert [b.name for b in found.blocks] == ["input"]
    assert found.blocks[0].size == 3


def test_a_probe_that_has_no_inputs_is_told_what_it_lacks() -> None:
    class Plain:
        digest = ""
        examples = PointsProbe().examples
        losses = PointsProbe().losses

    with pytest.raises(UsageError, match="inputs and input_gradients need") as caught:
        inputs_set(SetJob(network_of(tanh_network()), Plain(), job().options))  # type: ignore[arg-type]
    assert caught.value.kind == "bad-probe"


@pytest.mark.parametrize("kind", SET_KINDS)
@pytest.mark.parametrize("memory", [2**30, 12 * 2**10])
def test_every_set_is_the_same_in_any_memory_and_leaves_the_network_as_it_was(kind: SetKind, memory: int) -> None:
    def work(memory: int) -> SetJob:
        other = tanh_network(9)
        made = job(memory=memory, anchor=1, examples=4, batch=2)
        return replace(made, elsewhere=lambda step: network_of(other, step), steps=(0, 1))

    small, large = work(memory), work(2**30)
    before = flat(small.module)
    found = compute_sets(small, (kind,))[kind]
    assert flat(small.module).tobytes() == before.tobytes()
    expected = compute_sets(large, (kind,))[kind]
    assert closeness(found.gram, expected.gram) < CLOSE
    for name, values in expected.scalars.items():
        assert found.scalars[name] == pytest.approx(values, rel=1e-12)


def test_too_little_memory_for_one_tensor_is_refused_with_the_figures() -> None:
    with pytest.raises(LimitExceeded, match="memory"):
        points_set(job(memory=16))


@pytest.mark.parametrize("kind", SET_KINDS)
def test_every_set_stops_when_it_is_told_and_leaves_the_network_as_it_was(kind: SetKind) -> None:
    asked, allowed = 0, 0 if kind == "example" else 1  # the examples are evaluated together

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > allowed

    other = tanh_network(9)
    work = replace(job(anchor=1), stop=stop, steps=(0, 1, 2), elsewhere=lambda step: network_of(other, step))
    before = flat(work.module)
    with pytest.raises(Cancelled):
        compute_sets(work, (kind,))
    assert flat(work.module).tobytes() == before.tobytes()


def test_a_frozen_tensor_has_zero_gradients_and_values_that_are_not_finite_are_refused() -> None:
    work = job()
    next(work.module.parameters()).requires_grad_(False)
    for made in (example_set(work), batch_set(work), path_set(work)):
        assert not made.gram[0].any()
        assert made.gram[1].any()
    broken = job()
    with torch.no_grad():
        next(broken.module.parameters())[0, 0] = np.nan
    for make in (example_set, weights_set, path_set):
        with pytest.raises(Refused, match="NaN or infinite") as caught:
            make(broken)
        assert caught.value.kind == "gradients-not-finite"
