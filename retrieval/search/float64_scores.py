"""Inner products in double precision, which depend on the two rows alone.

A BLAS rounds a float32 sum by its place in the product, so that copies of one image may differ in
the last bits, and differ otherwise on another device. A sum in float64, rounded to float32 at the
end, is the same for equal rows everywhere.
"""

import numpy as np

from retrieval.threads import in_threads, worker_threads

BLOCK_VALUES = 1 << 21  # values at once: 16 MB in float64


def inner_products(
    queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """Return the inner products of pairs of rows.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        rows: (n,) int64 rows of the queries.
        ids: (n,) int64 rows of the gallery.

    Returns:
        (n,) float32.

    >>> inner_products(np.ones((1, 3), "f4"), np.eye(3, dtype="f4"), np.array([0]), np.array([2]))
    array([1.], dtype=float32)
    """
    products = np.empty(len(rows), np.float32)
    step = max(1, BLOCK_VALUES // queries.shape[1])

    def fill(start: int) -> None:
        part = slice(start, start + step)
        terms = queries[rows[part]].astype(np.float64)
        terms *= gallery[ids[part]]
        products[part] = terms.sum(axis=1)  # pairwise, in an order that no place changes

    in_threads(fill, range(0, max(1, len(rows)), step), worker_threads())
    return products


def rounding(queries: np.ndarray) -> np.ndarray:
    """Return by how much a float32 inner product of each query may be off, (n_query, 1) float32.

    That is ``u (2 + sqrt(dim))`` times both norms, u = 2 ** -24: errors of single sums add up
    like random ones (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis,
    SIAM J. Sci. Comput. 2019). Rows of the gallery count as long as the longest query.
    """
    norms = np.linalg.norm(queries, axis=1, keepdims=True)
    return 2.0**-24 * (2 + queries.shape[1] ** 0.5) * norms * norms.max(initial=0)
