"""Two analyses of one run at once, and one of them is killed at a random moment: nothing is lost or torn, and the next one goes on."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_attacked_store import begin, ended, place  # noqa: F401 (a fixture)

import trajsvc

pytestmark = [pytest.mark.slow, pytest.mark.dear, pytest.mark.timing]
MOMENTS = 7
WORDS = ("analyze", "run", "--no-figures", "--copy", "-q")


EARLIER = ("--steps", "0,1")


def analyse(place: Path, store: str | Path, *more: str) -> tuple[int, str]:  # noqa: F811
    return ended(begin(place, *WORDS, *more, "--store", str(store)))


def test_one_of_two_is_killed_at_any_moment(place: Path) -> None:  # noqa: F811
    """What is stored then is to the last bit what it is where nothing was killed, on an earlier commit too."""
    began = time.monotonic()
    assert analyse(place, "new")[0] == 0
    longest, rng = time.monotonic() - began, random.Random(7)
    assert [analyse(place, "grown", *more)[0] for more in (EARLIER, ())] == [0, 0]
    expected = [contents(place / name) for name in ("new", "grown")]
    codes = []
    for moment in range(MOMENTS):
        store = place / f"killed-{moment}"
        if moment % 2:
            assert analyse(place, store, *EARLIER)[0] == 0
        both = [begin(place, *WORDS, "--store", str(store)) for _ in range(2)]
        time.sleep(rng.uniform(0.3, 1.5) * longest)
        both[0].kill()
        both[0].communicate(timeout=600)
        code, said = ended(both[1])
        assert code in (0, 75), said
        assert code == 0 or "is being written by process" in said
        if moment % 2 or (store / "runs" / "run.zarr" / "manifest.json").exists():
            contents(store)  # whole, whichever commit it is
        code, said = analyse(place, store)
        assert code == 0, said
        assert all(np.array_equal(a, b) for a, b in zip(contents(store), expected[moment % 2], strict=True))
        left = [p for p in store.rglob("*") if p.name.endswith((".new", ".partial", ".slabs", ".state"))]
        assert left == []
        codes.append(both[1].returncode)
    print(
        f"of {MOMENTS} that were not killed {codes.count(0)} ended whole, {codes.count(75)} were told that another writes the run"
    )


def contents(store: Path) -> list[NDArray[Any]]:
    """The Gram and the copied checkpoints of a store's run, verified."""
    run = trajsvc.open(store, "run")
    assert not run.stored.verify()
    return [run.gram("network").gram, np.asarray(run.stored.group["theta"])]
