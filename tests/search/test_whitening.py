"""Centering and whitening against their formulas, and the stage that applies them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from process_data import mips, nns, transform
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.search import whitening
from tests.conftest import replace_embeddings

DEFAULTS: dict[str, Any] = {
    "dim": 0,
    "power": 1.0,
    "center": "joint",
}


@pytest.fixture
def domains(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Correlated rows of two domains with means of their own, in several blocks."""
    monkeypatch.setattr(whitening, "BLOCK_ROWS", 16)
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    database = rng.normal(size=(70, 5)) @ mixing + 1
    queries = rng.normal(size=(50, 5)) @ mixing - 2
    return [database.astype(np.float32), queries.astype(np.float32)]


def test_whitened_rows_have_the_identity_as_their_covariance(domains: list[np.ndarray]) -> None:
    fitted = whitening.fit_transform(*domains, **DEFAULTS)
    moved = (domains[0] - fitted.means[0]) @ fitted.matrix
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(moved.T, bias=True), np.eye(5), atol=1e-6)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_matrix_is_that_of_the_formula(domains: list[np.ndarray], power: float) -> None:
    matrix = whitening.fit_transform(*domains, **DEFAULTS | {"power": power}).matrix
    covariance = np.cov(domains[0].T.astype(np.float64), bias=True)
    variances, directions = np.linalg.eigh(covariance)
    # W W^T does not depend on the signs and the order of the directions.
    expected = directions @ np.diag(variances**-power) @ directions.T
    np.testing.assert_allclose(matrix @ matrix.T, expected, rtol=1e-6, atol=1e-9)


def test_each_domain_loses_its_own_mean(domains: list[np.ndarray]) -> None:
    fitted = whitening.fit_transform(*domains, **DEFAULTS | {"center": "per_domain"})
    means = np.array([rows.mean(axis=0, dtype=np.float64) for rows in domains])
    np.testing.assert_allclose(fitted.means, means, atol=1e-6)
    joint = whitening.fit_transform(*domains, **DEFAULTS)
    np.testing.assert_array_equal(fitted.matrix, joint.matrix)  # the database's covariance


def test_one_mean_for_both_or_none(domains: list[np.ndarray]) -> None:
    mean = domains[0].mean(axis=0, dtype=np.float64)
    joint = whitening.fit_transform(*domains, **DEFAULTS)
    np.testing.assert_allclose(joint.means, [mean, mean], atol=1e-6)
    none = whitening.fit_transform(*domains, **DEFAULTS | {"center": "none"})
    assert not none.means.any()
    np.testing.assert_allclose(none.matrix, joint.matrix)


def test_only_directions_that_vary_are_kept(domains: list[np.ndarray]) -> None:
    flat = [rows @ np.diag([1, 1, 1, 0, 0]).astype(np.float32) for rows in domains]
    assert whitening.fit_transform(*flat, **DEFAULTS).matrix.shape == (5, 3)
    assert whitening.fit_transform(*flat, **DEFAULTS | {"dim": 2}).matrix.shape == (5, 2)
    with pytest.raises(InputError, match="--dim must be from 1 to 3"):
        whitening.fit_transform(*flat, **DEFAULTS | {"dim": 4})


def test_within_class_whitening_makes_classes_round(domains: list[np.ndarray]) -> None:
    rows, labels = domains[0], np.arange(70) % 7
    mean, matrix = whitening.fit_whitening(rows, labels, shrinkage=0)
    moved = (rows - mean) @ matrix
    within = np.zeros((5, 5))
    for label in range(7):
        within += 10 / 70 * np.cov(moved[labels == label].T, bias=True)
    np.testing.assert_allclose(within, np.eye(5), atol=1e-6)
    variances = moved.var(axis=0)
    assert (np.diff(variances) <= 1e-9).all()  # the first dimensions are those to keep
    _, narrow = whitening.fit_whitening(rows, labels, 2, shrinkage=0)
    np.testing.assert_allclose(narrow, matrix[:, :2])


