"""The model: its options, fitting, encoding and decoding, and its file."""

from pathlib import Path
from typing import Any

import numpy as np

from lopq import storage
from lopq.codes import CodeFormat, LOPQCode
from lopq.errors import LOPQError
from lopq.parallel import row_blocks
from lopq.pca import PCA
from lopq.quantizer import Quantizer
from lopq.train.fit import FitOptions, Given, fit_quantizer, training_rows
from lopq.validation import as_count, as_vectors, check_axes

CHOICES = {"split": ("single", "multi"), "rotation": ("pca", "none"), "bits": (8, 4)}
OPTIONS = (
    *("V", "M", "subquantizer_clusters", "rotation", "rotations"),
    *("bits", "pca_dim", "renorm", "seed"),
)


class LOPQModel:
    """Locally optimized product quantization (Kalantidis, Avrithis, CVPR 2014).

    Args:
        V: Cells per split.
        M: Subspaces; a code takes M * bits / 8 bytes, rounded up.
        subquantizer_clusters: Entries per codebook, 1 to 256; at most 16 with ``bits=4``.
        split: "single" (V cells) or "multi" (two halves of the dimensions, V * V cells).
        rotation: "pca" rotates each cell to its principal axes, balanced over the subspaces;
            "none" does not rotate.
        rotations: Number of rotations; cells near each other share one. None fits one per cell. A
            rotation takes 4 * dim**2 bytes.
        bits: Bits per subspace, 8 or 4.
        pca_dim: Reduce vectors with more dimensions than this by PCA; None never reduces.
        renorm: L2-normalize vectors after the PCA.
        seed: Random seed; equal seeds, data and numbers of threads give equal models.

    Raises:
        LOPQError: An option out of range.
    """

    def __init__(
        self,
        V: int = 8,
        M: int = 4,
        subquantizer_clusters: int = 256,
        *,
        split: str = "single",
        rotation: str = "pca",
        rotations: int | None = None,
        bits: int = 8,
        pca_dim: int | None = 256,
        renorm: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value in (("split", split), ("rotation", rotation), ("bits", bits)):
            if value not in CHOICES[name]:
                expected = ", ".join(map(repr, CHOICES[name]))
                raise LOPQError(f"{name} must be one of {expected}; got {value!r}")
        self.rotation, self.renorm = str(rotation), bool(renorm)
        self.seed = as_count(seed, "seed", 0)
        self.rotations = None if rotations is None else as_count(rotations, "rotations")
        self.pca_dim = None if pca_dim is None else as_count(pca_dim, "pca_dim")
        clusters = as_count(subquantizer_clusters, "subquantizer_clusters", 1, 256)
        V, M, n_split = as_count(V, "V"), as_count(M, "M"), 1 if split == "single" else 2
        if M % n_split:
            raise LOPQError(f"two splits need an even number of subspaces; got M={M}")
        self._format = CodeFormat(V, M, min(clusters, 2 ** int(bits)), n_split, int(bits))
        self._given: tuple[Given, ...] = (Given(),) * n_split  # `lopq.compat` may replace it
        self._quantizer: Quantizer | None = None

    @property
    def quantizer(self) -> Quantizer:
        """The fitted parameters; raises `LOPQError` before `fit`."""
        if self._quantizer is None:
            raise LOPQError("the model is not fitted; call fit(X) first")
        return self._quantizer

    @property
    def format(self) -> CodeFormat:
        """The sizes of a code."""
        return self._format if self._quantizer is None else self._quantizer.format

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
    def bits(self) -> int:
        """Bits per subspace, 8 or 4."""
        return self.format.bits

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
        """Mean residuals (V, dim) float32 of each split; 0 for an empty cell."""
        return tuple(split.mu for split in self.quantizer.splits)

    @property
    def subquantizers(self) -> tuple[np.ndarray, ...]:
        """Codebooks (M / n_split, subquantizer_clusters, dim_sub) float32 of each split."""
        return tuple(split.codebooks for split in self.quantizer.splits)

    @property
    def nbytes(self) -> int:
        """Size of the parameters in bytes; a rotation that cells share counts once."""
        return sum(array.nbytes for array in self.quantizer.arrays().values())

    def fit(
        self,
        data: np.ndarray,
        kmeans_coarse_iters: int = 20,
        kmeans_local_iters: int = 20,
        n_init: int = 1,
        *,
        train_size: int | None = -1,
    ) -> "LOPQModel":
        """Fit the model, again if it was fitted before, and return it.

        Args:
            data: (n, dim_in) real numbers, array or memory map.
            kmeans_coarse_iters: k-means iterations of the coarse quantizer.
            kmeans_local_iters: k-means iterations of the codebooks.
            n_init: Restarts of both.
            train_size: Number of training vectors, sampled at random; None uses all; -1 uses
                100,000, or 256 per cell if that is more, up to 1,048,576.

        Raises:
            LOPQError: Fewer vectors than cells, NaN or infinite values, a wrong shape or dtype, or
                an option out of range.
        """
        options = FitOptions(
            rotation=self.rotation,
            rotations=self.rotations,
            pca_dim=self.pca_dim,
            renorm=self.renorm,
            coarse_iterations=as_count(kmeans_coarse_iters, "kmeans_coarse_iters"),
            local_iterations=as_count(kmeans_local_iters, "kmeans_local_iters"),
            n_init=as_count(n_init, "n_init"),
            seed=self.seed,
        )
        check_axes(data, "data")
        if 0 in np.shape(data):
            raise LOPQError(f"data must be (n, dim), not empty; got shape {np.shape(data)}")
        chosen = training_rows(len(data), self.V, self.seed, train_size)
        rows = as_vectors(data if chosen is None else np.asarray(data)[chosen], "data")
        self._quantizer = fit_quantizer(rows, self.format, options, self._given)
        return self

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
        coarse = np.empty((len(data), self.format.n_split), np.int64)
        fine = np.empty((len(data), self.M), np.uint8)
        for rows in row_blocks(len(data)):
            coarse[rows], packed = quantizer.encode(quantizer.to_model_space(data[rows]))
            fine[rows] = self.format.unpack(packed)
        return LOPQCode(coarse, fine)

    def decode(self, codes: LOPQCode) -> np.ndarray:
        """Decode n codes to (n, dim) float32 vectors in model space."""
        coarse, fine = self.format.check(codes)
        return self.quantizer.decode(coarse, self.format.pack(fine))

    def reconstruct(self, codes: LOPQCode) -> np.ndarray:
        """Decode n codes to (n, dim_in) vectors: after a PCA, their least-squares preimages."""
        return self.from_model_space(self.decode(codes))

    def header(self) -> dict[str, Any]:
        """Return the options and sizes that a saved file holds beside the arrays."""
        header = {name: getattr(self, name) for name in OPTIONS}
        errors: list[list[float]] = [[] for _ in range(self.format.n_split)]
        return {**header, "dim_in": self.dim_in, "training_errors": errors}

    @classmethod
    def restored(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> "LOPQModel":
        """Rebuild a model from its `header` and the arrays of its quantizer."""
        # Older files have no "rotations".
        options: dict[str, Any] = {name: header.get(name) for name in OPTIONS}
        if options["rotation"] != "none":  # older versions could learn the rotations
            options["rotation"] = "pca"
        n_split = len(header["training_errors"])
        model = cls(**options, split="single" if n_split == 1 else "multi")
        model._quantizer = Quantizer.from_arrays(
            arrays, n_split, model.bits, header["dim_in"], model.renorm
        )
        return model

    def save(self, path: str | Path) -> None:
        """Write the model atomically to one file; `lopq.storage` describes the format."""
        storage.write(path, "model", self.header(), self.quantizer.arrays())

    @classmethod
    def load(cls, path: str | Path) -> "LOPQModel":
        """Read a model that `save` wrote."""
        content = storage.read(path, "model")
        with storage.naming(path):
            return cls.restored(*content)
