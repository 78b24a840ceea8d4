"""Look at what is retrieved: what the notebook and the contact sheet are made of."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from retrieval.data import layout, provenance
from retrieval.data.formats import Array, InputError
from retrieval.evaluation import metrics
from retrieval.evaluation.query_gallery import QueryGallery, load_task
from retrieval.report import result_sheet
from retrieval.search.nearest import nearest_neighbors


@dataclass(frozen=True)
class Ranking:
    """A search of all queries of a task, with the images to show it.

    Attributes:
        task: What was searched.
        ids: (n_query, k) int64 rows of the gallery, best first, -1 where there is none.
        similarities: (n_query, k) float32.
        query_images: (n, 3, side, side) uint8, memory-mapped; rows as in ``task.query_index``.
        gallery_images: (n_image, 3, side, side) uint8, memory-mapped.
        names: Class -> name.
    """

    task: QueryGallery
    ids: np.ndarray
    similarities: np.ndarray
    query_images: np.ndarray
    gallery_images: np.ndarray
    names: dict[int, str]

    @property
    def hits(self) -> np.ndarray:
        """(n_query, k) bool: which results are of their query's class."""
        return metrics.find_hits(self.ids, self.task.query_labels, self.task.gallery_labels)

    def average_precisions(self) -> pd.DataFrame:
        """Return one row per query: Index, Class, ClassName, and AP, as in map@k."""
        task = self.task
        k = self.ids.shape[1]
        return pd.DataFrame(
            {
                "Index": task.query_index,
                "Class": task.query_labels,
                "ClassName": [self.name(label) for label in task.query_labels],
                "AP": metrics.average_precision_at_k(self.hits, task.n_relevant, k),
            }
        )

    def best_and_worst(self, count: int) -> tuple[list[int], list[int]]:
        """Return the positions of the queries with the highest and the lowest AP."""
        order = np.argsort(self.average_precisions()["AP"].to_numpy(), kind="stable").tolist()
        return order[::-1][:count], order[:count]

    def name(self, label: int) -> str:
        return self.names.get(int(label), f"class {label}")

    def row(self, position: int, k: int) -> result_sheet.Row:
        """Return the pictures of the query at ``position`` and of its first ``k`` results."""
        ids = self.ids[position, :k]
        ids = ids[ids >= 0]
        label = self.task.query_labels[position]
        labels = self.task.gallery_labels[ids]
        return result_sheet.Row(
            query=self.query_images[self.task.query_index[position]],
            query_name=self.name(label),
            results=self.gallery_images[ids],
            names=[self.name(of_result) for of_result in labels],
            similarities=self.similarities[position],
            is_right=labels == label,
        )

    def sheet(self, positions: Iterable[int], k: int, title: str = "") -> Image.Image:
        """Draw the queries at ``positions`` with their first ``k`` results."""
        return result_sheet.contact_sheet([self.row(position, k) for position in positions], title)


def load_ranking(data_dir: Path) -> Ranking:
    """Return the last evaluation, from ``mAP.json``, ``neighbors.npy`` and ``similarities.npy``."""
    options = layout.METRICS.load(data_dir)["options"]
    names = ("is_valid", "to_test", "test_matrix", "database")
    task = load_task(data_dir, **{name: options.get(name) for name in names})
    ids, similarities = layout.NEIGHBORS.load(data_dir), layout.SIMILARITIES.load(data_dir)
    if len(ids) != len(task.queries) or ids.shape != similarities.shape:
        raise InputError(
            f"{layout.NEIGHBORS.at(data_dir)} does not fit the queries: the masks or the split "
            f"have changed since; search again: {layout.NEIGHBORS.made_by}"
        )
    return with_images(data_dir, task, ids, similarities, options)


