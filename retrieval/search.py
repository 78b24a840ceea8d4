"""Exact search: maximum inner product, with masks, ties and memory under control.

The order is (similarity descending, Index ascending). An image that may not be retrieved gets
the score -inf, so that no other score can fall below it, and is never returned.
"""

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from retrieval.formats import InputError

SCORE_BYTES = 256 << 20  # of one block of queries against the whole gallery
GALLERY_ROWS = 16_384  # read from the disk and multiplied at once


def nearest(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    is_allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    device: torch.device | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` most similar gallery rows of each query, best first.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        k: Neighbors of each query.
        is_allowed: (n_gallery,) bool: rows that may be returned; all where it is None.
        batch_size: Queries scored at once; fewer where the scores would be too large.
        device: Where to compute; the CPU where it is None.

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
    for rows, scores in score_blocks(queries, gallery, is_allowed, batch_size, device):
        top_ids, top_scores = _top(scores, min(k, scores.shape[1]))
        top_ids[np.isneginf(top_scores)] = -1
        ids[rows, : top_ids.shape[1]] = top_ids
        similarities[rows, : top_ids.shape[1]] = top_scores
    return ids, similarities


def relevant_ranks(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    is_allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    device: torch.device | None = None,
) -> list[np.ndarray]:
    """Return the ranks of all images of each query's class, without keeping any ranking.

    The arguments are those of ``nearest``, with the class of each query and gallery row.

    Returns:
        Of each query, the ranks of the allowed rows of its class, from 1, ascending.
    """
    is_allowed = np.ones(len(gallery), bool) if is_allowed is None else is_allowed
    rows_of = {
        label: np.flatnonzero((gallery_labels == label) & is_allowed)
        for label in np.unique(query_labels)
    }
    ranks: list[np.ndarray] = []
    for rows, scores in score_blocks(queries, gallery, is_allowed, batch_size, device):
        relevant = [rows_of[label] for label in query_labels[rows]]
        ranks.extend(_ranks_within(scores, relevant))
    return ranks


def score_blocks(
    queries: np.ndarray,
    gallery: np.ndarray,
    is_allowed: np.ndarray | None,
    batch_size: int,
    device: torch.device | None,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield (rows of the queries, their (rows, n_gallery) float32 scores), block by block."""
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    n_gallery = len(gallery)
    block = max(1, min(batch_size, SCORE_BYTES // (4 * max(n_gallery, 1))))
    masked = None if is_allowed is None else torch.from_numpy(~is_allowed).to(device)
    starts = range(0, len(queries), block)
    for start in tqdm(starts, desc="search", unit="block", disable=None, leave=False):
        rows = slice(start, min(start + block, len(queries)))
        batch = torch.from_numpy(np.ascontiguousarray(queries[rows])).to(device)
        scores = torch.empty(len(batch), n_gallery, device=device)
        for first in range(0, n_gallery, GALLERY_ROWS):
            part = torch.from_numpy(np.array(gallery[first : first + GALLERY_ROWS])).to(device)
            torch.matmul(batch, part.T, out=scores[:, first : first + len(part)])
        if masked is not None:
            scores.masked_fill_(masked, -torch.inf)
        yield rows, scores


def _top(scores: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and scores of the first ``k`` of each row, ties in the order of the ids."""
    values, ids = scores.topk(k, dim=1)
    worst = values[:, -1:]
    # topk takes any of the rows that tie for the last place: take the first ones.
    for row in torch.nonzero((scores >= worst).sum(dim=1) > k).ravel().tolist():
        better = torch.nonzero(scores[row] > worst[row]).ravel()
        equal = torch.nonzero(scores[row] == worst[row]).ravel()[: k - len(better)]
        ids[row] = torch.cat([better, equal])
        values[row] = scores[row, ids[row]]
    top_ids, top_scores = ids.cpu().numpy(), values.cpu().numpy()
    order = np.lexsort((top_ids, -top_scores), axis=1)
    return np.take_along_axis(top_ids, order, 1), np.take_along_axis(top_scores, order, 1)


def _ranks_within(scores: torch.Tensor, relevant: list[np.ndarray]) -> list[np.ndarray]:
    """Return the ranks of the ``relevant`` columns of each row of ``scores``, ascending.

    A rank is one more than the number of columns with a higher score, which is read off the
    sorted scores. Where scores are level, the ids decide, so the whole row is ranked.
    """
    n_gallery = scores.shape[1]
    # numpy sorts float32 with SIMD instructions, several times as fast as torch on a CPU.
    ascending = scores.sort(dim=1).values.cpu().numpy() if scores.is_cuda else np.sort(scores)
    ranks = []
    for row, ids in enumerate(relevant):
        own = scores[row, torch.from_numpy(ids).to(scores.device)].cpu().numpy()
        below = np.searchsorted(ascending[row], own, side="left")
        not_above = np.searchsorted(ascending[row], own, side="right")
        if (not_above - below > 1).any():
            order = np.lexsort((np.arange(n_gallery), -scores[row].cpu().numpy()))
            ranks.append(np.flatnonzero(np.isin(order, ids)) + 1)
        else:
            ranks.append(np.sort(n_gallery - not_above + 1))
    return ranks
