"""The switches of a search that make use of neighbors: --dba, --qe, --rerank_kr.

Each image of the gallery may be moved to its neighbors before the search (dba), each query to its
first results and searched again (qe), and the first results of each query be put into another
order (rerank_kr). None looks at a label, and no query at another query.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from retrieval.data.formats import InputError
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.search import k_reciprocal, query_expansion
from retrieval.search.nearest import nearest_neighbors

# (queries, images to find of each) -> ids, similarities, as of search.nearest
Find = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Refinement:
    """How a search is refined; 0 images switch a step off.

    Attributes:
        qe: First results that a query is expanded with.
        qe_alpha: Power of the similarities that weigh them, in qe and dba.
        dba: Neighbors that each image of the gallery is expanded with.
        rerank_kr: First results that are put into another order.
        kr_k1: Neighbors that may be reciprocal.
        kr_k2: Images whose encodings are averaged.
        kr_weight: Of the distance, from 0 to 1, beside that of the neighbors.
    """

    qe: int
    qe_alpha: float
    dba: int
    rerank_kr: int
    kr_k1: int
    kr_k2: int
    kr_weight: float

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Refinement":
        """Take the refinement out of the options of a stage, and check it."""
        chosen = cls(**{name: options[name] for name in cls.__dataclass_fields__})
        if min(chosen.qe, chosen.dba, chosen.rerank_kr) < 0 or chosen.qe_alpha < 0:
            raise InputError("--qe, --qe_alpha, --dba and --rerank_kr must be at least 0")
        if not 1 <= chosen.kr_k2 <= chosen.kr_k1 or not 0 <= chosen.kr_weight <= 1:
            raise InputError("--kr_k2 must be from 1 to --kr_k1, --kr_weight from 0 to 1")
        if 0 < chosen.rerank_kr < chosen.kr_k1:
            raise InputError(
                f"--rerank_kr must be at least --kr_k1, which is {chosen.kr_k1}; "
                f"got {chosen.rerank_kr}"
            )
        return chosen

    def depth(self, task: QueryGallery, k: int) -> int:
        """Return how many results of each query it takes."""
        return max(task.depth(k), self.rerank_kr)

    def with_gallery(self, task: QueryGallery, device: torch.device | None = None) -> QueryGallery:
        """Return the task with each image of the gallery moved to its neighbors.

        Validation queries are no part of the gallery: they stay as they are, and move nothing.
        """
        if not self.dba:
            return task
        gallery = query_expansion.augment_gallery(
            task.gallery, self.dba, self.qe_alpha, task.is_allowed, device
        )
        return task.with_embeddings(task.queries, gallery)

    def with_queries(self, task: QueryGallery, find: Find) -> QueryGallery:
        """Return the task with each query moved to its first results."""
        if not self.qe:
            return task
        ids, similarities = find(task.queries, self.qe)
        queries = query_expansion.expand(
            task.queries, task.gallery, ids, similarities, self.qe_alpha
        )
        return task.with_embeddings(queries, task.gallery)

    def rerank(
        self, task: QueryGallery, ids: np.ndarray, device: torch.device | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Put the first results into another order.

        Args:
            task: What was searched.
            ids: (n_query, depth) int64, of a depth of at least ``rerank_kr``.
            device: Where to compute the neighbors of the gallery.

        Returns:
            ids: (n_query, depth) int64.
            similarities: (n_query, depth) float32 inner products, no longer descending.
        """
        encoding = k_reciprocal.encode(
            task.gallery, task.is_allowed, self.kr_k1, self.kr_k2, device
        )
        reranked = k_reciprocal.rerank(
            encoding, task.queries, task.gallery, ids, self.rerank_kr, self.kr_weight
        )
        return reranked, k_reciprocal.similarities_of(task.queries, task.gallery, reranked)


def finder(task: QueryGallery, batch_size: int, device: torch.device) -> Find:
    """Return the exact search of a task's gallery, which the processes of torchrun share."""

    def find(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return nearest_neighbors(
            queries,
            task.gallery,
            k,
            is_allowed=task.is_allowed,
            batch_size=batch_size,
            device=device,
            is_shared=True,
        )

    return find
