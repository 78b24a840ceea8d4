"""From queries and gallery to a ranking: expansion, search and re-ranking.

Expansion moves each database image (--dba) or query (--qe) towards its neighbors; k-reciprocal
re-ranking (--rerank_kr) re-sorts the first results. None of them uses labels, and no query
affects another.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from retrieval.data import options
from retrieval.data.formats import InputError
from retrieval.data.options import option
from retrieval.evaluation.metrics import Measured
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.search import k_reciprocal, query_expansion
from retrieval.search.exact import without_own

# (queries, neighbors of each) -> ids, similarities, as nearest_neighbors returns them
Find = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class RankingOptions:
    """Options of expansion and re-ranking."""

    qe: int = option(
        0, "query expansion: add the first N results to each query, search again; 0 disables",
        at_least=0,
    )  # fmt: skip
    qe_alpha: float = option(
        3.0, "--qe and --dba: weight neighbors by similarity to this power", at_least=0
    )
    dba: int = option(
        0, "database augmentation: add the N nearest to each database image; 0 disables",
        at_least=0,
    )  # fmt: skip
    rerank_kr: int = option(
        0, "k-reciprocal re-ranking of the top N results, at least --kr_k1; 0 disables", at_least=0
    )
    kr_k1: int = option(20, "--rerank_kr: neighbors that may be reciprocal", at_least=1)
    kr_k2: int = option(
        6, "--rerank_kr: images whose encodings are averaged, at most --kr_k1", at_least=1
    )
    kr_weight: float = option(
        0.3, "--rerank_kr: weight of the original distance, 0 to 1", at_least=0, at_most=1
    )

    def check(self) -> None:
        """Refuse values out of range, alone or together."""
        options.check(self)
        if self.kr_k2 > self.kr_k1:
            raise InputError(
                f"--kr_k2 must be from 1 to --kr_k1, which is {self.kr_k1}; got {self.kr_k2}"
            )
        if 0 < self.rerank_kr < self.kr_k1:
            raise InputError(
                f"--rerank_kr must be at least --kr_k1, which is {self.kr_k1}; got {self.rerank_kr}"
            )


PLAIN_RANKING = RankingOptions()  # neither expansion nor re-ranking


class Ranked(NamedTuple):
    """A ranking of the gallery for every query.

    Attributes:
        query_gallery: What was searched, expanded if that was asked for.
        ids: (n_query, depth) int64 rows of the gallery, best first, -1 where there is none.
        similarities: (n_query, depth) float32; not descending after re-ranking.
        found_ids: (n_query, depth) int64, the ids before re-ranking.
        n_reranked: First results that were re-ranked.
    """

    query_gallery: QueryGallery
    ids: np.ndarray
    similarities: np.ndarray
    found_ids: np.ndarray
    n_reranked: int


class Search(Protocol):
    """A way to find neighbors, and what can be measured of its ranking.

    Attributes:
        device: Where it computes: ``cpu``, ``cuda`` or ``cuda:n``.
    """

    @property
    def device(self) -> str: ...

    def finder(self, query_gallery: QueryGallery, depth: int) -> Find:
        """Return the search in a gallery; ``depth`` is the most results asked for."""
        ...

    def measure(self, ranked: Ranked, k: int) -> Measured:
        """Measure a ranking; ``k`` is that of the metrics @k."""
        ...


def rank_gallery(
    query_gallery: QueryGallery, k: int, ranking: RankingOptions, search: Search
) -> Ranked:
    """Rank the gallery for every query.

    Args:
        query_gallery: The queries and where to search.
        k: The k of the metrics; the ranking is as deep as they need.
        ranking: Expansion and re-ranking.
        search: How to find neighbors.
    """
    for name in ("qe", "dba"):
        if getattr(ranking, name) > query_gallery.n_gallery:
            raise InputError(
                f"--{name} must be at most {query_gallery.n_gallery}, the size of the gallery; "
                f"got {getattr(ranking, name)}"
            )
    if query_gallery.is_same_set and (ranking.dba or ranking.rerank_kr):
        raise InputError(
            "--dba and --rerank_kr compare images of the gallery, and each query of a "
            "class-disjoint split is one: it would help to find itself; leave them out"
        )
    if ranking.dba:
        query_gallery = expand_gallery(query_gallery, ranking, search.device)
    # To sort more results than there are is to sort them all.
    ranking = replace(ranking, rerank_kr=min(ranking.rerank_kr, query_gallery.n_gallery))
    depth = max(query_gallery.depth(k), ranking.rerank_kr)
    find_all, own = search.finder(query_gallery, depth), query_gallery.own_rows

    def find(some: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        return find_all(some, n) if own is None else without_own(*find_all(some, n + 1), own)

    queries, gallery = query_gallery.queries, query_gallery.gallery
    if ranking.qe:
        nearest = find(queries, ranking.qe)
        queries = query_expansion.expand(queries, gallery, *nearest, ranking.qe_alpha)
        query_gallery = replace(query_gallery, queries=queries)
    ids, similarities = find(queries, depth)
    found_ids = ids
    if ranking.rerank_kr:
        encoding = k_reciprocal.encode(
            gallery, query_gallery.is_allowed, ranking.kr_k1, ranking.kr_k2, search.device
        )
        ids = k_reciprocal.rerank(
            encoding, queries, gallery, found_ids, ranking.rerank_kr, ranking.kr_weight
        )
        similarities = k_reciprocal.similarities_of(queries, gallery, ids)
    return Ranked(query_gallery, ids, similarities, found_ids, ranking.rerank_kr)


def expand_gallery(
    query_gallery: QueryGallery, ranking: RankingOptions, device: str = "cpu"
) -> QueryGallery:
    """Add the nearest neighbors of each gallery image to it.

    Validation queries are not in the gallery: they stay as they are, and move no image.
    """
    gallery = query_expansion.augment_gallery(
        query_gallery.gallery, ranking.dba, ranking.qe_alpha, query_gallery.is_allowed, device
    )
    return replace(query_gallery, gallery=gallery)
