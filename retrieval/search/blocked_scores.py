"""Inner products of queries and gallery, block by block, in constant memory.

A BLAS sums in an order that depends on the shape of a product. So the shapes depend only on the
numbers of queries and rows, not on the batch or the process, and scores agree to the last bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from retrieval.search.products import multiply

# Queries and gallery rows of a block. On a CPU its scores stay in the cache until they are ranked.
SHAPES = {"cpu": (1024, 4096), "cuda": (1024, 65_536)}
MULTIPLE = 16  # blocks have equally many queries, filled up to a multiple of this


@dataclass(frozen=True)
class ScoreBlock:
    """Some queries and some rows of the gallery.

    Attributes:
        queries: Rows of the queries.
        ids: (n,) int64 rows of the gallery, ascending.
        factors: The embeddings of both, queries filled up to the rows of a block; arrays on a
            CPU, tensors on a GPU; float32, or float64 to be exact.
        product: Buffer of the scores, shared with the next block.
    """

    queries: slice
    ids: np.ndarray
    factors: tuple[Any, Any]
    product: Any

    @property
    def is_on_gpu(self) -> bool:
        return not isinstance(self.product, np.ndarray)

    def scores(self) -> Any:
        """Return the (n_query, n) float32 inner products, valid until the next block's.

        They are an array on a CPU and a tensor on a GPU.
        """
        query_rows, gallery_rows = self.factors
        n_query = self.queries.stop - self.queries.start
        if self.is_on_gpu:
            from retrieval.search import gpu_scores

            gpu_scores.multiply(query_rows, gallery_rows, self.product)
            return self.product[:n_query].float()
        multiply(query_rows, gallery_rows.T, out=self.product)
        return self.product[:n_query].astype(np.float32, copy=False)


def shape_of_blocks(device: str) -> tuple[int, int]:
    """Return the most queries and gallery rows of a block on a device."""
    return SHAPES[device.partition(":")[0]]


def score_blocks(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    batch_size: int,
    device: str = "cpu",
    title: str = "search",
    is_exact: bool = False,
) -> Iterator[ScoreBlock]:
    """Yield all queries against the rows ``ids`` of the gallery; for each query, ids ascend.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n,) int64 rows of the gallery, ascending.
        batch_size: Queries for which the gallery is read once, rounded up to whole blocks.
        device: Where to compute: ``cpu``, ``cuda`` or ``cuda:n``.
        title: Label of the progress bar.
        is_exact: Sum in float64 and round to float32, as `float64_scores.inner_products`.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    is_on_cpu = device == "cpu"
    most_queries, n_column = shape_of_blocks(device)
    n_block = max(1, -(-len(queries) // most_queries))
    n_row = min(most_queries, _round_up(max(1, -(-len(queries) // n_block)), MULTIPLE))
    step = _round_up(batch_size, n_row)
    dtype = np.dtype(np.float64 if is_exact else np.float32)
    scores = _empty(n_row * n_column, dtype, device)
    buffer = np.empty((n_column, gallery.shape[1]), dtype)
    starts = [(q, g) for q in range(0, len(queries), step) for g in range(0, len(ids), n_column)]
    quiet = None if distributed.is_main() else True
    for start, first in tqdm(starts, desc=title, unit="block", disable=quiet, leave=False):
        if first == 0:
            left = _on_device(_padded(queries[start : start + step], n_row, dtype), device)
        block = ids[first : first + n_column]
        product = scores[: n_row * len(block)].reshape(n_row, len(block))
        right = _on_device(_rows(gallery, block, buffer[: len(block)], is_on_cpu), device)
        for row in range(start, min(start + step, len(queries)), n_row):
            factors = left[row - start : row - start + n_row], right
            chosen = slice(row, min(row + n_row, len(queries)))
            yield ScoreBlock(chosen, block, factors, product)


def _empty(size: int, dtype: np.dtype, device: str) -> Any:
    if device == "cpu":
        return np.empty(size, dtype)
    from retrieval.search import gpu_scores

    return gpu_scores.empty(size, dtype.name, device)


def _on_device(rows: np.ndarray, device: str) -> Any:
    if device == "cpu":
        return rows
    from retrieval.search import gpu_scores

    return gpu_scores.copied(rows, device)


def _padded(queries: np.ndarray, multiple: int, dtype: np.dtype) -> np.ndarray:
    padded = np.zeros((_round_up(len(queries), multiple), queries.shape[1]), dtype)
    padded[: len(queries)] = queries
    return padded


def _rows(
    gallery: np.ndarray, ids: np.ndarray, buffer: np.ndarray, may_be_mapped: bool
) -> np.ndarray:
    """Return the rows ``ids`` of the gallery, without a copy if possible."""
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
