"""A photo is prepared byte for byte as the database's images were."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from process_data import image_matrix
from retrieval.data import layout, provenance
from retrieval.data.formats import InputError
from retrieval.photo_search.boxes import parse_box
from retrieval.photo_search.photo_files import photo_files
from retrieval.photo_search.preprocessing import Preprocessing, check_box, whole_photo

ROOT = "Image_data/data/image/"


@pytest.mark.parametrize(("crop", "fill"), [("none", "Gaussian"), ("box", "Black")])
def test_a_file_gives_its_row_of_the_matrix(tree: Path, crop: str, fill: str) -> None:
    from compcars import data_info

    data_info.run(tree)
    image_matrix.run(tree, image_resolution=24, crop=crop, filter_type=fill)  # type: ignore[arg-type]
    record = provenance.load_record(tree, "imageset.npy", layout.IMAGE_MATRIX)
    kept = {"preparation": provenance.preparation_of(record)}
    preprocessing = Preprocessing.of_record(kept, "database.npy")
    assert preprocessing == Preprocessing(24, fill, crop)  # type: ignore[arg-type]
    matrix = layout.IMAGE_MATRIX.load(tree)
    table = layout.CAR_FRONT.load(tree)
    for row in table.itertuples():
        box = None if crop == "none" or np.isnan(row.X1) else (row.X1, row.Y1, row.X2, row.Y2)
        path = tree / ROOT / row.Path
        np.testing.assert_array_equal(preprocessing.square(path, box), matrix[row.Index])
        opened = io.BytesIO(path.read_bytes())
        np.testing.assert_array_equal(preprocessing.square(opened, box), matrix[row.Index])


def test_a_decoded_image_is_left_as_it_is() -> None:
    image = Image.new("RGB", (8, 4), (200, 0, 0))
    image.paste((0, 0, 200), (4, 0, 8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    turned = Image.open(buffer)
    square = Preprocessing(8, "Black", "none").square(turned)
    assert turned.size == (8, 4)
    assert (square[0, 0, 3], square[2, 7, 3]) == (200, 200)  # red above blue
    assert whole_photo(turned).size == (4, 8)
    half = Preprocessing(4, "Black", "none").square(turned, (0, 0, 4, 4))
    assert half[0].min() == 200  # boxes are those of the upright photo


def test_boxes_must_overlap_the_photo() -> None:
    check_box((-3, -3, 5, 5), (10, 8))
    for box in ((10, 0, 12, 4), (0, 8, 4, 9), (-4, 0, 0, 4), (5, 2, 5, 4), (6, 2, 5, 4)):
        with pytest.raises(InputError, match="is not within the photo, which has 10 x 8 pixels"):
            check_box(box, (10, 8))


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1,2,3,4,5", "nan,0,1,1", "1,2,3,inf", ""])
def test_a_box_is_four_numbers(text: str) -> None:
    with pytest.raises(InputError, match="give x1,y1,x2,y2 in pixels"):
        parse_box(text)


def test_what_is_not_an_image_is_one_line(tmp_path: Path) -> None:
    preprocessing = Preprocessing(8, "Gaussian", "none")
    (tmp_path / "a.jpg").write_text("no image")
    for read in (preprocessing.square, whole_photo):
        with pytest.raises(InputError, match="the photo cannot be read as an image"):
            read(tmp_path / "a.jpg")


def test_a_record_must_say_how(pipeline: Path) -> None:
    record = provenance.load_record(pipeline, "database.npy")
    assert record is not None
    wrong = [{}, {"preparation": None}, {"preparation": {"crop": "box"}}]
    for name, value in (("image_resolution", 0), ("filter_type", "Red"), ("crop", "x")):
        wrong.append({"preparation": record["preparation"] | {name: value}})
    for other in wrong:
        with pytest.raises(InputError, match="does not say how the images of x.npy were prepared"):
            Preprocessing.of_record(other, "x.npy")


def test_a_folder_stands_for_its_images(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "b/c/0.webp", "b/notes.txt", "b/.hidden/3.jpg", "b/.4.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder = tmp_path / "b"
    assert [p.name for p in photo_files([folder / "notes.txt", folder])] == [
        *("notes.txt", "1.jpg", "2.PNG", "0.webp")
    ]
    with pytest.raises(InputError, match="x.jpg is missing"):
        photo_files([tmp_path / "x.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is empty"):
        photo_files([tmp_path / "empty"])
    with pytest.raises(InputError, match="names no photo"):
        photo_files([])