def test_labels_of_one_class_say_no_more_than_none(domains: list[np.ndarray]) -> None:
    rows = domains[0]
    _, of_class = whitening.fit_whitening(rows, np.zeros(70, np.int64), shrinkage=0.3)
    mean, matrix = whitening.fit_whitening(rows, None, shrinkage=0.3)
    np.testing.assert_allclose(mean, rows.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(of_class @ of_class.T, matrix @ matrix.T)
    covariance = np.cov(rows.T.astype(np.float64), bias=True)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / 5 * np.eye(5)
    np.testing.assert_allclose(matrix @ matrix.T, np.linalg.inv(shrunk))


def test_classes_of_one_photo_say_nothing(domains: list[np.ndarray]) -> None:
    rows = domains[0]
    for found, expected in zip(
        whitening.fit_whitening(rows, np.arange(70)),
        whitening.fit_whitening(rows, None),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_fewer_rows_than_dimensions_are_shrunk() -> None:
    rng = np.random.default_rng(0)
    rows, new = rng.normal(size=(4, 32)), rng.normal(size=(2000, 32))
    for labels in (None, np.array([0, 0, 1, 1])):
        mean, matrix = whitening.fit_whitening(rows, labels)
        assert matrix.shape == (32, 32)
        variances = ((new - mean) @ matrix).var(axis=0)
        assert variances.max() < 100 * variances.min()  # no direction drowns the others


def test_what_no_whitening_can_be_fitted_to_is_refused(domains: list[np.ndarray]) -> None:
    rows = domains[0]
    with pytest.raises(InputError, match="do not differ from each other"):
        whitening.fit_whitening(rows[:1], None)
    with pytest.raises(InputError, match="do not differ from each other"):
        whitening.fit_whitening(rows[[0, 0, 1, 1]], np.array([0, 0, 1, 1]))
    with pytest.raises(InputError, match="--dim must be from 1 to 5"):
        whitening.fit_whitening(rows, None, 6)


def test_a_rotation_alone_changes_no_ranking(pipeline: Path) -> None:
    before = np.array(layout.NEIGHBORS.load(pipeline))
    transform.run(pipeline, power=0, center="none")
    np.testing.assert_array_equal(
        np.linalg.norm(layout.DATABASE.load(pipeline, "database_t.npy"), axis=1).round(5), 1
    )
    files = {"database": "database_t.npy", "test_matrix": "tdatabase_t.npy"}
    mips.run(pipeline, k=5, **files)  # type: ignore[arg-type]
    np.testing.assert_array_equal(layout.NEIGHBORS.load(pipeline), before)
    nns.run(pipeline, k=5, dimension=4, quota=1000, rerank=1000, **files)  # type: ignore[arg-type]
    np.testing.assert_array_equal(layout.NEIGHBORS.load(pipeline), before)


def test_the_stage_searches_its_files_and_refuses_others(pipeline: Path) -> None:
    transform.run(pipeline, center="per_domain")
    record = layout.DATABASE_RECORD.load(pipeline, "database_t.json")
    source = layout.DATABASE_RECORD.load(pipeline)
    assert record["checkpoint_sha256"] == source["checkpoint_sha256"]
    assert record["transform"]["center"] == "per_domain"
    mips.run(pipeline, k=3, database="database_t.npy", is_valid=True, run_name="mips-t")
    kept = layout.EVALUATION.load(pipeline, "evaluations/mips-t-valid.json")
    assert (kept["search"], kept["n_query"]) == ("mips-t", len(layout.NEIGHBORS.load(pipeline)))
    transform.run(pipeline, output_database="a.npy", output_queries="b.npy")
    wrong = [(None, "b.npy"), ("a.npy", None), ("a.npy", "tdatabase_t.npy")]
    layout.DATABASE_RECORD.at(pipeline, "tdatabase.json").unlink()  # as made by hand
    for database, queries in wrong:
        with pytest.raises(InputError, match="were not transformed alike"):
            mips.run(pipeline, k=3, database=database, test_matrix=queries)
    mips.run(pipeline, k=3, database="a.npy", test_matrix="b.npy")


def test_equal_inputs_give_equal_bytes(pipeline: Path) -> None:
    names = ["database_t.npy", "tdatabase_t.npy", "database_t.json", "database_t.matrix.npy"]
    contents = []
    for _ in range(2):
        transform.run(pipeline, dim=8)
        contents.append([(pipeline / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


def test_without_queries_the_database_is_transformed(pipeline: Path) -> None:
    layout.TEST_DATABASE.at(pipeline).unlink()
    transform.run(pipeline, dim=4)
    assert layout.DATABASE.load(pipeline, "database_t.npy").shape[1] == 4
    assert layout.DATABASE_RECORD.load(pipeline, "database_t.json")["dim"] == 4
    mips.run(pipeline, k=3, is_valid=True, database="database_t.npy")
    with pytest.raises(InputError, match=r"tdatabase\.npy is missing"):
        transform.run(pipeline, center="per_domain")


def test_mistakes_are_said(pipeline: Path) -> None:
    with pytest.raises(InputError, match="--power must be from 0 to 1"):
        transform.run(pipeline, power=2)
    with pytest.raises(InputError, match="four different names"):
        transform.run(pipeline, output_database="database.npy")
    before = sorted(path.name for path in pipeline.iterdir())
    for power in (np.nan, np.inf):
        with pytest.raises(InputError, match="--power must be from 0 to 1"):
            transform.run(pipeline, power=power)
    database = np.array(layout.DATABASE.load(pipeline))
    replace_embeddings(pipeline, np.repeat(database[:1], len(database), axis=0))
    with pytest.raises(InputError, match="do not differ from each other"):
        transform.run(pipeline)
    assert sorted(path.name for path in pipeline.iterdir()) == before
