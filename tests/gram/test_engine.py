"""The engine's Gram against a float64 oracle: at any update size, in any plan, interrupted or not."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_theta import MemoryTheta, make_theta, relative
from slow_params import slow_but

from trajsvc.errors import Cancelled
from trajsvc.gram.engine import Progress, compute
from trajsvc.gram.estimate import estimated, group_replicates
from trajsvc.gram.kernels.choose import kernel_factory
from trajsvc.gram.plan import make_plan
from trajsvc.gram.sums import GramState, appended
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.measures.jackknife import standard_error

MIB = 2**20
TOLERANCE = 1e-13
"""of an inner product, relative to the product of the norms, in float64"""
SINGLE = 1e-6
"""the same in float32: values of few digits, whose squares round unevenly, come closest to it"""


@pytest.fixture
def theta() -> MemoryTheta:
    return make_theta(9)


DEVICES = ["cpu", "torch:cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def gram_of(theta: MemoryTheta, device: str = "cpu", **plan: Any) -> GramState:
    made = make_plan(theta.columns, len(theta.values[0]), **plan)
    return compute(theta, made, kernel_factory(device, made), ThreadPool(made.threads))


@dataclass
class MemoryJournal:
    """A journal that keeps what a real one would have on disk."""

    slabs: dict[int, dict[str, Any]] = field(default_factory=dict)
    kept: tuple[int, dict[str, Any], dict[str, Any]] | None = None
    nbytes: int = 0

    def replay(self) -> Iterator[tuple[int, Mapping[str, Any], Mapping[str, Any]]]:
        return ((k, v, {}) for k, v in sorted(self.slabs.items()))

    def append(self, slab: int, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        self.slabs[slab] = {k: v.copy() for k, v in arrays.items()}

    def state(self) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        return self.kept

    def compact(self, cursor: int, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        self.kept = (cursor, {k: v.copy() for k, v in arrays.items()}, {})
        self.slabs.clear()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_inner_products_are_exact_at_any_update_size(device: str, size: float) -> None:
    theta = make_theta(9, size=size, types=("float64",))
    state = gram_of(theta, device)
    for block in range(5):
        assert relative(state.gram[block], theta.oracle(block)) < TOLERANCE


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "types", [("float16",), ("bfloat16",), ("float32",), ("float16", "float32", "bfloat16", "float64")]
)
def test_every_stored_type_and_their_mixture(device: str, types: tuple[str, ...]) -> None:
    theta = make_theta(9, types=types)
    state = gram_of(theta, device)
    for block in range(5):
        assert relative(state.gram[block], theta.oracle(block)) < TOLERANCE


@pytest.mark.parametrize(
    "types", [("float16",), ("bfloat16",), ("float32",), ("float64",), ("float16", "float32", "bfloat16", "float64")]
)
@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_the_fast_way_keeps_six_digits(types: tuple[str, ...], size: float) -> None:
    theta = make_theta(9, size=size, types=types)
    state = gram_of(theta, precision="float32")
    for block in range(5):
        assert relative(state.gram[block], theta.oracle(block)) < SINGLE


@pytest.mark.slow
@pytest.mark.timing
@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from([64, 100, 200, 400]),
    st.integers(1, 3),
    st.sampled_from([0.001, 0.02, 0.2, 1.0]),
    st.integers(1, 12),
    st.sampled_from(["float64", "float32"]),
    st.sampled_from([("float16",), ("float32",), ("float32", "bfloat16")]),
    st.booleans(),
)
def test_any_plan_gives_the_same_bits(
    mib: int, threads: int, fraction: float, rows: int, precision: str, types: tuple[str, ...], broken: bool
) -> None:
    theta = make_theta(rows, seed=rows, types=types, large=2**17 + 77)
    if broken:
        theta.values[0][rows // 2][70_000] = torch.inf
    one = gram_of(theta, precision=precision)
    other = gram_of(
        theta, precision=precision, memory=mib * MIB, threads=threads, sample_fraction=fraction, slab=MIB // 2
    )
    assert one.gram.tobytes() == other.gram.tobytes()
    assert (one.fingerprint == other.fingerprint).all()
    assert (one.nonfinite == other.nonfinite).all()


def test_every_byte_is_read_once(theta: MemoryTheta) -> None:
    gram_of(theta, sample_fraction=0.05)
    count = [np.zeros((9, c.size), np.int64) for c in theta.columns]
    for column, row, lo, hi in theta.reads:
        count[column][row, lo:hi] += 1
    assert all((c == 1).all() for c in count)


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.parametrize("compact", [False, True])
def test_an_interrupted_run_resumes_to_the_same_bits(theta: MemoryTheta, compact: bool) -> None:
    plan = make_plan(theta.columns, 9, slab=MIB // 4)
    assert len(plan.slabs) > 12
    kernel = kernel_factory("cpu", plan)
    whole = compute(theta, plan, kernel, ThreadPool(2))
    for stop_after in range(1, len(plan.slabs) - 8):  # the last ones may be under way when the stop comes
        journal = MemoryJournal(nbytes=2**40 if compact else 0)
        stop = threading.Event()

        def halt(progress: Progress, n: int = stop_after, stop: threading.Event = stop) -> None:
            if progress.state.cursor >= n:
                stop.set()

        with pytest.raises(Cancelled):
            compute(theta, plan, kernel, ThreadPool(2), journal=journal, stop=stop, progress=halt)
        theta.reads.clear()
        state = compute(theta, plan, kernel, ThreadPool(2), journal=journal)
        assert state.gram.tobytes() == whole.gram.tobytes()
        assert (state.fingerprint == whole.fingerprint).all()
        assert np.array_equal(state.zeros, whole.zeros)
        assert np.array_equal(state.nonfinite, whole.nonfinite)
        again = {(c, lo) for c, _, lo, _ in theta.reads}
        kept = {(s.column, s.lo) for slab in plan.slabs[:stop_after] for s in slab.segments}
        assert not again & kept


@pytest.mark.parametrize("device", DEVICES)
def test_appended_rows_equal_a_computation_anew(device: str) -> None:
    theta = make_theta(12)
    whole = gram_of(theta, device)
    first = MemoryTheta([c[:9] for c in theta.values], theta.columns)
    added = gram_of(theta, device, new=3)
    joined = appended(gram_of(first, device).gram, added.gram)
    for block in range(5):
        assert relative(joined[block], theta.oracle(block)) < TOLERANCE
        assert relative(joined[block], whole.gram[block]) < TOLERANCE
    assert (added.fingerprint == whole.fingerprint).all()


@pytest.mark.parametrize("device", DEVICES)
def test_values_that_are_not_finite_are_held_and_counted(device: str) -> None:
    theta = make_theta(6)
    theta.values[0][2][7] = torch.nan
    theta.values[0][3][100_000] = torch.inf
    theta.values[1][0][:] = torch.nan
    state = gram_of(theta, device)
    assert state.nonfinite[0].tolist() == [0, 0, 1, 1, 0, 0]
    assert state.nonfinite[1].tolist() == [20_000, 0, 0, 0, 0, 0]
    held = MemoryTheta([[v.clone() for v in c] for c in theta.values], theta.columns)
    held.values[0][2][7] = held.values[0][1][7]
    held.values[0][3][100_000] = held.values[0][2][100_000]
    held.values[1][0][:] = 0
    for block in range(5):
        assert relative(state.gram[block], held.oracle(block)) < TOLERANCE


@pytest.mark.parametrize("scale", [1e-25, 1e-30, 1e25, 1e100, 1e-100])
def test_squares_beyond_float32_are_not_lost(scale: float) -> None:
    theta = make_theta(5, types=("float64",))
    theta.values = [[v * scale for v in c] for c in theta.values]
    state = gram_of(theta)
    for block in range(5):
        assert relative(state.gram[block] / scale**2, theta.oracle(block) / scale**2) < TOLERANCE


def test_one_checkpoint_and_a_repeated_one() -> None:
    one = gram_of(make_theta(1))
    assert one.gram.shape == (5, 1, 1)
    assert (one.gram > 0).all()
    theta = make_theta(4)
    for column in theta.values:
        column[2] = column[1].clone()
    state = gram_of(theta)
    assert (state.gram[:, 2, :] == 0).all()
    assert state.fingerprint[1] == state.fingerprint[2] != state.fingerprint[3]


def test_zeros_are_counted() -> None:
    theta = make_theta(3, large=2**20)
    theta.values[0][1][: 2**19] = 0
    theta.values[2][2][:30] = 0
    state = gram_of(theta)
    assert [state.zeros[0, 0], state.zeros[0, 1], state.zeros[2, 2]] == [0, 2**19, 30]


def truth_of(theta: MemoryTheta) -> np.ndarray:
    """The network's cosines."""
    return _cosines(sum(theta.oracle(b) for b in range(5)))


