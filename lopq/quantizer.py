"""The fitted parameters of a model, and encoding with them.

A vector x goes through these steps:

1. PCA and zero padding, to model space, where distances are measured;
2. in each split of the dimensions (one or two), the nearest centroid C_c: the cell c;
3. the rotated residual R_c (x - C_c - mu_c), where mu_c is the cell's mean residual;
4. in each subspace of it, the nearest entry of a codebook that all cells share: the fine code.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from lopq.arrays import ModelArrays
from lopq.codes import CodeFormat
from lopq.errors import LOPQError
from lopq.parallel import filled_groups, frozen, group_rows, in_blocks
from lopq.pca import PCA
from lopq.validation import as_vectors, check_range

PROBED_GROUPS = 8  # groups of cells that are compared with a vector
PANEL = 64  # cells in a panel of the search: they fit into the first cache

Panel = tuple[np.ndarray, np.ndarray]  # as `panel` returns


def panel(points: np.ndarray) -> Panel:
    """Return points (n, dim) as columns (dim, n), and half their squared norms (n,)."""
    return frozen(points.T), frozen((points * points).sum(axis=1) / 2)


@dataclass(frozen=True)
class CoarseQuantizer:
    """The centroids of one split.

    Args:
        C: (V, dim) float32.
    """

    C: np.ndarray

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n,) int64 nearest centroid of each row (n, dim) float32."""
        import faiss

        return faiss.knn(np.ascontiguousarray(rows), np.ascontiguousarray(self.C), 1)[1][:, 0]

    def check(self) -> None:
        """Raise `LOPQError` if the arrays are inconsistent."""


@dataclass(frozen=True)
class TwoLevelQuantizer(CoarseQuantizer):
    """Many centroids, in groups with consecutive numbers.

    A row is compared with the centroids of its nearest `PROBED_GROUPS` groups: that finds another
    than the nearest of all for less than one row in a hundred.

    Args:
        C: (V, dim) float32.
        tops: (n_group, dim) float32 centers of the groups.
        starts: (n_group + 1,) int64, the first centroid of each group.
    """

    tops: np.ndarray
    starts: np.ndarray

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self) -> None:
        V, dim = self.C.shape
        starts = self.starts
        fits = self.tops.ndim == 2 and self.tops.shape == (len(starts) - 1, dim)
        if (
            not fits
            or starts.dtype.kind != "i"
            or starts[0] != 0
            or starts[-1] != V
            or (np.diff(starts) < 0).any()
        ):
            raise LOPQError(f"the groups of cells do not cover {V} cells")

    @cached_property
    def _origin(self) -> np.ndarray:
        """(dim,) mean centroid. Far from it, distances would drown in rounding errors."""
        return self.C.mean(axis=0)

    @cached_property
    def _panels(self) -> tuple[Panel, list[Panel]]:
        """The centers of the groups, and the centroids of each group."""
        parts = np.split(self.C - self._origin, self.starts[1:-1])
        return panel(self.tops - self._origin), [panel(part) for part in parts]

    def assign(self, rows: np.ndarray) -> np.ndarray:
        from lopq.kernels import find_nearest_cells, find_nearest_groups

        n_group = len(self.tops)
        n_probe = min(PROBED_GROUPS, n_group)
        cells = np.empty(len(rows), np.int64)
        top_panel, panels = self._panels

        def call(block: slice) -> None:
            some = frozen(rows[block] - self._origin)
            near = np.empty((len(some), n_probe), np.int64)
            find_nearest_groups(some, *top_panel, near)
            best = np.full(len(some), np.inf, np.float32)
            order, offsets = group_rows(near.ravel(), n_group)
            members = order // n_probe
            for group, part in filled_groups(offsets):
                start = int(self.starts[group])
                find_nearest_cells(some, members[part], *panels[group], start, best, cells[block])

        in_blocks(call, len(rows))
        return cells


def rotate(
    rows: np.ndarray, numbers: np.ndarray, R: np.ndarray, inverse: bool = False
) -> np.ndarray:
    """Multiply each row by a rotation, or by its inverse.

    Args:
        rows: (n, dim) float32; fastest if sorted by rotation.
        numbers: (n,) int64, the rotation of each row.
        R: (n_rotation, dim, dim) float32 rotations.
        inverse: Multiply by the transposed rotation.

    Returns:
        (n, dim) float32.
    """
    from lopq.kernels import rotate_rows

    rotated = np.empty(rows.shape, np.float32)
    rows, numbers, R = frozen(rows), frozen(numbers), frozen(R)

    def call(block: slice) -> None:
        rotate_rows(rows[block], numbers[block], R, inverse, rotated[block])

    in_blocks(call, len(rows))
    return rotated


