"""One split of the model: a coarse quantizer over a range of dimensions, one rotation per cell.

A model has one split over all dimensions (``split="single"``), or two over one half each, whose
pairs of cells form an inverted multi-index (``split="multi"``; Babenko, Lempitsky, CVPR 2012).
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lopq.coarse import Groups, fit_centroids, nearest
from lopq.codebooks import Codebooks, train_centroids
from lopq.errors import LOPQError
from lopq.grouped import cell_numbers, group_rows
from lopq.rotations import alternate, balanced_rotation, nearest_cells, pca_rotations

ROTATIONS = ("pca", "procrustes", "global", "none")
WARM_START_ITERATIONS = 5  # k-means iterations for codebooks that `alternate` refines


@dataclass(frozen=True)
class Training:
    """Training options of a split; `LOPQModel` and `LOPQModel.fit` explain each."""

    rotation: str = "pca"
    bits: int = 8
    coarse_iterations: int = 20
    local_iterations: int = 20
    rotation_iterations: int = 25
    n_init: int = 1
    seed: int = 0
    progress: bool | None = None


@dataclass(frozen=True)
class Split:
    """The parameters of one split with V cells over dim dimensions.

    Args:
        C: (V, dim) float32 coarse centroids.
        R: (V, dim, dim) float32 rotations; zero stride on axis 0 means one shared rotation.
        mu: (V, dim) float32 mean residual of each cell.
        subs: (M, n_entry, dim / M) float32 codebooks.
        errors: Mean squared error before each iteration of rotation training.
        groups: Groups of the cells, if there are many.
    """

    C: np.ndarray
    R: np.ndarray
    mu: np.ndarray
    subs: np.ndarray
    errors: list[float] = field(default_factory=list)
    groups: Groups | None = None

    @property
    def dim(self) -> int:
        """Dimensions of the split."""
        return int(self.C.shape[1])

    @property
    def rotations(self) -> np.ndarray:
        """R, or (1, dim, dim) if all cells share one rotation."""
        return self.R[:1] if self.R.strides[0] == 0 else self.R

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle a shared rotation once, not once per cell."""
        arrays = (self.C, self.rotations, self.mu, self.subs)
        return unpacked_split, (*arrays, self.errors, self.groups)

    def nearest_cell(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n,) int64 cell of each row; see `lopq.coarse.nearest`."""
        return nearest(rows, self.C, self.groups)

    def project(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return R_c (x - C_c - mu_c) for each row x (n, dim) and its cell c (n,)."""
        from lopq.encoding import rotate_rows

        order, _ = group_rows(cells, len(self.C))
        sorted_cells = cells[order]
        residuals = rows[order] - (self.C[sorted_cells] + self.mu[sorted_cells])
        projected = np.empty_like(residuals)
        projected[order] = rotate_rows(residuals, sorted_cells, self.rotations)
        return projected

    def restore(self, projected: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Invert `project`: return R_c' y + C_c + mu_c."""
        from lopq.encoding import rotate_rows

        order, _ = group_rows(cells, len(self.C))
        rows = np.empty_like(projected)
        rows[order] = rotate_rows(projected[order], cells[order], self.rotations, inverse=True)
        return rows + self.C[cells] + self.mu[cells]


def unpacked_split(
    C: np.ndarray,
    R: np.ndarray,
    mu: np.ndarray,
    subs: np.ndarray,
    errors: list[float],
    groups: Groups | None,
) -> Split:
    """Rebuild a split; R may be one rotation for all cells, (1, dim, dim)."""
    R = shared_rotation(R[0], len(C)) if len(R) < len(C) else R
    return Split(C, R, mu, subs, errors, groups)


def fit_split(
    rows: np.ndarray,
    V: int,
    M: int,
    n_entry: int,
    training: Training,
    C: np.ndarray | None = None,
    R: np.ndarray | None = None,
    mu: np.ndarray | None = None,
    subs: np.ndarray | None = None,
) -> Split:
    """Fit the parameters that are None to ``rows`` (n, dim) float32, and keep the given ones."""
    from lopq.encoding import mean_rows, rotate_rows

    groups = None
    if C is None:
        if len(rows) < V:
            raise LOPQError(f"V={V} cells need at least {V} training vectors; got {len(rows)}")
        iterations, seed, n_init = training.coarse_iterations, training.seed, training.n_init
        C, groups = fit_centroids(rows, V, iterations, seed, n_init)
    order, offsets = group_rows(nearest(rows, C, groups), V)
    residuals = rows[order] - np.repeat(C, np.diff(offsets), axis=0)
    if mu is None:
        mu = mean_rows(residuals, cell_numbers(offsets), np.zeros_like(C))
    residuals -= np.repeat(mu, np.diff(offsets), axis=0)
    if R is None and training.rotation in ("procrustes", "global"):
        learned = _fit_learned(residuals, offsets, C, mu, subs, (M, n_entry), training)
        return replace(learned, groups=groups)
    if R is None and training.rotation == "pca":
        R = pca_rotations(residuals, offsets, M, nearest_cells(C))
    elif R is None:
        R = shared_rotation(np.eye(rows.shape[1], dtype=np.float32), V)
    if subs is None:
        rotated = rotate_rows(residuals, cell_numbers(offsets), R)
        seed, n_init = training.seed, training.n_init
        subs = train_centroids(rotated, M, n_entry, training.local_iterations, seed, n_init)
    return Split(C, R, mu, subs, groups=groups)


def shared_rotation(rotation: np.ndarray, V: int) -> np.ndarray:
    """Return a read-only (V, dim, dim) view that repeats one rotation without copying it."""
    return np.broadcast_to(rotation, (V, *rotation.shape))


def _fit_learned(
    residuals: np.ndarray,
    offsets: np.ndarray,
    C: np.ndarray,
    mu: np.ndarray,
    subs: np.ndarray | None,
    shape: tuple[int, int],
    training: Training,
) -> Split:
    """Learn rotations, and codebooks unless given; ``shape`` is (M, n_entry)."""
    from lopq.encoding import rotate_rows

    V = len(C)
    M, n_entry = shape
    local = training.rotation == "procrustes"
    if local:
        near, groups = nearest_cells(C), offsets
        start = pca_rotations(residuals, offsets, M, near)
    else:
        near, groups = None, offsets[[0, -1]]
        start = balanced_rotation(residuals, M)[None]
    warm = subs
    if warm is None:
        rotated = rotate_rows(residuals, cell_numbers(groups), start)
        warm = train_centroids(rotated, M, n_entry, WARM_START_ITERATIONS, training.seed)
    rotations, codebooks, errors = alternate(
        residuals,
        groups,
        start,
        Codebooks(warm, training.bits),
        training.rotation_iterations,
        near=near,
        learn_codebooks=subs is None,
        progress=training.progress,
    )
    R = rotations if local else shared_rotation(rotations[0], V)
    return Split(C, R, mu, codebooks.centroids, errors)
