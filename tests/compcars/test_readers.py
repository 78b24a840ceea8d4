"""Reading CompCars: the tree, the labels and every quirk."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from compcars import data_info, names, test_data_info, tree
from retrieval.data import layout
from retrieval.data.formats import InputError


def write(root: Path, path: str, label: str | None) -> None:
    """Add an image without content, and its label, to a web-nature tree."""
    image = root / "image" / path
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()
    (root / "label").mkdir(exist_ok=True)
    if label is not None:
        file = (root / "label" / path).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(label)


@pytest.mark.parametrize(
    ("text", "viewpoint", "box"),
    [
        ("1\n1\n1 1 10 20\n", 1, (0, 0, 10, 20)),
        ("-1\n1\n3 4 10 20", -1, (2, 3, 10, 20)),
        ("4\n1\n7 7 7 7\n", 4, None),
        ("4\n1\n1 1 2 -15\n", 4, None),
        ("4\n1\n0 1 2 5\n", 4, None),
    ],
)
def test_labels(tmp_path: Path, text: str, viewpoint: int, box: tuple[int, ...] | None) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert tree.read_label(str(tmp_path / "a.txt")) == tree.Label(viewpoint, box)


def test_order_columns_and_what_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = tmp_path / "Image_data" / "data"
    front, rear = "1\n1\n2 3 10 12\n", "5\n1\n7 7 7 7\n"
    write(root, "10/2/2010/b.jpg", front)
    write(root, "9/30/unknown/a.jpg", front)
    write(root, "9/30/5008/a.jpg", front)
    write(root, "9/4/2011/c.jpg", rear)
    write(root, "9/4/2011/d.jpg", "3\n1\n1 1 5 5\n")
    write(root, "9/4/2011/e.jpg", "-1\n1\n1 1 5 5\n")
    write(root, "9/4/2011/f.jpg", None)
    write(root, "9/4/2011/g.jpg", "front\n")
    write(root, "9/4/2011/h.jpg", "")
    write(root, ".DS_Store/4/2011/x.jpg", front)
    data_info.run(tmp_path)
    table = layout.CAR_FRONT.load(tmp_path)
    assert table["Path"].tolist() == ["9/30/5008/a.jpg", "9/30/unknown/a.jpg", "10/2/2010/b.jpg"]
    assert table["Index"].tolist() == [0, 1, 2]
    assert table["Class"].tolist() == [30, 30, 2]
    assert table["CarMake"].tolist() == [9, 9, 10]
    assert table["FileName"].tolist() == ["a.jpg", "a.jpg", "b.jpg"]
    assert table[["X1", "Y1", "X2", "Y2"]].iloc[0].tolist() == [1, 2, 10, 12]
    text = layout.CAR_REAR.at(tmp_path).read_text().splitlines()
    assert text[1] == "9/4/2011/c.jpg,c.jpg,5,2011,9,4,0,,,,"
    assert "without a label file: 1" in caplog.text
    assert "a label file that cannot be read: 2" in caplog.text
    assert "without a usable box: 1" in caplog.text


@pytest.mark.parametrize("deeper", ["Image_data/data", "Image_data/data/data", "Image_data"])
def test_archives_unpacked_at_another_level(tmp_path: Path, deeper: str) -> None:
    write(tmp_path / deeper, "1/2/2010/a.jpg", "1\n1\n1 1 5 5\n")
    data_info.run(tmp_path)
    assert len(layout.CAR_FRONT.load(tmp_path)) == 1


def test_an_empty_folder_names_the_remedy(tmp_path: Path) -> None:
    for stage in (data_info.run, test_data_info.run):
        with pytest.raises(InputError, match=r"unpack CompCars.*compcars\.sample"):
            stage(tmp_path)
    (tmp_path / "Image_data" / "data" / "image").mkdir(parents=True)
    (tmp_path / "Image_data" / "data" / "label").mkdir(parents=True)
    with pytest.raises(InputError, match="no image with a label"):
        data_info.run(tmp_path)


def surveillance(root: Path, ids: list[int], images: list[str]) -> None:
    """Write a surveillance tree; ids as uint8 where they fit, as in the release."""
    for path in images:
        (root / "image" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "image" / path).touch()
    cells = np.empty((len(ids), 3), object)
    for row, number in enumerate(ids):
        dtype = np.uint8 if number < 256 else np.uint16
        cells[row] = ["Hyundai ", f"M{row}", np.array([[number]], dtype)]
    scipy.io.savemat(root / "sv_make_model_name.mat", {"sv_make_model_name": cells})


def test_surveillance_classes_come_through_the_mat_file(tmp_path: Path) -> None:
    root = tmp_path / "Image_data" / "sv_data"
    surveillance(root, [200, 1954], ["2/b.jpg", "2/a.jpg", "1/c.jpg"])
    test_data_info.run(tmp_path)
    table = layout.TEST_INDEX.load(tmp_path)
    assert table["Path"].tolist() == ["1/c.jpg", "2/a.jpg", "2/b.jpg"]
    assert layout.TEST_QUERIES.load(tmp_path).tolist() == [[0, 200], [1, 1954], [2, 1954]]


def test_splits_of_the_surveillance_images(tmp_path: Path) -> None:
    root = tmp_path / "Image_data" / "sv_data"
    surveillance(root, [5, 6], ["1/a.jpg", "1/b.jpg", "2/c.jpg"])
    with pytest.raises(InputError, match="test_surveillance.txt is missing"):
        test_data_info.run(tmp_path, split="test")
    (root / "test_surveillance.txt").write_text("1/b.jpg\n2/c.jpg\n2/lost.jpg\n")
    test_data_info.run(tmp_path, split="test")
    assert layout.TEST_INDEX.load(tmp_path)["Path"].tolist() == ["1/b.jpg", "2/c.jpg"]


def test_broken_surveillance_trees_are_said(tmp_path: Path) -> None:
    root = tmp_path / "Image_data" / "sv_data"
    surveillance(root, [5], ["1/a.jpg", "2/b.jpg"])
    with pytest.raises(InputError, match="has rows for 1 to 1"):
        test_data_info.run(tmp_path)
    (root / "sv_make_model_name.mat").write_bytes(b"no mat file")
    with pytest.raises(InputError, match=r"sv_make_model_name\.mat has no .*, or is damaged"):
        test_data_info.run(tmp_path)


def test_names_are_joined_and_empty_ones_bridged(tmp_path: Path) -> None:
    assert names.class_names(tmp_path, {1: 1}) is None

    def column(values: list[str]) -> np.ndarray:
        cells = np.empty((len(values), 1), object)
        cells[:, 0] = [value or np.zeros((0, 0)) for value in values]
        return cells

    (tmp_path / "misc").mkdir()
    scipy.io.savemat(
        tmp_path / "misc" / "make_model_name.mat",
        {
            "make_names": column(["Audi", "Hyundai "]),
            "model_names": column(["Audi Q5", " Hector", "", "丰田Avalon"]),
        },
    )
    table = names.class_names(tmp_path, {1: 1, 2: 2, 3: 2, 4: 1, 9: 7})
    assert table is not None
    assert table["ClassName"].tolist() == [
        "Audi Q5", "Hyundai Hector", "Hyundai model 3", "Audi 丰田Avalon", "model 9",
    ]  # fmt: skip


def test_the_sample_reads_as_compcars_does(tree: Path) -> None:
    data_info.run(tree)
    test_data_info.run(tree)
    front = layout.CAR_FRONT.load(tree)
    assert set(front["View Point"]) == {1, 4}
    assert (front["Class"].value_counts() == 8).all()
    boxes = front[["X1", "Y1", "X2", "Y2"]].dropna()
    assert 0 < len(front) - len(boxes) < 5
    assert (boxes["X1"] < boxes["X2"]).all()
    assert set(pd.read_csv(tree / "tindexinfo.csv")["Class"]) <= set(front["Class"])
