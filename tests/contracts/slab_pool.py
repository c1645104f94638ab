"""The contract of ``SlabPool``: results in order and bit for bit, errors as they were raised, cancelling, and what an attempt leaves."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trajsvc.errors import Cancelled, TrajsvcError
from trajsvc.gram.engine import SlabPool
from trajsvc.gram.kernels.choose import KernelFactory
from trajsvc.gram.plan import make_plan
from trajsvc.gram.slab_worker import SlabJob
from trajsvc.gram.sums import SlabResult
from trajsvc.sources.local.source import LocalSource
from trajsvc.trajectory.opening import open_trajectory


def write_run(folder: Path) -> Path:
    """Five checkpoints of two tensors."""
    rng = np.random.default_rng(1)
    for step in range(5):
        place = folder / f"step{step}"
        place.mkdir(parents=True)
        values = {f"layers.{i}.weight": rng.standard_normal((300, 700)).astype(np.float32) for i in range(2)}
        save_file(values, place / "model.safetensors")
    return folder


def bits(result: SlabResult) -> dict[str, bytes]:
    return {name: np.asarray(value).tobytes() for name, value in result.arrays().items()}


class SlabPoolContract(ABC):
    """Tests of any ``SlabPool``. A subclass gives the fixture ``pool``."""

    @pytest.fixture
    @abstractmethod
    def pool(self) -> SlabPool: ...

    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        return write_run(tmp_path / "run")

    @pytest.fixture
    def job(self, run: Path, tmp_path: Path) -> Iterator[SlabJob]:
        """A job of a dozen slabs."""
        source = LocalSource(run)
        theta = open_trajectory(source)
        plan = make_plan(theta.columns, len(theta.rows), slab=2**19)
        assert len(plan.slabs) >= 8
        yield SlabJob(theta, plan, KernelFactory.of("cpu", plan), key="a job", folder=tmp_path / "work")
        source.close()

    @pytest.fixture
    def alone(self, job: SlabJob) -> list[dict[str, bytes]]:
        """Every slab computed here, one after the other."""
        return [bits(job.run(slab, lambda: False)) for slab in job.plan.slabs]

    def test_results_come_in_the_order_of_the_slabs_bit_for_bit(
        self, pool: SlabPool, job: SlabJob, alone: list[dict[str, bytes]]
    ) -> None:
        pool.ready("cpu")
        found = list(pool.results(job, job.plan.slabs))
        assert [result.slab for result in found] == [slab.index for slab in job.plan.slabs]
        assert [bits(result) for result in found] == alone

    def test_some_slabs_are_computed_and_no_others(
        self, pool: SlabPool, job: SlabJob, alone: list[dict[str, bytes]]
    ) -> None:
        some = job.plan.slabs[3:6]
        assert [bits(result) for result in pool.results(job, some)] == alone[3:6]
        assert list(pool.results(job, ())) == []

    def test_a_consumer_may_leave_early_and_the_pool_goes_on(
        self, pool: SlabPool, job: SlabJob, alone: list[dict[str, bytes]]
    ) -> None:
        results = iter(pool.results(job, job.plan.slabs))
        assert bits(next(results)) == alone[0]
        results.close()  # type: ignore[attr-defined]
        assert [bits(result) for result in pool.results(job, job.plan.slabs)] == alone

    def test_a_job_that_is_stopped_is_cancelled(self, pool: SlabPool, job: SlabJob) -> None:
        stopped = job.until(threading.Event())
        stopped.stop.set()
        with pytest.raises(Cancelled):
            list(pool.results(stopped, job.plan.slabs))

    def test_an_error_comes_back_as_it_was_raised(self, pool: SlabPool, job: SlabJob, run: Path) -> None:
        path = run / "step3" / "model.safetensors"
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(TrajsvcError) as wanted:
            [job.run(slab, lambda: False) for slab in job.plan.slabs]
        with pytest.raises(TrajsvcError) as caught:
            list(pool.results(job, job.plan.slabs))
        one, other = wanted.value, caught.value
        assert (type(other), other.kind, other.step, other.file) == (type(one), one.kind, one.step, one.file)

    def test_what_is_kept_is_there_for_the_next_attempt_until_it_is_forgotten(
        self, pool: SlabPool, job: SlabJob, alone: list[dict[str, bytes]]
    ) -> None:
        """A pool that keeps nothing has nothing to give, and says so."""
        slabs = job.plan.slabs
        assert list(pool.kept(job, slabs)) == []
        for result in pool.results(job, slabs[:4]):
            assert bits(result) == alone[result.slab]
        kept = [bits(result) for result in pool.kept(job, slabs)]
        assert kept == (alone[:4] if pool.keeps(job) else [])
        pool.forget(job, slabs[:4])
        assert list(pool.kept(job, slabs)) == []
