"""Confidence intervals of means over queries, from a bootstrap over classes.

Queries of one class are not independent: they look alike and share their relevant images. So each
resample draws whole classes, with replacement, and takes the mean over their queries (Davison and
Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Intervals are percentile
intervals: too narrow for few classes, and undefined for one.
"""

from typing import NamedTuple

import numpy as np

LEVEL = 0.95


class Difference(NamedTuple):
    """The difference of two paired means.

    Attributes:
        mean: Mean of second - first.
        low: Lower end of its 95% interval.
        high: Upper end.
        p_value: Two-sided p value of no difference, from the same resamples.
    """

    mean: float
    low: float
    high: float
    p_value: float


def cluster_bootstrap(
    values: np.ndarray, clusters: np.ndarray, n_resample: int = 2000, seed: int = 7
) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends of the 95% interval of each column's mean.

    Args:
        values: (n_query,) or (n_query, n_metric) float64.
        clusters: (n_query,) int64, the class of each query; at least two classes.
        n_resample: Resamples.
        seed: Random seed.

    Returns:
        low, high: () or (n_metric,) float64 each.

    >>> low, high = cluster_bootstrap(np.array([0.0, 0.0, 1.0, 1.0]), np.array([5, 5, 8, 8]))
    >>> float(low), float(high)
    (0.0, 1.0)
    """
    means = resampled_means(values, clusters, n_resample, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    clusters: np.ndarray,
    n_resample: int = 2000,
    seed: int = 7,
) -> Difference:
    """Compare the means of two values of the same queries.

    Args:
        first: (n_query,) float64.
        second: (n_query,) float64, of the same queries in the same order.
        clusters: (n_query,) int64, the class of each query.
        n_resample: Resamples.
        seed: Random seed.

    >>> paired_bootstrap(np.zeros(4), np.ones(4), np.array([0, 0, 1, 1]), n_resample=99)
    Difference(mean=1.0, low=1.0, high=1.0, p_value=0.02)
    """
    change = second - first
    means = resampled_means(change, clusters, n_resample, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2 * (tail + 1) / (n_resample + 1))
    return Difference(float(change.mean()), float(low), float(high), p_value)


def resampled_means(
    values: np.ndarray, clusters: np.ndarray, n_resample: int, seed: int
) -> np.ndarray:
    """Return the mean of each column in each resample, (n_resample, ...) float64."""
    _, member, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    n_cluster = len(sizes)
    sums = np.zeros((n_cluster, *values.shape[1:]))
    np.add.at(sums, member, values)
    rng = np.random.default_rng(seed)
    # A mean depends only on how often each class is drawn.
    draws = rng.multinomial(n_cluster, np.full(n_cluster, 1 / n_cluster), n_resample)
    # einsum, unlike a BLAS, sums in the same order with any number of threads.
    totals = np.einsum("rc,c...->r...", draws, sums)
    return totals / (draws @ sizes).reshape(-1, *(1,) * (values.ndim - 1))
