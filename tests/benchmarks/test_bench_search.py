"""The benchmark of searching with a photo, on a tiny database."""

from pathlib import Path

import numpy as np

from benchmarks import bench_search
from process_data import calibrate
from retrieval.data import layout
from retrieval.photo_search.engine import PhotoSearch


def test_an_enlarged_database_can_be_asked(pipeline: Path, tmp_path: Path) -> None:
    calibrate.run(pipeline)
    large = tmp_path / "large"
    large.mkdir()
    bench_search.enlarge(pipeline, large, 200)
    model = pipeline / "para" / "model.ep0"
    search, small = (PhotoSearch.open(folder, model) for folder in (large, pipeline))
    assert search.gallery.shape == (200, small.gallery.shape[1])
    assert len(np.unique(search.gallery, axis=0)) == 200
    assert search.calibration == small.calibration is not None
    # A copy has the class of the image that it was made from.
    photo = pipeline / bench_search.PHOTOS / small.catalogue.paths[0]
    (best,) = search.search(photo, k=1).answers
    assert best.label == small.catalogue.labels[0] and best.similarity > 0.9


def test_unseen_photos_are_unseen_and_counted(pipeline: Path, tmp_path: Path) -> None:
    photos = list(bench_search.unseen_photos(pipeline, tmp_path / "more", images=9))
    known = set(layout.CAR_FRONT.load(pipeline)["FileName"])
    assert photos and not {path.name for path, _, _ in photos} & known
    assert {label for _, label, _ in photos} <= set(layout.CAR_FRONT.load(pipeline)["Class"])
    search = PhotoSearch.open(pipeline, pipeline / "para" / "model.ep0")
    found = bench_search.accuracy(search, photos, is_cropped=False)
    right = [search.search(path, k=1).answers[0].label == label for path, label, _ in photos]
    assert found["first_answer_right"] == np.mean(right)
    assert found["not_in_database"] == 0 and "ece" not in found
    calibrate.run(pipeline)
    search = PhotoSearch.open(pipeline, pipeline / "para" / "model.ep0")
    found = bench_search.accuracy(search, photos, is_cropped=False)
    assert found["first_answer_right"] == np.mean(right) and 0 <= found["ece"] <= 1
