"""Tiles of scores on a GPU; only a search on a GPU imports this module, and torch with it."""

import numpy as np
import torch


def empty(size: int, dtype: str, device: str) -> torch.Tensor:
    """Return room for ``size`` values of ``float32`` or ``float64`` on a GPU."""
    return torch.empty(size, dtype=getattr(torch, dtype), device=device)


def copied(rows: np.ndarray, device: str) -> torch.Tensor:
    """Copy an array to a GPU."""
    return torch.from_numpy(rows).to(device)


def scores(queries: torch.Tensor, gallery: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    """Return the inner products of all pairs of rows, in full float32 precision: no TF32.

    Args:
        queries: (n_query, dim).
        gallery: (n, dim).
        product: (n_query, n), written.

    Returns:
        (n_query, n) float32; it may be ``product``.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return torch.matmul(queries, gallery.T, out=product).float()
    finally:
        torch.set_float32_matmul_precision(before)


def candidates(
    scores: torch.Tensor, ids: np.ndarray, least: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the candidates of the ``k`` best of each row, without copying all of it.

    Args:
        scores: (n_query, n) float32.
        ids: (n,) int64.
        least: (n_query, 1) float32, the score to exceed.
        k: Neighbors of each query.

    Returns:
        scores: (n_query, m) float32, filled up with -inf.
        ids: (n_query, m) int64, ascending.
    """
    kth = scores.topk(min(k, scores.shape[1])).values[:, -1:]
    # The first k of those that are level with the k-th are enough.
    is_level = scores == kth
    is_level &= is_level.cumsum(1, dtype=torch.int32) <= k
    is_candidate = is_level | (scores > kth)
    is_candidate &= scores > torch.from_numpy(least).to(scores.device)
    row, column = (places.cpu().numpy() for places in is_candidate.nonzero(as_tuple=True))
    counts = np.bincount(row, minlength=len(scores))
    place = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
    found = np.full((len(scores), counts.max(initial=1)), -np.inf, np.float32)
    found_ids = np.zeros(found.shape, np.int64)
    found[row, place], found_ids[row, place] = scores[is_candidate].cpu().numpy(), ids[column]
    return found, found_ids


def count_above(
    scores: torch.Tensor, ids: np.ndarray, keys: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return how many images come before each of some, as `relevant_ranks` counts on a CPU.

    Args:
        scores: (n_query, n) float32.
        ids: (n,) int64.
        keys: (n_key,) int64 keys of images (`relevant_ranks`), ordered by query.
        counts: (n_query,) int64, how many each query has.

    Returns:
        (n_key,) int64.
    """
    bits = (scores + 0.0).view(torch.int32).long()
    of_scores = (bits ^ (bits >> 31 & 0x7FFFFFFF)) << 32
    of_scores -= torch.from_numpy(ids).to(scores.device)
    rows = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(keys)) - np.repeat(counts.cumsum() - counts, counts)
    wanted = np.zeros((len(counts), counts.max(initial=0)), np.int64)
    wanted[rows, places] = keys
    ascending = of_scores.sort(dim=1).values
    not_above = torch.searchsorted(
        ascending, torch.from_numpy(wanted).to(scores.device), right=True
    )
    return scores.shape[1] - not_above.cpu().numpy()[rows, places]
