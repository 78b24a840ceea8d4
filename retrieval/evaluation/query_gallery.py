"""What is searched, and in what: the same for every search.

Validation: the queries are the validation images, rows of the database themselves; the gallery is
the database without any validation image, asked for or not, and without minor classes. Test: the
queries are the test images that are not of minor classes; the gallery is the database without
minor classes.
Queries without a relevant image in the gallery are left out and counted.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrieval.data import image_index, layout, provenance
from retrieval.data.formats import InputError
from retrieval.evaluation import metrics
from retrieval.search import embeddings


@dataclass(frozen=True)
class QueryGallery:
    """Queries to be searched in a gallery.

    Attributes:
        name: ``valid`` or ``test``.
        queries: (n_query, dim) float32.
        query_index: (n_query,) int64, their rows in the query matrix.
        query_labels: (n_query,) int64.
        gallery: (n_image, dim) float32, the whole database, memory-mapped.
        gallery_labels: (n_image,) int64.
        is_allowed: (n_image,) bool, the images that may be retrieved.
        n_left_out: Queries left out for want of a relevant image.
        files: What it was read from, with its paths.
    """

    name: str
    queries: np.ndarray
    query_index: np.ndarray
    query_labels: np.ndarray
    gallery: np.ndarray
    gallery_labels: np.ndarray
    is_allowed: np.ndarray
    n_left_out: int
    files: tuple[Path, ...] = ()

    @property
    def n_relevant(self) -> np.ndarray:
        """(n_query,) int64: allowed images of each query's class."""
        return metrics.count_relevant(self.query_labels, self.gallery_labels[self.is_allowed])

    def depth(self, k: int) -> int:
        """Return how deep a ranking must be for all metrics but ``map``."""
        return max(k, 10, int(self.n_relevant.max()))

    def check_k(self, k: int) -> None:
        """Refuse a ``k`` that the gallery cannot serve."""
        n_gallery = int(self.is_allowed.sum())
        if not 1 <= k <= n_gallery:
            raise InputError(f"--k must be from 1 to {n_gallery}, the size of the gallery; got {k}")

    def with_embeddings(self, queries: np.ndarray, gallery: np.ndarray) -> "QueryGallery":
        """Return the same task on other embeddings of the same images."""
        return replace(self, queries=queries, gallery=gallery)


def load_task(
    data_dir: Path,
    is_valid: bool = False,
    to_test: str | None = None,
    test_matrix: str | None = None,
    database: str | None = None,
) -> QueryGallery:
    """Read the queries, the gallery and the masks.

    Args:
        data_dir: The data directory.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; None takes ``valid_for_test.npy`` or
            ``test_masked.npy``.
        test_matrix: Embeddings of the queries; None takes the database's or ``tdatabase.npy``.
        database: Embeddings of the database; None takes ``database.npy``.
    """
    query_file = layout.VALID_QUERIES if is_valid else layout.TEST_MASKED
    matrix_file = layout.DATABASE if is_valid else layout.TEST_DATABASE
    database = database or layout.DATABASE.name
    query_name = to_test or query_file.name
    matrix_name = test_matrix or (database if is_valid else matrix_file.name)
    chosen = np.array(query_file.load(data_dir, query_name))
    rows = matrix_file.load(data_dir, matrix_name)
    gallery = layout.DATABASE.load(data_dir, database)
    labels = image_index.load_labels(data_dir)
    is_allowed = layout.GALLERY_MASK.load(data_dir)[0] == 1
    _check_sizes(database, gallery, labels, is_allowed, rows)
    _check_queries(chosen[:, 0], len(rows), query_name, matrix_name)
    if is_valid:
        is_allowed = is_allowed.copy()
        split = layout.VALID_QUERIES.load(data_dir)
        for name, pairs in ((query_name, chosen), (layout.VALID_QUERIES.name, split)):
            image_index.check_rows(pairs[:, 0], len(gallery), name, database)
            is_allowed[pairs[:, 0]] = False
    else:
        _check_other_images(data_dir, database, matrix_name)
    embeddings.check(gallery, database)
    if matrix_name != database:
        provenance.check_same_model(data_dir, database, matrix_name)
        embeddings.check(rows, matrix_name)
    is_relevant = np.isin(chosen[:, 1], labels[is_allowed])
    if not is_relevant.any():
        raise InputError(f"no query of {query_name} has an image of its class in the gallery")
    index, query_labels = chosen[is_relevant].T
    return QueryGallery(
        name="valid" if is_valid else "test",
        queries=rows[index],
        query_index=index,
        query_labels=query_labels,
        gallery=gallery,
        gallery_labels=labels,
        is_allowed=is_allowed,
        n_left_out=int((~is_relevant).sum()),
        files=(
            layout.DATABASE.at(data_dir, database),
            matrix_file.at(data_dir, matrix_name),
            query_file.at(data_dir, query_name),
            layout.GALLERY_MASK.at(data_dir),
            layout.CLASS_IMAGES.at(data_dir),
        ),
    )


def _check_queries(index: np.ndarray, n_row: int, name: str, matrix_name: str) -> None:
    image_index.check_rows(index, n_row, name, matrix_name)
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"{name} lists the image {values[counts > 1][0]} more than once; each query must be "
            "there once"
        )


def _check_other_images(data_dir: Path, database: str, matrix_name: str) -> None:
    """Refuse test queries that are the gallery's own images: each would find itself."""
    paths = [layout.DATABASE.at(data_dir, name) for name in (database, matrix_name)]
    records = [provenance.load(data_dir, name) or {} for name in (database, matrix_name)]
    images = [record.get("images_sha256") for record in records]
    if paths[0].samefile(paths[1]) or (images[0] is not None and images[0] == images[1]):
        raise InputError(
            f"{matrix_name} holds the images of {database}, which would find themselves; take "
            "them out of the gallery with --isValid=1, or name other queries with --test_matrix"
        )


def _check_sizes(
    name: str,
    gallery: np.ndarray,
    labels: np.ndarray,
    is_allowed: np.ndarray,
    queries: np.ndarray,
) -> None:
    if not len(gallery) == len(labels) == len(is_allowed):
        raise InputError(
            f"{name} has {len(gallery)} rows, the split {len(labels)} images and "
            f"{layout.GALLERY_MASK.name} {len(is_allowed)}: they were made at different times; "
            f"run again: {layout.GALLERY_MASK.made_by}"
        )
    if gallery.shape[1] != queries.shape[1]:
        raise InputError(
            f"the queries have {queries.shape[1]} dimensions and {name} "
            f"{gallery.shape[1]}: encode both with the same checkpoint"
        )
