"""Training on labeled images of other cameras: what gets in, and what never does."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import build_image_db
from compcars import test_data_info
from process_data import image_matrix, make_train_valid, mask_data, mips, report
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.image_loader import read_ahead
from retrieval.data.images import ConcatenatedArrays
from retrieval.report import run_tables
from retrieval.report.runs import load_runs
from retrieval.training.cameras import add_cameras
from retrieval.training.dataset import TrainingData
from retrieval.training.samplers import ClassSampler
from tests.conftest import SIDE, train_small

ROOT = "Image_data/sv_data/image/"
INDEX, MATRIX = layout.CAMERA_INDEX.name, layout.CAMERA_MATRIX.name


@pytest.fixture
def watched(pipeline: Path) -> Path:
    """A data directory whose surveillance images are divided into camera and test images."""
    test_data_info.run(pipeline, "test")
    test_data_info.run(pipeline, "train")
    for index, name in (("tindexinfo.csv", "test_image.npy"), (INDEX, MATRIX)):
        image_matrix.run(pipeline, index, ROOT, name, image_resolution=SIDE)
    return pipeline


def added(data_dir: Path, data: TrainingData | None = None) -> TrainingData:
    data = data or TrainingData.load(data_dir, has_tuples=False)
    return add_cameras(data, data_dir, INDEX, MATRIX)


def edit(data_dir: Path, **columns: object) -> None:
    table = layout.CAMERA_INDEX.load(data_dir)
    layout.CAMERA_INDEX.save(data_dir, table.assign(**columns))


def test_the_training_list_has_its_own_files(tree: Path) -> None:
    path = test_data_info.run(tree, "train")
    assert path.name == INDEX
    assert not layout.TEST_INDEX.at(tree).exists() and not layout.TEST_QUERIES.at(tree).exists()
    test_data_info.run(tree, "test")
    listed = [{*pd.read_csv(tree / name)["Path"]} for name in (INDEX, "tindexinfo.csv")]
    assert all(listed) and not listed[0] & listed[1]


def test_both_domains_are_trained_on(watched: Path) -> None:
    plain, data = TrainingData.load(watched, has_tuples=False), added(watched)
    table, images = layout.CAMERA_INDEX.load(watched), layout.CAMERA_MATRIX.load(watched)
    n = len(plain.labels)
    assert data.cameras.tolist() == list(range(n, n + len(table)))
    np.testing.assert_array_equal(data.labels[data.cameras], table["Class"])
    np.testing.assert_array_equal(data.images[data.cameras], images)
    np.testing.assert_array_equal(data.images[np.arange(n)], plain.images)
    # What is searched stays as it is.
    np.testing.assert_array_equal(data.gallery, plain.gallery)
    assert {*plain.rows} | {*data.cameras} == {*data.rows}
    # A class of the cameras alone is a class, too.
    edit(watched, Class=table["Class"].replace(table["Class"].iloc[0], 999))
    assert 999 in added(watched).classes


@pytest.mark.parametrize("sampler", ["random", "pk"])
def test_half_of_each_batch_are_camera_images(watched: Path, sampler: str) -> None:
    data = added(watched)
    batches = list(ClassSampler(data, 8, 0, 7, sampler, images_per_class=2).epoch(0))  # type: ignore[arg-type]
    seen = np.concatenate([batch.rows for batch in batches])
    assert {*seen} == {*data.rows}
    for batch in batches:
        share = np.isin(np.resize(batch.rows, batch.n_filled), data.cameras).mean()
        assert 0.25 <= share <= 0.75
    assert max(len(batch.rows) for batch in batches) <= 8


def test_test_queries_are_refused(watched: Path) -> None:
    table = layout.CAMERA_INDEX.load(watched)
    tested = layout.TEST_INDEX.load(watched)["Path"].iloc[0]
    edit(watched, Path=[tested, *table["Path"].iloc[1:]])
    with pytest.raises(InputError, match=f"1 images of {INDEX} are test queries .* {tested}"):
        added(watched)
    # Under another name, its pixels tell.
    layout.CAMERA_INDEX.save(watched, table)
    images = np.array(layout.CAMERA_MATRIX.load(watched))
    images[1] = layout.TEST_MATRIX.load(watched)[0]
    layout.CAMERA_MATRIX.save(watched, images)
    with pytest.raises(InputError, match="also in test_image.npy, such as number 1"):
        added(watched)


def test_classes_that_are_kept_out_stay_out(
    watched: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plain = TrainingData.load(watched, has_tuples=False).hold_out(2, 0)
    data = added(watched, plain)
    out = np.unique(data.labels[data.holdout])
    assert np.isin(layout.CAMERA_INDEX.load(watched)["Class"], out).any()
    assert not np.isin(data.labels[data.rows], out).any()
    assert "of classes that are kept out of training" in caplog.text
    make_train_valid.run(watched, protocol="classes")
    new = np.unique(layout.VALID_QUERIES.load(watched)[:, 1])
    assert not np.isin(added(watched).classes, new).any()


def test_files_that_do_not_fit_are_refused(watched: Path) -> None:
    table = layout.CAMERA_INDEX.load(watched)
    edit(watched, Class=table["Class"] + 10_000)
    with pytest.raises(InputError, match="no class in common"):
        added(watched)
    table.drop(columns="Class").to_csv(layout.CAMERA_INDEX.at(watched), index=False)
    with pytest.raises(InputError, match="no column Class"):
        added(watched)
    layout.CAMERA_INDEX.save(watched, table.iloc[:-1])
    with pytest.raises(InputError, match="images, but .* lists"):
        added(watched)
    layout.CAMERA_INDEX.save(watched, table)
    image_matrix.run(watched, INDEX, ROOT, MATRIX, image_resolution=2 * SIDE)
    with pytest.raises(InputError, match="64 px .* 32 px; .* --image_resolution=32"):
        added(watched)
    with pytest.raises(InputError, match="needs a loss over classes; add --recipe=ce"):
        train_small(watched, cameras=INDEX)


def test_evaluations_name_the_domains(watched: Path) -> None:
    options = {"loss": "ce", "neck": "after", "epoch": 1, "batch_size": 8}
    settings = (("plain", "", "database"), ("both", INDEX, "database + cameras"))
    for name, cameras, domains in settings:
        path = train_small(watched, watched / name, cameras=cameras, **options)
        for source, output in (
            ("imageset.npy", "database.npy"),
            ("test_image.npy", "tdatabase.npy"),
        ):
            build_image_db.run(watched, path, source, output)
        mask_data.run(watched)
        mips.run(watched, k=3, run_name=name)
        assert layout.METRICS.load(watched)["trained_on"] == domains
    # The report shows both settings, each with a best of its own, and no gain between them.
    runs = load_runs(watched, None)
    named = {run.name: run.record["trained_on"] for run in runs}
    assert [named[f"{name}-test"] for name, *_ in settings] == [domains for *_, domains in settings]
    found = run_tables.gains(watched, runs, ["cmc@1"])
    assert not any({gain.run, gain.other} & {"both-test"} for gain in found)
    assert "database + cameras" in report.run(watched).read_text()


def test_joined_arrays_are_read_as_one(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 4), np.uint8)
    for name, part in (("a", whole[:4]), ("b", whole[4:])):
        np.save(tmp_path / f"{name}.npy", part)
    maps = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ab"]
    joined = ConcatenatedArrays(maps)
    blocks = [np.array([0, 5, 3]), np.array([8, 4]), np.array([1, 2])]
    read = read_ahead(joined, blocks, torch.device("cpu"))
    for rows, loaded in zip(blocks, read, strict=True):
        np.testing.assert_array_equal(loaded.host, whole[rows])
    with pytest.raises(ValueError, match="different forms"):
        ConcatenatedArrays([whole, whole[:, :1]])
