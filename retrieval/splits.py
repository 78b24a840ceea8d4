"""What the split says of each image."""

from pathlib import Path

import numpy as np

from retrieval import layout
from retrieval.formats import InputError


def load_labels(data_dir: Path) -> np.ndarray:
    """Return the class of each image of the split, (n_image,) int64, from ``model_num.json``."""
    class_images = layout.CLASS_IMAGES.load(data_dir)
    try:
        labels = np.array([int(label) for label in class_images], np.int64)
        images = [np.array(of_class, np.int64).reshape(-1) for of_class in class_images.values()]
    except (AttributeError, TypeError, ValueError) as error:
        raise _broken(data_dir) from error
    index = np.concatenate(images) if images else np.empty(0, np.int64)
    if not np.array_equal(np.sort(index), np.arange(len(index))):
        raise _broken(data_dir)
    of_image = np.empty(len(index), np.int64)
    of_image[index] = np.repeat(labels, [len(of_class) for of_class in images])
    return of_image


def load_test_queries(
    data_dir: Path, tindex: str | None, n_image: int, array_name: str
) -> np.ndarray:
    """Return Index and Class of the test images, (n_test, 2) int64.

    Args:
        data_dir: The data directory.
        tindex: Index csv of the test images; None takes ``test.npy``.
        n_image: Rows of the array that was made from them.
        array_name: Its file name, for the message.
    """
    if tindex is None:
        name, queries = layout.TEST_QUERIES.name, layout.TEST_QUERIES.load(data_dir)
    else:
        name, table = tindex, layout.TEST_INDEX.load(data_dir, tindex)
        queries = table[["Index", "Class"]].to_numpy(np.int64)
    if len(queries) != n_image:
        raise InputError(
            f"{name} lists {len(queries)} images, but {array_name} has {n_image} rows; if images "
            "were dropped, name the csv that was written then: --tindex=tindexinfo.kept.csv"
        )
    return queries


def _broken(data_dir: Path) -> InputError:
    file = layout.CLASS_IMAGES
    return InputError(
        f"{file.at(data_dir)} does not list each image once; make it again with: {file.made_by}"
    )
