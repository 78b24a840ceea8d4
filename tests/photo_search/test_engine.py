"""Answers are those of mips; filters apply before the search; other models are refused."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import build_image_db
from process_data import image_matrix, transform
from retrieval.data import layout, provenance
from retrieval.data.formats import InputError
from retrieval.data.image_index import VIEWPOINTS
from retrieval.photo_search.answers import Answer
from retrieval.photo_search.engine import PhotoSearch
from retrieval.photo_search.filters import Filters, scope_of
from retrieval.photo_search.metadata import ImageTable
from retrieval.photo_search.prediction import Prediction, percent, summary
from retrieval.photo_search.results import table_of
from retrieval.store.rows import Metadata
from tests.calibrations import some_calibration
from tests.conftest import train_small

TESTS = "Image_data/sv_data/image/"


def opened(data_dir: Path) -> PhotoSearch:
    return PhotoSearch.open(data_dir, data_dir / "para" / "model.ep0", device="cpu")


def test_answers_are_those_of_mips(pipeline: Path) -> None:
    ids, similarities = layout.NEIGHBORS.load(pipeline), layout.SIMILARITIES.load(pipeline)
    queries = layout.TEST_MASKED.load(pipeline)
    paths = layout.TEST_INDEX.load(pipeline).set_index("Index")["Path"]
    search = opened(pipeline)
    mask = layout.GALLERY_MASK.load(pipeline)
    assert mask.all()  # so that mips searched what a photo is searched in
    assert len(queries) >= 10
    for row, (index, _) in enumerate(queries.tolist()):
        found = search.search(pipeline / TESTS / paths[index], k=5)
        assert [answer.id for answer in found.answers] == ids[row].tolist()
        scores = [answer.similarity for answer in found.answers]
        np.testing.assert_allclose(scores, similarities[row], atol=1e-5)
        assert [answer["rank"] for answer in found.as_json()["answers"]] == [1, 2, 3, 4, 5]
        assert found.n_searched == len(search.files.gallery) and found.n_hidden == 0


def test_the_photo_is_encoded_with_the_views_of_the_database(pipeline: Path) -> None:
    model = pipeline / "para" / "model.ep0"
    build_image_db.run(pipeline, model, tta="flip", scales=(1.25, 1.0))
    build_image_db.run(
        pipeline, model, "test_image.npy", "tdatabase.npy", tta="flip", scales=(1.25, 1.0)
    )
    search = opened(pipeline)
    table = layout.TEST_INDEX.load(pipeline)
    for row in table.head(4).itertuples():
        square = search.preprocessing.square(pipeline / TESTS / row.Path)
        expected = layout.TEST_DATABASE.load(pipeline)[row.Index]
        np.testing.assert_allclose(search.encoder.embed(square[None])[0], expected, atol=1e-5)


def test_an_image_of_the_database_finds_itself_with_all_that_is_known(pipeline: Path) -> None:
    search = opened(pipeline)
    table = layout.CAR_FRONT.load(pipeline).set_index("Index")
    names = layout.CLASS_NAMES.load(pipeline).set_index("Class")["ClassName"]
    for index in (0, 17):
        row = table.loc[index]
        with Image.open(pipeline / "Image_data/data/image" / row["Path"]) as image:
            found = search.search(image, k=1)
        (best,) = found.answers
        known = best.metadata
        assert (best.id, known.label, known.model) == (index, row["Class"], names[row["Class"]])
        assert best.similarity == pytest.approx(1, abs=2e-3)  # not decoded at a smaller scale
        assert (known.year, known.viewpoint) == (row["Year"], VIEWPOINTS[row["View Point"]])
        assert best.path == row["Path"] and known.make
        assert found.prediction.model is not None and found.prediction.model.probability is None


def test_a_filter_never_makes_an_answer_short(pipeline: Path) -> None:
    search = opened(pipeline)
    table = layout.CAR_FRONT.load(pipeline).set_index("Index")
    photo = pipeline / "Image_data/data/image" / table.loc[0, "Path"]
    query = search.encoder.embed(search.preprocessing.square(photo)[None])[0].astype(np.float64)
    exact = np.array(search.files.gallery, np.float64) @ query
    label = int(table["Class"].iloc[-1])
    model = search.files.table.metadata(len(table) - 1).model
    chosen = {
        "model": (model, table["Class"] == label),
        "year": (table["Year"].iloc[3], table["Year"] == table["Year"].iloc[3]),
        "viewpoint": ("front", table["View Point"] == 1),
    }
    for name, (value, is_right) in chosen.items():
        n_allowed = int(is_right.sum())
        for k in (2, n_allowed, n_allowed + 3):
            found = search.search(photo, k=k, filters=Filters(**{name: value}))
            allowed = np.flatnonzero(is_right)
            best = allowed[np.argsort(-exact[allowed], kind="stable")][:k]
            assert [answer.id for answer in found.answers] == best.tolist()
            assert found.n_searched == n_allowed


def chosen_by(table: ImageTable, **filters: str) -> list[bool]:
    """Return which images some filters choose."""
    mask = table.mask(Filters(**filters).where(table.facets, table.source))
    assert mask is not None
    return mask.tolist()


def test_filters_take_names_parts_and_numbers(pipeline: Path) -> None:
    known = opened(pipeline).files.table
    _, model, label, *_ = known.metadata(0)
    for text in (model, model.upper(), str(label)):
        assert chosen_by(known, model=text) == [other == label for other in known.columns["label"]]
    columns = known.columns | {"label": [1, 2, 3], "model": ["Zeta 5", "Zeta 50", "Beta"]}
    columns |= {"make": ["Z", "Z", "B"], "year": [""] * 3, "viewpoint": [""] * 3}
    known = replace(known, paths=["1", "2", "3"], columns=columns)
    for text, expected in (("zeta 5", [1, 0, 0]), ("zeta", [1, 1, 0]), ("ETA", [1, 1, 1])):
        assert chosen_by(known, model=text) == expected
    assert chosen_by(known, make="z") == [True, True, False]
    assert known.mask(Filters().where(known.facets, known.source)) is None
    with pytest.raises(InputError, match=r"--model=zet 50: no image of car_front.csv.*Zeta 50"):
        chosen_by(known, model="zet 50")
    with pytest.raises(InputError, match="no image of car_front.csv has all of these"):
        scope_of(Filters(make="b", model="zeta"), known.facets, known.source)
    for text in ("x", ""):
        with pytest.raises(InputError, match=f"--make={text}: no image of car_front.csv has it"):
            chosen_by(known, make=text)
    for name in ("year", "viewpoint"):
        with pytest.raises(InputError, match=f"--{name}=.*has it; leave the filter out"):
            chosen_by(known, **{name: "1"})


def test_viewpoints_go_by_name_and_number(pipeline: Path) -> None:
    known = opened(pipeline).files.table
    for texts in (("front side", "front-side", "FRONT_SIDE", "4"), ("front", "1")):
        masks = [chosen_by(known, viewpoint=text) for text in texts]
        assert masks == masks[:1] * len(texts)
    with pytest.raises(InputError, match=r"--viewpoint=9.*front, front side"):
        chosen_by(known, viewpoint="9")


def test_only_less_similar_answers_are_hidden_and_all_of_them_vote(pipeline: Path) -> None:
    search = opened(pipeline)
    photo = pipeline / "Image_data/data/image" / layout.CAR_FRONT.load(pipeline)["Path"][0]
    plain = search.search(photo, k=6)
    assert plain.n_hidden == 0 and plain.prediction.in_database is None
    for k, at_least in ((1, None), (6, plain.answers[2].similarity), (6, 1.5)):
        found = search.search(photo, k=k, min_similarity=at_least)
        assert found.prediction == plain.prediction
        near = [a for a in plain.answers[:k] if at_least is None or a.similarity >= at_least]
        assert list(found.answers) == near and found.n_hidden == k - len(near)


def test_probabilities_are_for_the_whole_database(pipeline: Path) -> None:
    search = replace(opened(pipeline), calibration=some_calibration())
    photo = pipeline / "Image_data/data/image" / layout.CAR_FRONT.load(pipeline)["Path"][0]
    found = search.search(photo)
    model, make = found.prediction.model, found.prediction.make
    assert model is not None and model.probability is not None and found.prediction.in_database
    assert make is not None and make.probability is not None
    assert make.probability >= model.probability
    some = search.search(photo, filters=Filters(make=make.name))
    assert some.prediction.model is not None and some.prediction.model.probability is None
    assert some.prediction.in_database is None and some.is_filtered
    everything = search.search(photo, filters=Filters(viewpoint="front")).n_searched == 48
    assert not everything
    assert found.as_json()["most_likely"]["probability"] == model.probability


def test_other_models_and_databases_are_refused(pipeline: Path) -> None:
    other = train_small(pipeline, pipeline / "other", epoch=1, seed=8)
    with pytest.raises(
        InputError, match="is not the model that encoded database.npy; name the one that did"
    ):
        PhotoSearch.open(pipeline, other)
    with pytest.raises(InputError, match="model.ep9 is missing"):
        PhotoSearch.open(pipeline, pipeline / "para" / "model.ep9")
    transform.run(pipeline, dim=8)
    with pytest.raises(InputError, match="database_t.npy"):
        PhotoSearch.open(pipeline, other, "database_t.npy")
    build_image_db.run(pipeline, other, adapt_bn=True, output="adapted.npy")
    with pytest.raises(InputError, match="encoded with --adapt_bn, which a single photo"):
        PhotoSearch.open(pipeline, other, "adapted.npy")
    table = layout.CAR_FRONT.load(pipeline)
    layout.CAR_FRONT.save(pipeline, table.iloc[:-1])
    with pytest.raises(InputError, match="another list of images than car_front.csv is now"):
        opened(pipeline)
    layout.DATABASE.at(pipeline).unlink()
    with pytest.raises(InputError, match="database.npy is missing; make it with"):
        opened(pipeline)


def test_a_matrix_without_a_full_record_gives_a_database_that_cannot_be_asked(
    pipeline: Path,
) -> None:
    name = provenance.record_name("imageset.npy")
    record = layout.DATABASE_RECORD.load(pipeline, name)
    del record["image_root_path"]
    provenance.save_record(pipeline, "imageset.npy", record, layout.IMAGE_MATRIX)
    build_image_db.run(pipeline, pipeline / "para" / "model.ep0")
    with pytest.raises(InputError, match="does not say how the images of database.npy"):
        opened(pipeline)
    image_matrix.run(pipeline, image_resolution=32)
    build_image_db.run(pipeline, pipeline / "para" / "model.ep0")
    assert opened(pipeline).preprocessing.side == 32


def test_photos_asked_at_once_get_their_own_answers(pipeline: Path) -> None:
    search = opened(pipeline)
    paths = [pipeline / TESTS / path for path in layout.TEST_INDEX.load(pipeline)["Path"][:8]]
    alone = [search.search(path, k=3).answers for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: search.search(path, k=3).answers, paths))
    assert together == alone


def test_photos_without_classes_have_no_prediction(pipeline: Path) -> None:
    search = opened(pipeline)
    table = search.files.table
    columns = {name: [-1 if name == "label" else ""] * 48 for name in table.columns}
    nameless = replace(search.files, table=replace(table, columns=columns))
    photo = pipeline / "Image_data/data/image" / table.paths[0]
    found = replace(search, rows=nameless).search(photo)
    assert found.prediction == Prediction() and summary(found.prediction) == ""
    assert len(found.answers) == 20 and found.answers[0].metadata.model == ""


def test_the_table_has_the_columns_that_are_known() -> None:
    answer = Answer(0, 0.98765, Metadata(model="m1", label=1), np.zeros(1), "x.jpg")
    assert table_of([answer]) == [
        ["rank", "similarity", "model", "path"],
        ["1", "0.9877", "m1", "x.jpg"],
    ]
    assert percent(0.9951) == "over 99 %" and percent(0.994) == "99 %"
