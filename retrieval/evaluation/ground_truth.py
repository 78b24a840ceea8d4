"""Ground truth of an evaluation, the same for every search: queries, gallery, what is relevant.

Validation: the queries are the validation images, which are rows of the database; the gallery is
the database without validation images and minor classes. With a class-disjoint split, the queries
are all images of the classes that were not trained on; each is searched among the others. Test: the
queries are the test images without minor classes; the gallery is the database without minor
classes.
Queries without a relevant image in the gallery are left out and counted.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval.data import image_index, layout, provenance
from retrieval.data.formats import InputError
from retrieval.data.provenance import InputFiles
from retrieval.data.split import load_split_record
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


def load_ground_truth(
    data_dir: Path, is_valid: bool = False, to_test: str | None = None
) -> GroundTruth:
    """Read the list of queries, the labels and the masks.

    Args:
        data_dir: The data directory.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; None takes ``valid_for_test.npy`` or
            ``test_masked.npy``.

    Raises:
        InputError: A file is missing, files do not belong together, or no query has a relevant
            image.
    """
    query_list = layout.VALID_QUERIES if is_valid else layout.TEST_MASKED
    query_file = to_test or query_list.name
    if not is_valid and query_file == layout.VALID_QUERIES.name:
        raise InputError(
            f"{query_file} lists images of the database, which would find themselves; take them "
            "out of the gallery with --isValid=1"
        )
    if query_file == layout.TEST_MASKED.name and not query_list.at(data_dir).exists():
        raise InputError(
            f"{query_list.at(data_dir)} is missing; without test images, evaluate with "
            f"--isValid=1; with them, make it with: {query_list.made_by(data_dir)}"
        )
    chosen = np.array(query_list.load(data_dir, query_file))
    labels = image_index.load_labels(data_dir)
    is_allowed = layout.GALLERY_MASK.load(data_dir)[0] == 1
    if len(labels) != len(is_allowed):
        raise InputError(
            f"the split has {len(labels)} images and {layout.GALLERY_MASK.name} "
            f"{len(is_allowed)}: run again: {layout.GALLERY_MASK.made_by(data_dir)}"
        )
    split, masks = load_split_record(data_dir), layout.MASKS_RECORD.load(data_dir)
    if masks["split_sha256"] != split["sha256"]:
        raise InputError(
            "the masks were made for another split; run again: "
            f"{layout.GALLERY_MASK.made_by(data_dir)}"
        )
    _check_labels(data_dir, chosen, query_file, labels if is_valid else None, masks["tindex"])
    is_same_set = is_valid and split["protocol"] == "classes"
    if is_valid:
        is_usual = query_file == query_list.name
        all_queries = chosen if is_usual else layout.VALID_QUERIES.load(data_dir)
        for name, pairs in ((query_file, chosen), (query_list.name, all_queries)):
            image_index.check_rows(pairs[:, 0], len(labels), name, layout.CLASS_IMAGES.name)
            is_allowed[pairs[:, 0]] = is_same_set
    counts = metrics.count_relevant(chosen[:, 1], labels[is_allowed])
    is_relevant = counts > is_same_set
    if not is_relevant.any():
        raise InputError(f"no query of {query_file} has an image of its class in the gallery")
    index, query_labels = chosen[is_relevant].T
    files = (query_list.at(data_dir, query_file), *(
        file.at(data_dir) for file in (layout.GALLERY_MASK, layout.CLASS_IMAGES)
    ))  # fmt: skip
    return GroundTruth(
        name="valid" if is_valid else "test",
        query_index=index,
        query_labels=query_labels,
        gallery_labels=labels,
        is_allowed=is_allowed,
        n_left_out=int((~is_relevant).sum()),
        is_same_set=is_same_set,
        query_file=provenance.input_name(data_dir, files[0]),
        inputs=InputFiles(data_dir, files),
    )


def _check_labels(
    data_dir: Path,
    chosen: np.ndarray,
    name: str,
    labels: np.ndarray | None,
    tindex: str | None,
) -> None:
    """Refuse queries whose classes differ from those in the list that they were taken from.

    Args:
        data_dir: The data directory.
        chosen: (n_query, 2) int64, Index and Class.
        name: Its file, for the message.
        labels: (n_image,) int64 of the database, for queries that are its rows; None: test queries.
        tindex: Index csv of the test images; None takes ``test.npy``, if there is one.
    """
    image_index.check_once(chosen[:, 0], name)
    listed, source = labels, layout.CLASS_IMAGES.name
    if listed is None:
        source = tindex or layout.TEST_QUERIES.name
        if not layout.TEST_QUERIES.at(data_dir, source).exists():
            return
        listed = image_index.load_test_labels(data_dir, tindex)
    image_index.check_listed(
        chosen,
        listed,
        name,
        source,
        f"name the queries with --to_test, or run again: {layout.GALLERY_MASK.made_by(data_dir)}",
    )


def check_n_image(truth: GroundTruth, name: str, n_row: int) -> None:
    """Refuse a database, or an image matrix, that does not have a row for each image."""
    n_image = len(truth.gallery_labels)
    if n_row != n_image:
        raise InputError(
            f"{name} has {n_row} rows, but the split and {layout.GALLERY_MASK.name} have "
            f"{n_image} images: they were made at different times; run again: "
            f"{layout.GALLERY_MASK.made_by(truth.inputs.data_dir)}"
        )
