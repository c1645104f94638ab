"""Phases of a trajectory: where its updates change their speed or their direction, by kernel segmentation of the Gram.

Every defined update is a point with two features.

* Speed, ℓ_t = ln of the update's norm, with uneven spans between checkpoints taken out (``log_speed``).
* Direction, g_t = U_t/‖U_t‖, through the kernel g_s·g_t less its mean at that lag. A steady trajectory, whose correlations depend on
  the lag alone (a random walk, a drift, momentum), leaves nothing there; a turn leaves agreement on either side and none across.

The cost of a segment of updates a … b − 1 of m members is

    J(a, b) = Σ (ℓ_t − line)² / s²  +  w · (Σ_t K_tt − (1/m) Σ_st K_st)

the scatter of ℓ about its own line in the index, so that a ramp is one phase and its end is a change, and the kernel scatter of
directions about their mean. s = max(``SPEED_SCALE``, noise of ℓ): speeds within 20 % are taken for the same, however
little noise a large group has. The segmentation minimises Σ J + β · (number of changes) exactly (``best_segments``), where

    β = 3 ln n · max(1, n/40)  +  2 w sqrt(4 ln n / P)

is the price of a change: three coefficients by the Bayesian information criterion, for at most 40 independent updates' worth of
evidence, as neighbours on a smooth schedule are not independent; and what chance gives directions in P dimensions. The constants
are conventions, chosen on simulated walks, drifts, momentum, turns and schedules and on a few small trained networks; they do not
depend on the run. Boundaries of ``strength`` near 1 depend on them. A smooth schedule whose logarithm is far from a line (a cosine
down to nearly zero) is cut where it bends most; in groups of fewer than about 20 parameters, chance makes a change in a few walks of
a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.correlations import update_map
from trajsvc.measures.geometry import zero_updates
from trajsvc.measures.norms import update_norm
from trajsvc.measures.segments import best_segments, line_cost, scatter_cost, without_lag

SPEED_SCALE: Final = 0.2
DIRECTION_WEIGHT: Final = 4.0
INDEPENDENT: Final = 40
SHORTEST: Final = 3
"""Updates in a phase at least: a line and something to judge it by."""
FEWEST_POINTS: Final = 6
JUMP: Final = 2.0
"""Steps of speed of less than this many s are bends."""


@dataclass(frozen=True)
class ChangePoint:
    """A checkpoint at which the character of the updates changes."""

    step: int
    """the checkpoint between the last update before the change and the first after it"""
    between: tuple[int, int]
    """the earliest and latest checkpoint that the change could as well be at: cost within 4 of the best"""
    kind: Literal["jump", "bend", "turn"]
    """a step of speed; a change of its trend; a change of direction at much the same speed"""
    evidence: float
    """share that the change explains of the scatter of the two neighbouring phases taken as one, 0 … 1: that of speeds about their
    line for a jump or a bend, that of directions about their mean for a turn"""
    strength: float
    """what the change explains over the price of a change; above 1 as a rule"""
    speed_ratio: float
    """speed after over speed before, at the change, by the lines of the two phases"""


@dataclass(frozen=True)
class Phase:
    """A stretch of the trajectory between change points; the steps are those of its first and last checkpoint."""

    start_step: int
    end_step: int
    evidence: float | None
    """that of the change at which the phase begins; None for the first"""
    updates: int
    """defined updates in the phase"""
    growth: float
    """speed at the last update over speed at the first, by the phase's line"""
    neighbour_cosine: float
    """mean cosine of successive defined updates"""
    change: ChangePoint | None


def phases(gram: GroupGram) -> list[Phase]:
    """Find the phases of the trajectory, in order; a single one if no change is found. They meet at change points.

    Zero updates are skipped. The list is empty with fewer than six checkpoints or five defined updates.
    """
    features = _features(gram)
    if features is None:
        return []
    ends = best_segments(features.costs[0] + features.costs[1], features.price, SHORTEST)
    cuts = [0, *ends]
    changes = [_change(features, *cut) for cut in zip(cuts[:-2], cuts[1:-1], cuts[2:], strict=True)]
    borders = [int(gram.steps[0]), *(change.step for change in changes), int(gram.steps[-1])]
    spans = zip(pairwise(cuts), pairwise(borders), [None, *changes], strict=True)
    return [_phase(features, *updates, *steps, change) for updates, steps, change in spans]


def change_points(gram: GroupGram) -> list[ChangePoint]:
    """Return the change points between ``phases``, in order; empty if there is none or the trajectory is too short to
    say.
    """
    return [phase.change for phase in phases(gram) if phase.change is not None]


