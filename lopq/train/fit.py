"""Fit a quantizer: the training sample, PCA, and in each split the four parts one after another."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lopq.codes import CodeFormat
from lopq.errors import LOPQError
from lopq.parallel import group_of_rows, group_rows
from lopq.pca import fit_pca
from lopq.quantizer import CoarseQuantizer, Quantizer, Split, reduce_and_pad, rotate
from lopq.train.coarse_quantizer import mean_rows, train_coarse
from lopq.train.product_quantizer import train_codebooks
from lopq.train.rotations import fit_rotations, nearest_cells, share_rotations
from lopq.validation import as_count

TRAIN_SIZE = 100_000  # default number of training vectors,
TRAIN_SIZE_PER_CELL = 256  # or this many per cell if that is more,
MAX_TRAIN_SIZE = 2**20  # but no more than this


@dataclass(frozen=True)
class FitOptions:
    """Training options; `LOPQModel` and `LOPQModel.fit` explain each."""

    rotation: str = "pca"
    rotations: int | None = None
    pca_dim: int | None = None
    renorm: bool = False
    coarse_iterations: int = 20
    local_iterations: int = 20
    n_init: int = 1
    seed: int = 0


class Given(NamedTuple):
    """Parameters of one split that are given (`lopq.compat`); None for those to fit."""

    C: np.ndarray | None = None
    R: np.ndarray | None = None
    mu: np.ndarray | None = None
    subs: np.ndarray | None = None


def training_size(n: int, V: int, train_size: int | None = -1) -> int:
    """Return how many of n rows `LOPQModel.fit` trains on, for V cells per split."""
    if train_size == -1:
        return min(n, max(TRAIN_SIZE, min(TRAIN_SIZE_PER_CELL * V, MAX_TRAIN_SIZE)))
    return n if train_size is None else min(n, as_count(train_size, "train_size"))


def training_rows(n: int, V: int, seed: int, train_size: int | None = -1) -> np.ndarray | None:
    """Return the rows that `LOPQModel.fit` trains on, ascending int64; None for all rows.

    Args:
        n: Rows in the data.
        V: Cells per split.
        seed: Random seed.
        train_size: Rows to sample; None for all; -1 for the default.

    >>> training_rows(5, V=2, seed=0, train_size=2).shape
    (2,)
    """
    size = training_size(n, V, train_size)
    if size == n:
        return None
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))


def fit_quantizer(
    rows: np.ndarray, format: CodeFormat, options: FitOptions, given: tuple[Given, ...]
) -> Quantizer:
    """Fit a quantizer to ``rows`` (n, dim_in) float32.

    Args:
        rows: The training vectors.
        format: The sizes of a code.
        options: The training options.
        given: The parameters of each split that stay as they are.
    """
    n_split, dim_in = format.n_split, rows.shape[1]
    pca = None
    if options.pca_dim is not None and dim_in > options.pca_dim:
        pca = fit_pca(rows, options.pca_dim, n_split, options.renorm)
    reduced = reduce_and_pad(rows, pca, format.M)  # (n, dim)
    parts = np.split(reduced, n_split, axis=1)  # n_split of (n, dim / n_split)
    splits = tuple(
        fit_split(np.ascontiguousarray(part), format, options, of_split)
        for part, of_split in zip(parts, given, strict=True)
    )
    return Quantizer(splits, format.bits, dim_in, pca)


def fit_split(rows: np.ndarray, format: CodeFormat, options: FitOptions, given: Given) -> Split:
    """Fit coarse centroids, mean residuals, rotations and codebooks to ``rows`` (n, dim) float32.

    Args:
        rows: The training vectors in this split's dimensions.
        format: The sizes of a code.
        options: The training options.
        given: Parameters that stay as they are.
    """
    V, M, seed = format.V, format.M // format.n_split, options.seed
    if given.C is not None:
        coarse = CoarseQuantizer(given.C)
    elif len(rows) < V:
        raise LOPQError(f"V={V} cells need at least {V} training vectors; got {len(rows)}")
    else:
        coarse = train_coarse(rows, V, options.coarse_iterations, seed, options.n_init)
    C = coarse.C
    cells = coarse.assign(rows)  # (n,)

    mu = given.mu
    if mu is None:
        mu = mean_rows(rows - C[cells], cells, np.zeros_like(C))

    n_rotation = 1 if options.rotation == "none" else min(V, options.rotations or V)
    rotation_of = share_rotations(C, V if given.R is not None else n_rotation, seed)  # (V,)
    order, offsets = group_rows(rotation_of[cells], rotation_of.max() + 1)
    residuals = rows[order] - (C + mu)[cells[order]]  # (n, dim), sorted by rotation
    R = given.R
    if R is None and options.rotation == "none":
        R = np.eye(rows.shape[1], dtype=np.float32)[None]
    elif R is None:
        empty = np.zeros((len(offsets) - 1, C.shape[1]), np.float32)
        centers = mean_rows(C, rotation_of, empty)  # (n_rotation, dim)
        R = fit_rotations(residuals, offsets, M, nearest_cells(centers))

    codebooks = given.subs
    if codebooks is None:
        rotated = rotate(residuals, group_of_rows(offsets), R)  # (n, dim)
        codebooks = train_codebooks(
            rotated, M, format.n_entry, options.local_iterations, seed, options.n_init
        )
    return Split(coarse, R, mu, codebooks, rotation_of)
