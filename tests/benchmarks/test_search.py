"""The benchmarks of ranking options and of searches with a photo, at a tiny size."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import results
from benchmarks.search import latency, ranking_options, unseen_photos
from benchmarks.search.ranking_options import Switch
from process_data import calibrate
from retrieval.data import layout
from retrieval.evaluation.pipeline import RankingOptions
from retrieval.photo_search.engine import PhotoSearch


def test_a_table_of_every_kind_of_switch(pipeline: Path, tmp_path: Path) -> None:
    switches = [
        Switch("flip", {"tta": "flip"}, queries_only=True, ranking=RankingOptions(qe=2)),
        Switch("turn", transform={"power": 0.0, "center": "none"}),
    ]
    record = results.Run("ranking", argparse.Namespace(), tmp_path)
    checkpoints = {7: pipeline / "para" / "model.ep0"}
    lines = ranking_options.run(checkpoints, checkpoints, switches, record)
    names = [ranking_options.CROP, "flip", "turn"]
    table = results.latest(tmp_path, "ranking")
    assert table["switch"].tolist() == [name for name in names for _ in range(2)]
    plain = layout.METRICS.load(pipeline)
    assert lines[3]["cmc@1 before"] == pytest.approx(plain["cmc@1"])
    assert lines[3]["map@R before"] == pytest.approx(plain["map@R"])
    assert [line["map@R gain"] for line in lines[:2]] == [0, 0]  # the same model twice
    assert lines[5]["map@R gain"] == pytest.approx(0, abs=1e-9)  # a rotation changes nothing


def test_an_enlarged_database_can_be_searched(pipeline: Path, tmp_path: Path) -> None:
    calibrate.run(pipeline)
    large = tmp_path / "large"
    large.mkdir()
    latency.enlarge(pipeline, large, 200)
    model = pipeline / "para" / "model.ep0"
    search, small = (PhotoSearch.open(folder, model) for folder in (large, pipeline))
    assert search.files.gallery.shape == (200, small.files.gallery.shape[1])
    assert len(np.unique(search.files.gallery, axis=0)) == 200
    assert search.calibration == small.calibration is not None
    # A copy has the class of the image that it was made from.
    photo = pipeline / latency.PHOTOS / small.files.table.paths[0]
    (best,) = search.search(photo, k=1).answers
    assert best.metadata == small.files.table.metadata(0) and best.similarity > 0.9


def test_unseen_photos_are_unseen_and_counted(pipeline: Path, tmp_path: Path) -> None:
    photos = list(unseen_photos.unseen_photos(pipeline, tmp_path / "more", images=9))
    known = set(layout.CAR_FRONT.load(pipeline)["FileName"])
    assert photos and not {path.name for path, _, _ in photos} & known
    assert {label for _, label, _ in photos} <= set(layout.CAR_FRONT.load(pipeline)["Class"])
    search = PhotoSearch.open(pipeline, pipeline / "para" / "model.ep0")
    first = [search.search(path, k=1).answers[0].metadata for path, _, _ in photos]
    right = [known.label == label for known, (_, label, _) in zip(first, photos, strict=True)]
    found = unseen_photos.accuracy(search, photos, is_cropped=False)
    assert found["first_answer_right"] == np.mean(right)
    assert found["not_in_database"] == 0 and "ece" not in found
    calibrate.run(pipeline)
    search = PhotoSearch.open(pipeline, pipeline / "para" / "model.ep0")
    found = unseen_photos.accuracy(search, photos, is_cropped=False)
    assert found["first_answer_right"] == np.mean(right) and 0 <= found["ece"] <= 1
