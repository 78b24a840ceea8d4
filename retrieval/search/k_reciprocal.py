"""Sparse k-reciprocal re-ranking of the first results.

Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017. Two images
are alike if they share neighbors, and only mutual neighbors count:

    R(i, k)   the j among the k nearest of i with i among the k nearest of j; and i itself
    R*(i)     R(i, k1), and R(j, k1 / 2) of each j in it, where R(i, k1) has 2/3 of R(j, k1 / 2)
    V_i       exp(-d(i, j)) for j in R*(i), else 0; then the mean of V over i and its k2 - 1 nearest
    d_J       1 - sum_j min(V_ij, V_hj) / sum_j max(V_ij, V_hj)
    d*        (1 - weight) d_J + weight d,   with d = 1 - similarity

Not transductive: the images j are gallery images, and so are their neighbors. The gallery is
encoded once, and no query affects another; a query is among the k nearest of j if fewer than k
gallery images are more similar to j.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrieval.search.query_expansion import NEIGHBOR_ROWS, neighbors_within

if TYPE_CHECKING:
    import scipy.sparse as sp

BLOCK_ROWS = 1024
PAIR_BLOCK = 1 << 15  # pairs of images whose similarity is computed at once


@dataclass(frozen=True)
class Encoding:
    """The reciprocal neighbors of the allowed rows of a gallery.

    Columns and rows are positions among the allowed rows.

    Attributes:
        allowed: (n,) int64, their rows of the gallery.
        ids: (n, k1) int64 positions of the nearest others, -1 where there are fewer.
        worst: (n,) float32, the similarity of the k1-th nearest other, -inf where there is none.
        half: (n, n) sparse bool, R(i, k1 / 2).
        vectors: (n, n) sparse float32, V before the mean.
        k1: Neighbors.
        k2: Images of the mean, itself among them.
    """

    allowed: np.ndarray
    ids: np.ndarray
    worst: np.ndarray
    half: "sp.csr_array"
    vectors: "sp.csr_array"
    k1: int
    k2: int

    def means(self, positions: np.ndarray) -> "sp.csr_array":
        """Return V of some images, (len(positions), n) sparse float32."""
        return _mean_vectors(self.vectors[positions], self.ids[positions], self)


def encode(
    gallery: np.ndarray,
    is_allowed: np.ndarray,
    k1: int,
    k2: int,
    device: str = "cpu",
) -> Encoding:
    """Encode the allowed rows of a gallery.

    Memory is ``O(n * (k1 + images in R*))`` for n allowed rows.

    Args:
        gallery: (n_gallery, dim) float32, rows of unit L2 norm, may be a memory map.
        is_allowed: (n_gallery,) bool.
        k1: Neighbors that may be reciprocal.
        k2: Images of the mean of the encodings, from 1 to k1.
        device: Where to compute similarities: ``cpu``, ``cuda`` or ``cuda:n``.
    """
    import scipy.sparse as sp

    allowed = np.flatnonzero(is_allowed)
    n = len(allowed)
    ids, worst = np.empty((n, k1), np.int64), np.empty(n, np.float32)
    for start in range(0, n, NEIGHBOR_ROWS):
        rows = slice(start, start + NEIGHBOR_ROWS)
        found, similarities = neighbors_within(gallery, allowed[rows], k1, is_allowed, device)
        ids[rows] = np.where(found < 0, -1, np.searchsorted(allowed, found))
        worst[rows] = similarities[:, -1]
    own = sp.eye_array(n, dtype=bool, format="csr")
    mutual, half = (_mutual(ids[:, :k], n) + own for k in (k1, max(1, k1 // 2)))
    blocks = []
    for start in range(0, n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        members = _expanded(mutual[rows], half)
        blocks.append(_weights(gallery[allowed[rows]], gallery, allowed, members))
    return Encoding(allowed, ids, worst, half, sp.vstack(blocks, format="csr"), k1, k2)


def rerank(
    encoding: Encoding,
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    n: int,
    weight: float,
) -> np.ndarray:
    """Sort the first ``n`` results of each query by d*; ties keep their order.

    Args:
        encoding: The encoding of the same gallery.
        queries: (n_query, dim) float32, rows of unit L2 norm.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n_query, depth) int64 rows of the gallery, best first, -1 where there is none.
        n: Results to sort, at least the encoding's ``k1``; later ones keep their places.
        weight: Weight of the distance in d*, from 0 (neighbors only) to 1 (similarity only).

    Returns:
        (n_query, depth) int64.
    """
    reranked = ids.copy()
    for start in range(0, len(queries), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        reranked[rows, :n] = _rerank_block(encoding, queries[rows], gallery, ids[rows, :n], weight)
    return reranked


def similarities_of(queries: np.ndarray, gallery: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the similarities of the results of each query, -inf where there is none.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n_query, k) int64 rows of the gallery, -1 where there is none.

    Returns:
        (n_query, k) float32.
    """
    similarities = np.full(ids.shape, -np.inf, np.float32)
    query, place = np.nonzero(ids >= 0)
    similarities[query, place] = _similarities(queries, gallery, query, ids[query, place])
    return similarities


