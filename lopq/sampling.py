"""Sampling of training vectors."""

import numpy as np

from lopq.errors import LOPQError, as_count

TRAIN_SIZE = 100_000  # default number of training vectors,
TRAIN_SIZE_PER_CELL = 256  # or this many per cell if that is more,
MOST_TRAIN_SIZE = 2**20  # but no more than this


def training_rows(
    n: int, V: int, seed: int, train_size: int | None = -1, ratio: float = 1.0
) -> np.ndarray | None:
    """Return the rows that `LOPQModel.fit` trains on, ascending int64; None for all rows.

    Args:
        n: Rows in the data.
        V: Cells per split.
        seed: Random seed.
        train_size: Rows to sample; None for all; -1 for the default.
        ratio: Fraction of these to keep, above 0, up to 1.

    >>> training_rows(5, V=2, seed=0, train_size=2).shape
    (2,)
    """
    if not 0 < ratio <= 1:
        raise LOPQError(f"subquantizer_sample_ratio must be above 0, up to 1; got {ratio}")
    size = n
    if train_size == -1:
        size = min(n, max(TRAIN_SIZE, min(TRAIN_SIZE_PER_CELL * V, MOST_TRAIN_SIZE)))
    elif train_size is not None:
        size = min(n, as_count(train_size, "train_size"))
    size = min(n, max(1, int(ratio * size)))
    if size == n:
        return None
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