def log_speed(gram: GroupGram) -> tuple[NDArray[np.int64], Array]:
    """Return the indices t of the defined updates, and ln of their speed up to a constant (update t leads to checkpoint
    t + 1).

    The norm of an update over Δ steps grows as Δ^h, h = 1/2 for a random walk and 1 for a straight path; two neighbours with cosine ρ
    double their span with a factor sqrt(2 (1 + ρ)), so h = (1 + log2(1 + ρ)) / 2 with ρ cut to [0, 1]. Then

        ℓ_t − ℓ_{t−1} = ln(‖U_t‖/‖U_{t−1}‖) − h_t ln(Δ_t/Δ_{t−1}),

    which leaves a steady trajectory level under any spacing of checkpoints. Natural logarithm, unit: 1.
    """
    index = np.flatnonzero(~zero_updates(gram.gram))
    logs = np.log(update_norm(gram)[index])
    spans = np.log(np.maximum(np.diff(gram.steps), 1)[index].astype(np.float64))
    cosines = update_map(gram)[index[:-1], index[1:]]
    exponents = 0.5 * (1.0 + np.log2(1.0 + np.clip(cosines, 0.0, 1.0)))
    return index, logs - np.concatenate([np.zeros(min(1, len(index))), np.cumsum(exponents * np.diff(spans))])


@dataclass(frozen=True)
class _Features:
    """The input of the segmentation: n defined updates."""

    steps: NDArray[np.int64]
    index: NDArray[np.int64]
    speed: Array
    scale: float
    cosines: Array
    costs: tuple[Array, Array]
    """(n + 1, n + 1) each, of segments [a, b): speed, weighted direction"""
    price: float

    def share(self, start: int, at: int, end: int, kind: str) -> float:
        """Return the share of the scatter of directions (a turn) or of speeds about their line that the change
        explains.
        """
        costs = scatter_cost(self.cosines) if kind == "turn" else self.costs[0]
        whole = float(costs[start, end])
        return 1.0 - float(costs[start, at] + costs[at, end]) / whole if whole > 0.0 else 0.0

    def gain(self, start: int, at: int, end: int) -> tuple[float, float]:
        """Return how much a change at ``at`` lowers the cost of [start, end): by speed, by direction."""
        speed, direction = (float(c[start, end] - c[start, at] - c[at, end]) for c in self.costs)
        return speed, direction

    def line(self, start: int, end: int) -> NDArray[np.float64]:
        """Fit a line to the speed over the segment; return its slope and level."""
        return np.polyfit(self.index[start:end], self.speed[start:end], 1)

    def checkpoint(self, at: int) -> int:
        """Return the step at which update ``at`` begins."""
        return int(self.steps[self.index[at]])


def _features(gram: GroupGram) -> _Features | None:
    index, speed = log_speed(gram)
    count = len(index)
    if len(gram.steps) < FEWEST_POINTS or count < FEWEST_POINTS - 1:
        return None
    noise = 1.4826 * float(np.median(np.abs(np.diff(speed, 2)))) / np.sqrt(6.0)
    scale = max(SPEED_SCALE, noise)
    cosines = update_map(gram)[np.ix_(index, index)]
    costs = line_cost(index.astype(np.float64), speed / scale), DIRECTION_WEIGHT * scatter_cost(without_lag(cosines))
    log = np.log(count)
    chance = 2.0 * DIRECTION_WEIGHT * np.sqrt(4.0 * log / max(gram.parameters, 1))
    price = 3.0 * log * max(1.0, count / INDEPENDENT) + float(chance)
    return _Features(gram.steps, index, speed, float(scale), cosines, costs, float(price))


def _change(features: _Features, start: int, at: int, end: int) -> ChangePoint:
    speed, direction = features.gain(start, at, end)
    middle = float(features.index[at - 1] + features.index[at]) / 2.0
    jump = float(np.polyval(features.line(at, end), middle) - np.polyval(features.line(start, at), middle))
    kind = _kind(features, at, jump, turns=direction > speed)
    return ChangePoint(
        step=features.checkpoint(at),
        between=_range(features, start, at, end),
        kind=kind,
        evidence=features.share(start, at, end, kind),
        strength=(speed + direction) / features.price,
        speed_ratio=float(np.exp(jump)),
    )


def _kind(features: _Features, at: int, jump: float, turns: bool) -> Literal["jump", "bend", "turn"]:
    """Classify a change.

    A jump must show both between the fitted lines and between the two updates beside it: the lines alone may differ
    where a ramp rounds off.
    """
    step = float(features.speed[at] - features.speed[at - 1])
    sudden = min(abs(jump), abs(step)) >= JUMP * features.scale
    return "turn" if turns else "jump" if sudden else "bend"


def _range(features: _Features, start: int, at: int, end: int) -> tuple[int, int]:
    """Return the range of checkpoints around ``at``, without a gap, at which the change would lower the cost by all but
    4 units as much.
    """
    enough = sum(features.gain(start, at, end)) - 4.0
    first = last = at
    while first - 1 >= start + SHORTEST and sum(features.gain(start, first - 1, end)) >= enough:
        first -= 1
    while last + 1 <= end - SHORTEST and sum(features.gain(start, last + 1, end)) >= enough:
        last += 1
    return features.checkpoint(first), features.checkpoint(last)


def _phase(
    features: _Features, start: int, end: int, start_step: int, end_step: int, change: ChangePoint | None
) -> Phase:
    neighbours = np.diagonal(features.cosines, 1)[start : end - 1]
    travelled = float(features.index[end - 1] - features.index[start])
    return Phase(
        start_step=start_step,
        end_step=end_step,
        evidence=None if change is None else change.evidence,
        updates=end - start,
        growth=float(np.exp(features.line(start, end)[0] * travelled)),
        neighbour_cosine=float(neighbours.mean()),
        change=change,
    )
