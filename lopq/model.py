"""The model: principal components, cells with local rotations, and product codebooks."""

from pathlib import Path

import numpy as np

from lopq import legacy, storage
from lopq.codebooks import Codebooks
from lopq.codes import LOPQCode
from lopq.errors import (
    LOPQError,
    as_count,
    as_vectors,
    check_axes,
    row_blocks,
)
from lopq.one_vector import OneVector
from lopq.parameters import Given, Parameters, check_dims, split_parameters
from lopq.pca import PCA, fit_pca
from lopq.sampling import training_rows
from lopq.split import ROTATIONS, Split, Training, fit_split


class LOPQModel(OneVector):
    """Locally optimized product quantization (Kalantidis, Avrithis, CVPR 2014).

    The positional arguments are those of the old ``lopq`` package. A model there always has
    two splits: say ``split="multi"`` for that.

    Args:
        V: Cells of each split.
        M: Subspaces; a code takes M * bits / 8 bytes, rounded up.
        subquantizer_clusters: Entries of each codebook, 1 to 256; at most 16 with ``bits=4``.
        parameters: (Cs, Rs, mus, subs), each a sequence with one array for each split, or None
            for what `fit` has to find: C (V, dim), R (V, dim, dim), mu (V, dim) and
            subs (M / n_split, subquantizer_clusters, dim_sub). Shapes override V, M and
            subquantizer_clusters, and the number of arrays overrides split.
        split: "single" (V cells) or "multi" (two halves of the dimensions, V * V cells).
        rotation: "pca" turns each cell to its principal axes, balanced over the subspaces;
            "procrustes" goes on from there and learns each cell's rotation with the codebooks;
            "global" learns one for all cells (OPQ of the residuals); "none" leaves it out.
        bits: Bits of a code, 8 or 4.
        pca_dim: Vectors of more dimensions are reduced to so many principal components; None
            never reduces them. Not done where parameters are given.
        renorm: Give vectors unit norm again after the reduction.
        seed: Fixes all that is drawn: the same seed and data give the same model.
    """

    def __init__(
        self,
        V: int = 8,
        M: int = 4,
        subquantizer_clusters: int = 256,
        parameters: Parameters | None = None,
        *,
        split: str = "single",
        rotation: str = "pca",
        bits: int = 8,
        pca_dim: int | None = 256,
        renorm: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value, choices in (
            ("split", split, ("single", "multi")),
            ("rotation", rotation, ROTATIONS),
            ("bits", bits, (8, 4)),
        ):
            if value not in choices:
                expected = ", ".join(map(repr, choices))
                raise LOPQError(f"{name} must be one of {expected}; got {value!r}")
        self.rotation, self.bits, self.renorm = str(rotation), int(bits), bool(renorm)
        self.seed = as_count(seed, "seed", 0)
        self.V, self.M = as_count(V, "V"), as_count(M, "M")
        clusters = as_count(subquantizer_clusters, "subquantizer_clusters", 1, 256)
        self.subquantizer_clusters = min(clusters, 2**self.bits)
        self.pca_dim = None if pca_dim is None else as_count(pca_dim, "pca_dim")
        self.pca: PCA | None = None
        self.dim_in: int | None = None
        self.splits: tuple[Split, ...] = ()
        given = [] if parameters is None else split_parameters(parameters)
        self._given = given or [Given()] * (1 if split == "single" else 2)
        self.num_coarse_splits = len(self._given)
        if given:
            self._adopt_given()
        if self.M % self.num_coarse_splits:
            raise LOPQError(f"two splits need an even number of subspaces; got M={self.M}")

    def _adopt_given(self) -> None:
        """Let the shapes of the given parameters rule, and be fitted if they are all there."""
        C, R, mu, subs = self._given[0]
        self.pca_dim = None
        cells = next((array for array in (C, R, mu) if array is not None), None)
        if cells is not None:
            self.V = len(cells)
        if subs is not None:
            self.M, self.subquantizer_clusters = len(self._given) * len(subs), subs.shape[1]
            as_count(subs.shape[1], "entries of a codebook", 1, 2**self.bits)
        complete = [given.as_split() for given in self._given]
        splits = tuple(split for split in complete if split is not None)
        if len(splits) == len(self._given):
            self.dim_in = sum(split.dim for split in splits)
            self.adopt(splits)

    def adopt(self, splits: tuple[Split, ...]) -> None:
        """Make ``splits`` the fitted parameters."""
        self.splits = splits
        self._codebooks = Codebooks(np.concatenate([s.subs for s in splits]), self.bits)

    @property
    def codebooks(self) -> Codebooks:
        """The codebooks of all splits, in order."""
        self.fitted_splits()
        return self._codebooks

    def fitted_splits(self) -> tuple[Split, ...]:
        """Return the splits, or say that there is nothing to use yet."""
        if not self.splits:
            raise LOPQError("the model is not fitted; call fit(X) first")
        return self.splits

    @property
    def dim(self) -> int:
        """Dimensions of the model's own space: reduced, and padded to a multiple of M."""
        return sum(s.dim for s in self.fitted_splits())

    @property
    def nbytes(self) -> int:
        """Bytes of the parameters; a rotation that all cells share counts once."""
        _, arrays = storage.describe_model(self)
        return sum(array.nbytes for array in arrays.values())

    @property
    def training_errors(self) -> tuple[list[float], ...]:
        """Mean squared error of the training vectors before each round, for each split."""
        return tuple(s.errors for s in self.fitted_splits())

    def fit(
        self,
        data: np.ndarray,
        kmeans_coarse_iters: int = 20,
        kmeans_local_iters: int = 20,
        n_init: int = 1,
        subquantizer_sample_ratio: float = 1.0,
        random_state: int | None = None,
        verbose: bool | None = None,
        n_jobs: int = 1,
        *,
        rotation_iters: int = 25,
        train_size: int | None = -1,
    ) -> None:
        """Fit what the model was not given. A model that is complete stays as it is.

        Args:
            data: (n, dim_in) numbers, array or memory map.
            kmeans_coarse_iters: Rounds of k-means for the cells.
            kmeans_local_iters: Rounds of k-means for codebooks on fixed rotations.
            n_init: Restarts of these k-means.
            subquantizer_sample_ratio: Part of the training vectors used, from 0 to 1. (In the
                old package: for the codebooks alone, after all vectors were projected.)
            random_state: Replaces the model's seed.
            verbose: True or False shows or hides the progress bar; None shows it on a terminal.
            n_jobs: Without effect: threads are those of ``faiss.omp_set_num_threads``.
            rotation_iters: Rounds of refitting, with rotation="procrustes" or "global".
            train_size: Train on so many vectors, drawn at random; None for all; -1 for the
                default: 100,000, or 256 for each cell where that is more.
        """
        if self.splits:
            return
        if random_state is not None:
            self.seed = as_count(random_state, "random_state", 0)
        training = Training(
            rotation=self.rotation,
            bits=self.bits,
            coarse_iterations=as_count(kmeans_coarse_iters, "kmeans_coarse_iters"),
            local_iterations=as_count(kmeans_local_iters, "kmeans_local_iters"),
            rotation_iterations=as_count(rotation_iters, "rotation_iters"),
            n_init=as_count(n_init, "n_init"),
            seed=self.seed,
            progress=verbose,
        )
        check_axes(data, "data")
        if 0 in np.shape(data):
            raise LOPQError(f"data must be (n, dim), not empty; got shape {np.shape(data)}")
        ratio = subquantizer_sample_ratio
        chosen = training_rows(len(data), self.V, self.seed, train_size, ratio)
        rows = as_vectors(data if chosen is None else np.asarray(data)[chosen], "data")
        pca = None
        if self.pca_dim is not None and rows.shape[1] > self.pca_dim:
            pca = fit_pca(rows, self.pca_dim, self.num_coarse_splits, self.renorm)
        reduced = self._reduced(rows, pca)
        check_dims(self._given, rows.shape[1], reduced.shape[1])
        halves = np.split(reduced, self.num_coarse_splits, axis=1)
        shape = (self.V, self.M // self.num_coarse_splits, self.subquantizer_clusters)
        splits = tuple(
            fit_split(np.ascontiguousarray(half), *shape, training, *arrays)
            for half, arrays in zip(halves, self._given, strict=True)
        )
        self.pca, self.dim_in = pca, rows.shape[1]
        self.adopt(splits)

    def _reduced(self, rows: np.ndarray, pca: PCA | None) -> np.ndarray:
        """Reduce checked rows, and pad them with zero columns to a multiple of M."""
        reduced = rows if pca is None else pca.apply(rows)
        missing = -reduced.shape[1] % self.M
        return np.pad(reduced, ((0, 0), (0, missing))) if missing else reduced

    def to_model_space(self, data: np.ndarray) -> np.ndarray:
        """Return (n, dim) float32: reduced and padded, the space that distances refer to."""
        self.fitted_splits()
        return self._reduced(as_vectors(data, "data", self.dim_in), self.pca)

    def from_model_space(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, dim_in): the least-squares inverse of `to_model_space`."""
        if self.pca is not None:
            return self.pca.invert(rows[:, : len(self.pca.components)])
        return rows[:, : self.dim_in]

    def encode(self, data: np.ndarray) -> LOPQCode:
        """Return the codes of (n, dim_in) vectors: coarse (n, n_split), fine (n, M)."""
        check_axes(data, "data")
        coarse = np.empty((len(data), self.num_coarse_splits), np.int64)
        fine = np.empty((len(data), self.M), np.uint8)
        for rows in row_blocks(len(data)):
            coarse[rows], packed = self.encode_packed(self.to_model_space(data[rows]))
            fine[rows] = self.codebooks.unpack(packed)
        return LOPQCode(coarse, fine)

    def encode_packed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coarse codes and packed fine codes of rows (n, dim) in model space."""
        parts = np.split(rows, self.num_coarse_splits, axis=1)
        coarse, projected = [], []
        for split, part in zip(self.fitted_splits(), parts, strict=True):
            cells = split.nearest_cell(part)
            coarse.append(cells)
            projected.append(split.project(part, cells))
        return np.stack(coarse, axis=1), self.codebooks.encode(np.concatenate(projected, axis=1))

    def decode(self, codes: LOPQCode) -> np.ndarray:
        """Return the (n, dim) vectors in model space that the codes of n vectors stand for."""
        coarse, fine = self.checked_codes(codes)
        decoded = self.codebooks.decode(self.codebooks.pack(fine))
        parts = np.split(decoded, self.num_coarse_splits, axis=1)
        columns = zip(self.splits, parts, coarse.T, strict=True)
        return np.concatenate([s.restore(part, cells) for s, part, cells in columns], axis=1)

    def save(self, path: str | Path) -> None:
        """Write the model to one file (`lopq.storage`), whole or not at all."""
        storage.write(path, "model", *storage.describe_model(self))

    @classmethod
    def load(cls, path: str | Path) -> "LOPQModel":
        """Read what `save` wrote."""
        content = storage.read(path, "model")
        with storage.naming(path):
            return storage.restore_model(*content)

    @classmethod
    def load_proto(cls, path: str | Path) -> "LOPQModel":
        """Read a model of the old package from its protobuf file (``.lopq``)."""
        parameters, sizes = legacy.read_proto(path)
        return cls(parameters=parameters, **sizes)

    @classmethod
    def load_mat(cls, path: str | Path) -> "LOPQModel":
        """Read a model of the old package from its ``.mat`` file."""
        return cls(parameters=legacy.read_mat(path))
