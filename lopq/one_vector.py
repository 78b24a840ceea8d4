"""The old package's interface of the model: one vector at a time, tuples of int."""

from typing import TYPE_CHECKING

import numpy as np

from lopq.codes import CodeForms, LOPQCode
from lopq.errors import LOPQError, as_array, as_count
from lopq.kernels import rotate_queries


def as_row(x: np.ndarray) -> np.ndarray:
    """Return one vector as (1, dim)."""
    row = as_array(x, "x")
    if row.ndim != 1:
        raise LOPQError(f"x must be one vector, (dim,); got shape {row.shape}")
    return row[None]


class OneVector(CodeForms):
    """What the old package's model offers beside fitting, with its names and meanings."""

    if TYPE_CHECKING:

        def encode(self, data: np.ndarray) -> LOPQCode: ...
        def decode(self, codes: LOPQCode) -> np.ndarray: ...
        def to_model_space(self, data: np.ndarray) -> np.ndarray: ...
        def from_model_space(self, rows: np.ndarray) -> np.ndarray: ...

    @property
    def num_fine_splits(self) -> int:
        """Subspaces of one split."""
        return self.M // self.num_coarse_splits

    @property
    def Cs(self) -> tuple[np.ndarray, ...]:
        """Cell centroids (V, dim) of each split."""
        return tuple(s.C for s in self.fitted_splits())

    @property
    def Rs(self) -> tuple[np.ndarray, ...]:
        """Rotations (V, dim, dim) of each split."""
        return tuple(s.R for s in self.fitted_splits())

    @property
    def mus(self) -> tuple[np.ndarray, ...]:
        """Mean residuals (V, dim) of each split; 0 for an empty cell (NaN in the old package)."""
        return tuple(s.mu for s in self.fitted_splits())

    @property
    def subquantizers(self) -> tuple[np.ndarray, ...]:
        """Codebooks (num_fine_splits, subquantizer_clusters, dim_sub) of each split."""
        return tuple(s.subs for s in self.fitted_splits())

    def get_split_parameters(self, split: int) -> tuple[np.ndarray, ...]:
        """Return C, R, mu and codebooks of one split."""
        s = self.fitted_splits()[self._split_number(split)]
        return s.C, s.R, s.mu, s.subs

    def _split_number(self, split: int) -> int:
        return as_count(split, "the split", 0, self.num_coarse_splits - 1)

    def predict(self, x: np.ndarray) -> LOPQCode:
        """Return the codes of one vector (dim_in,) as tuples of int."""
        codes = self.encode(as_row(x))
        return LOPQCode(tuple(codes.coarse[0].tolist()), tuple(codes.fine[0].tolist()))

    def predict_coarse(self, x: np.ndarray) -> tuple[int, ...]:
        """Return the cell of one vector in each split."""
        return self.predict(x).coarse

    def predict_fine(
        self, x: np.ndarray, coarse_codes: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Return the fine codes of one vector in the given cell, or else in its own."""
        cell = self.predict_coarse(x) if coarse_codes is None else coarse_codes
        packed = self.codebooks.encode(self.project(x, cell)[None])
        return tuple(self.codebooks.unpack(packed)[0].tolist())

    def project(
        self, x: np.ndarray, coarse_codes: tuple[int, ...], coarse_split: int | None = None
    ) -> np.ndarray:
        """Return R_c (x - C_c - mu_c), of one split or of all in a row."""
        row = self.to_model_space(as_row(x))
        cell = self.checked_coarse([coarse_codes])
        projected = rotate_queries(self.fitted_splits(), row, np.zeros(1, np.int64), cell)[0]
        if coarse_split is None:
            return projected
        return np.split(projected, self.num_coarse_splits)[self._split_number(coarse_split)]

    def reconstruct(self, codes: LOPQCode) -> np.ndarray:
        """Return the vector (dim_in,) that a code stands for, or (n, dim_in) for n codes.

        After a PCA this is its least-squares image in the input space.
        """
        rows = self.from_model_space(self.decode(codes))
        return rows if np.ndim(codes[0]) == 2 else rows[0]

    def get_subquantizer_distances(
        self, x: np.ndarray, coarse_codes: tuple[int, ...], coarse_split: int | None = None
    ) -> list[np.ndarray]:
        """Return the squared distances of ``x`` to each subspace's codebook, a list of arrays."""
        projected = self.project(x, coarse_codes, coarse_split)
        chosen = slice(None) if coarse_split is None else slice(coarse_split, coarse_split + 1)
        subs = np.concatenate(self.subquantizers[chosen])
        parts = projected.reshape(len(subs), 1, -1)
        return list(((subs - parts) ** 2).sum(axis=2))

    def get_cell_id_for_coarse_codes(self, coarse_codes: tuple[int, ...]) -> int:
        """Return the number of a cell: c0 * V + c1 with two splits."""
        return int(self.cell_numbers(self.checked_coarse([coarse_codes]))[0])

    def get_coarse_codes_for_cell_id(self, cell_id: int) -> tuple[int, ...]:
        """Return the cell in each split; the inverse of `get_cell_id_for_coarse_codes`."""
        number = as_count(cell_id, "a cell's number", 0, self.V**self.num_coarse_splits - 1)
        return tuple(self.coarse_codes(np.array([number]))[0].tolist())
