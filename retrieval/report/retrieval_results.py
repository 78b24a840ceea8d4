"""Results of a search with the images to show them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import image_index, layout, provenance
from retrieval.data.decoded_photos import IndexedPhotos
from retrieval.data.formats import Array, InputError
from retrieval.data.images import Images
from retrieval.evaluation import metrics
from retrieval.evaluation.inputs import load_ground_truth
from retrieval.evaluation.query_gallery import GroundTruth, QueryGallery
from retrieval.report import result_sheet

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image


@dataclass(frozen=True)
class RetrievalResults:
    """The results of each query, with the images to show them.

    Attributes:
        truth: The queries and what is relevant.
        ids: (n_query, k) int64 rows of the gallery, best first, -1 where there is none.
        similarities: (n_query, k) float32.
        query_images: (n, 3, side, side) uint8, read when needed; rows as in ``truth.query_index``.
        gallery_images: (n_image, 3, side, side) uint8, read when needed.
        names: Class -> name.
    """

    truth: GroundTruth
    ids: np.ndarray
    similarities: np.ndarray
    query_images: Images
    gallery_images: Images
    names: dict[int, str]

    @property
    def hits(self) -> np.ndarray:
        """(n_query, k) bool: which results are of their query's class."""
        return metrics.find_hits(self.ids, self.truth.query_labels, self.truth.gallery_labels)

    @property
    def precisions(self) -> np.ndarray:
        """(n_query,) float64: the average precision of each query, as in map@k."""
        k = self.ids.shape[1]
        return metrics.average_precision_at_k(self.hits, self.truth.n_relevant, k)

    def average_precisions(self) -> "pd.DataFrame":
        """Return one row per query: Index, Class, ClassName, and AP, as in map@k."""
        import pandas as pd

        return pd.DataFrame(
            {
                "Index": self.truth.query_index,
                "Class": self.truth.query_labels,
                "ClassName": [self.name(label) for label in self.truth.query_labels],
                "AP": self.precisions,
            }
        )

    def best_and_worst(self, count: int) -> tuple[list[int], list[int]]:
        """Return the positions of the queries with the highest and the lowest AP."""
        order = np.argsort(self.precisions, kind="stable").tolist()
        return order[::-1][:count], order[:count]

    def name(self, label: int) -> str:
        return self.names.get(int(label), f"class {label}")

    def row(self, position: int, k: int) -> result_sheet.SheetRow:
        """Return the pictures of the query at ``position`` and of its first ``k`` results."""
        ids = self.ids[position, :k]
        ids = ids[ids >= 0]
        label = self.truth.query_labels[position]
        labels = self.truth.gallery_labels[ids]
        return result_sheet.SheetRow(
            query=self.query_images[self.truth.query_index[[position]]][0],
            query_name=self.name(label),
            results=self.gallery_images[ids],
            names=[self.name(of_result) for of_result in labels],
            similarities=self.similarities[position],
            is_right=labels == label,
        )

    def sheet(self, positions: Iterable[int], k: int, title: str = "") -> "Image.Image":
        """Draw the queries at ``positions`` with their first ``k`` results."""
        return result_sheet.contact_sheet([self.row(position, k) for position in positions], title)


def load_last_results(data_dir: Path, record: dict[str, Any]) -> RetrievalResults:
    """Return the results of the last evaluation, from ``neighbors.npy`` and ``similarities.npy``.

    Args:
        data_dir: The data directory.
        record: The content of ``mAP.json``.
    """
    options = record["options"]
    truth = load_ground_truth(data_dir, options["is_valid"], options["to_test"])
    arrays = {file.name: file.load(data_dir) for file in (layout.NEIGHBORS, layout.SIMILARITIES)}
    metrics = layout.METRICS
    provenance.check_members(record, metrics.at(data_dir), metrics.made_by(data_dir), arrays)
    ids, similarities = arrays.values()
    if len(ids) != len(truth.query_index) or ids.shape != similarities.shape:
        raise InputError(
            f"{layout.NEIGHBORS.at(data_dir)} does not fit the queries: the masks or the split "
            f"have changed since; search again: {layout.NEIGHBORS.made_by(data_dir)}"
        )
    database = options["database"] or layout.DATABASE.name
    usual = database if truth.name == "valid" else layout.TEST_DATABASE.name
    matrix = options["test_matrix"] or usual
    records = {name: provenance.load_record(data_dir, name) for name in {database, matrix}}
    return _with_images(data_dir, truth, ids, similarities, records[matrix], records[database])


def with_images(
    data_dir: Path, query_gallery: QueryGallery, ids: np.ndarray, similarities: np.ndarray
) -> RetrievalResults:
    """Return results with the images that the embeddings were made from.

    Args:
        data_dir: The data directory.
        query_gallery: What was searched.
        ids: (n_query, k) int64.
        similarities: (n_query, k) float32.
    """
    records = query_gallery.query_record, query_gallery.gallery_record
    return _with_images(data_dir, query_gallery, ids, similarities, *records)


def load_class_names(data_dir: Path) -> dict[int, str]:
    """Return the name of each class; empty without ``class_names.csv``."""
    if not layout.CLASS_NAMES.at(data_dir).exists():
        return {}
    return {row["Class"]: row["ClassName"] for row in layout.CLASS_NAMES.load_rows(data_dir)}


def _with_images(
    data_dir: Path,
    truth: GroundTruth,
    ids: np.ndarray,
    similarities: np.ndarray,
    query_record: dict[str, Any] | None,
    gallery_record: dict[str, Any] | None,
) -> RetrievalResults:
    gallery_images = query_images = images_of(data_dir, gallery_record, layout.IMAGE_MATRIX)
    if truth.name == "test":
        query_images = images_of(data_dir, query_record, layout.TEST_MATRIX)
    counts = len(query_images), len(gallery_images)
    for index, n_image, file in zip(
        (truth.query_index, ids[ids >= 0]),
        counts,
        (truth.query_file, layout.NEIGHBORS.name),
        strict=True,
    ):
        image_index.check_rows(index, n_image, file, "the image matrix")
    names = load_class_names(data_dir)
    return RetrievalResults(truth, ids, similarities, query_images, gallery_images, names)


def images_of(data_dir: Path, record: dict[str, Any] | None, usual: Array) -> Images:
    """Return the images that embeddings were made from: a matrix, or photos."""
    if record and record.get("images") is None and record.get("preparation"):
        return IndexedPhotos.of_record(data_dir, record["preparation"]).images
    name = record.get("images", usual.name) if record else usual.name
    # Refuses a matrix that is not its record's.
    matrix = provenance.load_record(data_dir, name, usual) or {}
    lists = [of.get("index_sha256") for of in (matrix, record or {})]
    if None not in lists and lists[0] != lists[1]:
        raise InputError(
            f"{name} holds other images than the embeddings were made from; encode them again: "
            f"{layout.DATABASE.made_by(data_dir)}"
        )
    return usual.load(data_dir, name)
