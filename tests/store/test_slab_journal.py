"""The resume journal gives back every record that was kept, and never a torn or altered one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage_schema.errors import DiskFull, JournalMismatch
from storage_schema.files.journal import SlabJournal

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
KINDS = st.sampled_from(["<f8", "<f4", "<i8", "<u8", "<u4", "<u2", "|b1"])
SOME_ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=5),
    KINDS.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
    max_size=4,
)


def equal(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )


def arrays_of(slab: int) -> Arrays:
    return {"gram": np.full((2, 3), slab + 0.5), "seen": np.array([slab], np.int64)}


def kept(journal: SlabJournal) -> list[int]:
    """The slabs of the journal, each checked to hold what ``arrays_of`` says."""
    found = []
    for slab, arrays, meta in journal.replay():
        assert equal(arrays, arrays_of(slab))
        assert meta == {"slab": slab}
        found.append(slab)
    return found


def keep(journal: SlabJournal, *slabs: int) -> None:
    for slab in slabs:
        journal.append(slab, arrays_of(slab), {"slab": slab})


def the_file(folder: Path, suffix: str = "slabs") -> Path:
    (path,) = folder.glob(f"*.{suffix}")
    return path


@given(st.lists(SOME_ARRAYS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_records_come_back(memory_folders: Callable[[], Path], records: list[Arrays]) -> None:
    folder = memory_folders()
    journal = SlabJournal(folder, "job")
    for slab, arrays in enumerate(records):
        journal.append(slab, arrays, {"n": slab})
    for reader in (journal, SlabJournal(folder, "job")):
        found = list(reader.replay())
        assert [(slab, meta) for slab, _, meta in found] == [(i, {"n": i}) for i in range(len(records))]
        assert all(equal(arrays, given) for (_, arrays, _), given in zip(found, records, strict=True))
        assert all(a.flags.writeable for _, arrays, _ in found for a in arrays.values())


def test_nothing_is_created_before_the_first_record(tmp_path: Path) -> None:
    journal = SlabJournal(tmp_path / "work" / "run", "job")
    assert list(journal.replay()) == []
    assert journal.state() is None
    assert journal.nbytes == 0
    journal.discard()
    assert not (tmp_path / "work").exists()


def test_torn_at_every_byte_of_the_last_record(tmp_path: Path) -> None:
    """Cut anywhere in the last record, the others stay; the next record follows them and nothing of the torn one returns."""
    keep(SlabJournal(tmp_path, "job"), 0, 1)
    whole = the_file(tmp_path).stat().st_size
    keep(SlabJournal(tmp_path, "job"), 2)
    data = the_file(tmp_path).read_bytes()
    for size in range(whole, len(data)):
        the_file(tmp_path).write_bytes(data[:size])
        journal = SlabJournal(tmp_path, "job")
        assert kept(journal) == [0, 1]
        assert the_file(tmp_path).stat().st_size == whole
        keep(journal, 2)
        assert kept(SlabJournal(tmp_path, "job")) == [0, 1, 2]
        assert the_file(tmp_path).read_bytes() == data


def test_flipped_at_every_byte(tmp_path: Path) -> None:
    """A flip anywhere ends the journal before the record it is in: no altered number is ever replayed."""
    ends = []
    for slab in range(3):
        keep(SlabJournal(tmp_path, "job"), slab)
        ends.append(the_file(tmp_path).stat().st_size)
    data = the_file(tmp_path).read_bytes()
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        the_file(tmp_path).write_bytes(bad)
        found = kept(SlabJournal(tmp_path, "job"))
        before = sum(end <= at for end in ends)
        header = len(data) - 3 * (ends[1] - ends[0])
        assert found == (list(range(before)) if at >= header else [])


def test_compaction_keeps_the_sum_and_what_comes_later(tmp_path: Path) -> None:
    journal = SlabJournal(tmp_path, "job")
    keep(journal, 0, 1, 2, 3)
    before = journal.nbytes
    journal.compact(3, {"sum": np.arange(3.0)}, {"done": 3})
    assert journal.nbytes < before
    for reader in (journal, SlabJournal(tmp_path, "job")):
        state = reader.state()
        assert state is not None
        assert (state[0], state[1]["sum"].tolist(), state[2]) == (3, [0.0, 1.0, 2.0], {"done": 3})
        assert kept(reader) == [3]
    keep(journal, 4)
    journal.compact(5, {"sum": np.arange(5.0)}, {})
    assert kept(SlabJournal(tmp_path, "job")) == []


def test_records_that_a_crash_in_compaction_leaves_are_not_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is in place and the old records are still there: a replay skips them."""
    keep(SlabJournal(tmp_path, "job"), 0, 1, 2)
    old = the_file(tmp_path).read_bytes()
    SlabJournal(tmp_path, "job").compact(2, {"sum": np.ones(1)}, {})
    the_file(tmp_path).write_bytes(old)
    journal = SlabJournal(tmp_path, "job")
    state = journal.state()
    assert state is not None
    assert state[0] == 2
    assert kept(journal) == [2]


