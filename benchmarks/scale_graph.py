"""A graph over the vectors themselves, for bench_lopq_scale: where they fit into memory.

Malkov, Yashunin: Efficient and robust approximate nearest neighbor search using hierarchical
navigable small world graphs, TPAMI 2020.
"""

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from benchmarks.scale_data import ROWS_AT_ONCE, K, Source

LINKS = 16  # of a vector, twice as many on the lowest level
EFFORTS = (10, 16, 24, 32, 48, 64, 96, 128, 256)  # candidates of a search
MOST_ROWS = 1_000_000  # more take hours to add on two cores
NAME = f"faiss HNSW{LINKS}, vectors in float32"


def built(source: Source, n_row: int) -> tuple[Any, float]:
    """Return the graph of rows 0 to n_row, and the seconds it took."""
    graph = faiss.IndexHNSWFlat(source.rows.shape[1], LINKS)
    seconds = 0.0
    for first in range(0, n_row, ROWS_AT_ONCE):
        rows = source.block(first, min(ROWS_AT_ONCE, n_row - first))
        started = time.perf_counter()
        graph.add(rows)
        seconds += time.perf_counter() - started
    return graph, seconds


def bytes_per_row(graph: Any) -> int:
    """Return the bytes of a vector and of its links."""
    return round((graph.hnsw.neighbors.size() * 4) / graph.ntotal) + 4 * graph.d


def search_of(graph: Any) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return the search: queries, candidates -> (n_query, K) ids."""

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        graph.hnsw.efSearch = effort
        return graph.search(queries, K)[1]

    return search
