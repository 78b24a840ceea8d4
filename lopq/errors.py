"""The library's one kind of user error, and the checks of what comes in."""

from collections.abc import Iterator

import numpy as np

BLOCK_ROWS = 65_536  # rows read from a large array at a time


class LOPQError(ValueError):
    """Something the caller can put right: a shape, a value, a file."""


def as_vectors(x: np.ndarray, what: str, dim: int | None = None) -> np.ndarray:
    """Return ``x`` as contiguous finite float32 rows of ``dim`` columns.

    >>> as_vectors(np.eye(2), "data").dtype
    dtype('float32')
    """
    array = np.asarray(x)
    if array.ndim != 2:
        raise LOPQError(f"{what} must have 2 axes, (n, dim); got shape {array.shape}")
    if dim is not None and array.shape[1] != dim:
        raise LOPQError(f"{what} must have {dim} columns, as in training; got {array.shape[1]}")
    if array.dtype.kind not in "fiu":
        raise LOPQError(f"{what} must hold real numbers; got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, reported below
        rows = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise LOPQError(
            f"{what}: {len(bad)} row(s) hold NaN, infinite or too large values, the first is row "
            f"{bad[0]}; drop or repair them"
        )
    return rows


def row_blocks(n: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Yield the slices that cover ``range(n)`` in blocks of ``size``."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def as_count(value: int, what: str, low: int = 1, high: int | None = None) -> int:
    """Return ``value`` when it is a whole number from ``low`` to ``high``."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        upper = "up" if high is None else f"to {high}"
        raise LOPQError(f"{what} must be a whole number from {low} {upper}; got {value!r}")
    return int(value)


def as_ids(ids: np.ndarray, n: int) -> np.ndarray:
    """Return ``n`` distinct ids as int64."""
    array = np.asarray(ids)
    if array.shape != (n,):
        raise LOPQError(f"ids must hold one id per vector, shape ({n},); got {array.shape}")
    if n and array.dtype.kind not in "iu":
        raise LOPQError(f"ids must be whole numbers; got dtype {array.dtype}")
    if n and (array.min() < 0 or array.max() > np.iinfo(np.int64).max):
        raise LOPQError("ids must lie from 0 to 2**63 - 1 (-1 marks a missing neighbor)")
    result = array.astype(np.int64)
    if len(np.unique(result)) < n:
        raise LOPQError("ids must be distinct; some occur twice in this call")
    return result
