"""What an audit finds in a set of images that were spoiled on purpose."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from process_data import audit as stage
from retrieval.data import layout, provenance
from retrieval.data.formats import InputError
from retrieval.report import image_audit
from tests.pages import read_page


def write(file: layout.Array, data_dir: Path, change: dict[int, np.ndarray | int]) -> None:
    images = np.array(file.load(data_dir))
    for row, pixels in change.items():
        images[row] = pixels
    save(file, data_dir, images)


def save(file: layout.Array, data_dir: Path, images: np.ndarray) -> None:
    """Write images that no record describes."""
    file.save(data_dir, images)
    layout.DATABASE_RECORD.at(data_dir, provenance.record_name(file.name)).unlink(missing_ok=True)


@pytest.fixture
def spoiled(pipeline: Path) -> tuple[Path, dict[str, int]]:
    """The pipeline with copies, a blank image and a class of one; and the rows that matter."""
    images = layout.IMAGE_MATRIX.load(pipeline)
    table = layout.CAR_FRONT.load(pipeline)
    valid, label = layout.VALID_QUERIES.load(pipeline)[0]
    train = np.setdiff1d(np.arange(len(images)), layout.VALID_QUERIES.load(pipeline)[:, 0])
    classes = table["Class"].to_numpy()
    twin = int(train[classes[train] == label][0])
    stranger = int(train[classes[train] != label][-1])
    blank = int(train[classes[train] != label][-2])
    test = layout.TEST_INDEX.load(pipeline).sort_values("Index")["Class"].to_numpy()
    shot = int(np.flatnonzero((test != label) & (test != classes[stranger]))[0])
    copied = int(train[classes[train] == test[shot]][1])
    write(
        layout.IMAGE_MATRIX,
        pipeline,
        {valid: images[twin], stranger: images[twin], blank: 200},
    )
    write(layout.TEST_MATRIX, pipeline, {shot: layout.IMAGE_MATRIX.load(pipeline)[copied]})
    rows = {"valid": int(valid), "twin": twin, "stranger": stranger, "blank": blank}
    return pipeline, rows | {"copied": copied, "shot": shot}


def test_everything_spoiled_is_found(
    spoiled: tuple[Path, dict[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir, rows = spoiled
    stage.run(data_dir)
    found = layout.AUDIT.load(data_dir)
    exact = found[found["Kind"] == "exact"]
    keys = ["IndexA", "WhereA", "IndexB", "WhereB", "Conflict"]
    pairs = {tuple(row) for row in exact[keys].to_numpy().tolist()}
    valid, twin, stranger = rows["valid"], rows["twin"], rows["stranger"]
    places = {valid: "valid", twin: "train", stranger: "train"}
    expected = {
        (a, places[a], b, places[b], "no" if stranger not in (a, b) else "yes")
        for a, b in ((valid, twin), (valid, stranger), (twin, stranger))
        for a, b in [sorted((a, b))]
    }
    copied = (rows["copied"], "train", rows["shot"], "test", "no")
    assert expected | {copied} == pairs
    # The worst is first: two classes, and a query among the two.
    assert exact.iloc[0][keys].tolist() == [
        min(valid, stranger), places[min(valid, stranger)],
        max(valid, stranger), places[max(valid, stranger)], "yes",
    ]  # fmt: skip
    blank = found[found["Kind"] == "blank"]
    assert blank["IndexA"].tolist() == [rows["blank"]]
    assert blank["IndexB"].isna().all()
    paths = layout.CAR_FRONT.load(data_dir)["Path"]
    assert exact["PathA"].tolist() == [paths[i] for i in exact["IndexA"]]
    printed = capsys.readouterr().out
    assert "train - valid" in printed and "blank" in printed
    counts = image_audit.count(found.fillna({"WhereB": ""}))
    assert counts["Found"].sum() == len(found)
    assert counts["Conflicts"].sum() == (found["Conflict"] == "yes").sum()


def test_the_file_name_that_two_models_share_is_found(pipeline: Path) -> None:
    table = layout.CAR_FRONT.load(pipeline)
    shared = table[table.duplicated("FileName", keep=False)]
    assert len(shared) == 2 and shared["Class"].nunique() == 2
    found = image_audit.find(image_audit.load_images(pipeline))
    named = found[found["Kind"] == "name"]
    assert named[["IndexA", "IndexB"]].to_numpy().tolist() == [sorted(shared["Index"])]
    assert named["Conflict"].tolist() == ["yes"]


def test_the_drawn_sample_has_no_duplicates(pipeline: Path) -> None:
    found = image_audit.find(image_audit.load_images(pipeline))
    assert not (found["Kind"] == "exact").any()


def test_a_class_of_one_image_is_found(pipeline: Path) -> None:
    table = layout.CAR_FRONT.load(pipeline)
    table.loc[4, "Class"] = 99_999
    layout.CAR_FRONT.save(pipeline, table)
    found = image_audit.find(image_audit.load_images(pipeline))
    assert found[found["Kind"] == "single"][["IndexA", "ClassA"]].to_numpy().tolist() == [
        [4, 99_999]
    ]


def test_places_are_those_of_the_split(pipeline: Path) -> None:
    table = image_audit.load_images(pipeline).table
    database = table[table["Where"] != "test"]
    valid = set(layout.VALID_QUERIES.load(pipeline)[:, 0].tolist())
    train = set(np.unique(layout.TRAIN.load(pipeline)).tolist())
    assert set(database.index[database["Where"] == "valid"]) == valid
    assert set(database.index[database["Where"] == "train"]) == train
    for file in (layout.TRAIN, layout.VALID_QUERIES, layout.TEST_MATRIX):
        file.at(pipeline).unlink()
    assert set(image_audit.load_images(pipeline).table["Where"]) == {"database"}


def test_the_page_shows_the_pairs(spoiled: tuple[Path, dict[str, int]]) -> None:
    data_dir, _ = spoiled
    stage.run(data_dir, limit=2)
    page = read_page(layout.AUDIT_PAGE.at(data_dir))
    found = layout.AUDIT.load(data_dir)
    n_pair = found["IndexB"].notna().sum()
    assert f"The 2 most serious of {n_pair}." in page.text
    assert page.count["img"] == 2 * 2 + 1  # two pairs and the blank image
    assert found["PathA"][0] in page.text
    first = layout.AUDIT_PAGE.at(data_dir).read_bytes(), layout.AUDIT.at(data_dir).read_bytes()
    stage.run(data_dir, limit=2)
    again = layout.AUDIT_PAGE.at(data_dir).read_bytes(), layout.AUDIT.at(data_dir).read_bytes()
    assert first == again


def test_a_csv_of_other_images_is_refused(pipeline: Path) -> None:
    table = layout.CAR_FRONT.load(pipeline)
    layout.CAR_FRONT.save(pipeline, table[:-1])
    with pytest.raises(
        InputError, match=r"name the csv that imageset\.npy was made from with --iname"
    ):
        stage.run(pipeline)
    with pytest.raises(InputError, match="--distance must be from 0 to 64"):
        stage.run(pipeline, distance=65)


def test_the_page_says_where_pairs_are_missing(pipeline: Path) -> None:
    images = np.array(layout.IMAGE_MATRIX.load(pipeline))
    images[:] = images[:1]  # more copies than are looked at
    images = np.concatenate([images] * 2)
    save(layout.IMAGE_MATRIX, pipeline, images)
    table = layout.CAR_FRONT.load(pipeline)
    layout.CAR_FRONT.save(pipeline, pd.concat([table] * 2).assign(Index=range(len(images))))
    for file in (layout.TRAIN, layout.VALID_QUERIES, layout.TEST_MATRIX):
        file.at(pipeline).unlink()
    stage.run(pipeline, limit=1)
    text = read_page(layout.AUDIT_PAGE.at(pipeline)).text
    assert f"{len(images)} images have too many near duplicates" in text


def test_queries_of_another_split_are_refused(pipeline: Path) -> None:
    queries = np.array(layout.VALID_QUERIES.load(pipeline))
    for changed, message in (
        (np.zeros_like(queries), "lists the image 0 more than once"),
        (queries + np.array([0, 1]), "they list other images; run again"),
    ):
        layout.VALID_QUERIES.save(pipeline, changed)
        with pytest.raises(InputError, match=message):
            image_audit.load_images(pipeline)