def test_an_altered_state_is_dropped_with_the_records_that_need_it(tmp_path: Path) -> None:
    journal = SlabJournal(tmp_path, "job")
    keep(journal, 0, 1)
    journal.compact(1, {"sum": np.ones(4)}, {})
    state = the_file(tmp_path, "state")
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    journal = SlabJournal(tmp_path, "job")
    assert journal.state() is None
    assert kept(journal) == []
    keep(journal, 0)
    assert kept(SlabJournal(tmp_path, "job")) == [0]


def test_jobs_do_not_see_each_other(tmp_path: Path) -> None:
    keep(SlabJournal(tmp_path, "one"), 0, 1)
    other = SlabJournal(tmp_path, "two")
    assert kept(other) == []
    keep(other, 0)
    assert kept(SlabJournal(tmp_path, "one")) == [0, 1]
    other.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_written_for_another_job_is_refused(tmp_path: Path) -> None:
    keep(SlabJournal(tmp_path, "one"), 0)
    one = the_file(tmp_path)
    keep(SlabJournal(tmp_path, "two"), 0)
    (two,) = set(tmp_path.iterdir()) - {one}
    one.replace(two)
    with pytest.raises(JournalMismatch, match="another job"):
        SlabJournal(tmp_path, "two")


def test_python_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Python objects"):
        SlabJournal(tmp_path, "job").append(0, {"x": np.array([object()])}, {})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failed_write_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    journal = SlabJournal(tmp_path, "job")
    keep(journal, 0)
    size = journal.nbytes
    real = os.pwrite

    def half(fd: int, data: memoryview, at: int) -> int:
        if at > size:
            raise OSError(code, os.strerror(code))
        return real(fd, data[: len(data) // 2], at)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError) as caught:  # noqa: PT011  (its class is what is asked)
        keep(journal, 1)
    assert isinstance(caught.value, DiskFull) == (code != errno.EIO)
    monkeypatch.undo()
    assert the_file(tmp_path).stat().st_size == size
    assert kept(SlabJournal(tmp_path, "job")) == [0]
    keep(journal, 1)
    assert kept(SlabJournal(tmp_path, "job")) == [0, 1]


@pytest.mark.parametrize("room", [0, 1, 43, 44, 200, 500])
def test_a_file_size_limit_is_a_full_disk(tmp_path: Path, room: int) -> None:
    """RLIMIT_FSIZE in a process of its own: every whole record stays, and the job goes on when there is room."""
    keep(SlabJournal(tmp_path, "job"), 0, 1)
    limit = the_file(tmp_path).stat().st_size + room
    script = (
        "import resource, sys, numpy as np\nfrom storage_schema.files.journal import SlabJournal\n"
        "from storage_schema.errors import DiskFull\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "journal = SlabJournal(sys.argv[1], 'job')\nslab = 2\n"
        "try:\n    while True:\n        journal.append(slab, {'gram': np.full((2, 3), slab + 0.5), "
        "'seen': np.array([slab], np.int64)}, {'slab': slab})\n        slab += 1\n"
        "except DiskFull as full:\n    print(slab, 'Free some space' in full.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(limit)], capture_output=True, text=True, check=True
    )
    reached = int(done.stdout.split()[0])
    assert done.stdout == f"{reached} True\n"
    journal = SlabJournal(tmp_path, "job")
    assert kept(journal) == list(range(reached))
    keep(journal, reached)
    assert kept(SlabJournal(tmp_path, "job")) == list(range(reached + 1))
