"""What a similarity means: fitted, measured on held-out classes, kept, and refused when stale."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import build_image_db
from process_data import make_train_valid, mask_data
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation import calibration, calibration_fit
from retrieval.evaluation.calibration import Calibration, load_calibration, save_calibration
from retrieval.evaluation.calibration_fit import Neighbors, calibrate_neighbors, find_neighbors
from retrieval.evaluation.query_gallery import load_query_gallery
from retrieval.evaluation.reliability import (
    brier_score,
    expected_calibration_error,
    reliability_bins,
)
from tests.conftest import replace_embeddings, train_small

MEASURED = dict.fromkeys(calibration.MEASURED, 0)


def truth(similarities: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-20 * (similarities - 0.6)))


def drawn_neighbors(n_query: int = 200, k: int = 10, seed: int = 0) -> Neighbors:
    """Return neighbors of the drawn truth, and those of queries without an answer."""
    rng = np.random.default_rng(seed)
    similarities = -np.sort(-rng.uniform(0.2, 1, (2, n_query, k)), axis=2)
    similarities[1] -= 0.35  # nothing is right there, so there are only low ones
    is_same = rng.random(similarities.shape) < truth(similarities)
    is_same[1] = False
    return Neighbors(similarities, is_same, rng.integers(0, 20, n_query))


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_the_function_is_that_of_scikit_learn(method: str) -> None:
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    neighbors = drawn_neighbors()
    x, y = neighbors.similarities.ravel(), neighbors.is_same.ravel()
    found = calibration_fit.fit_calibration(method, x, y)  # type: ignore[arg-type]
    points = np.linspace(-0.5, 1.5, 401)
    if method == "isotonic":
        oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y)
        expected = oracle.predict(points)
    else:
        expected = LogisticRegression(C=1e6).fit(x[:, None], y).predict_proba(points[:, None])[:, 1]
    np.testing.assert_allclose(found(points), expected, atol=1e-12)
    assert (np.diff(found(points)) >= 0).all()


def test_the_truth_is_found_again() -> None:
    neighbors = drawn_neighbors(2000)
    is_same = np.random.default_rng(1).random(neighbors.is_same.shape) < truth(
        neighbors.similarities
    )
    function, measured = calibrate_neighbors(replace(neighbors, is_same=is_same))
    assert measured["method"] == "logistic"  # which the truth is
    points = np.linspace(0, 1, 50)
    np.testing.assert_allclose(function(points), truth(points), atol=0.02)
    best = measured["held_out"]["logistic"]
    assert best["brier"] < measured["held_out"]["isotonic"]["brier"]
    assert best["ece"] < 0.01
    assert sum(of_bin["count"] for of_bin in measured["reliability"]) == 2 * 2000 * 10


def test_errors_by_hand() -> None:
    probabilities = np.array([0.05, 0.15, 0.95, 1.0])
    outcomes = np.array([False, True, True, False])
    assert brier_score(probabilities, outcomes) == pytest.approx(
        (0.05**2 + 0.85**2 + 0.05**2 + 1) / 4
    )
    # Bins 0 to .1, .1 to .2 and .9 to 1, which holds two: mean .975, half of them true.
    gaps = [0.05, 0.85, 2 * (0.975 - 0.5)]
    assert expected_calibration_error(probabilities, outcomes) == pytest.approx(sum(gaps) / 4)
    bins = reliability_bins(probabilities, outcomes)
    assert [(b.count, b.observed) for b in bins] == [(1, 0), (1, 1), (2, 0.5)]
    assert [(b.lower, b.upper) for b in bins] == [(0, 0.1), (0.1, 0.2), (0.9, 1)]


def test_neighbors_are_searched_with_the_class_and_without(pipeline: Path) -> None:
    found, k = load_query_gallery(pipeline, is_valid=True), 7
    neighbors = find_neighbors(found, k)
    exact = found.queries.astype(np.float64) @ np.array(found.gallery, np.float64).T
    for row, label in enumerate(found.query_labels):
        is_same = found.gallery_labels == label
        for half, is_allowed in enumerate((found.is_allowed, found.is_allowed & ~is_same)):
            rows = np.flatnonzero(is_allowed)
            best = rows[np.argsort(-exact[row, rows], kind="stable")][:k]
            np.testing.assert_allclose(
                neighbors.similarities[half, row], exact[row, best], atol=1e-6
            )
            np.testing.assert_array_equal(neighbors.is_same[half, row], is_same[best])


def test_too_few_neighbors_are_not_counted(pipeline: Path) -> None:
    found = load_query_gallery(pipeline, is_valid=True)
    neighbors = find_neighbors(found, found.n_gallery)
    counts = np.isfinite(neighbors.similarities).sum(axis=2)
    assert (counts[0] == found.n_gallery).all()
    np.testing.assert_array_equal(counts[1], found.n_gallery - found.n_relevant)
    _, measured = calibrate_neighbors(neighbors)
    assert sum(of_bin["count"] for of_bin in measured["reliability"]) == counts.sum()


def test_not_in_the_database_is_judged_by_the_first_neighbor() -> None:
    neighbors = drawn_neighbors(400)
    _, measured = calibrate_neighbors(neighbors)
    held = calibration_fit.cross_validate(measured["method"], neighbors).probabilities
    assert measured["false_reject"] == (held[0].max(axis=1) < 0.5).mean()
    assert measured["false_accept"] == (held[1].max(axis=1) >= 0.5).mean()


def test_predictions_never_saw_the_class_of_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    neighbors = drawn_neighbors(60)
    seen: list[np.ndarray] = []

    def spied(method: str, similarities: np.ndarray, is_same: np.ndarray) -> Calibration:
        seen.append(similarities)
        return Calibration("isotonic", (0.0,), (0.5,))

    monkeypatch.setattr(calibration_fit, "fit_calibration", spied)
    held_out = calibration_fit.cross_validate("isotonic", neighbors)
    assert len(seen) == 5 and (held_out.probabilities == 0.5).all()
    for label in np.unique(neighbors.labels):
        own = neighbors.similarities[:, neighbors.labels == label].ravel()
        # In one fold, all neighbors of a class are left out; in the others, all are there.
        assert sum(not np.isin(own, fold).any() for fold in seen) == 1
        assert sum(bool(np.isin(own, fold).all()) for fold in seen) == 4


def test_what_cannot_be_calibrated_is_refused() -> None:
    one = Neighbors(np.full((2, 4, 3), 0.5), np.zeros((2, 4, 3), bool), np.zeros(4, np.int64))
    with pytest.raises(InputError, match="at least two classes"):
        calibrate_neighbors(one)
    wrong = Neighbors(one.similarities, one.is_same, np.arange(4))
    with pytest.raises(InputError, match="all right or all wrong"):
        calibrate_neighbors(wrong)


def test_it_is_kept_and_read_without_scikit_learn(pipeline: Path) -> None:
    for function in (
        Calibration("isotonic", (0.25, 0.5), (0.0, 1.0)),
        Calibration("logistic", slope=3.5, intercept=-2.25),
    ):
        save_calibration(pipeline, "database.npy", function, MEASURED)
        assert load_calibration(pipeline, "database.npy") == (function, MEASURED)


def test_a_stale_one_is_ignored_with_a_line(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_calibration(pipeline, "database.npy") is None
    assert not caplog.messages
    save_calibration(pipeline, "database.npy", Calibration("logistic", slope=1.0), MEASURED)
    replace_embeddings(pipeline, layout.DATABASE.load(pipeline)[::-1].copy())
    with caplog.at_level(logging.WARNING):
        assert load_calibration(pipeline, "database.npy") is None
    (line,) = caplog.messages
    assert "fitted on other embeddings than database.npy and is ignored" in line


@pytest.mark.parametrize(
    "function",
    [
        {"similarities": [0.1, 0.2], "probabilities": [0.5]},
        {"similarities": [0.2, 0.1], "probabilities": [0.1, 0.5]},
        {"similarities": [0.1, 0.2], "probabilities": [0.5, 0.1]},
        {"similarities": [0.1, 0.2], "probabilities": [0.5, 1.1]},
        {"similarities": [], "probabilities": []},
        {"similarities": "ab", "probabilities": [0.5, 0.6]},
        {"method": "pickle"},
        {"method": "logistic", "slope": "NaN"},
        {"slope": None},
    ],
)
def test_a_broken_one_is_refused(pipeline: Path, function: dict[str, object]) -> None:
    good = Calibration("isotonic", (0.25, 0.5), (0.0, 1.0))
    path = save_calibration(pipeline, "database.npy", good, MEASURED)
    content = json.loads(path.read_text())
    content["function"] |= function
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match="(is not a calibration|does not hold what it should); make it again"
    ):
        load_calibration(pipeline, "database.npy")


def test_what_was_measured_must_be_whole(pipeline: Path) -> None:
    path = save_calibration(pipeline, "database.npy", Calibration("logistic"), {"k": 3})
    with pytest.raises(InputError, match="(is not a calibration|does not hold what it should)"):
        load_calibration(pipeline, "database.npy")
    path.write_text("[]")
    with pytest.raises(InputError, match="(is not a calibration|does not hold what it should)"):
        load_calibration(pipeline, "database.npy")


def test_classes_that_were_not_trained_on_are_searched_among_each_other(pipeline: Path) -> None:
    make_train_valid.run(pipeline, protocol="classes")
    model = train_small(pipeline, pipeline / "apart", epoch=1)
    build_image_db.run(pipeline, model)
    build_image_db.run(pipeline, model, "test_image.npy", "tdatabase.npy")
    mask_data.run(pipeline)
    found, k = load_query_gallery(pipeline, is_valid=True), 4
    assert found.own_rows is not None
    neighbors = find_neighbors(found, k)
    exact = found.queries.astype(np.float64) @ np.array(found.gallery, np.float64).T
    for row, (own, label) in enumerate(zip(found.own_rows, found.query_labels, strict=True)):
        is_same = found.gallery_labels == label
        others = found.is_allowed & (np.arange(len(is_same)) != own)
        for half, is_allowed in enumerate((others, others & ~is_same)):
            rows = np.flatnonzero(is_allowed)
            best = rows[np.argsort(-exact[row, rows], kind="stable")][:k]
            np.testing.assert_array_equal(neighbors.is_same[half, row], is_same[best])
