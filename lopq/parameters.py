"""The old package's parameter tuples: (Cs, Rs, mus, subs), None for what is to be fitted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lopq.errors import LOPQError
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
    n_split = len(present[0])
    if n_split not in (1, 2) or any(len(p) != n_split for p in present):
        raise LOPQError("each of parameters must have one entry for each of 1 or 2 splits")
    splits = [
        Given(*(None if p is None else np.ascontiguousarray(p[i], np.float32) for p in parameters))
        for i in range(n_split)
    ]
    shapes = [_checked_shape(given) for given in splits]
    if len(set(shapes)) > 1:
        raise LOPQError(f"the two splits must have equal shapes; got {shapes[0]} and {shapes[1]}")
    return splits


def _checked_shape(given: Given) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of what was given, after comparing V and the dimensions."""
    axes = {"C": "V, dim", "R": "V, dim, dim", "mu": "V, dim", "subs": "M, clusters, dim_sub"}
    cells, dims = set(), set()
    for name, array in given._asdict().items():
        if array is None:
            continue
        if array.ndim != len(axes[name].split(",")) or not np.isfinite(array).all():
            raise LOPQError(f"{name} must be finite, ({axes[name]}); got shape {array.shape}")
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
