"""The old package's parameter tuples, (Cs, Rs, mus, subs), with None for parts to fit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lopq.errors import LARGEST_SQUARED_NORM, LOPQError, as_array, as_count
from lopq.split import Split

Arrays = Sequence[np.ndarray] | None
Parameters = tuple[Arrays, Arrays, Arrays, Arrays]


class Given(NamedTuple):
    """The given parameters of one split; None for those to fit."""

    C: np.ndarray | None = None
    R: np.ndarray | None = None
    mu: np.ndarray | None = None
    subs: np.ndarray | None = None

    @property
    def V(self) -> int | None:
        """Cells, if any part gives their number."""
        return next((len(array) for array in self[:3] if array is not None), None)

    def as_split(self) -> Split | None:
        """Return the complete split, or None if a part is missing."""
        if self.C is None or self.R is None or self.mu is None or self.subs is None:
            return None
        return Split(self.C, self.R, self.mu, self.subs, np.arange(len(self.C)))


def split_parameters(parameters: Parameters, bits: int) -> list[Given]:
    """Return the given float32 arrays of each split; [] if all parts are None.

    Args:
        parameters: (Cs, Rs, mus, subs), each None or a sequence with one array per split.
        bits: Bits per subquantizer; they bound the entries of a codebook.

    Raises:
        LOPQError: Wrong or contradictory shapes, or values that are not finite.
    """
    if len(parameters) != 4:
        raise LOPQError("parameters must be (Cs, Rs, mus, subs), with None for parts to fit")
    present = [p for p in parameters if p is not None]
    if not present:
        return []
    n_split = _length(present[0])
    if n_split not in (1, 2) or any(_length(p) != n_split for p in present):
        raise LOPQError("each of Cs, Rs, mus, subs must have one entry for each of 1 or 2 splits")
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
    if splits[0].subs is not None:
        as_count(splits[0].subs.shape[1], "entries of a codebook", 1, 2**bits)
    return splits


def _length(arrays: Arrays) -> int:
    """Return the number of splits in one part; 0 if it is not a sequence."""
    return len(arrays) if isinstance(arrays, Sequence | np.ndarray) else 0


def _as_float32(given: np.ndarray, name: str) -> np.ndarray:
    array = as_array(given, name)
    if array.dtype.kind not in "fiu":
        raise LOPQError(f"{name} must hold real numbers; got dtype {array.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)


def _checked_shape(given: Given) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of one split's arrays; they must agree in V and the dimensions."""
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
    """Raise `LOPQError` unless the given parameters fit data of ``dim`` dimensions.

    Args:
        splits: The given parameters.
        dim: Dimensions of the data.
        padded: The same after zero padding to a multiple of M.
    """
    C, R, mu, subs = splits[0]
    across = next((array.shape[1] for array in (C, R, mu) if array is not None), None)
    if across is None and subs is not None:
        across = subs.shape[0] * subs.shape[2]
    if across is not None and len(splits) * across != padded:
        after = f" ({padded} after zero padding to a multiple of M)" if padded > dim else ""
        raise LOPQError(
            f"the given parameters have {len(splits) * across} dimensions, the data {dim}{after}"
        )
