"""Encoding and decoding with a model: whole arrays, or one vector at a time.

The names and results for one vector are those of the old package.
"""

import numpy as np

from lopq.codes import CodeFormat, LOPQCode
from lopq.errors import LOPQError, as_array, as_count, check_axes, row_blocks
from lopq.pca import PCA
from lopq.quantizer import Quantizer


def as_row(x: np.ndarray) -> np.ndarray:
    """Return one vector (dim,) as (1, dim)."""
    row = as_array(x, "x")
    if row.ndim != 1:
        raise LOPQError(f"x must be one vector, (dim,); got shape {row.shape}")
    return row[None]


class Coder:
    """Encoding and decoding with fitted parameters; the base class of `LOPQModel`.

    Args:
        format: The sizes of a code, known before training.
        quantizer: The fitted parameters, or None before training.
    """

    def __init__(self, format: CodeFormat, quantizer: Quantizer | None = None) -> None:
        self.format = format
        self._quantizer = quantizer

    @property
    def quantizer(self) -> Quantizer:
        """The fitted parameters; raises `LOPQError` before `fit`."""
        if self._quantizer is None:
            raise LOPQError("the model is not fitted; call fit(X) first")
        return self._quantizer

    @property
    def V(self) -> int:
        """Cells per split."""
        return self.format.V

    @property
    def M(self) -> int:
        """Subspaces of all splits together."""
        return self.format.M

    @property
    def subquantizer_clusters(self) -> int:
        """Entries per codebook."""
        return self.format.n_entry

    @property
    def num_coarse_splits(self) -> int:
        """Splits, 1 or 2."""
        return self.format.n_split

    @property
    def num_fine_splits(self) -> int:
        """Subspaces per split."""
        return self.format.M // self.format.n_split

    @property
    def dim(self) -> int:
        """Dimensions of model space: after PCA and zero padding to a multiple of M."""
        return self.quantizer.dim

    @property
    def dim_in(self) -> int | None:
        """Dimensions of the input; None before training."""
        return None if self._quantizer is None else self._quantizer.dim_in

    @property
    def pca(self) -> PCA | None:
        """The PCA, if the model has one."""
        return None if self._quantizer is None else self._quantizer.pca

    @property
    def Cs(self) -> tuple[np.ndarray, ...]:
        """Coarse centroids (V, dim) float32 of each split."""
        return self.quantizer.Cs

    @property
    def Rs(self) -> tuple[np.ndarray, ...]:
        """Rotations (V, dim, dim) float32 of each split."""
        return tuple(split.rotations for split in self.quantizer.splits)

    @property
    def mus(self) -> tuple[np.ndarray, ...]:
        """Mean residuals (V, dim) of each split; 0 for an empty cell (NaN in the old package)."""
        return tuple(split.mu for split in self.quantizer.splits)

    @property
    def subquantizers(self) -> tuple[np.ndarray, ...]:
        """Codebooks (num_fine_splits, subquantizer_clusters, dim_sub) of each split."""
        return tuple(split.subs for split in self.quantizer.splits)

    def get_split_parameters(self, split: int) -> tuple[np.ndarray, ...]:
        """Return C, R, mu and the codebooks of one split."""
        chosen = self.quantizer.splits[self._split_number(split)]
        return chosen.C, chosen.rotations, chosen.mu, chosen.subs

    def _split_number(self, split: int) -> int:
        return as_count(split, "the split", 0, self.num_coarse_splits - 1)

    def to_model_space(self, data: np.ndarray) -> np.ndarray:
        """Return (n, dim) float32: the vectors after PCA and padding. Distances refer to these."""
        return self.quantizer.to_model_space(data)

    def from_model_space(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, dim_in): the least-squares inverse of `to_model_space`."""
        return self.quantizer.from_model_space(rows)

    def encode(self, data: np.ndarray) -> LOPQCode:
        """Encode (n, dim_in) vectors: coarse (n, n_split) int64, fine (n, M) uint8."""
        check_axes(data, "data")
        quantizer = self.quantizer
        coarse = np.empty((len(data), self.num_coarse_splits), np.int64)
        fine = np.empty((len(data), self.M), np.uint8)
        for rows in row_blocks(len(data)):
            coarse[rows], packed = quantizer.encode(quantizer.to_model_space(data[rows]))
            fine[rows] = quantizer.codebooks.unpack(packed)
        return LOPQCode(coarse, fine)

    def decode(self, codes: LOPQCode) -> np.ndarray:
        """Decode n codes to (n, dim) float32 vectors in model space."""
        quantizer = self.quantizer
        coarse, fine = self.format.check(codes)
        return quantizer.decode(coarse, quantizer.codebooks.pack(fine))

    def reconstruct(self, codes: LOPQCode) -> np.ndarray:
        """Decode one code to (dim_in,), or n codes to (n, dim_in).

        After a PCA this is the least-squares preimage in the input space.
        """
        rows = self.from_model_space(self.decode(codes))
        return rows if np.ndim(codes[0]) == 2 else rows[0]

    def predict(self, x: np.ndarray) -> LOPQCode:
        """Encode one vector (dim_in,); the codes are tuples of int."""
        codes = self.encode(as_row(x))
        return LOPQCode(tuple(codes.coarse[0].tolist()), tuple(codes.fine[0].tolist()))

    def predict_coarse(self, x: np.ndarray) -> tuple[int, ...]:
        """Return the cell of one vector in each split."""
        return self.predict(x).coarse

    def predict_fine(
        self, x: np.ndarray, coarse_codes: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Return the fine codes of one vector in the given cell; None takes its own cell."""
        cell = self.predict_coarse(x) if coarse_codes is None else coarse_codes
        codebooks = self.quantizer.codebooks
        return tuple(codebooks.unpack(codebooks.encode(self.project(x, cell)[None]))[0].tolist())

    def project(
        self, x: np.ndarray, coarse_codes: tuple[int, ...], coarse_split: int | None = None
    ) -> np.ndarray:
        """Return R_c (x - C_c - mu_c), float32: one split's, or those of all splits joined."""
        row = self.quantizer.to_model_space(as_row(x))
        cell = self.format.check_coarse([coarse_codes])
        projected = self.quantizer.project(row, cell)[0]
        if coarse_split is None:
            return projected
        return np.split(projected, self.num_coarse_splits)[self._split_number(coarse_split)]

    def get_subquantizer_distances(
        self, x: np.ndarray, coarse_codes: tuple[int, ...], coarse_split: int | None = None
    ) -> list[np.ndarray]:
        """Return the lookup tables of ``x``: its squared distances to each codebook's entries.

        The list holds one (subquantizer_clusters,) float32 array per subspace.
        """
        projected = self.project(x, coarse_codes, coarse_split)
        chosen = slice(None) if coarse_split is None else slice(coarse_split, coarse_split + 1)
        subs = np.concatenate(self.subquantizers[chosen])
        parts = projected.reshape(len(subs), 1, -1)
        return list(((subs - parts) ** 2).sum(axis=2))

    def get_cell_id_for_coarse_codes(self, coarse_codes: tuple[int, ...]) -> int:
        """Return the number of a cell: c0 * V + c1 with two splits."""
        return int(self.format.cell_numbers(self.format.check_coarse([coarse_codes]))[0])

    def get_coarse_codes_for_cell_id(self, cell_id: int) -> tuple[int, ...]:
        """Return the cell in each split; the inverse of `get_cell_id_for_coarse_codes`."""
        number = as_count(cell_id, "a cell's number", 0, self.format.n_cell - 1)
        return tuple(self.format.coarse_codes(np.array([number]))[0].tolist())
