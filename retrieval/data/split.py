"""The split of an index: which images train, which are queries, and where queries are searched.

Two protocols. ``images``: some images of each class are validation queries, searched among the
training images. ``classes``: the first half of the classes trains; each image of the other half is
a query, searched among all others of that half, as on Cars196, CUB-200-2011 and SOP (Song et al.,
Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016, arXiv:1511.06452).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError

Protocol = Literal["images", "classes"]
HASHES = ("sha256", "index_sha256")  # of the split, and of the list of images


@dataclass(frozen=True)
class Split:
    """The images of each class; lists are in the order of ``classes``.

    Attributes:
        classes: (n_class,) int64, ascending.
        images: One int64 array per class: the Indexes of its images, ascending.
        train: One int64 array per class: the Indexes for training.
        valid: One int64 array per class: the Indexes for validation, disjoint from ``train``.
        is_minor: (n_class,) bool, True if the class is not evaluated: it has too few images, or
            it is one that a class-disjoint protocol trains on.
    """

    classes: np.ndarray
    images: list[np.ndarray]
    train: list[np.ndarray]
    valid: list[np.ndarray]
    is_minor: np.ndarray

    def digest(self) -> str:
        """Return the hash of which images train and which validate, in hexadecimal."""
        parts = [array for pair in zip(self.train, self.valid, strict=True) for array in pair]
        sizes = np.array([len(array) for array in parts])
        digest = hashlib.sha256(np.concatenate([self.classes, sizes, *parts]).tobytes())
        return digest.hexdigest()

    def queries(self) -> np.ndarray:
        """Return Index and Class of the validation queries, (n_valid, 2) int64."""
        evaluated = zip(self.classes, self.valid, self.is_minor, strict=True)
        return np.concatenate(
            [
                np.column_stack([images, np.full(len(images), label)])
                for label, images, is_minor in evaluated
                if not is_minor
            ]
        )


def split_images(labels: np.ndarray, ratio: int, min_len: int, rng: np.random.Generator) -> Split:
    """Set aside ``n // ratio`` of the n images of each class for validation.

    Args:
        labels: (n_image,) int64, class of each image.
        ratio: One in ``ratio`` images of a class is for validation.
        min_len: Classes with fewer images are minor.
        rng: Random source of the split.
    """
    classes, images = _images_of_classes(labels)
    train, valid = [], []
    for of_class in images:
        shuffled = rng.permutation(of_class)
        n_valid = len(of_class) // ratio
        valid.append(np.sort(shuffled[:n_valid]))
        train.append(np.sort(shuffled[n_valid:]))
    is_minor = np.array([len(of_class) < min_len for of_class in images])
    return Split(classes, images, train, valid, is_minor)


def split_classes(labels: np.ndarray, is_train: np.ndarray | None = None) -> Split:
    """Train on some classes; the others are for validation.

    Args:
        labels: (n_image,) int64, class of each image.
        is_train: (n_image,) bool, images of classes to train on, the same for all images of a
            class; None: the first half of the classes, by id.
    """
    classes, images = _images_of_classes(labels)
    is_known = np.arange(len(classes)) < len(classes) // 2
    if is_train is not None:
        is_known = np.array([is_train[of_class[0]] for of_class in images])
    none = np.empty(0, np.int64)
    train = [of_class if known else none for of_class, known in zip(images, is_known, strict=True)]
    valid = [none if known else of_class for of_class, known in zip(images, is_known, strict=True)]
    return Split(classes, images, train, valid, is_known)


def _images_of_classes(labels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    classes, counts = np.unique(labels, return_counts=True)
    return classes, np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def load_split_record(data_dir: Path) -> dict[str, Any]:
    """Return ``split.json``: the protocol, the options, and the hashes of split and image list.

    It is written last, so a split without it was not finished.
    """
    record: dict[str, Any] = layout.SPLIT.load(data_dir)
    return record


def check_same_list(record: dict[str, Any] | None, name: str, split: dict[str, Any]) -> None:
    """Refuse an array that was made from another list of images than the split.

    Args:
        record: The record of an image matrix or of embeddings; None or without a list: taken.
        name: The array's file.
        split: ``split.json``.
    """
    if (record or {}).get("index_sha256") not in (None, split["index_sha256"]):
        raise InputError(
            f"{name} was made from another list of images than {split['index']}, or from the same "
            "in another order; make image matrix, split and embeddings from the same csv"
        )
