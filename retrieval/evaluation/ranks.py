"""The ranks of all relevant images: what metrics of the whole ranking need, without a ranking.

A rank is one more than the number of images with a higher score, or an equal one and a smaller
id, by exact scores: see ``exact``. What is above the relevant images is counted tile by tile.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from retrieval.compute import distributed
from retrieval.search import float64_scores
from retrieval.search.blocked_scores import Tile, tiles
from retrieval.search.nearest import searched_rows


@dataclass(frozen=True)
class _Pairs:
    """Queries with their relevant images, ordered by query and then by id.

    Attributes:
        starts: (n_query + 1,) int64, where each query's pairs begin.
        ids: (n_pair,) int64 rows of the gallery.
        scores: (n_pair,) float32, exact.
        above: (n_pair,) int64, how many images come before, as far as they are counted.
    """

    starts: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    above: np.ndarray


def relevant_ranks(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    is_allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    device: torch.device | None = None,
    is_shared: bool = False,
) -> list[np.ndarray]:
    """Return the ranks of all images of each query's class, without keeping any ranking.

    The arguments are those of ``search.nearest``, with the class of each query and gallery row.

    Returns:
        Of each query, the ranks of the allowed rows of its class, from 1, ascending.
    """
    pairs = _relevant_pairs(query_labels, gallery_labels, is_allowed)
    of_pairs = np.repeat(np.arange(len(queries)), np.diff(pairs.starts))
    pairs.scores[:] = float64_scores.inner_products(queries, gallery, of_pairs, pairs.ids)
    rows = searched_rows(len(gallery), is_allowed, device, is_shared)
    for tile in tiles(queries, gallery, rows, batch_size, device, "ranks", is_exact=True):
        _count_above(tile, pairs)
    above = np.sum(distributed.gather(pairs.above), axis=0) if is_shared else pairs.above
    return [np.sort(of_query) + 1 for of_query in np.split(above, pairs.starts[1:-1])]


def with_reordered(ranks: list[np.ndarray], hits: np.ndarray) -> list[np.ndarray]:
    """Return the ranks of all relevant images after the first results were put into another order.

    Args:
        ranks: As of ``relevant_ranks``, before.
        hits: (n_query, n) bool: which of the first n results are relevant, in the new order.

    >>> with_reordered([np.array([1, 4, 9])], np.array([[False, True, False, True]]))
    [array([2, 4, 9])]
    """
    depth = hits.shape[1]
    pairs = zip(ranks, hits, strict=True)
    return [np.concatenate([np.flatnonzero(row) + 1, r[r > depth]]) for r, row in pairs]


def _relevant_pairs(
    query_labels: np.ndarray, gallery_labels: np.ndarray, is_allowed: np.ndarray | None
) -> _Pairs:
    allowed = np.arange(len(gallery_labels)) if is_allowed is None else np.flatnonzero(is_allowed)
    by_class = allowed[np.argsort(gallery_labels[allowed], kind="stable")]
    sorted_labels = gallery_labels[by_class]
    first, stop = (np.searchsorted(sorted_labels, query_labels, side) for side in ("left", "right"))
    starts = np.concatenate([[0], np.cumsum(stop - first)])
    places = np.arange(starts[-1]) + np.repeat(first - starts[:-1], stop - first)
    scores, above = np.zeros(len(places), np.float32), np.zeros(len(places), np.int64)
    return _Pairs(starts, by_class[places], scores, above)


def _count_above(tile: Tile, pairs: _Pairs) -> None:
    """Add how many images of the tile come before each relevant image."""
    starts = pairs.starts[tile.queries.start : tile.queries.stop + 1]
    chosen = slice(starts[0], starts[-1])
    own, ids = pairs.scores[chosen], pairs.ids[chosen]
    if not len(own):
        return
    scores = tile.scores()
    counts = np.diff(starts)
    rows = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(own)) - np.repeat(starts[:-1] - starts[0], counts)
    padded = np.zeros((len(counts), counts.max()), np.float32)
    padded[rows, places] = own
    targets = torch.from_numpy(padded).to(scores.device)
    ascending = _sorted_rows(scores)
    below, not_above = (
        torch.searchsorted(ascending, targets, side=side).cpu().numpy()[rows, places]
        for side in ("left", "right")
    )
    # Of images with an equal score, those of a smaller id come before.
    level_before = np.where(ids > tile.ids[-1], not_above - below, 0)
    is_inside = (ids >= tile.ids[0]) & (ids <= tile.ids[-1])
    for pair in np.flatnonzero(is_inside & (not_above - below > 1)):
        column = int(np.searchsorted(tile.ids, ids[pair]))
        is_level = scores[rows[pair], :column] == float(own[pair])
        level_before[pair] = int(is_level.sum())
    pairs.above[chosen] += len(tile.ids) - not_above + level_before


def _sorted_rows(scores: torch.Tensor) -> torch.Tensor:
    """Return each row in ascending order, the contents of ``scores`` untouched."""
    if scores.is_cuda:
        return scores.sort(dim=1).values
    # numpy sorts float32 with SIMD instructions, many times as fast as torch on a CPU, and without
    # holding the interpreter's lock.
    n_thread = torch.get_num_threads()
    with ThreadPoolExecutor(n_thread) as pool:
        parts = np.array_split(scores.numpy(), n_thread)
        return torch.from_numpy(np.concatenate(list(pool.map(np.sort, parts))))