def _rerank_block(
    encoding: Encoding, queries: np.ndarray, gallery: np.ndarray, ids: np.ndarray, weight: float
) -> np.ndarray:
    is_there = ids >= 0
    similarities = similarities_of(queries, gallery, ids)
    positions = np.where(is_there, np.searchsorted(encoding.allowed, ids), -1)
    order = np.lexsort((positions, -similarities), axis=1)
    nearest = np.take_along_axis(positions, order, 1)[:, : encoding.k1]
    is_mutual = np.take_along_axis(similarities, order, 1)[:, : encoding.k1]
    is_mutual = (nearest >= 0) & (is_mutual >= encoding.worst[nearest])
    mutual = _matrix(nearest, len(encoding.allowed), is_mutual)
    members = _expanded(mutual, encoding.half)
    own = _weights(queries, gallery, encoding.allowed, members)
    vectors = _mean_vectors(own, nearest, encoding)

    shown, column = np.unique(positions[is_there], return_inverse=True)
    others = encoding.means(shown)
    place_of = np.full(ids.shape, -1)
    place_of[is_there] = column
    result = ids.copy()
    for row in range(len(queries)):
        there = np.flatnonzero(is_there[row])
        distances = _jaccard(vectors[[row]], others[place_of[row, there]])
        distances = (1 - weight) * distances + weight * (1 - similarities[row, there])
        # Images of equal encodings differ by rounding only.
        best = np.argsort(distances.round(6), kind="stable")
        result[row, there] = ids[row, there[best]]
    return result


def _csr(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> "sp.csr_array":
    import scipy.sparse as sp

    return sp.csr_array((values, (rows, columns)), shape=shape)


def _matrix(ids: np.ndarray, n: int, is_kept: np.ndarray) -> "sp.csr_array":
    """Return (len(ids), n) sparse bool: the kept ``ids`` of each row."""
    rows, places = np.nonzero(is_kept)
    return _csr(np.ones(len(rows), bool), rows, ids[rows, places], (len(ids), n))


def _mutual(ids: np.ndarray, n: int) -> "sp.csr_array":
    """Return (n, n) sparse bool: pairs of rows that are among each other's ``ids``."""
    nearest = _matrix(ids, n, ids >= 0)
    return nearest.multiply(nearest.T).tocsr()


def _expanded(mutual: "sp.csr_array", half: "sp.csr_array") -> "sp.csr_array":
    """Return R*, (rows, n) sparse bool, from R(i, k1) of some rows and R(j, k1 / 2) of all."""
    common = (mutual.astype(np.int32) @ half.T.astype(np.int32)).multiply(mutual).tocoo()
    sizes = half.sum(axis=1)
    is_joined = 3 * common.data >= 2 * sizes[common.col]
    rows, columns = common.row[is_joined], common.col[is_joined]
    joined = _csr(np.ones(len(rows), bool), rows, columns, mutual.shape)
    return (mutual + joined @ half).astype(bool).tocsr()


def _weights(
    embeddings: np.ndarray, gallery: np.ndarray, allowed: np.ndarray, members: "sp.csr_array"
) -> "sp.csr_array":
    """Return exp(-d) of each row's members, (rows, n) sparse float32."""
    pairs = members.tocoo()
    similarities = _similarities(embeddings, gallery, pairs.row, allowed[pairs.col])
    values = np.exp(similarities - 1)
    return _csr(values, pairs.row, pairs.col, members.shape)


def _mean_vectors(own: "sp.csr_array", nearest: np.ndarray, encoding: Encoding) -> "sp.csr_array":
    """Return the means of each row's own V and those of its k2 - 1 nearest."""
    near = nearest[:, : encoding.k2 - 1]
    chosen = _matrix(near, len(encoding.allowed), near >= 0).astype(np.float32)
    counts = 1 + (near >= 0).sum(axis=1)
    total = (own + chosen @ encoding.vectors).tocsr()
    return total.multiply((1 / counts[:, None]).astype(np.float32)).tocsr()


def _similarities(
    left: np.ndarray, gallery: np.ndarray, rows: np.ndarray, gallery_rows: np.ndarray
) -> np.ndarray:
    """Return the inner products of pairs of rows, (n_pair,) float32."""
    values = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), PAIR_BLOCK):
        block = slice(start, start + PAIR_BLOCK)
        values[block] = np.einsum("pd,pd->p", left[rows[block]], gallery[gallery_rows[block]])
    return values


def _jaccard(vector: "sp.csr_array", others: "sp.csr_array") -> np.ndarray:
    """Return the Jaccard distances of (1, n) and (n_other, n) sparse vectors, (n_other,)."""
    dense = np.zeros(vector.shape[1], np.float32)
    dense[vector.indices] = vector.data
    smaller = np.minimum(others.data, dense[others.indices])
    owner = np.repeat(np.arange(others.shape[0]), np.diff(others.indptr))
    common = np.bincount(owner, smaller, minlength=others.shape[0])
    total = vector.data.sum(dtype=np.float64) + others.sum(axis=1, dtype=np.float64)
    return 1 - common / np.maximum(total - common, 1e-12)
