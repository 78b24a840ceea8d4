"""The image database in the files of a data directory, searched exactly."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data import layout, provenance
from retrieval.data.images import Images
from retrieval.photo_search.compatibility import check_comparable
from retrieval.photo_search.metadata import ImageTable, load_image_table
from retrieval.photo_search.preprocessing import Preprocessing
from retrieval.report.retrieval_results import images_of
from retrieval.search.embeddings import check_unit_rows
from retrieval.search.exact import nearest_neighbors
from retrieval.store.base import ALL, RankedRows
from retrieval.store.filters import Filter
from retrieval.store.rows import Metadata


@dataclass(frozen=True)
class DatabaseFiles:
    """Embeddings and metadata of a database. The id of an image is its Index, the row.

    Attributes:
        data_dir: The data directory.
        record: The record of the embeddings.
        preprocessing: How the images were prepared.
        gallery: (n_image, dim) float32, memory-mapped.
        table: The metadata of the images.
    """

    data_dir: Path
    record: dict[str, Any]
    preprocessing: Preprocessing
    gallery: np.ndarray
    table: ImageTable

    @classmethod
    def open(cls, data_dir: Path, database: str) -> "DatabaseFiles":
        """Open a database.

        Args:
            data_dir: The data directory.
            database: Name of the embeddings.

        Raises:
            InputError: A file is missing, files do not belong together, or photos cannot be
                compared with these embeddings.
        """
        gallery = layout.DATABASE.load(data_dir, database)
        record = provenance.load_record(data_dir, database) or {}
        preprocessing = Preprocessing.of_record(record, database, data_dir)
        check_comparable(record, database, data_dir)
        table = load_image_table(data_dir, record, database)
        check_unit_rows(gallery, database, data_dir)
        return cls(data_dir, record, preprocessing, gallery, table)

    @property
    def name(self) -> str:
        """Name of the csv that lists the images."""
        return self.table.source

    @cached_property
    def images(self) -> Images:
        """The images as the model saw them, (n_image, 3, side, side) uint8.

        Index it with rows, (n,) int64.
        """
        return images_of(self.data_dir, self.record, layout.IMAGE_MATRIX)

    def search(self, queries: np.ndarray, k: int, where: Filter = ALL) -> RankedRows:
        """Return the ``k`` most similar images that fit a filter, as `process_data.mips` does."""
        is_allowed = self.table.mask(where)
        ranked = nearest_neighbors(queries, self.gallery, k, is_allowed=is_allowed)
        return RankedRows(*ranked, is_exact=True)

    def metadata(self, ids: Iterable[int]) -> dict[int, Metadata]:
        """Return the metadata of some images, by id."""
        return {number: self.table.metadata(number) for number in ids}

    def embeddings(self, ids: Iterable[int]) -> dict[int, np.ndarray]:
        """Return the embeddings of some images, (dim,) float32, by id."""
        return {number: self.gallery[number] for number in ids}

    def facets(self) -> Counter[Metadata]:
        """Return how many images have each metadata."""
        return self.table.facets
