"""Codes: of one vector and of many, in the model's numbers and as the database keeps them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lopq.errors import LOPQError, as_array, as_list, check_range

if TYPE_CHECKING:
    from lopq.codebooks import Codebooks
    from lopq.split import Split


class LOPQCode(NamedTuple):
    """Codes of one vector (tuples of int), or of n vectors (arrays).

    Attributes:
        coarse: The cell in each split; (n, n_split) int64.
        fine: The codebook entry in each subspace; (n, M) uint8.
    """

    coarse: Any
    fine: Any


def stacked(codes: Iterable[LOPQCode], n_split: int, M: int) -> LOPQCode:
    """Return the codes of n vectors from an iterable of the codes of each."""
    try:
        pairs = [(coarse, fine) for coarse, fine in as_list(codes, "codes")]
    except (TypeError, ValueError) as error:
        raise LOPQError("codes must be pairs of coarse and fine codes") from error
    if not pairs:
        return LOPQCode(np.zeros((0, n_split), np.int64), np.zeros((0, M), np.uint8))
    coarse, fine = (as_array(list(part), "codes") for part in zip(*pairs, strict=True))
    return LOPQCode(coarse, fine)


class CodeForms:
    """What codes a model takes, and how it numbers its cells."""

    V: int
    M: int
    subquantizer_clusters: int
    num_coarse_splits: int

    if TYPE_CHECKING:

        @property
        def codebooks(self) -> Codebooks: ...
        def fitted_splits(self) -> tuple[Split, ...]: ...

    def checked_codes(self, codes: LOPQCode) -> tuple[np.ndarray, np.ndarray]:
        """Return coarse (n, n_split) int64 and fine (n, M) uint8 of codes that fit the model."""
        self.fitted_splits()
        coarse, fine = (np.atleast_2d(as_array(part, "codes")) for part in codes)
        if coarse.shape[1:] != (self.num_coarse_splits,) or fine.shape != (len(coarse), self.M):
            raise LOPQError(
                f"codes must be coarse (n, {self.num_coarse_splits}) and fine (n, {self.M}); "
                f"got {coarse.shape} and {fine.shape}"
            )
        check_range(fine, self.subquantizer_clusters, "fine codes")
        return self.checked_coarse(coarse), fine.astype(np.uint8)

    def checked_coarse(self, coarse: Any) -> np.ndarray:
        """Return coarse codes (n, n_split) that fit the model as int64."""
        array = as_array(coarse, "coarse codes")
        if array.ndim != 2 or array.shape[1] != self.num_coarse_splits:
            raise LOPQError(
                f"coarse codes must be {self.num_coarse_splits} for each vector; "
                f"got shape {array.shape}"
            )
        check_range(array, self.V, "coarse codes")
        return array.astype(np.int64)

    def pack_codes(self, codes: LOPQCode) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) cell numbers and (n, code_bytes) packed fine codes."""
        coarse, fine = self.checked_codes(codes)
        return self.cell_numbers(coarse), self.codebooks.pack(fine)

    def cell_numbers(self, coarse: np.ndarray) -> np.ndarray:
        """Return (n,) int64 the number of the cell for coarse codes (n, n_split)."""
        return np.ravel_multi_index(tuple(coarse.T), (self.V,) * self.num_coarse_splits)

    def coarse_codes(self, cells: np.ndarray) -> np.ndarray:
        """Return (n, n_split) int64 coarse codes of cell numbers; inverts `cell_numbers`."""
        return np.stack(np.unravel_index(cells, (self.V,) * self.num_coarse_splits), axis=1)