def deviations(truth: np.ndarray, state: GramState) -> np.ndarray:
    """How far the network's estimated cosines are from the truth, in standard errors."""
    gram, without = group_replicates(state, [0, 1, 2, 3, 4])
    error = standard_error(np.stack([_cosines(g) for g in without]))
    off = np.triu_indices(len(gram), 1)
    return (np.abs(_cosines(gram) - truth)[off]) / np.maximum(error[off], 1e-12)


@pytest.mark.slow
def test_estimates_after_the_sample_cover_the_truth() -> None:
    """The large tensor has four granules in the sample: 94 % of errors should be below 3 standard errors (Student's t, three degrees of
    freedom), and half of them below 0.77."""
    far = []
    for seed in range(12):
        theta = make_theta(8, size=0.3, large=2**21, seed=seed)
        plan = make_plan(theta.columns, 8)
        state = compute(theta, plan, kernel_factory("cpu", plan), ThreadPool(2), until=plan.sample_slabs)
        assert state.fraction < 0.05
        assert not state.exact
        far.append(deviations(truth_of(theta), state))
    assert np.mean(np.array(far) < 3) > 0.88
    assert 0.5 < np.median(far) < 1.1


@pytest.mark.slow
@pytest.mark.parametrize("awake", slow_but([0.5, 0.7], [0.7]))
def test_estimates_hold_where_neighbours_are_alike(awake: float) -> None:
    """An embedding whose later rows no token uses: they never move. Neither right after the sample nor in the middle is the estimate far
    from the truth by its own account. (Of a part that no granule of the sample met nothing can be known.)"""
    far = []
    for seed in range(8):
        theta = make_theta(6, size=0.3, large=2**20, seed=seed)
        asleep = int(awake * 2**20)
        for row in theta.values[0][1:]:
            row[asleep:] = theta.values[0][0][asleep:]
        truth = truth_of(theta)

        def note(progress: Progress) -> None:
            if progress.state.cursor >= progress.state.plan.sample_slabs and not progress.state.exact:
                far.append(deviations(truth, progress.state))  # noqa: B023

        plan = make_plan(theta.columns, 6, slab=2**22)
        compute(theta, plan, kernel_factory("cpu", plan), ThreadPool(2), progress=note)
    assert len(far) > 40
    assert np.mean(np.array(far) < 3) > 0.9


