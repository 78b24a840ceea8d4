"""What the compiled search reads: the arrays of a model and of a database."""

from typing import NamedTuple

import numpy as np


class ModelArrays(NamedTuple):
    """The fitted parameters; S splits of V cells over dim dimensions each.

    Attributes:
        origins: (S, dim) float32, where panels have their origin.
        panels: (S, n, dim, PANEL) float32 coarse centroids (`lopq.panels`), filled up with zeros.
        halves: (S, n, PANEL) float32, half their squared norms, filled up with infinity.
        centers: (S, V, dim) float32, centroid plus mean residual.
        R: (n_rotation, dim, dim) float32 rotations of all splits.
        rotation_of: (S, V) int64 number of each cell's rotation.
        columns: (M, dim_sub, n_entry) float32 codebooks.
        bits: Bits per subspace, 8 or 4.
    """

    origins: np.ndarray
    panels: np.ndarray
    halves: np.ndarray
    centers: np.ndarray
    R: np.ndarray
    rotation_of: np.ndarray
    columns: np.ndarray
    bits: int


class CodeArrays(NamedTuple):
    """The codes: sorted by cell, then those added later, chained from the newest to the oldest.

    Attributes:
        cells: (n_list,) int64 numbers of the cells with codes.
        offsets: (n_list + 1,) int64, the first sorted code of each cell.
        codes: (n, code_bytes) uint8.
        ids: (n,) int64.
        heads: (n_list,) int64, the newest later code of each cell; -1: none. Empty without any.
        previous: (n_later,) int64, the later code of the same cell that came before.
        later_codes: (n_later, code_bytes) uint8.
        later_ids: (n_later,) int64.
        gone: Bits, first bit lowest, of the removed codes: sorted, then later. Empty: none.
        allowed: (n,) bool by id; ids beyond are not allowed. Empty: all are.
    """

    cells: np.ndarray
    offsets: np.ndarray
    codes: np.ndarray
    ids: np.ndarray
    heads: np.ndarray
    previous: np.ndarray
    later_codes: np.ndarray
    later_ids: np.ndarray
    gone: np.ndarray
    allowed: np.ndarray
