"""Queries and gallery of an evaluation, the same for every search, and what is relevant.

Validation: the queries are the validation images, which are rows of the database; the gallery is
the database without validation images and minor classes. With a class-disjoint split, the queries
are all images of the classes that were not trained on; each is searched among the others. Test: the
queries are the test images without minor classes; the gallery is the database without minor
classes.
Queries without a relevant image in the gallery are left out and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data.formats import InputError
from retrieval.data.provenance import InputFiles
from retrieval.evaluation import metrics


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The queries, what may be retrieved for them, and what is relevant.

    Attributes:
        name: ``valid`` or ``test``.
        query_index: (n_query,) int64, the queries' rows in their matrix.
        query_labels: (n_query,) int64.
        gallery_labels: (n_image,) int64, of the whole database.
        is_allowed: (n_image,) bool, the images that may be retrieved.
        n_left_out: Queries left out, as the gallery has no relevant image for them.
        is_same_set: Whether the queries are images of the gallery, each searched among the others.
        query_file: Name of the file that lists the queries.
        inputs: The files that all this comes from.
        split: The record of the split.
    """

    name: str
    query_index: np.ndarray
    query_labels: np.ndarray
    gallery_labels: np.ndarray
    is_allowed: np.ndarray
    n_left_out: int
    is_same_set: bool = False
    query_file: str = ""
    inputs: InputFiles = field(default_factory=lambda: InputFiles(Path(), ()))
    split: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def n_relevant(self) -> np.ndarray:
        """(n_query,) int64: allowed images of each query's class, without the query itself."""
        labels = self.gallery_labels[self.is_allowed]
        return metrics.count_relevant(self.query_labels, labels) - self.is_same_set

    @cached_property
    def n_gallery(self) -> int:
        """Images that may be retrieved for a query."""
        return int(self.is_allowed.sum()) - self.is_same_set

    @property
    def own_rows(self) -> np.ndarray | None:
        """Each query's own row in the gallery, (n_query,) int64; None if it has none."""
        return self.query_index if self.is_same_set else None

    def depth(self, k: int) -> int:
        """Return how many results all metrics but ``map`` and ``minp`` need."""
        return max(k, 10, int(self.n_relevant.max()))

    def check_k(self, k: int) -> None:
        """Refuse a ``k`` beyond the size of the gallery."""
        if not 1 <= k <= self.n_gallery:
            raise InputError(
                f"--k must be from 1 to {self.n_gallery}, the size of the gallery; got {k}"
            )

    def with_embeddings(
        self,
        queries: np.ndarray,
        gallery: np.ndarray,
        paths: Sequence[Path] = (),
        query_record: dict[str, Any] | None = None,
        gallery_record: dict[str, Any] | None = None,
    ) -> "QueryGallery":
        """Return queries and gallery with embeddings.

        Args:
            queries: (n_query, dim) float32.
            gallery: (n_image, dim) float32.
            paths: The files of the gallery's and the queries' embeddings.
            query_record: Origin of the queries' embeddings.
            gallery_record: Origin of the gallery's.
        """
        kept = {name: getattr(self, name) for name in GroundTruth.__dataclass_fields__}
        kept["inputs"] = InputFiles(self.inputs.data_dir, (*paths, *self.inputs.paths))
        return QueryGallery(
            **kept,
            queries=queries,
            gallery=gallery,
            query_record=query_record or {},
            gallery_record=gallery_record or {},
        )


@dataclass(frozen=True, kw_only=True)
class QueryGallery(GroundTruth):
    """Queries and gallery with their embeddings.

    Attributes:
        queries: (n_query, dim) float32.
        gallery: (n_image, dim) float32, the whole database, memory-mapped.
        query_record: Origin of the queries' embeddings; empty if it was not recorded.
        gallery_record: The same of the database's.
    """

    queries: np.ndarray
    gallery: np.ndarray
    query_record: dict[str, Any] = field(default_factory=dict)
    gallery_record: dict[str, Any] = field(default_factory=dict)
