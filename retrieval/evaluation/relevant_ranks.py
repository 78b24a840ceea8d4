"""The ranks of all relevant images, for metrics of the whole ranking, without keeping a ranking.

A rank is one more than the number of images with a higher score, or with an equal score and a
smaller id. Scores are exact (`exact.inner_products`); the images above are counted tile by tile.
"""

import numpy as np

from retrieval.compute import distributed
from retrieval.search.exact import inner_products
from retrieval.search.tiles import Tile, score_tiles, searched_rows
from retrieval.threads import in_threads, parts_for, worker_threads


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
    starts, ids = _relevant_images(query_labels, gallery_labels, is_allowed)
    owners = np.repeat(np.arange(len(queries)), np.diff(starts))
    scores = inner_products(queries, gallery, owners, ids)
    above = np.zeros(len(ids), np.int64)  # images counted so far that come before each
    rows = searched_rows(len(gallery), is_allowed, device, is_shared)
    for tile in score_tiles(queries, gallery, rows, batch_size, device, "ranks", is_exact=True):
        _count_above(tile, starts, ids, scores, above)
    if is_shared:
        above = np.sum(distributed.gather(above), axis=0)
    of_queries = np.split(above, starts[1:-1])
    if own_rows is not None:
        own = np.split(ids == own_rows[owners], starts[1:-1])
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


def _relevant_images(
    query_labels: np.ndarray, gallery_labels: np.ndarray, is_allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the allowed rows of each query's class.

    Returns:
        starts: (n_query + 1,) int64, where the images of each query begin.
        ids: (n,) int64 rows of the gallery, those of one query ascending.
    """
    allowed = np.arange(len(gallery_labels)) if is_allowed is None else np.flatnonzero(is_allowed)
    by_class = allowed[np.argsort(gallery_labels[allowed], kind="stable")]
    sorted_labels = gallery_labels[by_class]
    first, stop = (np.searchsorted(sorted_labels, query_labels, side) for side in ("left", "right"))
    starts = np.concatenate([[0], np.cumsum(stop - first)])
    places = np.arange(starts[-1]) + np.repeat(first - starts[:-1], stop - first)
    return starts, by_class[places]


def _keys(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return one int64 for each score and id, larger for a higher score, then for a smaller id.

    Args:
        scores: (..., n) float32.
        ids: (n,) int64, below 2 ** 31.

    >>> keys = _keys(np.array([0.5, 0.5, -0.5, -0.7, -0.0], "f4"), np.arange(5))
    >>> np.argsort(-keys).tolist()
    [0, 1, 4, 2, 3]
    """
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # of 0 for -0
    # Bits of negative numbers ascend towards minus infinity.
    return ((bits ^ (bits >> 31 & 0x7FFFFFFF)) << 32) - ids


def _count_above(
    tile: Tile, starts: np.ndarray, ids: np.ndarray, scores: np.ndarray, above: np.ndarray
) -> None:
    """Add how many images of the tile come before each relevant image."""
    first, stop = tile.queries.start, tile.queries.stop
    if tile.is_on_gpu:
        from retrieval.search import gpu_tiles

        chosen = slice(starts[first], starts[stop])
        keys, counts = _keys(scores[chosen], ids[chosen]), np.diff(starts[first : stop + 1])
        above[chosen] += gpu_tiles.count_above(tile.scores, tile.ids, keys, counts)
        return
    n = len(tile.ids)

    def count(rows: np.ndarray) -> None:
        # numpy sorts float32 with SIMD instructions, and does not hold the interpreter's lock.
        ascending = np.sort(tile.scores[rows[0] - first : rows[-1] + 1 - first], axis=1)
        for row, of_row in zip(rows, ascending, strict=True):
            own = slice(starts[row], starts[row + 1])
            not_above = of_row.searchsorted(scores[own], "right")
            level = not_above - of_row.searchsorted(scores[own], "left")
            is_inside = (ids[own] >= tile.ids[0]) & (ids[own] <= tile.ids[-1])
            if (level > is_inside).any():  # equal scores, other than an image's own
                keys = np.sort(_keys(tile.scores[row - first], tile.ids))
                not_above = keys.searchsorted(_keys(scores[own], ids[own]), "right")
            above[own] += n - not_above

    n_thread = worker_threads()
    parts = np.array_split(np.arange(first, stop), parts_for(n_thread))
    in_threads(count, [part for part in parts if len(part)], n_thread)
