"""What is searched: the masks and the checks that files belong together."""

from pathlib import Path

import numpy as np
import pytest

from process_data import baselines, make_train_valid, mask_data, mips, nns, summary, transform
from retrieval.data import image_index, layout
from retrieval.data.formats import InputError
from retrieval.evaluation.inputs import load_query_gallery
from retrieval.search import embeddings
from tests.conftest import replace_embeddings

MINOR = 5  # position of the class that is made minor below


@pytest.fixture
def masked(pipeline: Path) -> Path:
    """The pipeline with one class declared minor."""
    classes = sorted(map(int, layout.CLASS_IMAGES.load(pipeline)))
    layout.MINOR_CLASSES.save(pipeline, [classes[MINOR]])
    queries = layout.VALID_QUERIES.load(pipeline)
    layout.VALID_QUERIES.save(pipeline, queries[queries[:, 1] != classes[MINOR]])
    mask_data.run(pipeline)
    return pipeline


@pytest.mark.parametrize("is_valid", [True, False])
def test_what_is_masked_is_never_returned(masked: Path, is_valid: bool) -> None:
    mips.run(masked, k=30, is_valid=is_valid)
    ids = layout.NEIGHBORS.load(masked)
    labels = image_index.load_labels(masked)
    (minor,) = layout.MINOR_CLASSES.load(masked)
    queries = layout.VALID_QUERIES.load(masked)[:, 0]
    assert (ids >= 0).all()
    assert not (labels[ids] == minor).any()
    assert np.isin(queries, ids).any() != is_valid
    n_kept = int((labels != minor).sum())
    expected = n_kept - len(queries) if is_valid else n_kept
    assert layout.METRICS.load(masked)["n_gallery"] == expected


def test_mask_data_writes_what_it_declares(masked: Path) -> None:
    labels = image_index.load_labels(masked)
    (minor,) = layout.MINOR_CLASSES.load(masked)
    kept = labels != minor
    np.testing.assert_array_equal(layout.GALLERY_MASK.load(masked)[0], kept)
    np.testing.assert_array_equal(layout.CLASSES_MASKED.load(masked), labels[kept])
    np.testing.assert_array_equal(
        layout.DATABASE_MASKED.load(masked), layout.DATABASE.load(masked)[kept]
    )
    tests = layout.TEST_QUERIES.load(masked)
    np.testing.assert_array_equal(layout.TEST_MASKED.load(masked), tests[tests[:, 1] != minor])


def test_queries_without_a_relevant_image_are_left_out_and_counted(pipeline: Path) -> None:
    layout.TEST_INDEX.at(pipeline).unlink()  # which has other classes
    queries = np.array(layout.TEST_QUERIES.load(pipeline))
    queries[:2, 1] = 99_999
    layout.TEST_QUERIES.save(pipeline, queries)
    mask_data.run(pipeline)
    mips.run(pipeline, k=3)
    record = layout.METRICS.load(pipeline)
    assert record["n_query_left_out"] == 2
    assert record["n_query"] == len(queries) - 2 == len(layout.NEIGHBORS.load(pipeline))
    queries[:, 1] = 99_999
    layout.TEST_QUERIES.save(pipeline, queries)
    mask_data.run(pipeline)
    with pytest.raises(InputError, match="no query of test_masked.npy"):
        mips.run(pipeline)


def test_validation_without_test_images(pipeline: Path) -> None:
    for file in (layout.TEST_QUERIES, layout.TEST_DATABASE, layout.TEST_MASKED):
        file.at(pipeline).unlink()
    mask_data.run(pipeline)
    mips.run(pipeline, k=3, is_valid=True)
    with pytest.raises(InputError, match=r"test_masked\.npy is missing"):
        mips.run(pipeline)


def test_k_beyond_the_gallery_names_the_range(pipeline: Path) -> None:
    n_gallery = layout.METRICS.load(pipeline)["n_gallery"]
    with pytest.raises(InputError, match=f"--k must be from 1 to {n_gallery}"):
        mips.run(pipeline, k=n_gallery + 1)


def test_a_database_of_another_split_is_refused(pipeline: Path) -> None:
    database = np.array(layout.DATABASE.load(pipeline))
    replace_embeddings(pipeline, database[:-1])
    for stage in (mask_data.run, load_query_gallery):
        with pytest.raises(InputError, match=r"database\.npy has \d+ rows"):
            stage(pipeline)


def test_dropped_test_images_need_their_csv(pipeline: Path) -> None:
    embeddings = np.array(layout.TEST_DATABASE.load(pipeline))
    replace_embeddings(pipeline, embeddings[1:], "tdatabase.npy")
    with pytest.raises(InputError, match=r"--tindex=tindexinfo\.kept\.csv"):
        mask_data.run(pipeline)
    kept = layout.TEST_INDEX.load(pipeline)[1:]
    layout.TEST_INDEX.at(pipeline).unlink()
    layout.TEST_INDEX.save(pipeline, kept.assign(Index=range(len(kept))), "tindexinfo.kept.csv")
    mask_data.run(pipeline, tindex="tindexinfo.kept.csv")
    assert len(layout.TEST_MASKED.load(pipeline)) == len(kept)


def test_embeddings_of_two_models_are_refused(pipeline: Path) -> None:
    record = layout.DATABASE_RECORD.load(pipeline)
    layout.DATABASE_RECORD.save(pipeline, record | {"checkpoint_sha256": "0" * 64})
    for stage in (mask_data.run, mips.run):
        with pytest.raises(InputError, match="made by different checkpoints"):
            stage(pipeline)


