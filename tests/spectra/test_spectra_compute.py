"""Spectra of stored runs against torch, at every checkpoint and of every stored type; what is kept, resumed and answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from made_checkpoints import STEPS, as_float64, oracle, stored_run, walk, write_run

import trajsvc
from storage_schema.models.spectra import OF
from trajsvc.errors import Cancelled, NotFound, Refused, UsageError
from trajsvc.results.stored_spectra import StoredSpectra
from trajsvc.spectra import compute
from trajsvc.spectra.compute import SpectrumObserver, SpectrumTask, compute_spectra
from trajsvc.spectra.options import SpectrumOptions

EPSILON = np.finfo(np.float64).eps
EVERYTHING = SpectrumOptions()


def answers(store: Path) -> StoredSpectra:
    found = trajsvc.open(store, "run").spectrum_answers()
    assert isinstance(found, StoredSpectra)
    return found


def differences(values: Sequence[torch.Tensor], of: str) -> list[np.ndarray]:
    """What each kind of spectrum is of, in float64."""
    wide = [as_float64(v) for v in values]
    if of == "weights":
        return wide
    return [v - wide[0] for v in wide] if of == "displacement" else [b - a for a, b in itertools.pairwise(wide)]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_stored_type_and_kind_has_the_singular_values_of_torch(in_memory: Path, kind: torch.dtype) -> None:
    made = {name: walk(shape, kind, seed) for seed, (name, shape) in enumerate(
        {"a.weight": (24, 24), "b.weight": (40, 9), "c.weight": (7, 33), "c.bias": (7,)}.items())}  # fmt: skip
    store = stored_run(in_memory, [{name: values[t] for name, values in made.items()} for t in range(len(STEPS))])
    done = compute_spectra(store, "run", EVERYTHING)
    assert (done.computed, done.there, done.matrices) == (STEPS, (), 3)
    assert done.left_out == {"c.bias": "a vector"}
    found = answers(store)
    for of in OF:
        for name in ("a.weight", "b.weight", "c.weight"):
            answer, wanted = found.values(name, of), differences(made[name], of)
            assert answer.steps == list(STEPS[1:] if of == "updates" else STEPS)
            for sigma, matrix in zip(answer.values, wanted, strict=True):
                true = oracle(matrix)
                assert np.abs(np.array(sigma) - true).max() <= max(matrix.shape) * EPSILON * true[0]
            assert answer.model_dump()["rows"] == wanted[0].shape[0]


def test_updates_far_smaller_than_the_weights_keep_their_digits(in_memory: Path) -> None:
    made = [
        torch.full((30, 20), 1e3 / 24.5, dtype=torch.float64) + u for u in walk((30, 20), torch.float64, 0, size=1e-8)
    ]
    store = stored_run(in_memory, [{"a.weight": value} for value in made])
    compute_spectra(store, "run", EVERYTHING)
    for sigma, update in zip(
        answers(store).values("a.weight", "updates").values, differences(made, "updates"), strict=True
    ):
        true = oracle(update)
        assert true[0] < 1e-5 * np.linalg.norm(as_float64(made[0]))
        assert np.abs(np.array(sigma) / true - 1).max() < 1e-9


def test_lost_updates_and_the_first_displacement_are_zero_without_ranks(in_memory: Path) -> None:
    value = torch.randn(30, 22, generator=torch.Generator().manual_seed(0))
    store = stored_run(in_memory, [{"a.weight": value, "b.weight": b} for b in walk((22, 25), torch.float32, 1)])
    compute_spectra(store, "run", EVERYTHING)
    for of in ("updates", "displacement"):
        measured = answers(store).measures("a.weight", of).measures
        assert set(measured["sigma_1"]) == {0.0} == set(measured["frobenius"])
        for name in ("stable_rank", "effective_rank", "participation_ratio", "power_law"):
            assert set(measured[name]) == {None}
    assert answers(store).measures("b.weight", "displacement").measures["stable_rank"][0] is None


def test_a_run_of_one_checkpoint_has_no_updates(in_memory: Path) -> None:
    store = stored_run(in_memory, [{"a.weight": torch.eye(4)}], steps=(5,))
    compute_spectra(store, "run", EVERYTHING)
    answer = answers(store).measures("a.weight", "updates")
    assert (answer.steps, answer.measures["sigma_1"]) == ([], [])
    assert answers(store).values("a.weight", "weights").values == [[1.0] * 4]


def test_a_matrix_that_is_not_finite_is_undefined_where_it_is(in_memory: Path) -> None:
    made = walk((12, 10), torch.float32, 0)
    made[2][3, 3] = torch.nan
    other = walk((12, 10), torch.float32, 1)
    store = stored_run(in_memory, [{"a.weight": a, "b.weight": b} for a, b in zip(made, other, strict=True)])
    compute_spectra(store, "run", EVERYTHING)
    found = answers(store)
    weights = found.measures("a.weight", "weights")
    assert weights.method == ["svd", "svd", "not-finite", "svd"]
    assert [v is None for v in weights.measures["sigma_1"]] == [False, False, True, False]
    assert found.values("a.weight", "weights").values[2] == []
    # The update after it is of the checkpoint before it, the last one that is usable.
    updates = found.measures("a.weight", "updates")
    assert (updates.steps, updates.base) == ([10, 20, 30], [0, 10, 10])
    assert updates.measures["sigma_1"][2] == pytest.approx(
        oracle(as_float64(made[3]) - as_float64(made[1]))[0], rel=1e-12
    )


def test_convolutions_are_reshaped_and_stacks_of_experts_taken_apart(in_memory: Path) -> None:
    conv, experts = walk((8, 3, 2, 2), torch.float32, 0), walk((3, 6, 5), torch.float32, 1)
    store = stored_run(
        in_memory,
        [{"conv.weight": c, "mlp.experts.weight": e} for c, e in zip(conv, experts, strict=True)],
    )
    plan = compute.make_plan(trajsvc.open(store, "run"), EVERYTHING)
    notes = {m.name: m.note for m in plan.matrices.found}
    assert notes["conv.weight"] == "8 × 3 × 2 × 2 as 8 × 12"
    compute_spectra(store, "run", SpectrumOptions(of=("weights",)))
    found = answers(store)
    assert found.values("conv.weight", "weights").values[1] == pytest.approx(oracle(as_float64(conv[1]).reshape(8, 12)))
    third = found.values("mlp.experts.weight[expert.2]", "weights").values[3]
    assert third == pytest.approx(oracle(as_float64(experts[3])[2]))


HEADS, DIM, HIDDEN = 3, 4, 12


def neox(t: int) -> dict[str, torch.Tensor]:
    """A layer of GPT-NeoX: Q, K, V head by head in one tensor."""
    at = "gpt_neox.layers.0.attention"
    return {
        "gpt_neox.embed_in.weight": walk((20, HIDDEN), torch.float32, 0)[t],
        f"{at}.query_key_value.weight": walk((3 * HIDDEN, HIDDEN), torch.float32, 1)[t],
        f"{at}.dense.weight": walk((HIDDEN, HIDDEN), torch.float32, 2)[t],
        "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": walk((4 * HIDDEN, HIDDEN), torch.float32, 3)[t],
        "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": walk((HIDDEN, 4 * HIDDEN), torch.float32, 4)[t],
        "embed_out.weight": walk((20, HIDDEN), torch.float32, 5)[t],
    }


def gpt2(t: int) -> dict[str, torch.Tensor]:
    """A layer of GPT-2: Q, K, V side by side in the columns of a Conv1D."""
    return {
        "wte.weight": walk((20, HIDDEN), torch.float32, 0)[t],
        "wpe.weight": walk((16, HIDDEN), torch.float32, 6)[t],
        "h.0.attn.c_attn.weight": walk((HIDDEN, 3 * HIDDEN), torch.float32, 1)[t],
        "h.0.attn.c_proj.weight": walk((HIDDEN, HIDDEN), torch.float32, 2)[t],
        "h.0.mlp.c_fc.weight": walk((HIDDEN, 4 * HIDDEN), torch.float32, 3)[t],
        "h.0.mlp.c_proj.weight": walk((4 * HIDDEN, HIDDEN), torch.float32, 4)[t],
    }


def neox_head(fused: np.ndarray, part: int, head: int) -> np.ndarray:
    return fused.reshape(HEADS, 3, DIM, HIDDEN)[head, part]


def gpt2_head(fused: np.ndarray, part: int, head: int) -> np.ndarray:
    return fused.reshape(HIDDEN, 3, HEADS, DIM)[:, part, head]


NEOX = ("gpt_neox.layers.0.attention.query_key_value.weight", {"model_type": "gpt_neox", "num_attention_heads": HEADS})
GPT2 = ("h.0.attn.c_attn.weight", {"model_type": "gpt2", "n_head": HEADS})


@pytest.mark.parametrize(
    ("named", "tensors", "of_head"), [(NEOX, neox, neox_head), (GPT2, gpt2, gpt2_head)], ids=["gpt-neox", "gpt2"]
)
def test_q_k_v_and_their_heads_are_the_slices_of_the_fused_tensor(
    in_memory: Path,
    named: tuple[str, dict[str, object]],
    tensors: Callable[[int], dict[str, torch.Tensor]],
    of_head: Callable[[np.ndarray, int, int], np.ndarray],
) -> None:
    (name, config), made = named, [tensors(t) for t in range(2)]
    store = stored_run(in_memory, made, steps=(0, 10), config=config)
    compute_spectra(store, "run", SpectrumOptions(of=("updates",), heads=True, groups=("layer/0",)))
    update = as_float64(made[1][name]) - as_float64(made[0][name])
    found = answers(store)
    for part, letter in enumerate("qkv"):
        heads = [of_head(update, part, head) for head in range(HEADS)]
        for head, matrix in enumerate(heads):
            sigma = found.values(f"{name}[{letter}.{head}]", "updates").values[0]
            assert sigma == pytest.approx(oracle(matrix), rel=1e-12)
        whole = np.concatenate(heads, axis=0 if named is NEOX else 1)
        assert found.values(f"{name}[{letter}]", "updates").values[0] == pytest.approx(oracle(whole), rel=1e-12)
    row = found.rows()[0]
    assert row.heads == 3 * HEADS
    assert len(found.layers("updates").matrices) == row.matrices - row.heads == 6
    with pytest.raises(NotFound, match="no spectra of a matrix"):
        found.values("wte.weight", "updates")


def small_run(folder: Path) -> Path:
    made = {name: walk((9, 6), torch.float32, seed) for seed, name in enumerate(("a.weight", "b.weight"))}
    return stored_run(folder, [{name: values[t] for name, values in made.items()} for t in range(len(STEPS))])


def test_what_is_there_is_not_computed_again_and_other_groups_are_added(in_memory: Path) -> None:
    store = small_run(in_memory)
    first = compute_spectra(store, "run", SpectrumOptions(groups=("tensor/a.weight",), steps="0,10"))
    assert first.computed == (0, 10)
    before = answers(store).values("a.weight", "displacement")
    again = compute_spectra(store, "run", SpectrumOptions(groups=("tensor/a.weight",)))
    assert (again.computed, again.there) == ((20, 30), (0, 10))
    more = compute_spectra(store, "run", EVERYTHING)
    assert more.computed == STEPS
    assert compute_spectra(store, "run", EVERYTHING).computed == ()
    after = answers(store).values("a.weight", "displacement", "0,10")
    assert after.values == before.values
    assert answers(store).measures("b.weight", "updates").steps == [10, 20, 30]
    assert compute_spectra(store, "run", EVERYTHING, overwrite=True).computed == STEPS


def test_a_stopped_computation_goes_on_at_the_next_matrix(in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked = small_run(in_memory), []
    monkeypatch.setattr(compute, "WORTH_KEEPING", -1.0)
    real = compute.compute_task

    def counted(reader: object, task: SpectrumTask, *more: object) -> object:
        asked.append((task.step, task.matrices[0].name))
        return real(reader, task, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(compute, "compute_task", counted)
    done: list[str] = []

    class Counted(SpectrumObserver):
        def computed(self, step: int, matrix: str, *_: int) -> None:
            done.append(matrix)

    with pytest.raises(Cancelled):
        compute_spectra(store, "run", EVERYTHING, stop=lambda: len(done) == 3, observer=Counted())
    assert answers(store).values("a.weight", "weights").steps == [0]  # the second checkpoint is not whole
    compute_spectra(store, "run", EVERYTHING)
    assert len(asked) == len(set(asked)) == 2 * len(STEPS)


class _Interrupted(SpectrumObserver):
    def committing(self) -> None:
        raise KeyboardInterrupt


def test_nothing_is_stored_where_the_commit_is_refused(in_memory: Path) -> None:
    store = small_run(in_memory)
    with pytest.raises(KeyboardInterrupt):
        compute_spectra(store, "run", EVERYTHING, observer=_Interrupted())
    assert answers(store).rows() == []


def test_spectra_of_other_checkpoints_are_stale_and_a_new_one_between_makes_updates_stale(in_memory: Path) -> None:
    made = [{"a.weight": value} for value in walk((9, 6), torch.float32, 0)]
    store = stored_run(in_memory, [made[0], made[3]], steps=(0, 30))
    compute_spectra(store, "run", EVERYTHING)
    write_run(in_memory / "run", made[1:2], steps=(10,))
    trajsvc.analyze(in_memory / "run", store=store)
    rows = {row.of: row for row in answers(store).rows()}
    assert (rows["weights"].steps, rows["weights"].stale) == ([0, 30], [])
    assert (rows["updates"].steps, rows["updates"].stale) == ([], [30])
    compute_spectra(store, "run", EVERYTHING)
    updates = answers(store).measures("a.weight", "updates")
    assert (updates.steps, updates.base) == ([10, 30], [0, 10])
    wanted = oracle(as_float64(made[3]["a.weight"]) - as_float64(made[1]["a.weight"]))
    assert answers(store).values("a.weight", "updates").values[1] == pytest.approx(wanted, rel=1e-12)


def test_files_that_changed_are_refused(in_memory: Path) -> None:
    store = small_run(in_memory)
    write_run(in_memory / "other", [{"a.weight": torch.eye(9, 6), "b.weight": torch.eye(9, 6)}], steps=(0,))
    changed = in_memory / "other" / "checkpoint-0" / "model.safetensors"
    changed.replace(in_memory / "run" / "checkpoint-0" / "model.safetensors")
    with pytest.raises(Refused) as caught:
        compute_spectra(store, "run", EVERYTHING)
    assert caught.value.kind == "checkpoint-changed"


def test_beyond_the_budget_the_largest_have_bounds(in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trajsvc.spectra.decompose as decompose

    monkeypatch.setattr(decompose, "method_for", lambda matrix, budget: "lanczos")
    made = walk((50, 40), torch.float32, 0, steps=2)
    store = stored_run(in_memory, [{"a.weight": value} for value in made], steps=(0, 10))
    compute_spectra(store, "run", EVERYTHING)
    answer = answers(store).measures("a.weight", "updates")
    true = oracle(as_float64(made[1]) - as_float64(made[0]))
    bound = answer.measures["sigma_1_bound"][0]
    assert answer.method == ["lanczos"]
    assert bound is not None
    assert abs((answer.measures["sigma_1"][0] or 0) - true[0]) <= bound
    assert answer.measures["effective_rank"] == [None]


def test_errors_say_what_there_is(in_memory: Path) -> None:
    store = small_run(in_memory)
    run = trajsvc.open(store, "run")
    with pytest.raises(NotFound, match="no spectra of 'weights'") as caught:
        run.spectra()
    assert caught.value.kind == "spectra-not-found"
    with pytest.raises(NotFound):
        compute_spectra(store, "run", SpectrumOptions(groups=("layer/9",)))
    with pytest.raises(UsageError):
        compute_spectra(store, "run", EVERYTHING, device="cuda:99")
    compute_spectra(store, "run", EVERYTHING)
    with pytest.raises(NotFound, match="no measure 'sigma'"):
        answers(store).measures("a.weight", "weights", ["sigma"])
    with pytest.raises(NotFound, match="no spectra of a matrix"):
        answers(store).measures("c.weight", "weights")


@pytest.mark.slow
def test_labelled_arrays(in_memory: Path) -> None:
    store = small_run(in_memory)
    compute_spectra(store, "run", EVERYTHING)
    found = trajsvc.open(store, "run").spectra("updates")
    assert (found.matrices, found.steps.tolist()) == (["a.weight", "b.weight"], [10, 20, 30])
    sigma = found.singular_values("b.weight", "20..30")
    assert sigma.dims == ("step", "component")
    assert sigma.sel(step=20).values.tolist() == answers(store).values("b.weight", "updates").values[1]
    ranks = found.layers("stable_rank")
    assert ranks.dims == ("matrix", "step")
    one = found.measure("stable_rank", "b.weight")
    assert ranks.sel(matrix="b.weight").values.tolist() == one.values.tolist()
    squares = np.square(sigma.values)
    assert one.sel(step=[20, 30]).values == pytest.approx(squares.sum(axis=1) / squares[:, 0], rel=1e-12)
