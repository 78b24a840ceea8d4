"""Checks of the caller's input: each returns it in the library's types, or raises `LOPQError`."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from lopq.errors import LOPQError

# Sums of squared norms over all training vectors must fit into float32 (3e38). When a distance
# overflows, faiss finds no nearest centroid and continues with uninitialized memory.
LARGEST_SQUARED_NORM = 1e30
LARGEST_ID = 2**63 - 1


def as_array(x: Any, what: str) -> np.ndarray:
    """Return ``x`` as an array of any dtype; an array is not copied."""
    try:
        return np.asarray(x)
    except (TypeError, ValueError) as error:  # sequences of unequal lengths
        raise LOPQError(f"{what} must be an array; got parts of unequal lengths") from error


def check_axes(x: Any, what: str) -> None:
    """Raise `LOPQError` unless ``x`` has 2 axes. Reads no data of a memory map."""
    shape = x.shape if hasattr(x, "shape") else as_array(x, what).shape
    if len(shape) != 2:
        hint = "; for one vector x, pass x[None]" if len(shape) == 1 else ""
        raise LOPQError(f"{what} must have 2 axes, (n, dim); got shape {shape}{hint}")


def as_vectors(x: np.ndarray, what: str, dim: int | None = None) -> np.ndarray:
    """Return ``x`` as contiguous (n, dim) float32 rows.

    Raises:
        LOPQError: A wrong shape or dtype, or a row that is not finite or whose squared norm
            exceeds `LARGEST_SQUARED_NORM`.

    >>> as_vectors(np.eye(2), "data").dtype
    dtype('float32')
    """
    array = as_array(x, what)
    check_axes(array, what)
    if dim is not None and array.shape[1] != dim:
        raise LOPQError(f"{what} must have {dim} columns, as in training; got {array.shape[1]}")
    if array.dtype.kind not in "fiu":
        raise LOPQError(f"{what} must hold real numbers; got dtype {array.dtype}")
    # Values beyond float32 become inf, and the check below reports them.
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(array, np.float32)
        good = np.einsum("ij,ij->i", rows, rows) <= LARGEST_SQUARED_NORM
    if not good.all():
        bad = np.flatnonzero(~good)
        raise LOPQError(
            f"{what}: {len(bad)} row(s) hold NaN, infinite or too large values, the first is row "
            f"{bad[0]}; drop or repair them"
        )
    return rows


def as_count(value: int, what: str, low: int = 1, high: int | None = None) -> int:
    """Return ``value`` as int if it is a whole number from ``low`` to ``high``, inclusive."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        upper = "up" if high is None else f"to {high}"
        raise LOPQError(f"{what} must be a whole number from {low} {upper}; got {value!r}")
    return int(value)


def check_range(array: np.ndarray, end: int, what: str) -> None:
    """Raise `LOPQError` unless ``array`` holds integers from 0 to ``end - 1``."""
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= end):
        raise LOPQError(f"{what} must be whole numbers from 0 to {end - 1}")


def as_list(x: Any, what: str) -> Any:
    """Return the items of an iterable as a list; return an array unchanged."""
    if hasattr(x, "__array__"):
        return x
    if not isinstance(x, Iterable):
        raise LOPQError(f"{what} must be a sequence; got {x!r}")
    return list(x)


def as_ids(ids: Iterable[int] | np.ndarray, n: int | None = None) -> np.ndarray:
    """Return ``ids`` as (n,) distinct int64 from 0 to 2**63 - 1; None allows any length."""
    listed = as_list(ids, "ids")
    array = as_array(listed, "ids")
    if array.ndim != 1 or n not in (None, len(array)):
        wanted = "" if n is None else f", shape ({n},)"
        raise LOPQError(f"ids must hold one id per vector{wanted}; got shape {array.shape}")
    if len(array) == 0:
        return np.zeros(0, np.int64)
    # numpy turns integers beyond its widest integer type into floats or objects.
    beyond = array.dtype.kind in "fO" and all(isinstance(i, int) for i in listed)
    if array.dtype.kind not in "iu" and not beyond:
        raise LOPQError(f"ids must be whole numbers; got dtype {array.dtype}")
    if beyond or array.min() < 0 or array.max() > LARGEST_ID:
        raise LOPQError("ids must lie from 0 to 2**63 - 1 (-1 marks a missing neighbor)")
    result = array.astype(np.int64)
    if len(np.unique(result)) < len(result):
        raise LOPQError("ids must be distinct; some occur twice in this call")
    return result
