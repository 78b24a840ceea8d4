"""The fitted parameters of a model: fitting them, and encoding with them."""

from functools import cached_property
from typing import Any

import numpy as np

from lopq.arrays import ModelArrays
from lopq.codebooks import Codebooks
from lopq.codes import CodeFormat
from lopq.errors import LOPQError, as_vectors
from lopq.groups import Groups
from lopq.panels import search_panels
from lopq.parameters import Given, check_dims
from lopq.pca import PCA, fit_pca
from lopq.split import Split, Training, fit_split


def reduce_and_pad(rows: np.ndarray, pca: PCA | None, M: int) -> np.ndarray:
    """Apply the PCA, if any, and pad with zero columns to a multiple of M dimensions."""
    reduced = rows if pca is None else pca.apply(rows)
    missing = -reduced.shape[1] % M
    return np.pad(reduced, ((0, 0), (0, missing))) if missing else reduced


class Quantizer:
    """A fitted quantizer; immutable, so threads may share it.

    "Model space" is where distances are measured: the input after PCA and padding.

    Args:
        splits: One or two splits of equal shapes.
        bits: Bits per subquantizer, 8 or 4.
        dim_in: Dimensions of the input.
        pca: The reduction from input to model space, if any.
    """

    def __init__(
        self, splits: tuple[Split, ...], bits: int, dim_in: int, pca: PCA | None = None
    ) -> None:
        self.splits, self.bits, self.dim_in, self.pca = splits, bits, dim_in, pca
        self.codebooks = Codebooks(np.concatenate([s.subs for s in splits]), bits)
        V, (_, n_entry, _) = len(splits[0].C), splits[0].subs.shape
        self.format = CodeFormat(V, self.codebooks.M, n_entry, len(splits))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again from the rest."""
        return {k: v for k, v in self.__dict__.items() if k != "model_arrays"}

    @property
    def dim(self) -> int:
        """Dimensions of model space."""
        return sum(split.dim for split in self.splits)

    @property
    def Cs(self) -> tuple[np.ndarray, ...]:
        """Coarse centroids (V, dim) float32 of each split."""
        return tuple(split.C for split in self.splits)

    def to_model_space(self, data: np.ndarray) -> np.ndarray:
        """Check (n, dim_in) vectors and map them to (n, dim) float32 rows in model space."""
        return self.reduced(as_vectors(data, "data", self.dim_in))

    def reduced(self, rows: np.ndarray) -> np.ndarray:
        """Map checked (n, dim_in) float32 rows to (n, dim) rows in model space."""
        return reduce_and_pad(rows, self.pca, self.format.M)

    def from_model_space(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, dim_in): the least-squares inverse of `to_model_space`."""
        if self.pca is not None:
            return self.pca.invert(rows[:, : len(self.pca.components)])
        return rows[:, : self.dim_in]

    def encode(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode (n, dim) rows in model space.

        Returns:
            coarse: (n, n_split) int64.
            packed: (n, code_bytes) uint8 fine codes; see `Codebooks.unpack`.
        """
        parts = np.split(rows, len(self.splits), axis=1)
        pairs = zip(self.splits, parts, strict=True)
        coarse = np.stack([split.nearest_cell(part) for split, part in pairs], axis=1)
        return coarse, self.codebooks.encode(self.project(rows, coarse))

    def project(self, rows: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Return R_c (x - C_c - mu_c) for rows x (n, dim) and their cells (n, n_split)."""
        parts = np.split(rows, len(self.splits), axis=1)
        columns = zip(self.splits, parts, coarse.T, strict=True)
        projected = [split.project(part, cells) for split, part, cells in columns]
        return np.concatenate(projected, axis=1)

    def decode(self, coarse: np.ndarray, packed: np.ndarray) -> np.ndarray:
        """Decode what `encode` returned to (n, dim) float32 rows in model space."""
        parts = np.split(self.codebooks.decode(packed), len(self.splits), axis=1)
        columns = zip(self.splits, parts, coarse.T, strict=True)
        return np.concatenate([s.restore(part, cells) for s, part, cells in columns], axis=1)

    @cached_property
    def model_arrays(self) -> ModelArrays:
        """The arrays that the compiled search reads."""
        from lopq.threads import frozen

        splits, starts = self.splits, np.cumsum([0, *(len(split.R) for split in self.splits)])
        origins, panels, halves = map(frozen, search_panels(np.stack(self.Cs)))
        centers = np.stack([split.centers for split in splits])
        R = splits[0].R if len(splits) == 1 else np.concatenate([split.R for split in splits])
        numbers = zip(splits, starts[:-1], strict=True)
        rotation_of = np.stack([split.rotation_of + start for split, start in numbers])
        columns = self.codebooks.centroids.transpose(0, 2, 1)
        return ModelArrays(
            origins,
            panels,
            halves,
            frozen(centers),
            frozen(R),
            frozen(rotation_of),
            frozen(columns),
            self.bits,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters under the names that `lopq.storage` lists."""
        arrays: dict[str, np.ndarray] = {}
        for i, split in enumerate(self.splits):
            arrays |= {f"C{i}": split.C, f"mu{i}": split.mu, f"subs{i}": split.subs}
            arrays[f"R{i}"] = split.R
            if 1 < len(split.R) < len(split.C):
                arrays[f"rotation_of{i}"] = split.rotation_of
            if split.groups is not None:
                arrays |= {f"tops{i}": split.groups.tops, f"starts{i}": split.groups.starts}
        if self.pca is not None:
            arrays["pca_mean"], arrays["pca_components"] = self.pca.mean, self.pca.components
        return arrays

    @classmethod
    def from_arrays(
        cls,
        arrays: dict[str, np.ndarray],
        errors: list[list[float]],
        bits: int,
        dim_in: int,
        renorm: bool,
    ) -> "Quantizer":
        """Rebuild a quantizer from `arrays`, which are copied into memory.

        Args:
            arrays: What `arrays` returned, possibly as memory maps.
            errors: `Split.errors` of each split.
            bits: Bits per subquantizer, 8 or 4.
            dim_in: Dimensions of the input.
            renorm: Whether the PCA normalizes its output.
        """
        pca = None
        if "pca_mean" in arrays:
            mean, components = np.array(arrays["pca_mean"]), np.array(arrays["pca_components"])
            pca = PCA(mean, components, renorm)
        splits = []
        for i, split_errors in enumerate(errors):
            C, R, mu, subs = (np.array(arrays[f"{name}{i}"]) for name in ("C", "R", "mu", "subs"))
            rotation_of = np.arange(len(C)) % max(1, len(R))  # one each, or one for all
            if f"rotation_of{i}" in arrays:
                rotation_of = np.array(arrays[f"rotation_of{i}"])
            elif len(R) not in (1, len(C)):
                raise LOPQError(f"{len(R)} rotations, but not which cell has which")
            groups = None
            if f"tops{i}" in arrays:
                groups = Groups(C, np.array(arrays[f"tops{i}"]), np.array(arrays[f"starts{i}"]))
                groups.check()
            split = Split(C, R, mu, subs, rotation_of, split_errors, groups)
            split.check(bits)
            splits.append(split)
        return cls(tuple(splits), bits, dim_in, pca)


def fit_quantizer(
    rows: np.ndarray,
    given: list[Given],
    format: CodeFormat,
    training: Training,
    pca_dim: int | None = None,
    renorm: bool = False,
) -> Quantizer:
    """Fit a quantizer to ``rows`` (n, dim_in) float32, and keep the given parameters.

    Args:
        rows: The training vectors.
        given: The given parameters of each split.
        format: The sizes of a code.
        training: The training options.
        pca_dim: Fit a PCA when there are more dimensions than this; None never does.
        renorm: Normalize the output of the PCA.
    """
    n_split, dim_in = format.n_split, rows.shape[1]
    pca = None
    if pca_dim is not None and dim_in > pca_dim:
        pca = fit_pca(rows, pca_dim, n_split, renorm)
    reduced = reduce_and_pad(rows, pca, format.M)
    check_dims(given, dim_in, reduced.shape[1])
    parts = np.split(reduced, n_split, axis=1)
    shape = (format.V, format.M // n_split, format.n_entry)
    splits = tuple(
        fit_split(np.ascontiguousarray(part), *shape, training, *arrays)
        for part, arrays in zip(parts, given, strict=True)
    )
    return Quantizer(splits, training.bits, dim_in, pca)