def test_baselines_and_summary_use_the_same_queries(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (layout.DATABASE, layout.TEST_DATABASE):
        file.at(pipeline).unlink()  # no baseline needs them
    for record in baselines.run(pipeline, k=3):
        for key in ("n_query", "n_gallery"):
            assert record[key] == layout.METRICS.load(pipeline)[key]
    records = summary.run(pipeline)
    assert [record["search"] for record in records[:1]] == ["mips"]
    assert {record["search"] for record in records} == {"mips", "pixels", "histogram"}
    assert "histogram" in capsys.readouterr().out


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["database.npy", "tdatabase.npy"])
def test_embeddings_that_are_not_finite_are_refused(
    pipeline: Path, name: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "BLOCK_ROWS", 4)
    rows = np.array(layout.DATABASE.load(pipeline, name))
    rows[[6, 9], 2] = value
    replace_embeddings(pipeline, rows, name)
    for stage in (mips.run, nns.run, transform.run):
        with pytest.raises(InputError, match=f"{name}: row 6 holds values that are not finite"):
            stage(pipeline)


def test_embeddings_of_another_length_are_refused(pipeline: Path) -> None:
    rows = np.array(layout.DATABASE.load(pipeline))
    rows[5] = 0  # as of an image without any feature
    replace_embeddings(pipeline, rows)
    mips.run(pipeline, k=3)
    rows[7] *= 1.05
    replace_embeddings(pipeline, rows)
    with pytest.raises(InputError, match=r"database\.npy: row 7 is not of unit length"):
        mips.run(pipeline, k=3)


def test_a_database_is_no_set_of_test_queries(pipeline: Path) -> None:
    build = {"to_test": "valid_for_test.npy", "test_matrix": "database.npy"}
    with pytest.raises(InputError, match=r"would find themselves; .* --isValid=1"):
        mips.run(pipeline, k=3, **build)  # type: ignore[arg-type]
    mips.run(pipeline, k=3, is_valid=True, **build)  # type: ignore[arg-type]
    # Nor is another file of the same images.
    layout.DATABASE.save(pipeline, np.array(layout.DATABASE.load(pipeline)), "copy.npy")
    layout.DATABASE_RECORD.save(pipeline, layout.DATABASE_RECORD.load(pipeline), "copy.json")
    with pytest.raises(InputError, match=r"copy\.npy holds the images of database\.npy"):
        mips.run(pipeline, k=3, test_matrix="copy.npy")


def test_queries_of_other_images_are_refused(pipeline: Path) -> None:
    with pytest.raises(InputError, match=r"test_masked.npy has image 3 in class .* list other"):
        mips.run(pipeline, k=3, is_valid=True, to_test="test_masked.npy")
    with pytest.raises(InputError, match=r"takes its queries from the images of database\.npy"):
        mips.run(pipeline, k=3, is_valid=True, test_matrix="tdatabase.npy")
    queries = np.array(layout.TEST_MASKED.load(pipeline))
    queries[0, 1] += 1
    layout.TEST_MASKED.save(pipeline, queries, "others.npy")
    with pytest.raises(InputError, match=r"others\.npy has image .* but test\.npy has it in"):
        mips.run(pipeline, k=3, to_test="others.npy")
    mips.run(pipeline, k=3, is_valid=True, test_matrix="database.npy")


def test_masks_of_another_split_are_refused(pipeline: Path) -> None:
    make_train_valid.run(pipeline, ratio=4, min_len=8, seed=8)
    with pytest.raises(InputError, match="the masks were made for another split; run again"):
        mips.run(pipeline, k=3)
    mask_data.run(pipeline)
    mips.run(pipeline, k=3)
    layout.MASKS_RECORD.at(pipeline).unlink()  # as a kill leaves it
    with pytest.raises(InputError, match=r"masks\.json is missing; make it with"):
        mips.run(pipeline, k=3)


def test_some_validation_queries_search_in_the_gallery_of_all(pipeline: Path) -> None:
    queries = np.array(layout.VALID_QUERIES.load(pipeline))
    layout.VALID_QUERIES.save(pipeline, queries[:3], "few.npy")
    mips.run(pipeline, k=5, is_valid=True)
    neighbors = np.array(layout.NEIGHBORS.load(pipeline))
    n_gallery = layout.METRICS.load(pipeline)["n_gallery"]
    mips.run(pipeline, k=5, is_valid=True, to_test="few.npy")
    assert layout.METRICS.load(pipeline)["n_gallery"] == n_gallery
    np.testing.assert_array_equal(layout.NEIGHBORS.load(pipeline), neighbors[:3])


def test_a_query_that_is_listed_twice_is_refused(pipeline: Path) -> None:
    queries = np.array(layout.TEST_MASKED.load(pipeline))
    layout.TEST_MASKED.save(pipeline, np.concatenate([queries, queries[2:3]]))
    with pytest.raises(InputError, match=f"lists the image {queries[2, 0]} more than once"):
        mips.run(pipeline)


def test_the_index_that_is_wrong_is_named(pipeline: Path) -> None:
    queries = np.array(layout.TEST_MASKED.load(pipeline))
    queries[1, 0] = -1
    layout.TEST_MASKED.save(pipeline, queries)
    with pytest.raises(InputError, match=r"names the image -1, but"):
        mips.run(pipeline)
