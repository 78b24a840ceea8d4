"""Training tuples: all pairs of images of a class, with negatives of other classes."""

from collections.abc import Iterator

import numpy as np

PAIR_BLOCK = 200_000  # pairs drawn at once; bounds the memory


def draw_others(
    starts: np.ndarray, sizes: np.ndarray, n_total: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw positions outside each row's own range, uniformly and without replacement.

    Args:
        starts: (n,) int64, start of the own range of each row.
        sizes: (n,) int64, length of the own range.
        n_total: Positions run from 0 to ``n_total - 1``.
        count: Positions to draw per row; at most ``n_total - sizes``.
        rng: Random source of the positions.

    Returns:
        (n, count) int64. Each row is a uniform random subset, drawn with Floyd's algorithm
        (Bentley and Floyd, Comm. ACM 30(9), 1987).
    """
    pool = n_total - sizes
    drawn = np.empty((len(starts), count), np.int64)
    for column in range(count):
        last = pool - count + column
        candidate = rng.integers(0, last + 1)
        is_taken = (drawn[:, :column] == candidate[:, None]).any(axis=1)
        drawn[:, column] = np.where(is_taken, last, candidate)
    return drawn + np.where(drawn >= starts[:, None], sizes[:, None], 0)


def tuple_blocks(
    train: list[np.ndarray], neg_count: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs of training images of the same class, with negatives of other classes.

    Args:
        train: One int64 array per class: the Indexes of its training images.
        neg_count: Negatives per pair.
        rng: Random source of the negatives.

    Yields:
        Two (n, 2 + neg_count) int64 arrays of Indexes: the same pairs in both directions, with
        separate negatives. Columns are anchor, positive, negatives.
    """
    flat = np.concatenate(train)
    sizes = np.array([len(images) for images in train])
    starts = np.cumsum(sizes) - sizes
    for start, size in zip(starts, sizes, strict=True):
        for first, second in _pair_blocks(size):
            anchors, positives = flat[start + first], flat[start + second]
            own = np.full(len(first), start), np.full(len(first), size)
            yield tuple(  # type: ignore[misc]
                np.column_stack([*pair, flat[draw_others(*own, len(flat), neg_count, rng)]])
                for pair in ((anchors, positives), (positives, anchors))
            )


def _pair_blocks(size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs i < j below ``size`` in order, for a block of i at a time."""
    rows = max(1, PAIR_BLOCK // max(size, 1))
    for start in range(0, size - 1, rows):
        first = np.arange(start, min(start + rows, size - 1))
        repeats = size - 1 - first
        ends = np.cumsum(repeats)
        i = np.repeat(first, repeats)
        yield i, np.arange(ends[-1]) - np.repeat(ends - repeats, repeats) + i + 1
