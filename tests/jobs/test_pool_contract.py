"""Threads and dask workers keep to the contract of pools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contracts.slab_pool import SlabPoolContract

from trajsvc.gram.thread_pool import ThreadPool
from workers.cluster import Cluster
from workers.dask_pool import DaskPool


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(workers=1)
    yield made
    made.close()


class TestThreads(SlabPoolContract):
    @pytest.fixture
    def pool(self) -> ThreadPool:
        return ThreadPool(2)


class TestDask(SlabPoolContract):
    @pytest.fixture
    def pool(self, cluster: Cluster) -> DaskPool:
        return DaskPool(cluster, threads=2)