def nearest_entries(rows: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Return the nearest codebook entry of each row in each subspace; ties go to the first.

    Args:
        rows: (n, M * dim_sub) float32.
        codebooks: (M, n_entry, dim_sub) float32; at most 256 entries.

    Returns:
        (n, M) uint8.
    """
    from lopq.kernels import find_nearest_entries

    fine = np.empty((len(rows), len(codebooks)), np.uint8)
    rows, columns = frozen(rows), frozen(codebooks.transpose(0, 2, 1))
    half_norms = frozen((codebooks * codebooks).sum(axis=2) / 2)

    def call(block: slice) -> None:
        find_nearest_entries(rows[block], columns, half_norms, fine[block])

    in_blocks(call, len(rows))
    return fine


@dataclass(frozen=True)
class Split:
    """The parameters over one range of dimensions: V cells, their rotations, M codebooks.

    A model has one split over all dimensions (``split="single"``), or two over one half each, whose
    pairs of cells form an inverted multi-index (``split="multi"``; Babenko, Lempitsky, CVPR 2012).

    Args:
        coarse: The coarse centroids.
        R: (n_rotation, dim, dim) float32 rotations.
        mu: (V, dim) float32 mean residual of each cell.
        codebooks: (M, n_entry, dim / M) float32.
        rotation_of: (V,) int64 number of each cell's rotation.
    """

    coarse: CoarseQuantizer
    R: np.ndarray
    mu: np.ndarray
    codebooks: np.ndarray
    rotation_of: np.ndarray

    @property
    def C(self) -> np.ndarray:
        """(V, dim) float32 coarse centroids."""
        return self.coarse.C

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
        self.coarse.check()
        V, dim = self.C.shape
        M, n_entry, dim_sub = self.codebooks.shape
        fits = self.R.shape[1:] == (dim, dim) and self.mu.shape == (V, dim) and M * dim_sub == dim
        if not fits or not 1 <= n_entry <= 2**bits or self.rotation_of.shape != (V,):
            raise LOPQError("the arrays of the model do not fit together")
        check_range(self.rotation_of, len(self.R), "rotation_of")
        if {a.dtype.str for a in (self.C, self.R, self.mu, self.codebooks)} != {"<f4"}:
            raise LOPQError("the arrays of the model have wrong types")

    def rotated_residuals(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return R_c (x - C_c - mu_c) for each row x (n, dim) and its cell c (n,)."""
        from lopq.kernels import rotate_residuals

        rotated = np.empty(rows.shape, np.float32)
        order, _ = group_rows(cells, len(self.C))  # rows of a cell share what is read of it
        rows, cells, centers = frozen(rows), frozen(cells), frozen(self.centers)
        rotation_of, R = frozen(self.rotation_of), frozen(self.R)

        def call(block: slice) -> None:
            rotate_residuals(rows, order[block], cells, centers, rotation_of, R, rotated)

        in_blocks(call, len(rows))
        return rotated

    def restore(self, rotated: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Invert `rotated_residuals`: return R_c' y + C_c + mu_c."""
        order, _ = group_rows(cells, len(self.C))
        rows = np.empty_like(rotated)
        rows[order] = rotate(rotated[order], self.rotation_of[cells[order]], self.R, inverse=True)
        return rows + self.centers[cells]


def reduce_and_pad(rows: np.ndarray, pca: PCA | None, M: int) -> np.ndarray:
    """Apply the PCA, if any, and pad with zero columns to a multiple of M dimensions."""
    reduced = rows if pca is None else pca.apply(rows)
    missing = -reduced.shape[1] % M
    return np.pad(reduced, ((0, 0), (0, missing))) if missing else reduced


class Quantizer:
    """A fitted quantizer; immutable, so threads may share it.

    Args:
        splits: One or two splits of equal shapes.
        bits: Bits per subspace, 8 or 4.
        dim_in: Dimensions of the input.
        pca: The reduction from input to model space, if any.
    """

    def __init__(
        self, splits: tuple[Split, ...], bits: int, dim_in: int, pca: PCA | None = None
    ) -> None:
        self.splits, self.bits, self.dim_in, self.pca = splits, bits, dim_in, pca
        joined = np.concatenate([split.codebooks for split in splits])
        self.codebooks = np.ascontiguousarray(joined, np.float32)  # (M, n_entry, dim_sub)
        M, n_entry, _ = self.codebooks.shape
        self.format = CodeFormat(len(splits[0].C), M, n_entry, len(splits), bits)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again from the rest."""
        return {name: value for name, value in self.__dict__.items() if name != "model_arrays"}

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
            packed: (n, code_bytes) uint8 fine codes; see `CodeFormat.unpack`.
        """
        parts = np.split(rows, len(self.splits), axis=1)
        pairs = zip(self.splits, parts, strict=True)
        coarse = np.stack([split.coarse.assign(part) for split, part in pairs], axis=1)
        return coarse, self.fine_codes(self.rotated_residuals(rows, coarse))

    def rotated_residuals(self, rows: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Return R_c (x - C_c - mu_c) for rows x (n, dim) and their cells (n, n_split)."""
        parts = np.split(rows, len(self.splits), axis=1)
        columns = zip(self.splits, parts, coarse.T, strict=True)
        rotated = [split.rotated_residuals(part, cells) for split, part, cells in columns]
        return np.concatenate(rotated, axis=1)

    def fine_codes(self, rotated: np.ndarray) -> np.ndarray:
        """Encode rotated residuals (n, dim) as packed fine codes (n, code_bytes) uint8."""
        return self.format.pack(nearest_entries(rotated, self.codebooks))

    def decode(self, coarse: np.ndarray, packed: np.ndarray) -> np.ndarray:
        """Decode what `encode` returned to (n, dim) float32 rows in model space."""
        M = self.format.M
        entries = self.codebooks[np.arange(M), self.format.unpack(packed)]  # (n, M, dim_sub)
        rotated = entries.reshape(len(packed), self.dim)
        parts = np.split(rotated, len(self.splits), axis=1)
        columns = zip(self.splits, parts, coarse.T, strict=True)
        return np.concatenate([s.restore(part, cells) for s, part, cells in columns], axis=1)

    @cached_property
    def model_arrays(self) -> ModelArrays:
        """The arrays that the compiled search reads."""
        splits, starts = self.splits, np.cumsum([0, *(len(split.R) for split in self.splits)])
        origins, panels, half_norms = search_panels(np.stack(self.Cs))
        numbers = zip(splits, starts[:-1], strict=True)
        return ModelArrays(
            frozen(origins),
            frozen(panels),
            frozen(half_norms),
            centers=frozen(np.stack([split.centers for split in splits])),
            R=frozen(splits[0].R if len(splits) == 1 else np.concatenate([s.R for s in splits])),
            rotation_of=frozen(np.stack([split.rotation_of + start for split, start in numbers])),
            columns=frozen(self.codebooks.transpose(0, 2, 1)),
            bits=self.bits,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters under the names that `lopq.storage` lists."""
        arrays: dict[str, np.ndarray] = {}
        for i, split in enumerate(self.splits):
            arrays |= {f"C{i}": split.C, f"mu{i}": split.mu, f"subs{i}": split.codebooks}
            arrays[f"R{i}"] = split.R
            if 1 < len(split.R) < len(split.C):
                arrays[f"rotation_of{i}"] = split.rotation_of
            if isinstance(split.coarse, TwoLevelQuantizer):
                arrays |= {f"tops{i}": split.coarse.tops, f"starts{i}": split.coarse.starts}
        if self.pca is not None:
            arrays["pca_mean"], arrays["pca_components"] = self.pca.mean, self.pca.components
        return arrays

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, np.ndarray], n_split: int, bits: int, dim_in: int, renorm: bool
    ) -> "Quantizer":
        """Rebuild a quantizer from `arrays`, which are copied into memory.

        Args:
            arrays: What `arrays` returned, possibly as memory maps.
            n_split: Number of splits.
            bits: Bits per subspace, 8 or 4.
            dim_in: Dimensions of the input.
            renorm: Whether the PCA normalizes its output.
        """
        pca = None
        if "pca_mean" in arrays:
            mean, components = np.array(arrays["pca_mean"]), np.array(arrays["pca_components"])
            pca = PCA(mean, components, renorm)
        splits = tuple(_split_from(arrays, i) for i in range(n_split))
        for split in splits:
            split.check(bits)
        return cls(splits, bits, dim_in, pca)


def _split_from(arrays: dict[str, np.ndarray], i: int) -> Split:
    """Return split i of the arrays of a quantizer."""
    C, R, mu, codebooks = (np.array(arrays[f"{name}{i}"]) for name in ("C", "R", "mu", "subs"))
    rotation_of = np.arange(len(C)) % max(1, len(R))  # one each, or one for all
    if f"rotation_of{i}" in arrays:
        rotation_of = np.array(arrays[f"rotation_of{i}"])
    elif len(R) not in (1, len(C)):
        raise LOPQError(f"{len(R)} rotations, but not which cell has which")
    coarse = CoarseQuantizer(C)
    if f"tops{i}" in arrays:
        tops, starts = np.array(arrays[f"tops{i}"]), np.array(arrays[f"starts{i}"])
        coarse = TwoLevelQuantizer(C, tops, starts)
    return Split(coarse, R, mu, codebooks, rotation_of)


def search_panels(C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a search compares a query with, for centroids C (S, V, dim).

    Returns:
        origins: (S, dim) float32.
        panels: (S, n, dim, PANEL) float32, filled up with zeros.
        half_norms: (S, n, PANEL) float32, filled up with infinity.
    """
    n_split, V, dim = C.shape
    n = -(-V // PANEL)
    origins = C.mean(axis=1)
    panels = np.zeros((n_split, n, dim, PANEL), np.float32)
    half_norms = np.full((n_split, n, PANEL), np.inf, np.float32)
    for split in range(n_split):
        for i in range(n):
            part = C[split, i * PANEL : (i + 1) * PANEL] - origins[split]
            panels[split, i, :, : len(part)], half_norms[split, i, : len(part)] = panel(part)
    return origins, panels, half_norms
