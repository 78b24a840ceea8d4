"""From candidates to the first k: one order, (distance, id), whatever found the candidates."""

import numpy as np

ROUNDING = 4e-6  # relative error of float32 distances taken as matrix products


def first_by_id(
    distances: np.ndarray, ids: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances, ids and columns of the k smallest of each row, by (distance, id).

    Which of several candidates equal to the kth are among them is left open: see `unsettled`.

    Args:
        distances: (n, m) with m >= k; inf where there is no candidate.
        ids: (n, m) int64; -1 there.
        k: Columns kept.

    >>> first_by_id(np.float32([[2, 1, 1]]), np.array([[5, 9, 7]]), 2)[1].tolist()
    [[7, 9]]
    """
    columns = np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
    if k < distances.shape[1]:
        columns = np.argpartition(distances, k - 1, axis=1)[:, :k]
    near = np.take_along_axis(distances, columns, axis=1)
    near_ids = np.take_along_axis(ids, columns, axis=1)
    order = np.lexsort((near_ids, near), axis=1)
    return (
        np.take_along_axis(near, order, axis=1),
        np.take_along_axis(near_ids, order, axis=1),
        np.take_along_axis(columns, order, axis=1),
    )


def unsettled(distances: np.ndarray, reach: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose order, and whose set of first k, rounding could have decided.

    Args:
        distances: (n, m) ascending, inf at the end; m > k where there are more than k.
        reach: (n,) squared distance of the farthest cell: the magnitude of what is rounded.
        k: Columns that count.

    Returns:
        order: (n,) bool: neighbors among the first k + 1 are equal up to rounding.
        members: (n,) bool: the kth and the next are.
    """
    head = distances[:, : k + 1]
    finite = np.isfinite(head)
    values = np.where(finite, head, 0)
    scale = reach + values.max(axis=1, initial=0)
    close = finite[:, 1:] & (np.diff(values, axis=1) <= (ROUNDING * scale)[:, None])
    members = close[:, k - 1] if close.shape[1] == k else np.zeros(len(close), bool)
    return close.any(axis=1), members
