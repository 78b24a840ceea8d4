"""Labeled images of other cameras, such as CompCars' surveillance photos, beside the database's.

Classes are matched by id; a class of one domain only is trained on too. No image that is also a
test query gets in, and no image of a class that is kept out of training.
"""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from retrieval.data import image_index, layout, provenance, sources, split
from retrieval.data.formats import InputError
from retrieval.data.images import ConcatenatedArrays
from retrieval.training.dataset import TrainingData

log = logging.getLogger(__name__)

DOMAINS = ("database", "cameras")


def add_cameras(data: TrainingData, data_dir: Path, index: str, matrix: str) -> TrainingData:
    """Return training data that camera images are part of.

    Args:
        data: The database's images, without the held-out classes.
        data_dir: The data directory.
        index: Csv of the camera images.
        matrix: Their image matrix.

    Raises:
        InputError: An image is also a test query, the sides differ, or no class is in common.
    """
    table = image_index.by_index(layout.CAMERA_INDEX.load(data_dir, index), index)
    images = layout.CAMERA_MATRIX.load(data_dir, matrix)
    if len(table) != len(images):
        raise InputError(
            f"{matrix} has {len(images)} images, but {index} lists {len(table)}: make it again "
            f"with: {layout.CAMERA_MATRIX.made_by(data_dir, matrix)}"
        )
    side = data.images.shape[-1]
    if images.shape[-1] != side:
        raise InputError(
            f"{matrix} has images of {images.shape[-1]} px and {layout.IMAGE_MATRIX.name} of "
            f"{side} px; make it again with --image_resolution={side}"
        )
    _check_no_test_paths(data_dir, table["Path"].astype(str).tolist(), index)
    _check_no_test_images(data_dir, images, matrix)
    record = provenance.load_record(data_dir, matrix, layout.CAMERA_MATRIX) or {}
    if record.get("index_sha256") not in (None, provenance.index_hash(table)):
        raise InputError(
            f"{matrix} was made from another list of images than {index} is now; make it again "
            f"with: {sources.commands_to_renew(data_dir, matrix)}"
        )
    source = split.load_split_record(data_dir)["index"]
    if layout.IMAGE_INDEX.at(data_dir, source).exists():
        database = layout.IMAGE_INDEX.load(data_dir, source)
        image_index.check_same_names(table, index, database, source)
    labels = table["Class"].to_numpy()
    first = len(data.labels)
    kept_out = np.setdiff1d(data.labels, data.classes)  # held out, or classes to validate on
    is_used = ~np.isin(labels, kept_out)
    if not np.isin(labels[is_used], data.classes).any():
        raise InputError(
            f"{index} has no class in common with the training images: Class must be the same id "
            "in both (compcars.test_data_info, or process_data.data_info --classes_of)"
        )
    if not is_used.all():
        log.info(
            "left out: %d of %d camera images, of classes that are kept out of training",
            (~is_used).sum(),
            len(labels),
        )
    cameras = first + np.flatnonzero(is_used)
    n_own, n_common = len(np.unique(labels[is_used])), len(np.intersect1d(labels, data.classes))
    log.info("%d camera images of %d classes, %d in common", len(cameras), n_own, n_common)
    assert isinstance(data.images, np.ndarray)
    return replace(
        data,
        images=ConcatenatedArrays([data.images, images]),
        labels=np.concatenate([data.labels, labels]),
        rows=np.concatenate([data.rows, cameras]),
        cameras=cameras,
    )


def _check_no_test_paths(data_dir: Path, paths: list[str], index: str) -> None:
    if not layout.TEST_INDEX.at(data_dir).exists():
        return
    test = layout.TEST_INDEX.load(data_dir)["Path"].astype(str)
    common = sorted(set(paths) & set(test))
    if common:
        raise InputError(
            f"{len(common)} images of {index} are test queries in {layout.TEST_INDEX.name}, such "
            f"as {common[0]}; take other queries (compcars.test_data_info --split=test), or other "
            "camera images"
        )


def _check_no_test_images(data_dir: Path, images: np.ndarray, matrix: str) -> None:
    """Refuse images whose pixels are those of a test image."""
    if not layout.TEST_MATRIX.at(data_dir).exists():
        return
    test = layout.TEST_MATRIX.load(data_dir)
    known = {_digest(image) for image in tqdm(test, desc="test images", unit="image", disable=None)}
    bar = tqdm(images, desc="camera images", unit="image", disable=None)
    common = [row for row, image in enumerate(bar) if _digest(image) in known]
    if common:
        raise InputError(
            f"{len(common)} images of {matrix} are also in {layout.TEST_MATRIX.name}, such as "
            f"number {common[0]}; no test query may be trained on: take it out of one of the two"
        )


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
