"""The training data: images, split and tuples, checked to belong together."""

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval.data import image_index, layout, provenance, split
from retrieval.data.formats import Array, InputError
from retrieval.data.images import Images

log = logging.getLogger(__name__)

CHECK_ROWS = 1_000_000
ALWAYS_READ = (
    layout.IMAGE_MATRIX,
    layout.CLASS_IMAGES,
    layout.VALID_PAIRS,
    layout.VALID_QUERIES,
    layout.MINOR_CLASSES,
)
TUPLES = (layout.TRAIN, layout.TRAIN_REVERSED)  # of even and of odd epochs


def has_split(data_dir: Path) -> bool:
    """Return whether make_train_valid has split the images of a data directory."""
    return layout.VALID_QUERIES.at(data_dir).exists()


def check_files(data_dir: Path) -> None:
    """Refuse a data directory that lacks a file of the training data."""
    for file in ALWAYS_READ:
        file.found(data_dir)


@dataclass(frozen=True)
class TrainingData:
    """The images and the split.

    Attributes:
        images: (n_image, 3, side, side) uint8, memory-mapped; camera images follow the others.
        tuples: The tuples of even and of odd epochs, (n_pair, 2 + neg_count) int64 each,
            memory-mapped; None unless the loss takes tuples.
        pairs: (n, 3) int64 validation pairs: image, image, 1 same class / 0 different.
        queries: (n_valid, 2) int64, Index and Class of the validation queries.
        labels: (n_image,) int64, the class of each image, camera images included.
        gallery: (n_gallery,) int64, the images that queries are searched in: no validation query,
            no minor class; with a class-disjoint split, the queries themselves.
        rows: (n_train,) int64, the images to train on: no validation query, not held out.
        holdout: (n,) int64, the images of held-out classes; no training step sees them.
        is_class_disjoint: Whether the queries are of other classes than the training images.
        split: Hashes of the split and of the list of images (``split.json``).
        cameras: (n,) int64, which of ``rows`` are images of other cameras (``--cameras``).
    """

    images: Images
    tuples: tuple[np.ndarray, np.ndarray] | None
    pairs: np.ndarray
    queries: np.ndarray
    labels: np.ndarray
    gallery: np.ndarray
    rows: np.ndarray
    holdout: np.ndarray
    is_class_disjoint: bool = False
    split: dict[str, str] = field(default_factory=dict)
    cameras: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def classes(self) -> np.ndarray:
        """The classes to train on, (n_class,) int64, ascending."""
        return np.unique(self.labels[self.rows])

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """Return the class numbers of training images, (n,) int64 positions in ``classes``."""
        return self._number_of_row[rows]

    @cached_property
    def _number_of_row(self) -> np.ndarray:
        numbers = np.full(len(self.labels), -1)
        numbers[self.rows] = np.unique(self.labels[self.rows], return_inverse=True)[1]
        return numbers

    @classmethod
    def load(cls, data_dir: Path, has_tuples: bool = True) -> "TrainingData":
        """Read the data directory.

        Args:
            data_dir: The data directory.
            has_tuples: Read the training tuples too, for the tuple loss.

        Raises:
            InputError: A file is missing, or they do not belong together.
        """
        images = layout.IMAGE_MATRIX.load(data_dir)
        labels = image_index.load_labels(data_dir)
        if len(images) != len(labels):
            raise InputError(
                f"{layout.IMAGE_MATRIX.name} has {len(images)} images, but the split has "
                f"{len(labels)}: make both from the same csv: "
                f"{layout.IMAGE_MATRIX.made_by(data_dir)}, then {layout.SPLIT.made_by(data_dir)}"
            )
        record = split.load_split_record(data_dir)
        matrix = provenance.load_record(data_dir, layout.IMAGE_MATRIX.name, layout.IMAGE_MATRIX)
        split.check_same_list(matrix, layout.IMAGE_MATRIX.name, record)
        pairs = np.array(layout.VALID_PAIRS.load(data_dir))
        queries = np.array(layout.VALID_QUERIES.load(data_dir))
        minor = layout.MINOR_CLASSES.load(data_dir)
        name = layout.IMAGE_MATRIX.name
        is_query = np.zeros(len(labels), bool)
        image_index.check_rows(queries[:, 0], len(labels), layout.VALID_QUERIES.name, name)
        is_query[queries[:, 0]] = True
        tuples = _load_tuples(data_dir, is_query, labels) if has_tuples else None
        image_index.check_rows(pairs[:, :2], len(labels), layout.VALID_PAIRS.name, name)
        is_disjoint = record["protocol"] == "classes"
        is_found = is_query if is_disjoint else ~is_query & ~np.isin(labels, minor)
        gallery, rows = np.flatnonzero(is_found), np.flatnonzero(~is_query)
        holdout = np.empty(0, np.int64)
        hashes = {name: record[name] for name in split.HASHES}
        parts = (images, tuples, pairs, queries, labels, gallery, rows, holdout)
        return cls(*parts, is_disjoint, hashes)

    def hold_out(self, amount: float, seed: int) -> "TrainingData":
        """Return the data with some classes, drawn at random, moved to ``holdout``.

        None of their images stays in training, or in the validation queries, pairs and gallery.
        Validation then measures known classes, and ``holdout`` new ones.

        Args:
            amount: The share of the classes if below 1, else their number. Classes with a single
                image are not drawn: there would be nothing to retrieve.
            seed: Seed of the draw.
        """
        is_own = np.isin(self.labels, self.classes)  # not a class that only validates
        classes, counts = np.unique(self.labels[is_own], return_counts=True)
        several = classes[counts > 1]
        n = round(amount * len(several)) if amount < 1 else int(amount)
        if n > len(several):
            raise InputError(
                f"--holdout_classes={amount:g}: only {len(several)} classes have two images or more"
            )
        if not 0 < n <= len(classes) - 2:
            raise InputError(
                f"--holdout_classes={amount:g} takes {n} of {len(classes)} classes; at least one "
                "must be held out and two left"
            )
        if n == 1:
            log.warning("one class is held out: no other can be mistaken for it; hold out more")
        drawn = np.random.default_rng(seed).choice(several, n, replace=False)
        is_out = np.isin(self.labels, drawn)
        queries = self.queries[~is_out[self.queries[:, 0]]]
        if not len(queries):
            raise InputError(
                f"--holdout_classes={amount:g} leaves no validation query; hold out fewer classes"
            )
        return replace(
            self,
            pairs=self.pairs[~is_out[self.pairs[:, :2]].any(axis=1)],
            queries=queries,
            gallery=self.gallery[~is_out[self.gallery]],
            rows=self.rows[~is_out[self.rows]],
            holdout=np.flatnonzero(is_out),
        )


