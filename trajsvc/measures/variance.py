"""Principal components of a trajectory's points and of its updates.

The eigenvalues are those of the centred Gram, which are those of the covariance up to a factor. Centred points are sums of updates:
their coefficient on θ_0 is exactly 0, so a large θ_0 costs no digits. float64. Principal component
analysis and the participation ratio (Σλ)²/Σλ² are used as everywhere.
"""

from __future__ import annotations

import numpy as np

from trajsvc.measures.base import Array, GroupGram


def explained_variance(gram: GroupGram) -> Array:
    """Share of the variance of the points θ_0 … θ_{T−1} along each principal component, descending, (T − 1), sum 1; unit: 1.

    T points span at most T − 1 dimensions about their mean. NaN when all points are equal.
    """
    return shares(_point_eigenvalues(gram))


def explained_variance_updates(gram: GroupGram) -> Array:
    """Share of the variance of the updates U_1 … U_{T−1} along each principal component, descending, (T − 2), sum 1; unit: 1.

    NaN when all updates are equal: a straight, even path has no variance of updates.
    """
    return shares(_update_eigenvalues(gram))


def participation_ratio(gram: GroupGram) -> float:
    """(Σλ)²/Σλ² of the points' centred Gram: an effective number of dimensions, 1 … T − 1; unit: 1. NaN when all are equal."""
    return ratio(_point_eigenvalues(gram))


def participation_ratio_updates(gram: GroupGram) -> float:
    """(Σλ)²/Σλ² of the updates' centred Gram, 1 … T − 2; unit: 1. NaN when all updates are equal."""
    return ratio(_update_eigenvalues(gram))


def _point_eigenvalues(gram: GroupGram) -> Array:
    count = len(gram.steps)
    points = np.tri(count, count)[:, 1:]
    return eigenvalues(points - points.mean(axis=0), gram.gram[1:, 1:])


def _update_eigenvalues(gram: GroupGram) -> Array:
    count = len(gram.steps) - 1
    return eigenvalues(np.eye(count) - (1.0 / count if count else 0.0), gram.gram[1:, 1:])


def eigenvalues(coefficients: Array, gram: Array) -> Array:
    """Return the eigenvalues of A G Aᵀ, descending, without the one that centring makes zero; those within rounding of
    0 become 0.
    """
    centred = coefficients @ gram @ coefficients.T
    if not np.isfinite(centred).all():
        return np.full(max(len(centred) - 1, 0), np.nan)
    values = np.linalg.eigvalsh(centred)[::-1][: max(len(centred) - 1, 0)]
    magnitude = float((np.abs(coefficients) @ np.abs(gram) @ np.abs(coefficients).T).diagonal().sum())
    return np.where(values <= 8 * np.finfo(np.float64).eps * magnitude, 0.0, values)


def shares(values: Array) -> Array:
    """Divide eigenvalues by their sum; NaN where all are zero."""
    total = float(values.sum())
    return values / total if total > 0.0 else np.full(values.shape, np.nan)


def ratio(values: Array) -> float:
    """Return the participation ratio (Σλ)²/Σλ²; NaN where all are zero."""
    total = float(values.sum())
    return total**2 / float((values**2).sum()) if total > 0.0 else float("nan")
