"""Encoding straight from photos: the embeddings of the way over a matrix, without the matrix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import build_image_db
from process_data import contact_sheet, image_matrix, mips, report
from retrieval.data import layout, provenance
from retrieval.data.decoded_photos import PhotoOptions
from retrieval.data.formats import InputError
from tests.conftest import SIDE

SURVEILLANCE = "Image_data/sv_data/image/"
BOXES: dict[str, Any] = {"crop": "box", "filter_type": "White"}


def photos(**options: Any) -> PhotoOptions:
    return PhotoOptions(image_resolution=SIDE, **options)


@pytest.mark.parametrize("options", [{}, BOXES])
@pytest.mark.parametrize("more", [{}, {"adapt_bn": True}, {"tta": "flip", "batch_size": 7}])
def test_the_bytes_are_those_of_the_way_over_a_matrix(
    pipeline: Path, options: dict[str, Any], more: dict[str, Any]
) -> None:
    checkpoint = pipeline / "para" / "model.ep0"
    image_matrix.run(pipeline, image_resolution=SIDE, **options)
    two_steps = build_image_db.run(pipeline, checkpoint, **more).read_bytes()
    record = provenance.load_record(pipeline, "database.npy")
    layout.IMAGE_MATRIX.at(pipeline).unlink()
    path = build_image_db.run(
        pipeline, checkpoint, image_info="car_front.csv", photos=photos(**options), **more
    )
    assert path.read_bytes() == two_steps
    found = provenance.load_record(pipeline, "database.npy")
    assert record is not None and found is not None
    for origin in ("sources", "photos"):
        record.pop(origin, None)
        found.pop(origin, None)
    assert found == record | {"images": None}


def test_what_follows_needs_no_matrix(pipeline: Path) -> None:
    checkpoint = pipeline / "para" / "model.ep0"
    mips.run(pipeline, k=5)
    sheet = contact_sheet.run(pipeline).read_bytes()
    for file in (layout.IMAGE_MATRIX, layout.TEST_MATRIX):
        file.at(pipeline).unlink()
    build_image_db.run(pipeline, checkpoint, image_info="car_front.csv", photos=photos())
    build_image_db.run(
        pipeline,
        checkpoint,
        output="tdatabase.npy",
        image_info="tindexinfo.csv",
        photos=photos(image_root_path=SURVEILLANCE),
    )
    mips.run(pipeline, k=5)
    assert contact_sheet.run(pipeline).read_bytes() == sheet
    page = report.run(pipeline).read_text()
    assert "--image_info=tindexinfo.csv" in page
    assert f"--image_root_path={SURVEILLANCE}" in page


def test_unreadable_photos(pipeline: Path) -> None:
    checkpoint = pipeline / "para" / "model.ep0"
    before = layout.DATABASE.at(pipeline).read_bytes()
    bad = pipeline / "Image_data/data/image" / layout.CAR_FRONT.load(pipeline)["Path"][40]
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(InputError, match=r"1 of 48 images of car_front\.csv cannot be read"):
        build_image_db.run(pipeline, checkpoint, image_info="car_front.csv", photos=photos())
    assert layout.DATABASE.at(pipeline).read_bytes() == before
    dropping = photos(on_unreadable="drop")
    build_image_db.run(pipeline, checkpoint, image_info="car_front.csv", photos=dropping)
    kept = np.delete(np.frombuffer(before[-48 * 16 * 4 :], np.float32).reshape(48, 16), 40, axis=0)
    np.testing.assert_allclose(layout.DATABASE.load(pipeline), kept, atol=1e-5)
    record = provenance.load_record(pipeline, "database.npy")
    assert record is not None
    assert record["preparation"]["index"] == "car_front.kept.csv"


def test_a_store_and_a_search_need_no_matrix(pipeline: Path) -> None:
    pytest.importorskip("lance")
    from process_data import publish, search

    checkpoint = pipeline / "para" / "model.ep0"
    layout.IMAGE_MATRIX.at(pipeline).unlink()
    build_image_db.run(pipeline, checkpoint, image_info="car_front.csv", photos=photos())
    assert publish.run(pipeline) == 48
    photo = pipeline / "Image_data/data/image" / layout.CAR_FRONT.load(pipeline)["Path"][7]
    (found,) = search.run(pipeline, checkpoint, [photo], k=3)
    assert found.answers[0].id == 7
