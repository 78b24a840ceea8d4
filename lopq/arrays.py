"""What the compiled search reads: the arrays of a model and of a snapshot of the index."""

from typing import NamedTuple

import numpy as np


class ModelArrays(NamedTuple):
    """The fitted parameters; S splits of V cells over dim dimensions each.

    Attributes:
        origins: (S, dim) float32, subtracted from centroids and queries before they are compared.
        panels: (S, n, dim, PANEL) float32 coarse centroids in columns, filled up with zeros.
        half_norms: (S, n, PANEL) float32, half their squared norms, filled up with infinity.
        centers: (S, V, dim) float32, centroid plus mean residual.
        R: (n_rotation, dim, dim) float32 rotations of all splits.
        rotation_of: (S, V) int64 number of each cell's rotation.
        columns: (M, dim_sub, n_entry) float32 codebooks.
        bits: Bits per subspace, 8 or 4.
    """

    origins: np.ndarray
    panels: np.ndarray
    half_norms: np.ndarray
    centers: np.ndarray
    R: np.ndarray
    rotation_of: np.ndarray
    columns: np.ndarray
    bits: int


class RunArrays(NamedTuple):
    """Codes sorted by cell.

    Attributes:
        offsets: (n_list + 1,) int64, the first code of each cell of the snapshot.
        codes: (n, code_bytes) uint8.
        ids: (n,) int64.
        removed: Bits, first bit lowest, of the removed codes. Empty: none.
    """

    offsets: np.ndarray
    codes: np.ndarray
    ids: np.ndarray
    removed: np.ndarray


class SnapshotArrays(NamedTuple):
    """The codes of all runs. A code's position is its row in the run plus the earlier runs' codes.

    Attributes:
        cells: (n_list,) int64 numbers of the cells that have codes in any run.
        runs: The runs.
        allowed: (n,) bool by id; ids beyond are not allowed. Empty: all are.
    """

    cells: np.ndarray
    runs: tuple[RunArrays, RunArrays]
    allowed: np.ndarray
