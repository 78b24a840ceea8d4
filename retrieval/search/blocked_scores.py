"""Inner products of queries and gallery, tile by tile, in memory that does not grow.

A BLAS sums in an order that depends on the shape of a product. So the shapes follow from the number
of queries and of rows alone, never from the batch or the process, and the last bits of a score are
the same in all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from retrieval.compute import distributed
from retrieval.data.formats import InputError

# Queries and gallery rows of a tile. On a CPU its scores stay in the cache until they are ranked.
SHAPES = {"cpu": (1024, 4096), "cuda": (1024, 65_536)}
MULTIPLE = 16  # tiles have equally many queries, filled up to a multiple of this


@dataclass(frozen=True)
class Tile:
    """Some queries and some rows of the gallery.

    Attributes:
        queries: Rows of the queries.
        ids: (n,) int64 rows of the gallery, ascending.
        factors: The embeddings of both, queries filled up to the rows of a tile; arrays on a CPU,
            tensors elsewhere; float32, or float64 to be exact.
        product: Where the scores go; the next tile takes the same place.
    """

    queries: slice
    ids: np.ndarray
    factors: tuple[Any, Any]
    product: torch.Tensor

    def scores(self) -> torch.Tensor:
        """Return the (n_query, n) float32 inner products, valid until the next tile's."""
        query_rows, gallery_rows = self.factors
        n_query = self.queries.stop - self.queries.start
        if isinstance(query_rows, torch.Tensor):
            with _full_precision():
                torch.matmul(query_rows, gallery_rows.T, out=self.product)
            return self.product[:n_query].float()
        # numpy's BLAS takes a memory map as it is, and is faster than torch's on some CPUs.
        product = self.product.numpy()
        np.matmul(query_rows, gallery_rows.T, out=product)
        return torch.from_numpy(product[:n_query].astype(np.float32, copy=False))


def tiles(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    batch_size: int,
    device: torch.device | None = None,
    title: str = "search",
    is_exact: bool = False,
) -> Iterator[Tile]:
    """Yield all queries against the rows ``ids`` of the gallery; for each query, ids ascend.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n,) int64 rows of the gallery, ascending.
        batch_size: Queries for which the gallery is read once, rounded up to whole tiles.
        device: Where to compute; the CPU where it is None.
        title: Of the progress bar.
        is_exact: Sum in float64, and round to float32: as ``exact.inner_products``.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    device = device or torch.device("cpu")
    is_on_cpu = device.type == "cpu"
    most_queries, n_column = SHAPES[device.type]
    n_tile = max(1, -(-len(queries) // most_queries))
    n_row = min(most_queries, _round_up(max(1, -(-len(queries) // n_tile)), MULTIPLE))
    step = _round_up(batch_size, n_row)
    scores = torch.empty(n_row * n_column, dtype=torch.float64 if is_exact else None, device=device)
    dtype = np.dtype(np.float64 if is_exact else np.float32)
    buffer = np.empty((n_column, gallery.shape[1]), dtype)
    starts = [(q, g) for q in range(0, len(queries), step) for g in range(0, len(ids), n_column)]
    quiet = None if distributed.is_main() else True
    for start, first in tqdm(starts, desc=title, unit="block", disable=quiet, leave=False):
        if first == 0:
            batch = _padded(queries[start : start + step], n_row, dtype)
            left: Any = batch if is_on_cpu else torch.from_numpy(batch).to(device)
        block = ids[first : first + n_column]
        product = scores[: n_row * len(block)].view(n_row, len(block))
        right: Any = _rows(gallery, block, buffer[: len(block)], is_on_cpu)
        if not is_on_cpu:
            right = torch.from_numpy(right).to(device)
        for row in range(start, min(start + step, len(queries)), n_row):
            factors = left[row - start : row - start + n_row], right
            chosen = slice(row, min(row + n_row, len(queries)))
            yield Tile(chosen, block, factors, product)


def _padded(queries: np.ndarray, multiple: int, dtype: np.dtype) -> np.ndarray:
    padded = np.zeros((_round_up(len(queries), multiple), queries.shape[1]), dtype)
    padded[: len(queries)] = queries
    return padded


def _rows(
    gallery: np.ndarray, ids: np.ndarray, buffer: np.ndarray, may_be_mapped: bool
) -> np.ndarray:
    """Return the rows ``ids`` of the gallery: themselves where that can be, else copied."""
    if ids[-1] - ids[0] == len(ids) - 1:  # no gap between them
        rows = gallery[ids[0] : ids[-1] + 1]
        if may_be_mapped and gallery.dtype == buffer.dtype and gallery.flags.c_contiguous:
            return np.asarray(rows)
        buffer[:] = rows
    elif gallery.dtype == buffer.dtype:
        np.take(gallery, ids, axis=0, out=buffer, mode="clip")  # "raise" would copy once more
    else:
        buffer[:] = gallery[ids]
    return buffer


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply in float32 to the last bit: no TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
