"""Photos as an array: the rows of the image matrix, decoded when they are read."""

from pathlib import Path

import numpy as np
import pytest

from compcars import data_info
from process_data import image_matrix
from retrieval.data import layout
from retrieval.data.decoded_photos import IndexedPhotos, PhotoOptions, UnreadableImages
from retrieval.data.formats import InputError


@pytest.fixture
def listed(tree: Path) -> Path:
    data_info.run(tree)
    return tree


@pytest.mark.parametrize("options", [{}, {"crop": "box", "filter_type": "Black", "workers": 3}])
def test_rows_are_those_of_the_matrix(listed: Path, options: dict[str, object]) -> None:
    image_matrix.run(listed, image_resolution=24, **options)  # type: ignore[arg-type]
    matrix = layout.IMAGE_MATRIX.load(listed)
    chosen = PhotoOptions(image_resolution=24, **options)  # type: ignore[arg-type]
    images = IndexedPhotos.open(listed, "car_front.csv", chosen).images
    assert (images.shape, images.dtype, len(images)) == (matrix.shape, matrix.dtype, len(matrix))
    rows = np.array([5, 0, 5, len(matrix) - 1])
    np.testing.assert_array_equal(images[rows], matrix[rows])
    assert images[rows[:0]].shape == (0, 3, 24, 24)


def test_unreadable_photos_are_listed_or_dropped(listed: Path) -> None:
    photos = IndexedPhotos.open(listed, "car_front.csv", PhotoOptions(image_resolution=24))
    for row in (2, 7):
        photos.images.paths[row].write_bytes(b"no image")
    with pytest.raises(UnreadableImages) as caught:
        photos.images[np.array([1, 7, 2])]
    assert list(caught.value.reasons) == [2, 7]
    with pytest.raises(InputError, match=r"2 of 48 images of car_front\.csv cannot be read"):
        photos.readable()
    dropping = PhotoOptions(image_resolution=24, on_unreadable="drop")
    kept = IndexedPhotos.open(listed, "car_front.csv", dropping).readable()
    assert len(kept.images) == len(kept.table) == 46
    assert kept.image_info == "car_front.kept.csv"
    image_matrix.run(listed, "car_front.kept.csv", image_resolution=24)
    np.testing.assert_array_equal(kept.images[np.arange(46)], layout.IMAGE_MATRIX.load(listed))
    for path in photos.images.paths:
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="no image of car_front.csv can be read"):
        IndexedPhotos.open(listed, "car_front.csv", dropping).readable()
