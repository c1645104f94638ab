"""Fuzz the parsers for a while: ``python tests/fuzz/fuzz.py --seconds 600 [--seed N] [PARSER …]``. A case that is a fault is written to
``build/fuzz`` and ends the run with 1."""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from fuzz_targets import TARGETS, check, mutated  # noqa: E402 (found beside this file)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0, help="for every parser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("parsers", nargs="*", default=sorted(TARGETS))
    given = parser.parse_args()
    return max(fuzz(name, given.seconds, given.seed) for name in given.parsers or sorted(TARGETS))


def fuzz(name: str, seconds: float, seed: int) -> int:
    """Try random cases for ``seconds``; 1 at the first fault."""
    target, until, cases, read = TARGETS[name], time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        data = mutated(random.Random(f"{seed} {cases}"), target)
        cases += 1
        try:
            read += check(target, data)
        except Exception:
            place = Path("build/fuzz") / f"{name.replace(' ', '-')}-{seed}-{cases}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            traceback.print_exc()
            print(f"{name}: a fault after {cases:,} cases, in {place}")
            return 1
    print(f"{name}: {cases:,} cases, {read:,} read, {cases - read:,} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
