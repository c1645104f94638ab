"""The contract of ``CheckpointSource``: order, selection, headers, bytes, errors, and what happens when a run changes."""

from __future__ import annotations

import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from trajsvc.errors import DamagedCheckpoint, NotFound, TrajsvcError, UsageError
from trajsvc.sources.base import CheckpointRef, CheckpointSource, ReadRequest, TensorEntry
from trajsvc.trajectory.elements import read_elements

State = Mapping[str, NDArray[np.float32]]
STEPS = (1000, 3, 20)
"""In the order in which they are published, which is neither that of their numbers nor of their names."""


class Published(ABC):
    """A run that a test publishes where one kind of source finds it."""

    @abstractmethod
    def add(self, step: int, state: State) -> None:
        """One more checkpoint; nothing else changes."""

    @abstractmethod
    def damage(self, step: int) -> None:
        """Put a file that has no header in the place of a checkpoint's."""

    @abstractmethod
    def open(self) -> CheckpointSource:
        """A source of what is there now, of which nothing has been listed yet."""


def state_of(step: int) -> dict[str, NDArray[np.float32]]:
    """Parameters that tell which step they are of."""
    rng = np.random.default_rng(step)
    shapes = {"a.weight": (60, 7), "a.bias": (60,), "head.weight": (3, 60)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


class CheckpointSourceContract(ABC):
    """Tests of any ``CheckpointSource``. A subclass gives the fixture ``published`` with nothing published."""

    tells_change: ClassVar[bool]
    """whether a checkpoint that was listed may change, and ``unchanged`` then says so"""

    @pytest.fixture
    @abstractmethod
    def published(self) -> Published: ...

    @pytest.fixture
    def source(self, published: Published) -> Iterator[CheckpointSource]:
        """A source of three checkpoints."""
        for step in STEPS:
            published.add(step, state_of(step))
        opened = published.open()
        yield opened
        opened.close()

    def test_checkpoints_are_in_the_order_of_their_numbers(self, source: CheckpointSource) -> None:
        found = source.checkpoints()
        assert [c.step for c in found] == sorted(STEPS)
        assert [c.label for c in found] == [f"step{step}" for step in sorted(STEPS)]
        assert all(c.files and c.format for c in found)
        assert source.checkpoints() == found
        assert source.name
        assert source.uri

    @pytest.mark.parametrize(
        ("asked", "found"),
        [("3,1000", [3, 1000]), ("every:2", [3, 1000]), ("..20", [3, 20]), ([20], [20]), ("last:1", [1000])],
    )
    def test_steps_are_selected_as_everywhere(
        self, source: CheckpointSource, asked: str | list[int], found: list[int]
    ) -> None:
        assert [c.step for c in source.checkpoints(asked)] == found

    @pytest.mark.parametrize(
        ("asked", "of", "kind"), [([4], NotFound, "step-not-found"), ("some", UsageError, "bad-steps")]
    )
    def test_steps_that_are_not_there_are_named(
        self, source: CheckpointSource, asked: str | list[int], of: type[TrajsvcError], kind: str
    ) -> None:
        with pytest.raises(of) as caught:
            source.checkpoints(asked)
        assert caught.value.kind == kind
        assert caught.value.hint

    def test_headers_name_every_tensor_with_its_type_and_shape(self, source: CheckpointSource) -> None:
        for checkpoint in source.checkpoints():
            found = source.tensors(checkpoint).tensors
            want = state_of(checkpoint.step)
            assert {n: (e.dtype, e.shape, e.size) for n, e in found.items()} == {
                n: ("float32", v.shape, v.size) for n, v in want.items()
            }
            assert all(name == entry.name for name, entry in found.items())

    def test_the_bytes_are_those_that_were_published(self, source: CheckpointSource) -> None:
        for checkpoint in reversed(source.checkpoints()):
            for name, want in state_of(checkpoint.step).items():
                assert np.array_equal(_values(source, source.tensors(checkpoint).tensors[name]), want)

    def test_any_range_of_a_tensor_is_read(self, source: CheckpointSource) -> None:
        checkpoint = source.checkpoints()[1]
        entry = source.tensors(checkpoint).tensors["a.weight"]
        want = state_of(checkpoint.step)["a.weight"].ravel()
        for low, high in ((0, 1), (5, 5), (17, 300), (419, 420), (0, 420)):
            out = np.zeros(high - low, np.float32)
            read_elements(source, entry, low, high, memoryview(out).cast("B"))
            assert np.array_equal(out, want[low:high])

    def test_bytes_beyond_the_end_of_a_file_are_an_error(self, source: CheckpointSource) -> None:
        (file, *_) = source.checkpoints()[0].files
        source.tensors(source.checkpoints()[0])
        with pytest.raises((TrajsvcError, ValueError)):
            source.read(file.path, file.size - 3, memoryview(bytearray(4)))

    def test_many_requests_of_many_files_are_filled_in_any_order(self, source: CheckpointSource) -> None:
        """A request may pass over bytes between two buffers."""
        wanted, expected = [], []
        for checkpoint in reversed(source.checkpoints()):
            file = source.tensors(checkpoint).tensors["head.weight"].file
            whole = _file(source, checkpoint, file)
            one, other = bytearray(8), bytearray(40)
            wanted.append(ReadRequest(file, 16, (memoryview(one), 24, memoryview(other))))
            expected += [(one, whole[16:24]), (other, whole[48:88])]
        source.read_many(wanted)
        assert all(bytes(found) == want for found, want in expected)

    def test_requests_end_early_for_a_caller_who_wants_no_more(self, source: CheckpointSource) -> None:
        file = source.tensors(source.checkpoints()[0]).tensors["a.weight"].file
        asked = []

        def stop() -> bool:
            asked.append(True)
            return True

        source.read_many([ReadRequest(file, 0, (memoryview(bytearray(8)),)) for _ in range(100)], stop)
        assert asked

    @pytest.mark.timing
    def test_threads_read_at_the_same_time(self, source: CheckpointSource) -> None:
        entries = {c.step: source.tensors(c).tensors["a.weight"] for c in source.checkpoints()}
        wrong: list[int] = []

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(20):
                step = int(rng.choice(STEPS))
                if not np.array_equal(_values(source, entries[step]), state_of(step)["a.weight"]):
                    wrong.append(step)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_checkpoint_that_is_added_is_seen_after_a_refresh(
        self, published: Published, source: CheckpointSource
    ) -> None:
        before = source.checkpoints()
        published.add(40, state_of(40))
        assert source.checkpoints() == before, "a list does not change under the one who reads it"
        source.refresh()
        found = source.checkpoints()
        assert [c.step for c in found] == [3, 20, 40, 1000]
        assert np.array_equal(_values(source, source.tensors(found[2]).tensors["a.bias"]), state_of(40)["a.bias"])

    def test_what_was_listed_is_unchanged_until_it_changes(
        self, published: Published, source: CheckpointSource
    ) -> None:
        (one, other, _) = source.checkpoints()
        assert source.unchanged(one)
        published.damage(3)
        assert source.unchanged(one) is not self.tells_change
        assert source.unchanged(other)

    def test_a_checkpoint_without_a_header_is_damaged_and_named(self, published: Published) -> None:
        published.add(3, state_of(3))
        published.add(20, state_of(20))
        published.damage(20)
        source = published.open()
        one, other = source.checkpoints()
        assert source.tensors(one).tensors
        with pytest.raises(DamagedCheckpoint) as caught:
            source.tensors(other)
        assert caught.value.step == 20
        assert "step 20" in str(caught.value)
        assert caught.value.file
        assert caught.value.hint
        source.close()

    def test_a_checkpoint_that_is_not_listed_is_not_found(self, source: CheckpointSource) -> None:
        source.checkpoints()
        with pytest.raises(NotFound) as caught:
            source.tensors(CheckpointRef(7, "step7", (), "safetensors"))
        assert (caught.value.kind, caught.value.step) == ("step-not-found", 7)

    def test_where_no_rate_was_logged_there_is_none(self, source: CheckpointSource) -> None:
        assert not source.training_log(source.checkpoints()).series
        assert not source.training_log(()).series

    def test_a_run_without_anything_wrong_has_no_findings(self, source: CheckpointSource) -> None:
        source.checkpoints()
        assert [f for f in source.findings() if f.severity != "info"] == []

    def test_a_portable_source_reads_the_same_elsewhere(self, source: CheckpointSource) -> None:
        checkpoint = source.checkpoints()[0]
        entry = source.tensors(checkpoint).tensors["a.weight"]
        portable = source.portable()
        if portable is None:
            assert source.remote, "only what comes over a network is read by one process alone"
            return
        other = pickle.loads(pickle.dumps(portable))
        assert np.array_equal(_values(other, entry), state_of(checkpoint.step)["a.weight"])
        other.close()


def _values(source: CheckpointSource, entry: TensorEntry) -> NDArray[np.float32]:
    out = np.zeros(entry.shape, np.float32)
    read_elements(source, entry, 0, entry.size, memoryview(out).cast("B"))
    return out


def _file(source: CheckpointSource, checkpoint: CheckpointRef, path: str) -> bytes:
    (file,) = (f for f in checkpoint.files if f.path == path)
    out = bytearray(file.size)
    source.read(path, 0, memoryview(out))
    return bytes(out)
