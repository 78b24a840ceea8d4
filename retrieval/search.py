"""Exact search: maximum inner product, with masks, ties and memory under control.

The order is (similarity descending, Index ascending). An image that may not be retrieved is never
scored, so that no score can fall below it. Rows are searched in the order of their ids, so a later
row takes a place only where its score is strictly higher: ties go to the smaller id by themselves.

With ``is_shared``, the processes of torchrun call with equal arguments, each searches its part of
the gallery, and all return the same: what one process would.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from retrieval import distributed
from retrieval.formats import InputError
from retrieval.tiles import SHAPES, tiles


def nearest(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    is_allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    device: torch.device | None = None,
    is_shared: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` most similar gallery rows of each query, best first.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        k: Neighbors of each query.
        is_allowed: (n_gallery,) bool: rows that may be returned; all where it is None.
        batch_size: Queries for which the gallery is read once.
        device: Where to compute; the CPU where it is None.
        is_shared: Divide the gallery among the processes of torchrun.

    Returns:
        ids: (n_query, k) int64 rows of the gallery, -1 where fewer than ``k`` are allowed.
        similarities: (n_query, k) float32 inner products, descending, -inf with an id of -1.

    >>> ids, _ = nearest(np.eye(2, dtype="f4"), np.eye(2, dtype="f4")[::-1], k=1)
    >>> ids.ravel().tolist()
    [1, 0]
    """
    if k < 1:
        raise InputError(f"k must be at least 1; got {k}")
    ids = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf, np.float32)
    rows = searched_rows(len(gallery), is_allowed, device, is_shared)
    n_thread = torch.get_num_threads()
    with ThreadPoolExecutor(n_thread) as pool:
        for tile in tiles(queries, gallery, rows, batch_size, device):
            parts = (
                np.array_split(ids[tile.queries], n_thread),  # views, which are changed
                np.array_split(similarities[tile.queries], n_thread),
                tile.scores().tensor_split(n_thread),
            )
            merge = partial(_merge_tile, new_ids=tile.ids, n_before=tile.first)
            list(pool.map(merge, *parts))
    return _merge_processes(ids, similarities) if is_shared else (ids, similarities)


def searched_rows(
    n_gallery: int,
    is_allowed: np.ndarray | None,
    device: torch.device | None = None,
    is_shared: bool = False,
) -> np.ndarray:
    """Return the rows of the gallery that this process searches, (n,) int64, ascending.

    Parts of processes begin where tiles of one process do.
    """
    rows = np.arange(n_gallery) if is_allowed is None else np.flatnonzero(is_allowed)
    if not is_shared:
        return rows
    _, n_column = SHAPES[device.type if device else "cpu"]
    part = distributed.own_part(len(rows), n_column)
    return rows[part.start : part.stop]


def _merge_tile(
    best_ids: np.ndarray,
    best_scores: np.ndarray,
    scores: torch.Tensor,
    new_ids: np.ndarray,
    n_before: int,
) -> None:
    """Merge in steps of as many columns as went before: few are better than the best of those."""
    start = 0
    while start < len(new_ids):
        stop = start + max(best_ids.shape[1], n_before + start)
        _merge(best_ids, best_scores, scores[:, start:stop], new_ids[start:stop])
        start = stop


def _merge(
    best_ids: np.ndarray, best_scores: np.ndarray, scores: torch.Tensor, new_ids: np.ndarray
) -> None:
    """Put what is better than the last of each query's best into its place.

    Args:
        best_ids: (n_query, k) int64, changed in place.
        best_scores: (n_query, k) float32, changed in place.
        scores: (n_query, n) float32.
        new_ids: (n,) int64, greater than all of ``best_ids``.
    """
    k, n = best_ids.shape[1], len(new_ids)
    flat, found = _above(scores, best_scores[:, -1:])
    if not len(flat):
        return
    row, column = np.divmod(flat, n)
    rows, first, counts = np.unique(row, return_index=True, return_counts=True)
    # Behind the best of each row that changes, in the order of the ids: a stable sort keeps it.
    pool_scores = np.full((len(rows), k + counts.max()), -np.inf, np.float32)
    pool_ids = np.full(pool_scores.shape, -1, np.int64)
    pool_scores[:, :k], pool_ids[:, :k] = best_scores[rows], best_ids[rows]
    place = k + np.arange(len(row)) - np.repeat(first, counts)
    line = np.repeat(np.arange(len(rows)), counts)
    pool_scores[line, place], pool_ids[line, place] = found, new_ids[column]
    best_ids[rows], best_scores[rows] = _first(pool_ids, pool_scores, k)


def _above(scores: torch.Tensor, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat places of the scores above ``last``, (n_query, 1) float32, and the scores."""
    if scores.is_cuda:
        is_above = scores > torch.from_numpy(last).to(scores.device)
        return is_above.flatten().nonzero()[:, 0].cpu().numpy(), scores[is_above].cpu().numpy()
    # numpy compares, and finds few among many, several times as fast as torch on a CPU, and no
    # threads of torch are left spinning beside the next product.
    array = scores.numpy()
    places = np.flatnonzero(array > last)
    return places, array[np.divmod(places, array.shape[1])]


def _first(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` highest of each row, level ones in the order that they have."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _merge_processes(ids: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of all processes; their parts of the gallery are in the order of ids."""
    all_ids = np.concatenate(distributed.gather(ids), axis=1)
    all_similarities = np.concatenate(distributed.gather(similarities), axis=1)
    return _first(all_ids, all_similarities, ids.shape[1])
