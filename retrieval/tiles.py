"""Inner products of queries and gallery, tile by tile, in memory that does not grow.

Every product of a search has the same shape, whatever the batch or the process; what is missing at
the edges is filled up. A BLAS sums in an order that depends on the shape, so this is what makes the
last bits of a score, and with them the ranking, the same in all of them. Only searches of fewer
queries than a tile has take a shape of their own, which depends on their number, rounded up to 16:
a query searched alone may get other last bits than among many.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from retrieval import distributed
from retrieval.formats import InputError

# Queries and gallery rows of a tile. On a CPU its scores stay in the cache until they are ranked.
SHAPES = {"cpu": (1024, 4096), "cuda": (1024, 65_536)}
LEAST_QUERIES = 16  # a few queries are not filled up to a whole tile, but to a multiple of this


@dataclass(frozen=True)
class Tile:
    """Some queries and some rows of the gallery.

    Attributes:
        queries: Rows of the queries.
        ids: (n,) int64 rows of the gallery, ascending.
        first: How many searched rows of the gallery come before ``ids``.
        factors: The embeddings of both, filled up to the shape of a tile.
        product: Where the scores go, in the shape of a tile; the next tile takes the same place.
    """

    queries: slice
    ids: np.ndarray
    first: int
    factors: tuple[torch.Tensor, torch.Tensor]
    product: torch.Tensor

    def scores(self) -> torch.Tensor:
        """Return the (n_query, n) float32 inner products, valid until the next tile's."""
        query_rows, gallery_rows = self.factors
        with _full_precision():
            torch.matmul(query_rows, gallery_rows.T, out=self.product)
        return self.product[: self.queries.stop - self.queries.start, : len(self.ids)]


def tiles(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    batch_size: int,
    device: torch.device | None = None,
    title: str = "search",
) -> Iterator[Tile]:
    """Yield all queries against the rows ``ids`` of the gallery; for each query, ids ascend.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n,) int64 rows of the gallery, ascending.
        batch_size: Queries for which the gallery is read once, rounded up to whole tiles.
        device: Where to compute; the CPU where it is None.
        title: Of the progress bar.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    device = device or torch.device("cpu")
    most_queries, n_column = SHAPES[device.type]
    n_row = min(most_queries, _round_up(max(len(queries), 1), LEAST_QUERIES))
    step = _round_up(batch_size, n_row)
    product = torch.empty(n_row, n_column, device=device)
    rows = np.zeros((n_column, gallery.shape[1]), np.float32)
    starts = [(q, g) for q in range(0, len(queries), step) for g in range(0, len(ids), n_column)]
    quiet = None if distributed.is_main() else True
    for start, first in tqdm(starts, desc=title, unit="block", disable=quiet, leave=False):
        if first == 0:
            batch = _padded(queries[start : start + step], n_row).to(device)
        block = ids[first : first + n_column]
        _read(gallery, block, rows[: len(block)])
        part = torch.from_numpy(rows).to(device)
        for row in range(start, min(start + step, len(queries)), n_row):
            factors = batch[row - start : row - start + n_row], part
            chosen = slice(row, min(row + n_row, len(queries)))
            yield Tile(chosen, block, first, factors, product)


def _padded(queries: np.ndarray, multiple: int) -> torch.Tensor:
    padded = torch.zeros(_round_up(len(queries), multiple), queries.shape[1])
    padded[: len(queries)] = torch.from_numpy(np.array(queries, np.float32))
    return padded


def _read(gallery: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """Copy the rows ``ids`` of the gallery; in one go where there is no gap between them."""
    if ids[-1] - ids[0] == len(ids) - 1:
        out[:] = gallery[ids[0] : ids[-1] + 1]
    else:
        np.take(gallery, ids, axis=0, out=out, mode="clip")  # "raise" would copy once more


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply in float32 to the last bit: no TF32 on a GPU, no bfloat16 on a CPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
