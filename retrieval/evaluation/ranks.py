"""The ranks of all relevant images, for metrics of the whole ranking, without keeping a ranking.

A rank is one more than the number of images with a higher score, or with an equal score and a
smaller id. Scores are exact (`float64_scores`); the images above are counted block by block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.compute import distributed
from retrieval.search import float64_scores
from retrieval.search.blocked_scores import ScoreBlock, score_blocks
from retrieval.search.nearest import searched_rows
from retrieval.threads import in_threads, parts_for, worker_threads


@dataclass(frozen=True)
class _Pairs:
    """Queries with their relevant images, ordered by query and then by id.

    Attributes:
        starts: (n_query + 1,) int64, where each query's pairs begin.
        ids: (n_pair,) int64 rows of the gallery.
        scores: (n_pair,) float32, exact.
        above: (n_pair,) int64, the images counted so far that come before.
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
    own_rows: np.ndarray | None = None,
    batch_size: int = 1024,
    device: str = "cpu",
    is_shared: bool = False,
) -> list[np.ndarray]:
    """Return the ranks of all images of each query's class, without keeping a ranking.

    The arguments are those of `nearest_neighbors`, with the class of each query and gallery row,
    and ``own_rows``: (n_query,) int64, the allowed row that each query is, which is left out of
    its ranking; None if the queries are no rows of the gallery.

    Returns:
        For each query, the ranks of the allowed rows of its class, from 1, ascending.
    """
    pairs = _relevant_pairs(query_labels, gallery_labels, is_allowed)
    of_pairs = np.repeat(np.arange(len(queries)), np.diff(pairs.starts))
    pairs.scores[:] = float64_scores.inner_products(queries, gallery, of_pairs, pairs.ids)
    rows = searched_rows(len(gallery), is_allowed, device, is_shared)
    for block in score_blocks(queries, gallery, rows, batch_size, device, "ranks", is_exact=True):
        _count_above(block, pairs)
    above = np.sum(distributed.gather(pairs.above), axis=0) if is_shared else pairs.above
    of_queries = np.split(above, pairs.starts[1:-1])
    if own_rows is not None:
        own = np.split(pairs.ids == np.repeat(own_rows, np.diff(pairs.starts)), pairs.starts[1:-1])
        of_queries = [r[~i] - (r[~i] > r[i]) for r, i in zip(of_queries, own, strict=True)]
    return [np.sort(of_query) + 1 for of_query in of_queries]


def with_reordered(ranks: list[np.ndarray], hits: np.ndarray) -> list[np.ndarray]:
    """Return the ranks of all relevant images after the first results were re-ranked.

    Args:
        ranks: The ranks before, as from `relevant_ranks`.
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


def _count_above(block: ScoreBlock, pairs: _Pairs) -> None:
    """Add how many images of the block come before each relevant image."""
    starts = pairs.starts[block.queries.start : block.queries.stop + 1]
    chosen = slice(starts[0], starts[-1])
    own, ids = pairs.scores[chosen], pairs.ids[chosen]
    if not len(own):
        return
    scores = block.scores()
    counts = np.diff(starts)
    rows = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(own)) - np.repeat(starts[:-1] - starts[0], counts)
    targets = np.full((len(counts), counts.max()), np.inf, np.float32)
    targets[rows, places] = own
    below, not_above = (found[rows, places] for found in _count_below(block, scores, targets))
    # Between equal scores, the smaller id comes first.
    level_before = np.where(ids > block.ids[-1], not_above - below, 0)
    is_inside = (ids >= block.ids[0]) & (ids <= block.ids[-1])
    for pair in np.flatnonzero(is_inside & (not_above - below > 1)):
        column = int(np.searchsorted(block.ids, ids[pair]))
        level_before[pair] = int((scores[rows[pair], :column] == float(own[pair])).sum())
    pairs.above[chosen] += len(block.ids) - not_above + level_before


def _count_below(
    block: ScoreBlock, scores: Any, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many scores of its row are below each target, and how many are not above it.

    Args:
        block: The block of the scores.
        scores: (n_query, n) float32, an array or a tensor on a GPU; not changed.
        targets: (n_query, m) float32.

    Returns:
        below, not_above: (n_query, m) int64 each.
    """
    if block.is_on_gpu:
        from retrieval.search import gpu_scores

        return gpu_scores.count_below(scores, targets)
    below, not_above = (np.empty(targets.shape, np.int64) for _ in range(2))

    def count(rows: np.ndarray) -> None:
        # numpy sorts float32 with SIMD instructions, and does not hold the interpreter's lock.
        ascending = np.sort(scores[rows[0] : rows[-1] + 1], axis=1)
        for row, of_row in zip(rows, ascending, strict=True):
            below[row] = of_row.searchsorted(targets[row], "left")
            not_above[row] = of_row.searchsorted(targets[row], "right")

    n_thread = worker_threads()
    parts = np.array_split(np.arange(len(targets)), parts_for(n_thread))
    in_threads(count, [part for part in parts if len(part)], n_thread)
    return below, not_above