def check_same_split(now: dict[str, str], before: dict[str, str], name: str) -> None:
    """Refuse to continue a training on another split: it would train on validation images."""
    if now != before:
        raise InputError(
            f"{name} was trained on another split of the images; start a new run without --resume "
            "and --start_epoch (the old one is moved aside), or make that split again, with the "
            "options that it had"
        )


def _load_tuples(
    data_dir: Path, is_query: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    first, second = (_checked_tuples(file, data_dir, is_query, labels) for file in TUPLES)
    return first, second


def _checked_tuples(
    file: Array, data_dir: Path, is_query: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Return tuples; refuse those with a validation query, or with classes of another split."""
    tuples = file.load(data_dir)
    for start in range(0, len(tuples), CHECK_ROWS):
        block = tuples[start : start + CHECK_ROWS]
        image_index.check_rows(block, len(is_query), file.name, layout.IMAGE_MATRIX.name)
        of_block = labels[block]
        is_same = of_block[:, 1:] == of_block[:, :1]
        if not is_same[:, 0].all() or is_same[:, 1:].any():
            raise InputError(
                f"{file.name} has tuples that are not two images of a class and others of other "
                "classes: it is damaged, or of another split; make it again with: "
                f"{file.made_by(data_dir)}"
            )
        if is_query[block].any():
            raise InputError(
                f"{file.name} holds validation images of {layout.VALID_QUERIES.name}: they "
                f"are of different splits; make both again with: {file.made_by(data_dir)}"
            )
    return tuples
