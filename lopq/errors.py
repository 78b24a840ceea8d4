"""The library's one kind of user error, and the checks of what comes in."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

BLOCK_ROWS = 65_536  # rows read from a large array at a time
# Sums of so many squared norms as there are training vectors must fit float32 (3e38): where a
# distance overflows, faiss finds no nearest centroid and goes on with what memory holds.
LARGEST_SQUARED_NORM = 1e30
LARGEST_ID = 2**63 - 1


class LOPQError(ValueError):
    """Something the caller can put right: a shape, a value, a file."""


def as_array(x: Any, what: str) -> np.ndarray:
    """Return ``x`` as an array of any type, not copied where it is one."""
    try:
        return np.asarray(x)
    except (TypeError, ValueError) as error:  # sequences of unequal lengths
        raise LOPQError(f"{what} must be an array; got parts of unequal lengths") from error


def check_axes(x: Any, what: str) -> None:
    """Refuse what has not 2 axes. An array that is read from a file is not read here."""
    shape = x.shape if hasattr(x, "shape") else as_array(x, what).shape
    if len(shape) != 2:
        raise LOPQError(f"{what} must have 2 axes, (n, dim); got shape {shape}")


def as_vectors(x: np.ndarray, what: str, dim: int | None = None) -> np.ndarray:
    """Return ``x`` as contiguous float32 rows of ``dim`` columns, none of them too long.

    >>> as_vectors(np.eye(2), "data").dtype
    dtype('float32')
    """
    array = as_array(x, what)
    check_axes(array, what)
    if dim is not None and array.shape[1] != dim:
        raise LOPQError(f"{what} must have {dim} columns, as in training; got {array.shape[1]}")
    if array.dtype.kind not in "fiu":
        raise LOPQError(f"{what} must hold real numbers; got dtype {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes inf,
        rows = np.ascontiguousarray(array, np.float32)
        good = np.einsum("ij,ij->i", rows, rows) <= LARGEST_SQUARED_NORM  # and is reported here
    if not good.all():
        bad = np.flatnonzero(~good)
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


def check_range(array: np.ndarray, end: int, what: str) -> None:
    """Refuse anything but whole numbers from 0 up to and without ``end``."""
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= end):
        raise LOPQError(f"{what} must be whole numbers from 0 to {end - 1}")


def as_list(x: Any, what: str) -> Any:
    """Return what an iterable yields as a list, and an array as it is."""
    if hasattr(x, "__array__"):
        return x
    if not isinstance(x, Iterable):
        raise LOPQError(f"{what} must be a sequence; got {x!r}")
    return list(x)


def as_ids(ids: Iterable[int] | np.ndarray, n: int | None = None) -> np.ndarray:
    """Return distinct ids, ``n`` where it is given, as int64."""
    listed = as_list(ids, "ids")
    array = as_array(listed, "ids")
    if array.ndim != 1 or n not in (None, len(array)):
        wanted = "" if n is None else f", shape ({n},)"
        raise LOPQError(f"ids must hold one id per vector{wanted}; got shape {array.shape}")
    if len(array) == 0:
        return np.zeros(0, np.int64)
    # numpy makes floats or objects of whole numbers that none of its types holds.
    beyond = array.dtype.kind in "fO" and all(isinstance(i, int) for i in listed)
    if array.dtype.kind not in "iu" and not beyond:
        raise LOPQError(f"ids must be whole numbers; got dtype {array.dtype}")
    if beyond or array.min() < 0 or array.max() > LARGEST_ID:
        raise LOPQError("ids must lie from 0 to 2**63 - 1 (-1 marks a missing neighbor)")
    result = array.astype(np.int64)
    if len(np.unique(result)) < len(result):
        raise LOPQError("ids must be distinct; some occur twice in this call")
    return result