def test_the_estimate_sharpens_until_it_is_exact() -> None:
    theta = make_theta(6, size=0.3, large=2**21)
    plan = make_plan(theta.columns, 6, memory=64 * MIB)
    errors = []

    def note(progress: Progress) -> None:
        if progress.state.cursor >= plan.sample_slabs:
            _, without = group_replicates(progress.state, range(5))
            errors.append(float(standard_error(np.stack([_cosines(g) for g in without])).max()))

    state = compute(theta, plan, kernel_factory("cpu", plan), ThreadPool(2), progress=note)
    assert len(errors) > 3
    half = len(errors) // 2
    assert np.mean(errors[half:]) < np.mean(errors[:half])
    assert max(errors) < 3 * errors[0]
    assert errors[-1] < 1e-14
    assert np.array_equal(estimated(state), state.gram)


def test_an_estimate_is_what_was_seen_and_the_sample_for_the_rest() -> None:
    """Against sums element by element: right after the sample it is (n/s) of them; later the end that is unread is scaled alone."""
    theta = make_theta(4, size=0.3, large=2**20)
    plan = make_plan(theta.columns, 4, slab=2**22)
    state = compute(theta, plan, kernel_factory("cpu", plan), ThreadPool(2), until=plan.sample_slabs)
    scale = 2**20 / state.seen[0]
    np.testing.assert_allclose(estimated(state)[0], state.gram[0] * scale, rtol=1e-12)
    read = [s for slab in plan.slabs[: plan.sample_slabs] for s in slab.segments if s.column == 0]
    assert len(read) == 4
    assert len({s.replicate for s in read}) == 4
    assert state.seen[0] == sum(s.size for s in read)
    large = np.cumsum([sum(s.size for s in slab.segments if s.column == 0) for slab in plan.slabs])
    until = int(np.searchsorted(large, 2**20 - 2**17)) + 1
    later = compute(theta, plan, kernel_factory("cpu", plan), ThreadPool(2), until=until)
    unread = 2**20 - int(later.seen[0])
    basis = np.concatenate([theta.block(0)[:1], np.diff(theta.block(0), axis=0)])
    last = max(read, key=lambda s: s.lo)
    assert 0 < unread < 2**18 - last.size, "what is unread lies in the last of four strata"
    wanted = later.gram[0] + unread / last.size * (basis[:, last.lo : last.hi] @ basis[:, last.lo : last.hi].T)
    np.testing.assert_allclose(estimated(later)[0], wanted, rtol=1e-6, atol=0.01)


def _cosines(gram: np.ndarray) -> np.ndarray:
    points = np.tril(np.ones_like(gram)) @ gram @ np.tril(np.ones_like(gram)).T
    norm = np.sqrt(np.diag(points))
    return points / np.outer(norm, norm)
