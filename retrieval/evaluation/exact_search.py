"""Exact search as an evaluation uses it: neighbors, and the ranks of all relevant images."""

from dataclasses import dataclass

import numpy as np

from retrieval.evaluation import metrics
from retrieval.evaluation.metrics import Measured, measure
from retrieval.evaluation.pipeline import Find, Ranked
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.evaluation.relevant_ranks import relevant_ranks, with_reordered
from retrieval.search.exact import nearest_neighbors


@dataclass(frozen=True)
class ExactSearch:
    """Rank by inner product; torchrun's processes, if there are several, share the gallery.

    Attributes:
        batch_size: Queries scored at once.
        device: Where to compute: ``cpu``, ``cuda`` or ``cuda:n``.
    """

    batch_size: int = 1024
    device: str = "cpu"

    def finder(self, query_gallery: QueryGallery, depth: int) -> Find:
        """Return the search in a gallery; the exact search needs no ``depth`` beforehand."""

        def find(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            return nearest_neighbors(
                queries,
                query_gallery.gallery,
                k,
                is_allowed=query_gallery.is_allowed,
                batch_size=self.batch_size,
                device=self.device,
                is_shared=True,
            )

        return find

    def relevant_ranks(self, query_gallery: QueryGallery) -> list[np.ndarray]:
        """Return the ranks of all relevant images of each query."""
        return relevant_ranks(
            query_gallery.queries,
            query_gallery.query_labels,
            query_gallery.gallery,
            query_gallery.gallery_labels,
            is_allowed=query_gallery.is_allowed,
            own_rows=query_gallery.own_rows,
            batch_size=self.batch_size,
            device=self.device,
            is_shared=True,
        )

    def measure(self, ranked: Ranked, k: int) -> Measured:
        """Measure a ranking, metrics of the whole ranking included; ``k`` is that of metrics @k."""
        query_gallery, ids = ranked.query_gallery, ranked.ids
        ranks = self.relevant_ranks(query_gallery)
        if ranked.n_reranked:
            labels = query_gallery.query_labels, query_gallery.gallery_labels
            hits = metrics.find_hits(ids[:, : ranked.n_reranked], *labels)
            ranks = with_reordered(ranks, hits)
        return measure(query_gallery, ids, k, ranks)
