"""Vectors kept in the index in fewer bytes, and exact re-ranking of candidates by vectors.

``float16`` rounds each value. ``int8`` keeps a scale per vector and whole numbers from -127 to 127:
an error of up to 1/254 of the largest value.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from lopq.errors import LOPQError
from lopq.validation import as_array

Keep = Literal["none", "float16", "int8"]

SCALE_BYTES = 4  # of int8: a float32 before the numbers
LARGEST_FLOAT16 = 65504.0
RERANK_NUMBERS = 4_000_000  # numbers read from the database at a time


def check_keep(keep: str) -> Keep:
    """Return ``keep``, or raise `LOPQError`."""
    for known in get_args(Keep):
        if keep == known:
            return known
    raise LOPQError(f"keep must be one of {', '.join(get_args(Keep))}; got {keep!r}")


def vector_bytes(keep: Keep, dim: int) -> int:
    """Return the bytes of a kept vector of ``dim`` dimensions."""
    return {"none": 0, "float16": 2 * dim, "int8": SCALE_BYTES + dim}[keep]


def pack_vectors(vectors: np.ndarray, keep: Keep) -> np.ndarray:
    """Pack (n, dim) float32 vectors as (n, vector_bytes) uint8."""
    n, dim = vectors.shape
    packed = np.empty((n, vector_bytes(keep, dim)), np.uint8)
    if keep == "float16":
        if n and np.abs(vectors).max() > LARGEST_FLOAT16:
            raise LOPQError(f"keep='float16' takes values up to {LARGEST_FLOAT16:.0f}")
        packed[:] = vectors.astype("<f2").view(np.uint8)
    elif keep == "int8":
        scales = np.abs(vectors).max(axis=1, keepdims=True, initial=0).astype("<f4") / 127
        packed[:, :SCALE_BYTES] = scales.astype("<f4").view(np.uint8)
        whole = np.rint(vectors / np.where(scales > 0, scales, 1))
        packed[:, SCALE_BYTES:] = whole.astype(np.int8).view(np.uint8)
    return packed


def unpack_vectors(packed: np.ndarray, keep: Keep) -> np.ndarray:
    """Return the (n, dim) float32 vectors that `pack_vectors` packed, rounded."""
    packed = np.ascontiguousarray(packed)
    if keep == "float16":
        return packed.view("<f2").astype(np.float32)
    scales = np.ascontiguousarray(packed[:, :SCALE_BYTES]).view("<f4")
    whole = np.ascontiguousarray(packed[:, SCALE_BYTES:]).view(np.int8)
    return whole.astype(np.float32) * scales


def row_reader(
    vectors: np.ndarray, ids: np.ndarray, dim: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what reads the vectors of some ids: row i of ``vectors`` is the vector with id i.

    Args:
        vectors: (n, dim) array or memory map.
        ids: The ids that will be read.
        dim: Dimensions of the queries.

    Raises:
        LOPQError: ``vectors`` has a wrong shape, or lacks the row of an id.
    """
    if not hasattr(vectors, "shape"):  # a file-backed array must not be read as a whole
        vectors = as_array(vectors, "vectors")
    if len(vectors.shape) != 2 or vectors.shape[1] != dim:
        raise LOPQError(f"vectors must be (n, {dim}); got shape {vectors.shape}")
    if ids.size and ids.max() >= len(vectors):
        raise LOPQError(
            f"rerank reads row i of vectors for id i, but id {ids.max()} is beyond its "
            f"{len(vectors)} rows; number the vectors by row, or search with rerank=0"
        )
    return lambda wanted: vectors[wanted]


def rerank(
    queries: np.ndarray,
    ids: np.ndarray,
    places: np.ndarray,
    read: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Re-rank candidates by exact distances; return distances and ids (n_query, m).

    Args:
        queries: (n_query, dim_in) float32.
        ids: (n_query, m) int64 candidates; -1 marks a missing one.
        places: (n_query, m) int64, what ``read`` takes for each candidate.
        read: Returns the vectors (m, dim_in) at ascending places (m,).

    Raises:
        LOPQError: A vector holds NaN, infinite or too large values.
    """
    distances = np.full(ids.shape, np.inf, np.float32)
    step = max(1, RERANK_NUMBERS // max(1, ids.shape[1] * queries.shape[1]))
    for start in range(0, len(ids), step):
        block = slice(start, start + step)
        wanted, place = np.unique(places[block], return_inverse=True)  # ascending: fewer seeks
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            rows = np.asarray(read(np.maximum(wanted, 0)), np.float32)
            rows = rows[place.reshape(ids[block].shape)]  # (step, m, dim_in)
            rows -= queries[block, None, :]
            distances[block] = np.einsum("ijk,ijk->ij", rows, rows)
    bad = ids[~np.isfinite(distances) & (ids >= 0)]
    if len(bad):
        raise LOPQError(f"vectors: row {bad[0]} holds NaN, infinite or too large values")
    distances[ids < 0] = np.inf
    order = np.lexsort((ids, distances), axis=1)
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)
