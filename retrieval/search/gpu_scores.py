"""Exact search on a GPU; only a search on a GPU imports this module, and torch with it."""

import numpy as np
import torch


def empty(size: int, dtype: str, device: str) -> torch.Tensor:
    """Return room for ``size`` values of ``float32`` or ``float64`` on a GPU."""
    return torch.empty(size, dtype=getattr(torch, dtype), device=device)


def copied(rows: np.ndarray, device: str) -> torch.Tensor:
    """Copy an array to a GPU."""
    return torch.from_numpy(rows).to(device)


def multiply(queries: torch.Tensor, gallery: torch.Tensor, product: torch.Tensor) -> None:
    """Write the inner products of all pairs of rows, in full float32 precision: no TF32.

    Args:
        queries: (n_query, dim).
        gallery: (n, dim).
        product: (n_query, n), written.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        torch.matmul(queries, gallery.T, out=product)
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


def count_below(scores: torch.Tensor, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many scores of its row are below each target, and how many are not above it.

    Args:
        scores: (n_query, n) float32.
        targets: (n_query, m) float32.

    Returns:
        below, not_above: (n_query, m) int64 each.
    """
    ascending = scores.sort(dim=1).values
    wanted = torch.from_numpy(targets).to(scores.device)
    below, not_above = (
        torch.searchsorted(ascending, wanted, side=side).cpu().numpy() for side in ("left", "right")
    )
    return below, not_above
