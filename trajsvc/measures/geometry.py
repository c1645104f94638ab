"""Arithmetic in the update basis: squared distances, cosines and angles that do not lose small quantities.

A trajectory is a path through *stations*: station 0 is the zero vector, station t + 1 is θ_t. The basis vectors
[θ_0, U_1, …, U_{T-1}] are the legs of that path, so the difference of two stations is a plain sum of neighbouring legs and
its squared norm is the sum of a block of the Gram: nothing large is subtracted. Everything is float64.

For vectors a, b with d = a − b, the quantity kept is x = 1 − cos(a, b), in [0, 2]:

    x = (‖d‖² − δ²) / (2 ‖a‖ ‖b‖),   δ = ‖a‖ − ‖b‖ = (‖a‖² − ‖b‖²) / (‖a‖ + ‖b‖) = d·(a + b) / (‖a‖ + ‖b‖)

where a and b are close (‖d‖² < ‖a‖ ‖b‖), and x = 1 − a·b / (‖a‖ ‖b‖) elsewhere, which loses nothing there. The angle is
2 atan2(√x, √(2 − x)). With a zero vector x is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import DOUBLE_ERROR, Array, GroupGram, certain
from trajsvc.measures.trees import total_distances, total_products


def station_coefficients(count: int) -> Array:
    """Return the stations 0, θ_0, …, θ_{T-1} of T = ``count`` points in the update basis, (T + 1, T); entries are zeros
    and ones.
    """
    return np.tri(count + 1, count, -1)


def squared_distances(
    gram: Array, error: float = DOUBLE_ERROR, same: NDArray[np.int64] | None = None, limit: float | None = None
) -> Array:
    """‖station_i − station_j‖² for all pairs, (T + 1, T + 1), from the (T, T) Gram in the update basis.

    Entry (i, j), i < j, is the sum of the block of legs i … j − 1, accumulated from its own corner so that legs outside the
    block, however long, leave no error in it. Row and column 0 hold ‖θ_t‖². Returns and doubtful distances: ``certain``.
    """
    blocks = _block_sums(gram)
    returned = None
    if same is not None:
        returned = np.zeros_like(blocks, dtype=bool)
        returned[1:, 1:] = same[:, None] == same[None, :]
    return certain(blocks, _block_sums(np.abs(gram)), error, returned, limit)


def distances_of(group: GroupGram) -> Array:
    """Return ``squared_distances`` between the stations of a group, (T + 1, T + 1), in the unit of its Gram."""
    if not group.trees:
        return squared_distances(group.gram, group.error, group.same)
    chosen = _stations(group)
    return _tree_distances(group)[np.ix_(chosen, chosen)]


def one_minus_cosines_of(group: GroupGram, origin: int = 0) -> Array:
    """Return ``one_minus_cosine_map`` of a group, (T + 1, T + 1); ``origin`` is a station of it."""
    if not group.trees:
        return one_minus_cosine_map(group.gram, origin, group.error, group.same)
    chosen = _stations(group)
    station = int(chosen[origin])
    distances = _tree_distances(group)
    inner, gained = total_products(group.trees, station)
    squares = distances[:, station]
    x = one_minus_cosine(squares[:, None], squares[None, :], inner, distances, gained.T - gained)
    np.fill_diagonal(x, np.where(squares > 0.0, 0.0, np.nan))
    return x[np.ix_(chosen, chosen)]


def along_points(group: GroupGram) -> Array:
    """⟨θ_t, U_{t+1}⟩ for t = 0 … T − 2, (T − 1)."""
    if not group.trees:
        return np.diagonal(np.cumsum(group.gram, axis=0), 1)  # Σ_{k ≤ t} ⟨basis_k, U_{t+1}⟩
    stations = _stations(group)
    return total_products(group.trees, 0)[1][stations[1:-1], stations[2:]]


def _tree_distances(group: GroupGram) -> Array:
    sums, terms = total_distances(group.trees)
    returned = np.zeros_like(sums, dtype=bool)
    if group.same is not None:
        points = np.ix_(group.at + 1, group.at + 1)
        returned[points] = group.same[:, None] == group.same[None, :]
    return certain(sums, terms, group.error, returned)


def _stations(group: GroupGram) -> NDArray[np.int64]:
    return np.concatenate([[0], group.at + 1])


def _block_sums(gram: Array) -> Array:
    """S_ij = Σ_{i ≤ k, l < j} G_kl for i ≤ j, symmetric, in O(T²)."""
    count = len(gram)
    columns = np.cumsum(np.triu(gram)[::-1], axis=0)[::-1]
    corners = np.triu(2.0 * columns - np.diag(gram)[None, :])
    sums = np.zeros((count + 1, count + 1))
    sums[:count, 1:] = np.cumsum(corners, axis=1)
    upper = np.triu(sums, 1)
    return upper + upper.T


def one_minus_cosine(aa: Array, bb: Array, ab: Array, dd: Array, excess: Array) -> Array:
    """x = 1 − cos(a, b) from aa = ‖a‖², bb = ‖b‖², ab = a·b, dd = ‖a − b‖², excess = ‖a‖² − ‖b‖²; NaN for a zero vector.

    Near 0 from ‖a − b‖² and near 2 from ‖a + b‖², less (‖a‖ − ‖b‖)², so that vectors along one line have exactly 0 or 2.
    """
    a, b = np.sqrt(np.maximum(aa, 0.0)), np.sqrt(np.maximum(bb, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        longer = (excess / (a + b)) ** 2
        near = (dd - longer) / (2.0 * a * b)
        together = aa + bb + 2.0 * ab
        opposite = 2.0 - np.maximum(together - longer, 0.0) / (2.0 * a * b)
        far = np.where(together < a * b, opposite, 1.0 - ab / (a * b))
        x = np.clip(np.where(dd < a * b, near, far), 0.0, 2.0)
    return np.where((a > 0.0) & (b > 0.0) & ~np.isnan(dd), x, np.nan)


def one_minus_cosine_map(
    gram: Array, origin: int = 0, error: float = DOUBLE_ERROR, same: NDArray[np.int64] | None = None
) -> Array:
    """x_ij = 1 − cos(station_i − station_o, station_j − station_o), (T + 1, T + 1); row and column ``origin`` are NaN.

    With legs U_k between stations i < j and a_i = station_i − station_o, the excess ‖a_j‖² − ‖a_i‖² is
    Σ_k U_k·(a_i + a_j), again a sum of small things. O(T²) by running sums from the origin outwards.
    """
    legs = _from(origin, gram)
    distances = squared_distances(gram, error, same)
    along = np.zeros_like(distances)
    along[:, 1:] = np.cumsum(np.triu(legs), axis=1)
    gain = np.triu(2.0 * along + distances, 1)
    squares = distances[:, origin]
    x = np.triu(
        one_minus_cosine(squares[:, None], squares[None, :], _from(origin, legs.T).T, distances, gain.T - gain), 1
    )
    x = x + x.T
    np.fill_diagonal(x, np.where(squares > 0.0, 0.0, np.nan))
    return x


def _from(origin: int, values: Array) -> Array:
    """Return, from ``values`` (T, …), sums relative to ``origin``, (T + 1, …): row i is the sum of rows origin … i − 1,
    or before the origin minus the sum of rows i … origin − 1.
    """
    out = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values[origin:], axis=0, out=out[origin + 1 :])
    np.negative(np.cumsum(values[:origin][::-1], axis=0)[::-1], out=out[:origin])
    return out


def one_minus_cosine_of_basis(gram: Array) -> Array:
    """x_ij = 1 − cos of all pairs of the vectors whose Gram this is, (n, n); zero vectors give NaN."""
    squares = np.diag(gram).copy()
    distances = squares[:, None] + squares[None, :] - 2.0 * gram
    x = one_minus_cosine(squares[:, None], squares[None, :], gram, distances, squares[:, None] - squares[None, :])
    np.fill_diagonal(x, np.where(squares > 0.0, 0.0, np.nan))
    return x


def degrees(x: Array) -> Array:
    """Return the angle in degrees, 0 … 180, whose cosine is 1 − x: 2 atan2(√x, √(2 − x))."""
    return np.asarray(np.degrees(2.0 * np.arctan2(np.sqrt(x), np.sqrt(2.0 - x))))


def mean_defined(values: Array) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def zero_updates(gram: Array) -> NDArray[np.bool_]:
    """Return which updates are the zero vector, or undefined, (T − 1,)."""
    return ~(np.diag(gram)[1:] > 0.0)
