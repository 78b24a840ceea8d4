"""The model with the calls of the old package: parameter tuples, its files, single vectors."""

from pathlib import Path
from typing import Any

import numpy as np

from lopq import model
from lopq.codes import LOPQCode
from lopq.compat import readers
from lopq.compat.parameters import Parameters, check_dims, complete_split, given_parameters
from lopq.errors import LOPQError
from lopq.pca import eigenvalue_allocation as eigenvalue_allocation  # the old package has it here
from lopq.quantizer import Quantizer
from lopq.train.fit import training_size
from lopq.validation import as_array, as_count, check_axes


class LOPQModel(model.LOPQModel):
    """A model as the old package has it: two splits, no PCA.

    Args:
        V: Cells per split.
        M: Subspaces; a code takes M bytes.
        subquantizer_clusters: Entries per codebook, 1 to 256.
        parameters: (Cs, Rs, mus, subs), each a sequence with one array per split, or None to
            leave that part to `fit`: C (V, dim), R (V, dim, dim), mu (V, dim) and
            subs (M / n_split, subquantizer_clusters, dim_sub). Their shapes override V, M and
            subquantizer_clusters, and the number of arrays overrides split.
        split: "multi" (two splits) or "single".
        pca_dim: As in `lopq.LOPQModel`; ignored when parameters are given.
        options: The other options of `lopq.LOPQModel`.

    Raises:
        LOPQError: An option out of range, or parameters whose shapes disagree.
    """

    def __init__(
        self,
        V: int = 8,
        M: int = 4,
        subquantizer_clusters: int = 256,
        parameters: Parameters | None = None,
        *,
        split: str = "multi",
        pca_dim: int | None = None,
        **options: Any,
    ) -> None:
        bits = options.get("bits", 8)
        given = [] if parameters is None else given_parameters(parameters, bits)
        if given:
            split, pca_dim = "single" if len(given) == 1 else "multi", None
            V = next((len(array) for array in given[0][:3] if array is not None), V)
            if given[0].subs is not None:
                M, subquantizer_clusters = len(given) * len(given[0].subs), given[0].subs.shape[1]
        super().__init__(V, M, subquantizer_clusters, split=split, pca_dim=pca_dim, **options)
        if given:
            self._given = tuple(given)
            complete = [complete_split(part) for part in given]
            splits = tuple(part for part in complete if part is not None)
            if len(splits) == len(given):
                self._quantizer = Quantizer(splits, bits, sum(part.dim for part in splits))

    @property
    def num_coarse_splits(self) -> int:
        """Splits, 1 or 2."""
        return self.format.n_split

    @property
    def num_fine_splits(self) -> int:
        """Subspaces per split."""
        return self.format.M // self.format.n_split

    def fit(  # type: ignore[override]
        self,
        data: np.ndarray,
        kmeans_coarse_iters: int = 10,
        kmeans_local_iters: int = 20,
        n_init: int = 10,
        subquantizer_sample_ratio: float = 1.0,
        random_state: int | None = None,
        verbose: bool = False,
        n_jobs: int = 1,
    ) -> "LOPQModel":
        """Fit all parameters that were not given.

        Args:
            data: (n, dim_in) real numbers, array or memory map.
            kmeans_coarse_iters: k-means iterations of the coarse quantizer.
            kmeans_local_iters: k-means iterations of the codebooks.
            n_init: Restarts of both.
            subquantizer_sample_ratio: Fraction of the training vectors to use, above 0, up to 1.
                (The old package sampled for the codebooks only, after projecting all vectors.)
            random_state: Replaces the model's seed.
            verbose: Unused; taken because the old package takes it.
            n_jobs: Unused; ``faiss.omp_set_num_threads`` sets the number of threads.

        Raises:
            LOPQError: As in `lopq.LOPQModel.fit`, or given parameters that do not fit the data.
        """
        if random_state is not None:
            self.seed = as_count(random_state, "random_state", 0)
        ratio = subquantizer_sample_ratio
        if not 0 < ratio <= 1:
            raise LOPQError(f"subquantizer_sample_ratio must be above 0, up to 1; got {ratio}")
        check_axes(data, "data")
        check_dims(self._given, np.shape(data)[1], self.M)
        size = max(1, int(ratio * training_size(len(data), self.V)))
        super().fit(data, kmeans_coarse_iters, kmeans_local_iters, n_init, train_size=size)
        return self

    def get_split_parameters(self, split: int) -> tuple[np.ndarray, ...]:
        """Return C, R, mu and the codebooks of one split."""
        chosen = self.quantizer.splits[self._split_number(split)]
        return chosen.C, chosen.rotations, chosen.mu, chosen.codebooks

    def _split_number(self, split: int) -> int:
        return as_count(split, "the split", 0, self.num_coarse_splits - 1)

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
        packed = self.quantizer.fine_codes(self.project(x, cell)[None])
        return tuple(self.format.unpack(packed)[0].tolist())

    def reconstruct(self, codes: LOPQCode) -> np.ndarray:
        """Decode one code to (dim_in,), or n codes to (n, dim_in)."""
        rows = super().reconstruct(codes)
        return rows if np.ndim(codes[0]) == 2 else rows[0]

    def project(
        self, x: np.ndarray, coarse_codes: tuple[int, ...], coarse_split: int | None = None
    ) -> np.ndarray:
        """Return the rotated residual of one vector: one split's, or those of all splits joined."""
        row = self.to_model_space(as_row(x))
        cell = self.format.check_coarse([coarse_codes])
        rotated = self.quantizer.rotated_residuals(row, cell)[0]
        if coarse_split is None:
            return rotated
        return np.split(rotated, self.num_coarse_splits)[self._split_number(coarse_split)]

    def get_subquantizer_distances(
        self, x: np.ndarray, coarse_codes: tuple[int, ...], coarse_split: int | None = None
    ) -> list[np.ndarray]:
        """Return the lookup tables of ``x``: its squared distances to each codebook's entries.

        The list holds one (subquantizer_clusters,) float32 array per subspace.
        """
        rotated = self.project(x, coarse_codes, coarse_split)
        chosen = slice(None) if coarse_split is None else slice(coarse_split, coarse_split + 1)
        codebooks = np.concatenate(self.subquantizers[chosen])
        subspaces = rotated.reshape(len(codebooks), 1, -1)
        return list(((codebooks - subspaces) ** 2).sum(axis=2))

    def get_cell_id_for_coarse_codes(self, coarse_codes: tuple[int, ...]) -> int:
        """Return the number of a cell: c0 * V + c1 with two splits."""
        return int(self.format.cell_numbers(self.format.check_coarse([coarse_codes]))[0])

    def get_coarse_codes_for_cell_id(self, cell_id: int) -> tuple[int, ...]:
        """Return the cell in each split; the inverse of `get_cell_id_for_coarse_codes`."""
        number = as_count(cell_id, "a cell's number", 0, self.format.n_cell - 1)
        return tuple(self.format.coarse_codes(np.array([number]))[0].tolist())

    @classmethod
    def load_proto(cls, path: str | Path) -> "LOPQModel":
        """Read a model of the old package from its protobuf file (``.lopq``)."""
        parameters, sizes = readers.read_proto(path)
        return cls(parameters=parameters, **sizes)

    @classmethod
    def load_mat(cls, path: str | Path) -> "LOPQModel":
        """Read a model of the old package from its ``.mat`` file."""
        return cls(parameters=readers.read_mat(path))


def as_row(x: np.ndarray) -> np.ndarray:
    """Return one vector (dim,) as (1, dim)."""
    row = as_array(x, "x")
    if row.ndim != 1:
        raise LOPQError(f"x must be one vector, (dim,); got shape {row.shape}")
    return row[None]
