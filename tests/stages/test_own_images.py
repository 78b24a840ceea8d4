"""Your own photos: any folder with one sub-folder for each class."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import build_image_db
from process_data import contact_sheet, data_info, image_matrix, make_train_valid, mask_data, mips
from retrieval.data import layout
from retrieval.data.formats import InputError
from tests.conftest import train_small
from tests.stages.test_stages import ROOT


def draw(root: Path, names: list[str], count: int) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"photo {i}.PNG")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw(tmp_path / "photos", ["b van", "a coupé", "ünknown"], 8)
    draw(tmp_path / "queries", ["b van", "zebra"], 2)
    (tmp_path / "photos" / "note.txt").write_text("no image")
    (tmp_path / "photos" / "b van" / "list.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / ".hidden" / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "loose.png")
    return tmp_path


def test_the_index_lists_images_of_sub_folders_in_order(photos: Path) -> None:
    table = pd.read_csv(data_info.run(photos))
    assert len(table) == 24
    assert table["Path"].tolist() == sorted(table["Path"])
    assert table["Index"].tolist() == list(range(24))
    names = dict(zip(table["ClassName"], table["Class"], strict=True))
    assert names == {"a coupé": 0, "b van": 1, "ünknown": 2}


def test_queries_take_the_ids_of_the_same_names(photos: Path) -> None:
    data_info.run(photos)
    data_info.run(photos, "queries/", "tindexinfo.csv", "indexinfo.csv", queries=True)
    assert layout.TEST_QUERIES.load(photos).tolist() == [[0, 1], [1, 1], [2, 3], [3, 3]]
    names = layout.CLASS_NAMES.load(photos)
    assert names["ClassName"].tolist() == ["a coupé", "b van", "ünknown", "zebra"]


def test_the_whole_pipeline_runs_on_them(photos: Path) -> None:
    data_info.run(photos)
    data_info.run(photos, "queries/", "tindexinfo.csv", "indexinfo.csv", queries=True)
    image_matrix.run(photos, "indexinfo.csv", "photos/", image_resolution=32)
    image_matrix.run(photos, "tindexinfo.csv", "queries/", "test_image.npy", image_resolution=32)
    make_train_valid.run(photos, "indexinfo.csv", min_len=5)
    checkpoint = train_small(photos, epoch=1)
    build_image_db.run(photos, checkpoint)
    build_image_db.run(photos, checkpoint, "test_image.npy", "tdatabase.npy")
    mask_data.run(photos)
    mips.run(photos, k=5, is_valid=True)
    mips.run(photos, k=5)
    record = layout.METRICS.load(photos)
    assert (record["n_query"], record["n_query_left_out"], record["n_gallery"]) == (2, 2, 24)
    with Image.open(contact_sheet.run(photos, rows=5, k=4)) as sheet:
        assert sheet.size[0] > sheet.size[1] > 200


def test_images_without_sub_folders_have_no_class(tmp_path: Path) -> None:
    draw(tmp_path, ["photos"], 3)
    table = pd.read_csv(data_info.run(tmp_path))
    assert list(table.columns) == ["Path", "Class", "Index"]
    assert table["Class"].tolist() == [-1] * 3 and table["Index"].tolist() == [0, 1, 2]
    assert layout.CLASS_NAMES.load_rows(tmp_path) == []
    for options in ({"queries": True}, {"output": "tindexinfo.csv"}):
        with pytest.raises(InputError, match="no images in sub-folders"):
            data_info.run(tmp_path, **options)  # type: ignore[arg-type]


def test_mistakes_are_said(photos: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        data_info.run(photos, "nowhere/")
    (photos / "empty").mkdir()
    with pytest.raises(InputError, match="empty is empty; make one sub-folder"):
        data_info.run(photos, "empty/")
    (photos / "other.csv").write_text("Path,Class,Index\na.png,0,0\n")
    with pytest.raises(InputError, match="no column ClassName"):
        data_info.run(photos, classes_of="other.csv")


@pytest.mark.parametrize("names", [["001", "NA", "null", "1e5", "nan"], ["1", "01", "True", "-0"]])
def test_names_of_classes_are_text(tmp_path: Path, names: list[str]) -> None:
    draw(tmp_path / "photos", names, 3)
    draw(tmp_path / "queries", names, 1)
    data_info.run(tmp_path)
    data_info.run(tmp_path, "queries/", "tindexinfo.csv", "indexinfo.csv", queries=True)
    table = layout.IMAGE_INDEX.load(tmp_path)
    assert sorted(set(table["ClassName"])) == sorted(names)
    ids = dict(zip(table["ClassName"], table["Class"], strict=True))
    queries = layout.IMAGE_INDEX.load(tmp_path, "tindexinfo.csv")
    assert dict(zip(queries["ClassName"], queries["Class"], strict=True)) == ids
    assert {r["ClassName"]: r["Class"] for r in layout.CLASS_NAMES.load_rows(tmp_path)} == ids


def test_the_folders_of_known_datasets_are_read(tmp_path: Path) -> None:
    """CUB-200-2011 numbers its folders, Cars196 names them; classes are in the order of names."""
    names = [
        "001.Black_footed_Albatross",
        "002.Laysan_Albatross",
        "Acura RL Sedan 2012",
        "AM (1/2)",
    ]
    draw(tmp_path / "photos", [name.replace("/", "-") for name in names], 2)
    data_info.run(tmp_path)
    table = layout.IMAGE_INDEX.load(tmp_path)
    assert table.groupby("Class")["ClassName"].first().tolist() == sorted(set(table["ClassName"]))


@pytest.mark.parametrize("is_split", [True, False])
def test_the_page_trains_where_there_is_a_split(tmp_path: Path, is_split: bool) -> None:
    """make page, with a program that only notes its arguments in the place of Python."""
    fake, photos, page = tmp_path / "python", tmp_path / "my photos", tmp_path / "page"
    photos.mkdir()
    split = f"touch {page}/split.json" if is_split else "true"
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/log\ncase "$*" in\n*make_train_valid*) {split};;\n'
        f"*--recipe=ce*) mkdir -p {page}/para; touch {page}/para/model.ep0 {page}/para/model.ep10;;"
        "\n*calibrate*) exit 1;;\nesac\n"
    )
    fake.chmod(0o755)
    command = ["make", "page", "-o", ".venv/serving", f"PY={fake}", f"PHOTOS={photos}"]
    done = subprocess.run([*command, f"PAGE={page}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "log").read_text().splitlines()
    assert "--on_unreadable=drop" in lines[1] and "--fit" in lines[2]
    assert ("--epoch=0" in lines[3]) is not is_split
    model = page / "para" / ("model.ep10" if is_split else "model.untrained")
    assert lines[-1] == f"-m process_data.serve --dpath={page} --save_path={model}"
    assert ("without probabilities" in done.stdout) is is_split
