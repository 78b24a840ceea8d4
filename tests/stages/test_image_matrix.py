"""The stage image_matrix: rows follow Index, and no Index ever shifts silently."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from process_data import image_matrix
from retrieval.data import matrix_job
from retrieval.data.formats import InputError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five one-colored photos whose red value is 10 times their Index, listed backwards."""
    (tmp_path / "photos").mkdir()
    rows = []
    for index in range(5):
        Image.new("RGB", (6, 4), (10 * index, 0, 0)).save(tmp_path / "photos" / f"{index}.png")
        rows.append({"Path": f"{index}.png", "Class": index % 2, "Index": index})
    pd.DataFrame(rows[::-1]).to_csv(tmp_path / "list.csv", index=False)
    return tmp_path


def run(data_dir: Path, **options: object) -> np.ndarray:
    small = {"image_info": "list.csv", "image_root_path": "photos", "image_resolution": 8}
    return np.load(image_matrix.run(data_dir, **{**small, **options}))  # type: ignore[arg-type]


def test_row_i_is_the_image_with_index_i(photos: Path) -> None:
    matrix = run(photos)
    assert matrix.shape == (5, 3, 8, 8)
    np.testing.assert_array_equal(matrix[:, 0, 4, 4], [0, 10, 20, 30, 40])


def test_workers_and_blocks_make_no_difference(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(photos)
    monkeypatch.setattr(matrix_job, "BLOCK", 2)
    np.testing.assert_array_equal(run(photos, workers=3), expected)


def test_all_unreadable_images_are_listed_and_nothing_is_written(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "photos" / "1.png").unlink()
    (photos / "photos" / "3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="2 of 5 images of list.csv cannot be read"):
        run(photos)
    assert [message for message in caplog.messages if "1.png" in message]
    assert [message for message in caplog.messages if "3.png" in message]
    assert sorted(p.name for p in photos.iterdir()) == ["list.csv", "photos"]


def test_drop_writes_the_csv_that_matches(photos: Path) -> None:
    (photos / "photos" / "1.png").write_bytes(b"no image")
    matrix = run(photos, on_unreadable="drop")
    kept = pd.read_csv(photos / "list.kept.csv")
    assert kept["Path"].tolist() == ["0.png", "2.png", "3.png", "4.png"]
    assert kept["Index"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(matrix[:, 0, 4, 4], [0, 20, 30, 40])


def test_crop_takes_the_box_or_the_whole_image(photos: Path) -> None:
    table = pd.read_csv(photos / "list.csv")
    image = Image.new("RGB", (6, 4), (0, 0, 255))
    image.paste((0, 255, 0), (0, 0, 3, 4))
    image.save(photos / "photos" / "0.png")
    table[["X1", "Y1", "X2", "Y2"]] = np.nan
    table.loc[table["Index"] == 0, ["X1", "Y1", "X2", "Y2"]] = [0, 0, 3, 4]
    table.to_csv(photos / "list.csv", index=False)
    matrix = run(photos, crop="box")
    assert matrix[0, 2].max() < 10  # nothing of the blue half
    np.testing.assert_array_equal(matrix[1:, 0, 4, 4], [10, 20, 30, 40])
    assert run(photos)[0, 2].max() == 255


def test_mistakes_are_said(photos: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        run(photos, image_root_path="elsewhere")
    with pytest.raises(InputError, match="no columns X1"):
        run(photos, crop="box")
    with pytest.raises(InputError, match="image_resolution must be at least 1"):
        run(photos, image_resolution=0)
    table = pd.read_csv(photos / "list.csv")
    table[table["Index"] != 2].to_csv(photos / "list.csv", index=False)
    with pytest.raises(InputError, match="each number from 0 to 3 once; it breaks at 2"):
        run(photos)
    table[:0].to_csv(photos / "list.csv", index=False)
    with pytest.raises(InputError):
        run(photos)


def test_a_run_that_writes_nothing_leaves_matrix_and_record(pipeline: Path) -> None:
    (record, matrix) = (pipeline / name for name in ("imageset.json", "imageset.npy"))
    before = record.read_bytes(), matrix.read_bytes()
    for path in (pipeline / "Image_data" / "data" / "image").rglob("*.jpg"):
        path.write_bytes(b"no photo")
    with pytest.raises(InputError, match="cannot be read"):
        image_matrix.run(pipeline)
    assert (record.read_bytes(), matrix.read_bytes()) == before
