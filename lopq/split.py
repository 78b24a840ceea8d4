"""One split of the model: a coarse quantizer over a range of dimensions, rotations of its cells.

A model has one split over all dimensions (``split="single"``), or two over one half each, whose
pairs of cells form an inverted multi-index (``split="multi"``; Babenko, Lempitsky, CVPR 2012).
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lopq.coarse import fit_centroids, nearest
from lopq.codebooks import Codebooks, train_centroids
from lopq.errors import LOPQError, check_range
from lopq.grouped import cell_numbers, group_rows
from lopq.groups import Groups
from lopq.rotations import alternate, balanced_rotation, nearest_cells, pca_rotations, shared_by

ROTATIONS = ("pca", "procrustes", "global", "none")
WARM_START_ITERATIONS = 5  # k-means iterations for codebooks that `alternate` refines


@dataclass(frozen=True)
class Training:
    """Training options of a split; `LOPQModel` and `LOPQModel.fit` explain each."""

    rotation: str = "pca"
    rotations: int | None = None
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
        R: (n_rotation, dim, dim) float32 rotations.
        mu: (V, dim) float32 mean residual of each cell.
        subs: (M, n_entry, dim / M) float32 codebooks.
        rotation_of: (V,) int64 number of each cell's rotation.
        errors: Mean squared error before each iteration of rotation training.
        groups: Groups of the cells, if there are many.
    """

    C: np.ndarray
    R: np.ndarray
    mu: np.ndarray
    subs: np.ndarray
    rotation_of: np.ndarray
    errors: list[float] = field(default_factory=list)
    groups: Groups | None = None

    @property
    def dim(self) -> int:
        """Dimensions of the split."""
        return int(self.C.shape[1])

    @cached_property
    def centers(self) -> np.ndarray:
        """(V, dim) float32, what is subtracted from the vectors of each cell: C + mu."""
        return self.C + self.mu

    @property
    def rotations(self) -> np.ndarray:
        """(V, dim, dim) float32, the rotation of each cell."""
        if len(self.R) == 1:
            return np.broadcast_to(self.R, (len(self.C), self.dim, self.dim))
        return self.R if len(self.R) == len(self.C) else self.R[self.rotation_of]

    def check(self, bits: int) -> None:
        """Raise `LOPQError` if the arrays are inconsistent; compiled loops do not check them."""
        V, dim = self.C.shape
        M, n_entry, dim_sub = self.subs.shape
        fits = self.R.shape[1:] == (dim, dim) and self.mu.shape == (V, dim) and M * dim_sub == dim
        if not fits or not 1 <= n_entry <= 2**bits or self.rotation_of.shape != (V,):
            raise LOPQError("the arrays of the model do not fit together")
        check_range(self.rotation_of, len(self.R), "rotation_of")
        if {a.dtype.str for a in (self.C, self.R, self.mu, self.subs)} != {"<f4"}:
            raise LOPQError("the arrays of the model have wrong types")

    def nearest_cell(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n,) int64 cell of each row; see `lopq.coarse.nearest`."""
        return nearest(rows, self.C, self.groups)

    def project(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return R_c (x - C_c - mu_c) for each row x (n, dim) and its cell c (n,)."""
        from lopq.encoding import project_rows

        return project_rows(rows, cells, self.centers, self.rotation_of, self.R)

    def restore(self, projected: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Invert `project`: return R_c' y + C_c + mu_c."""
        from lopq.encoding import rotate_rows

        order, _ = group_rows(cells, len(self.C))
        numbers = self.rotation_of[cells[order]]
        rows = np.empty_like(projected)
        rows[order] = rotate_rows(projected[order], numbers, self.R, inverse=True)
        return rows + self.centers[cells]


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

    groups, seed, n_init = None, training.seed, training.n_init
    if C is None:
        if len(rows) < V:
            raise LOPQError(f"V={V} cells need at least {V} training vectors; got {len(rows)}")
        C, groups = fit_centroids(rows, V, training.coarse_iterations, seed, n_init)
    cells = nearest(rows, C, groups)
    if mu is None:
        mu = mean_rows(rows - C[cells], cells, np.zeros_like(C))
    wanted = {"global": 1, "none": 1}.get(training.rotation, training.rotations or V)
    rotation_of = shared_by(C, V if R is not None else min(V, wanted), seed)
    order, offsets = group_rows(rotation_of[cells], rotation_of.max() + 1)
    residuals = rows[order] - (C + mu)[cells[order]]
    centers = mean_rows(C, rotation_of, np.zeros((len(offsets) - 1, C.shape[1]), np.float32))
    if R is None and training.rotation in ("procrustes", "global"):
        R, subs, errors = _fit_learned(residuals, offsets, centers, subs, (M, n_entry), training)
        return Split(C, R, mu, subs, rotation_of, errors, groups)
    if R is None and training.rotation == "pca":
        R = pca_rotations(residuals, offsets, M, nearest_cells(centers))
    elif R is None:
        R = np.eye(rows.shape[1], dtype=np.float32)[None]
    if subs is None:
        rotated = rotate_rows(residuals, cell_numbers(offsets), R)
        subs = train_centroids(rotated, M, n_entry, training.local_iterations, seed, n_init)
    return Split(C, R, mu, subs, rotation_of, groups=groups)


def _fit_learned(
    residuals: np.ndarray,
    offsets: np.ndarray,
    centers: np.ndarray,
    subs: np.ndarray | None,
    shape: tuple[int, int],
    training: Training,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Learn rotations, and codebooks unless given.

    Args:
        residuals: (n, dim) float32, sorted by rotation.
        offsets: (n_rotation + 1,) int64, the first row of each rotation.
        centers: (n_rotation, dim) float32, the mean centroid of each rotation's cells.
        subs: Given codebooks.
        shape: (M, n_entry).
        training: Options.

    Returns:
        Rotations, codebooks, and the mean squared error before each iteration.
    """
    from lopq.encoding import rotate_rows

    M, n_entry = shape
    if training.rotation == "procrustes":
        near: np.ndarray | None = nearest_cells(centers)
        start = pca_rotations(residuals, offsets, M, near)
    else:
        near, start = None, balanced_rotation(residuals, M)[None]
    warm = subs
    if warm is None:
        rotated = rotate_rows(residuals, cell_numbers(offsets), start)
        warm = train_centroids(rotated, M, n_entry, WARM_START_ITERATIONS, training.seed)
    rotations, codebooks, errors = alternate(
        residuals,
        offsets,
        start,
        Codebooks(warm, training.bits),
        training.rotation_iterations,
        near=near,
        learn_codebooks=subs is None,
        progress=training.progress,
    )
    return rotations, codebooks.centroids, errors
