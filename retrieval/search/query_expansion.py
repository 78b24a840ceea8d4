"""Query expansion and database-side augmentation: add the neighbors of an embedding to it.

    q' = q + sum over the n nearest images i of max(s_i, 0) ^ alpha * d_i, scaled to unit L2 norm,

with the similarities s_i = q . d_i (Radenovic et al., Fine-tuning CNN Image Retrieval with No Human
Annotation, TPAMI 2018, section 3.4). A negative similarity counts as 0: its power would be no
number, or positive. Applied to each image of the database, with the others as neighbors, it is
database-side augmentation (Arandjelovic and Zisserman, Three things everyone should know to
improve object retrieval, CVPR 2012).
"""

import tempfile

import numpy as np

from retrieval.search.exact import nearest_neighbors, without_own

BLOCK_ROWS = 1024  # queries expanded at once
NEIGHBOR_ROWS = 16_384  # images whose neighbors are searched at once


def expand(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    similarities: np.ndarray,
    alpha: float,
) -> np.ndarray:
    """Add the weighted neighbors to each query.

    Args:
        queries: (n_query, dim) float32, rows of unit L2 norm.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n_query, n) int64 rows of the gallery, -1 where there is none.
        similarities: (n_query, n) float32.
        alpha: At least 0; 0 weighs all neighbors of positive similarity alike.

    Returns:
        (n_query, dim) float32, rows of unit L2 norm.

    >>> expand(np.eye(2, dtype="f4"), np.eye(2, dtype="f4"), np.array([[1], [-1]]),
    ...        np.array([[1.0], [0.5]]), alpha=3).round(2)
    array([[0.71, 0.71],
           [0.  , 1.  ]], dtype=float32)
    """
    expanded = np.empty(queries.shape, np.float32)
    for start in range(0, len(queries), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        counts = (ids[rows] >= 0) & (similarities[rows] > 0)
        weights = np.where(counts, np.where(counts, similarities[rows], 1.0) ** alpha, 0.0)
        sums = queries[rows] + np.einsum("qn,qnd->qd", weights, gallery[ids[rows]])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        expanded[rows] = sums / np.maximum(norms, 1e-12)
    return expanded


def neighbors_within(
    gallery: np.ndarray,
    rows: np.ndarray,
    k: int,
    is_allowed: np.ndarray,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` nearest other images of some images of the gallery.

    torchrun's processes share the gallery; all must call with equal arguments.

    Args:
        gallery: (n_gallery, dim) float32, may be a memory map.
        rows: (n,) int64 rows of the images.
        k: Neighbors of each image.
        is_allowed: (n_gallery,) bool: rows that may be neighbors.
        device: Where to compute: ``cpu``, ``cuda`` or ``cuda:n``.

    Returns:
        ids: (n, k) int64 rows of the gallery, without the row itself, -1 where there are fewer.
        similarities: (n, k) float32, descending, -inf with an id of -1.
    """
    ids, similarities = nearest_neighbors(
        gallery[rows], gallery, k + 1, is_allowed=is_allowed, device=device, is_shared=True
    )
    return without_own(ids, similarities, rows)  # its copy in the gallery may come first


def augment_gallery(
    gallery: np.ndarray,
    n: int,
    alpha: float,
    is_allowed: np.ndarray,
    device: str = "cpu",
) -> np.ndarray:
    """Expand each image of the gallery with its ``n`` nearest allowed images.

    Rows that are not allowed stay unchanged and change no other row.

    Args:
        gallery: (n_gallery, dim) float32, may be a memory map.
        n: Neighbors.
        alpha: As in `expand`.
        is_allowed: (n_gallery,) bool.
        device: Where to compute: ``cpu``, ``cuda`` or ``cuda:n``.

    Returns:
        (n_gallery, dim) float32, in a temporary file that is mapped into memory.
    """
    with tempfile.TemporaryFile() as file:
        augmented = np.memmap(file, np.float32, "w+", shape=gallery.shape)
    for start in range(0, len(gallery), BLOCK_ROWS):
        augmented[start : start + BLOCK_ROWS] = gallery[start : start + BLOCK_ROWS]
    allowed = np.flatnonzero(is_allowed)
    for start in range(0, len(allowed), NEIGHBOR_ROWS):
        rows = allowed[start : start + NEIGHBOR_ROWS]
        ids, similarities = neighbors_within(gallery, rows, n, is_allowed, device)
        augmented[rows] = expand(gallery[rows], gallery, ids, similarities, alpha)
    return augmented
