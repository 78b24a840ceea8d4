"""The old package's parameter tuples, (Cs, Rs, mus, subs), with None for parts to fit."""

from collections.abc import Sequence

import numpy as np

from lopq.errors import LOPQError
from lopq.quantizer import CoarseQuantizer, Split
from lopq.train.fit import Given
from lopq.validation import LARGEST_SQUARED_NORM, as_array, as_count

Arrays = Sequence[np.ndarray] | None
Parameters = tuple[Arrays, Arrays, Arrays, Arrays]


def complete_split(given: Given) -> Split | None:
    """Return the split of given parameters, or None if one is missing."""
    if given.C is None or given.R is None or given.mu is None or given.subs is None:
        return None
    rotation_of = np.arange(len(given.C))
    return Split(CoarseQuantizer(given.C), given.R, given.mu, given.subs, rotation_of)


def given_parameters(parameters: Parameters, bits: int) -> list[Given]:
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


def check_dims(splits: Sequence[Given], dim: int, M: int) -> None:
    """Raise `LOPQError` unless the given parameters fit data of ``dim`` dimensions.

    Args:
        splits: The given parameters.
        dim: Dimensions of the data.
        M: Subspaces; the data is padded with zeros to a multiple of it.
    """
    C, R, mu, subs = splits[0]
    padded = dim + -dim % M
    across = next((array.shape[1] for array in (C, R, mu) if array is not None), None)
    if across is None and subs is not None:
        across = subs.shape[0] * subs.shape[2]
    if across is not None and len(splits) * across != padded:
        after = f" ({padded} after zero padding to a multiple of M)" if padded > dim else ""
        raise LOPQError(
            f"the given parameters have {len(splits) * across} dimensions, the data {dim}{after}"
        )
