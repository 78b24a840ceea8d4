"""The old package's parameter tuples: (Cs, Rs, mus, subs), None for what is to be fitted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lopq.errors import LARGEST_SQUARED_NORM, LOPQError, as_array
from lopq.split import Split

Arrays = Sequence[np.ndarray] | None
Parameters = tuple[Arrays, Arrays, Arrays, Arrays]


class Given(NamedTuple):
    """What one split was given; None for what is to be fitted."""

    C: np.ndarray | None = None
    R: np.ndarray | None = None
    mu: np.ndarray | None = None
    subs: np.ndarray | None = None

    def as_split(self) -> Split | None:
        """Return the split these make up, or None if something is left to fit."""
        if self.C is None or self.R is None or self.mu is None or self.subs is None:
            return None
        return Split(self.C, self.R, self.mu, self.subs)


def split_parameters(parameters: Parameters) -> list[Given]:
    """Return the float32 arrays of each split, with shapes that agree; [] if all are None."""
    if len(parameters) != 4:
        raise LOPQError("parameters must be (Cs, Rs, mus, subs), None for what is to be fitted")
    present = [p for p in parameters if p is not None]
    if not present:
        return []
    n_split = _length(present[0])
    if n_split not in (1, 2) or any(_length(p) != n_split for p in present):
        raise LOPQError("each of parameters must have one entry for each of 1 or 2 splits")
    splits = [
        Given(
            *(
                None if p is None else _as_float32(p[i], name)
                for p, name in zip(parameters, Given._fields, strict=True)
            )
        )
        for i in range(n_split)
    ]
    shapes = [_checked_shape(given) for given in splits]
    if len(set(shapes)) > 1:
        raise LOPQError(f"the two splits must have equal shapes; got {shapes[0]} and {shapes[1]}")
    return splits


def _length(arrays: Arrays) -> int:
    """Return the number of splits that something is given for; 0 where it is no sequence."""
    return len(arrays) if isinstance(arrays, Sequence | np.ndarray) else 0


def _as_float32(given: np.ndarray, name: str) -> np.ndarray:
    array = as_array(given, name)
    if array.dtype.kind not in "fiu":
        raise LOPQError(f"{name} must hold real numbers; got dtype {array.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)


def _checked_shape(given: Given) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of what was given, after comparing V and the dimensions."""
    axes = {"C": "V, dim", "R": "V, dim, dim", "mu": "V, dim", "subs": "M, clusters, dim_sub"}
    cells, dims = set(), set()
    for name, array in given._asdict().items():
        if array is None:
            continue
        if array.ndim != len(axes[name].split(",")) or 0 in array.shape:
            raise LOPQError(f"{name} must be ({axes[name]}), not empty; got shape {array.shape}")
        if not (np.abs(array) <= LARGEST_SQUARED_NORM**0.5).all():
            raise LOPQError(f"{name} holds NaN, infinite or too large values")
        if name == "subs":
            dims.add(array.shape[0] * array.shape[2])
        else:
            cells.add(array.shape[0])
            dims.update(array.shape[1:])
    if len(cells) > 1 or len(dims) > 1:
        raise LOPQError(
            f"the given parameters disagree: {sorted(cells)} cells, {sorted(dims)} dimensions"
        )
    return tuple(() if array is None else array.shape for array in given)


def check_dims(splits: list[Given], dim: int, padded: int) -> None:
    """Compare what was given with data of ``dim`` dimensions, padded so that M divides them."""
    C, R, mu, subs = splits[0]
    across = next((array.shape[1] for array in (C, R, mu) if array is not None), None)
    if across is None and subs is not None:
        across = subs.shape[0] * subs.shape[2]
    if across is not None and len(splits) * across != padded:
        with_zeros = f", {padded} with the zeros that let M divide them" if padded > dim else ""
        raise LOPQError(
            f"the given parameters have {len(splits) * across} dimensions, the data {dim}"
            f"{with_zeros}"
        )
