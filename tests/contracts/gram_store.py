"""The contract of ``GramStore``: tables that agree with each other, and groups whose Grams are sums of their blocks'."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pytest

from storage_schema.runs.gram_store import GramStore
from storage_schema.runs.reader import StoredRun


class GramStoreContract(ABC):
    """Tests of any ``GramStore``. A subclass gives the fixtures ``grams`` and ``stored``: the same run, the latter as it was committed."""

    @pytest.fixture
    @abstractmethod
    def grams(self) -> GramStore: ...

    @pytest.fixture
    @abstractmethod
    def stored(self) -> StoredRun: ...

    def test_its_tables_are_those_that_were_committed(self, grams: GramStore, stored: StoredRun) -> None:
        assert grams.checkpoint_count == len(stored.checkpoints.step)
        assert grams.checkpoints.step.tolist() == stored.checkpoints.step.tolist()
        for column in ("label", "fingerprint", "dtype"):
            assert getattr(grams.checkpoints, column) == getattr(stored.checkpoints, column)
        for column in ("name", "tensor", "part", "layer", "component"):
            assert getattr(grams.blocks, column) == getattr(stored.blocks, column)
        assert grams.blocks.size.tolist() == stored.blocks.size.tolist()
        assert grams.blocks.offset.tolist() == stored.blocks.offset.tolist()

    def test_it_says_which_commit_it_is_of(self, grams: GramStore, stored: StoredRun) -> None:
        assert grams.generation == stored.generation
        assert grams.digest
        assert grams.attributes["precision"] == stored.attributes["precision"]

    def test_a_checkpoint_is_usable_where_its_column_is_0(self, grams: GramStore, stored: StoredRun) -> None:
        found = grams.nonfinite()
        assert found.shape[1] == grams.checkpoint_count
        assert np.array_equal(found.any(axis=0), stored.nonfinite().any(axis=0))

    def test_the_gram_of_a_group_is_the_sum_of_its_blocks(self, grams: GramStore, stored: StoredRun) -> None:
        every = list(range(len(stored.blocks.size)))
        layer = [b for b in every if stored.blocks.layer[b] == "1"]
        assert layer
        for group, blocks in (("network", every), ("layer/1", layer)):
            gram, rounding = grams.group_gram(group, blocks)
            assert gram.shape == (grams.checkpoint_count,) * 2
            assert gram.dtype == rounding.dtype == np.float64
            assert np.array_equal(gram, stored.gram(blocks))
            assert np.array_equal(rounding, stored.rounding(blocks))

    def test_changed_values_are_counted_by_group(self, grams: GramStore, stored: StoredRun) -> None:
        counted = stored.changes()
        assert counted is not None
        every = list(range(len(stored.blocks.size)))
        for group, blocks in (("network", every), ("layer/1", [b for b in every if stored.blocks.layer[b] == "1"])):
            found = grams.group_changes(group, blocks)
            assert found is not None
            assert found.tolist() == counted[blocks].sum(axis=0).tolist()

    def test_rows_are_those_of_the_blocks_that_are_matrices(self, grams: GramStore, stored: StoredRun) -> None:
        assert grams.has_rows == stored.has_rows
        assert stored.has_rows
        for group, blocks in (
            ("network", list(range(len(stored.blocks.size)))),
            ("layer/1", [b for b in range(len(stored.blocks.size)) if stored.blocks.layer[b] == "1"]),
        ):
            found, wanted = grams.group_rows(group, blocks), stored.group_rows(group, blocks)
            assert found is not None
            assert wanted is not None
            assert found.block.tolist() == wanted.block.tolist()
            assert found.index.tolist() == wanted.index.tolist()
            assert np.array_equal(found.norms, wanted.norms)
            assert found.norms.shape == (len(found.block), 3, grams.checkpoint_count)

    def test_an_exact_run_has_no_replicates(self, grams: GramStore, stored: StoredRun) -> None:
        assert grams.group_left_out("network", list(range(len(stored.blocks.size)))) is None
