"""LOPQ codes: their sizes, checks, cell numbers, and fine codes packed into bytes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lopq.errors import LOPQError
from lopq.validation import as_array, as_list, check_range


class LOPQCode(NamedTuple):
    """The codes of n vectors (arrays), or of one (tuples of int; `lopq.compat`).

    Attributes:
        coarse: The cell in each split; (n, n_split) int64.
        fine: The codebook entry in each subspace; (n, M) uint8.
    """

    coarse: Any
    fine: Any


@dataclass(frozen=True)
class CodeFormat:
    """The sizes of a code.

    Args:
        V: Cells per split.
        M: Subspaces of all splits together.
        n_entry: Entries per codebook.
        n_split: Splits, 1 or 2.
        bits: Bits per subspace, 8 or 4. Two 4-bit codes share a byte, the first in the low bits.
    """

    V: int
    M: int
    n_entry: int
    n_split: int
    bits: int = 8

    @property
    def n_cell(self) -> int:
        """Number of cells, V ** n_split."""
        return self.V**self.n_split

    @property
    def code_bytes(self) -> int:
        """Bytes of a packed fine code."""
        return (self.M * self.bits + 7) // 8

    def pack(self, fine: np.ndarray) -> np.ndarray:
        """Pack fine codes (n, M) into (n, code_bytes) uint8."""
        fine = np.asarray(fine, np.uint8)
        if self.bits == 8:
            return np.ascontiguousarray(fine)
        nibbles = np.zeros((len(fine), 2 * self.code_bytes), np.uint8)
        nibbles[:, : self.M] = fine
        return nibbles[:, 0::2] | nibbles[:, 1::2] << 4

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Return packed codes (n, code_bytes) as (n, M) uint8; the inverse of `pack`."""
        if self.bits == 8:
            return np.array(packed, np.uint8)
        nibbles = np.stack([packed & 15, packed >> 4], axis=2)  # (n, code_bytes, 2)
        return np.ascontiguousarray(nibbles.reshape(len(packed), 2 * self.code_bytes)[:, : self.M])

    def cell_numbers(self, coarse: np.ndarray) -> np.ndarray:
        """Return the (n,) int64 cell numbers of coarse codes (n, n_split).

        >>> CodeFormat(V=8, M=4, n_entry=256, n_split=2).cell_numbers(np.array([[1, 3]])).tolist()
        [11]
        """
        return np.ravel_multi_index(tuple(coarse.T), (self.V,) * self.n_split)

    def coarse_codes(self, cells: np.ndarray) -> np.ndarray:
        """Return the (n, n_split) int64 coarse codes of cell numbers; inverts `cell_numbers`."""
        return np.stack(np.unravel_index(cells, (self.V,) * self.n_split), axis=1)

    def stack(self, codes: Iterable[LOPQCode]) -> LOPQCode:
        """Stack an iterable of codes of one vector into one `LOPQCode` of arrays."""
        try:
            pairs = [(coarse, fine) for coarse, fine in as_list(codes, "codes")]
        except (TypeError, ValueError) as error:
            raise LOPQError("codes must be pairs of coarse and fine codes") from error
        if not pairs:
            return LOPQCode(np.zeros((0, self.n_split), np.int64), np.zeros((0, self.M), np.uint8))
        coarse, fine = (as_array(list(part), "codes") for part in zip(*pairs, strict=True))
        return LOPQCode(coarse, fine)

    def check(self, codes: LOPQCode) -> tuple[np.ndarray, np.ndarray]:
        """Return coarse (n, n_split) int64 and fine (n, M) uint8, or raise `LOPQError`."""
        coarse, fine = (np.atleast_2d(as_array(part, "codes")) for part in codes)
        if coarse.shape[1:] != (self.n_split,) or fine.shape != (len(coarse), self.M):
            raise LOPQError(
                f"codes must be coarse (n, {self.n_split}) and fine (n, {self.M}); "
                f"got {coarse.shape} and {fine.shape}"
            )
        check_range(fine, self.n_entry, "fine codes")
        return self.check_coarse(coarse), fine.astype(np.uint8)

    def check_coarse(self, coarse: Any) -> np.ndarray:
        """Return coarse codes as (n, n_split) int64, or raise `LOPQError`."""
        array = as_array(coarse, "coarse codes")
        if array.ndim != 2 or array.shape[1] != self.n_split:
            raise LOPQError(
                f"coarse codes must hold {self.n_split} per vector, (n, {self.n_split}); "
                f"got shape {array.shape}"
            )
        check_range(array, self.V, "coarse codes")
        return array.astype(np.int64)