def search_ranking(data_dir: Path, is_valid: bool, k: int) -> Ranking:
    """Search all queries exactly, keeping ``k`` results of each; nothing is written."""
    task = load_task(data_dir, is_valid)
    ids, similarities = nearest_neighbors(task.queries, task.gallery, k, is_allowed=task.is_allowed)
    return with_images(data_dir, task, ids, similarities)


def show_retrieved_query(data_dir: Path, index: int, is_valid: bool, k: int) -> Image.Image:
    """Search with one image, exactly, and draw it with its first ``k`` results.

    Args:
        data_dir: The data directory.
        index: Row of ``imageset.npy`` with ``is_valid``, else of ``test_image.npy``. Any image of
            the former may be asked for; it is not retrieved for itself.
        is_valid: Which of the two.
        k: Results to draw.
    """
    task = load_task(data_dir, is_valid)
    if is_valid:
        embeddings, labels = task.gallery, task.gallery_labels
    else:
        embeddings = layout.TEST_DATABASE.load(data_dir)
        labels = np.full(len(embeddings), -1)  # of minor classes: nothing is right
        chosen = layout.TEST_MASKED.load(data_dir)
        labels[chosen[:, 0]] = chosen[:, 1]
    if not 0 <= index < len(embeddings):
        raise InputError(f"index must be from 0 to {len(embeddings) - 1}; got {index}")
    is_allowed = task.is_allowed.copy()
    if is_valid:
        is_allowed[index] = False
    query = embeddings[[index]]
    ids, similarities = nearest_neighbors(query, task.gallery, k, is_allowed=is_allowed)
    alone = replace(
        task,
        queries=query,
        query_index=np.array([index]),
        query_labels=labels[[index]],
        is_allowed=is_allowed,
    )
    return with_images(data_dir, alone, ids, similarities).sheet([0], k)


def class_overlap(data_dir: Path, is_valid: bool) -> pd.DataFrame:
    """Return how many queries and gallery images each class has: Class, ClassName, two counts."""
    task, names = load_task(data_dir, is_valid), load_names(data_dir)
    counts = pd.DataFrame(
        {
            "n_query": pd.Series(task.query_labels).value_counts(),
            "n_gallery": pd.Series(task.gallery_labels[task.is_allowed]).value_counts(),
        }
    )
    counts = counts.fillna(0).astype("int64").rename_axis("Class").reset_index()
    counts.insert(1, "ClassName", [names.get(label, "") for label in counts["Class"]])
    return counts


def load_names(data_dir: Path) -> dict[int, str]:
    """Return the name of each class; nothing where ``class_names.csv`` is absent."""
    if not layout.CLASS_NAMES.at(data_dir).exists():
        return {}
    table = layout.CLASS_NAMES.load(data_dir)
    return dict(zip(table["Class"].tolist(), table["ClassName"].astype(str), strict=True))


def with_images(
    data_dir: Path,
    task: QueryGallery,
    ids: np.ndarray,
    similarities: np.ndarray,
    options: dict[str, Any] | None = None,
) -> Ranking:
    """Return a ranking with the images that its embeddings were made from.

    Args:
        data_dir: The data directory.
        task: What was searched.
        ids: (n_query, k) int64.
        similarities: (n_query, k) float32.
        options: Of the search, whose ``database`` and ``test_matrix`` name the embeddings where
            they are not the usual ones.
    """
    options = options or {}
    database = options.get("database") or layout.DATABASE.name
    gallery_images = _images_of(data_dir, database, layout.IMAGE_MATRIX)
    query_images = gallery_images
    if task.name == "test":
        matrix = options.get("test_matrix") or layout.TEST_DATABASE.name
        query_images = _images_of(data_dir, matrix, layout.TEST_MATRIX)
    return Ranking(task, ids, similarities, query_images, gallery_images, load_names(data_dir))


def _images_of(data_dir: Path, embeddings_name: str, usual: Array) -> np.ndarray:
    """Return the image matrix that embeddings were made from."""
    record = provenance.load(data_dir, embeddings_name)
    return usual.load(data_dir, record["images"] if record else None)
