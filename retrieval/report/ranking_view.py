"""Show rankings in a notebook; nothing is written."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation.inputs import load_ground_truth, load_query_gallery
from retrieval.report.retrieval_results import RetrievalResults, load_class_names, with_images
from retrieval.search.exact import nearest_neighbors

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image


def search_ranking(data_dir: Path, is_valid: bool, k: int) -> RetrievalResults:
    """Search all queries exactly, keeping ``k`` results of each."""
    found = load_query_gallery(data_dir, is_valid)
    ids, similarities = nearest_neighbors(
        found.queries, found.gallery, k, is_allowed=found.is_allowed
    )
    return with_images(data_dir, found, ids, similarities)


def show_retrieved_query(data_dir: Path, index: int, is_valid: bool, k: int) -> "Image.Image":
    """Search with one image, exactly, and draw it with its first ``k`` results.

    Args:
        data_dir: The data directory.
        index: Row of ``imageset.npy`` with ``is_valid``, else of ``test_image.npy``. Any image of
            the former may be chosen; it does not find itself.
        is_valid: Which of the two.
        k: Results to draw.
    """
    query_gallery = load_query_gallery(data_dir, is_valid)
    if is_valid:
        embeddings, labels = query_gallery.gallery, query_gallery.gallery_labels
    else:
        embeddings = layout.TEST_DATABASE.load(data_dir)
        labels = np.full(len(embeddings), -1)  # of minor classes: nothing is right
        chosen = layout.TEST_MASKED.load(data_dir)
        labels[chosen[:, 0]] = chosen[:, 1]
    if not 0 <= index < len(embeddings):
        raise InputError(f"index must be from 0 to {len(embeddings) - 1}; got {index}")
    is_allowed = query_gallery.is_allowed.copy()
    if is_valid:
        is_allowed[index] = False
    query = embeddings[[index]]
    ids, similarities = nearest_neighbors(query, query_gallery.gallery, k, is_allowed=is_allowed)
    alone = replace(
        query_gallery,
        queries=query,
        query_index=np.array([index]),
        query_labels=labels[[index]],
        is_allowed=is_allowed,
        is_same_set=False,  # the query has left the gallery above
    )
    return with_images(data_dir, alone, ids, similarities).sheet([0], k)


def class_overlap(data_dir: Path, is_valid: bool) -> "pd.DataFrame":
    """Return how many queries and gallery images each class has: Class, ClassName, two counts."""
    import pandas as pd

    truth, names = load_ground_truth(data_dir, is_valid), load_class_names(data_dir)
    counts = pd.DataFrame(
        {
            "n_query": pd.Series(truth.query_labels).value_counts(),
            "n_gallery": pd.Series(truth.gallery_labels[truth.is_allowed]).value_counts(),
        }
    )
    counts = counts.fillna(0).astype("int64").rename_axis("Class").reset_index()
    counts.insert(1, "ClassName", [names.get(label, "") for label in counts["Class"]])
    return counts
