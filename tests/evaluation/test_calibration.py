"""How likely an answer is: fitted, measured on held-out classes, kept, and refused when stale."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation.calibration import (
    LEVELS,
    Calibration,
    LevelCalibration,
    Logistic,
    load_calibration,
    save_calibration,
)
from retrieval.evaluation.calibration_fit import (
    Cases,
    calibrate_answers,
    calibrate_level,
    find_cases,
    fit_level,
    groups_of,
    predict_held_out,
    query_rows,
)
from retrieval.evaluation.inputs import load_query_gallery
from retrieval.evaluation.local_means import FEATURES, NEIGHBORS
from retrieval.evaluation.reliability import (
    brier_score,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)
from tests.calibrations import MEASURES
from tests.conftest import replace_embeddings

SOME = LevelCalibration(
    (0.5,) * 6, (0.25,) * 6, Logistic((1.5,) * 6, 0.5), Logistic((0.5,) * 6, -1.0), 0.2
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def drawn_cases(n: int = 4000, seed: int = 0) -> tuple[Cases, np.ndarray]:
    """Return cases of which the truth is known, and the true probability of each."""
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 2, (n, 6))
    known = sigmoid(features[:, 0] - 3)
    right = sigmoid(features[:, 2] - 2)
    is_known = rng.random(n) < known
    is_right = is_known & (rng.random(n) < right)
    return Cases(features, is_right, is_known, rng.integers(0, 20, n)), known * right


def test_the_truth_is_found_again() -> None:
    cases, truth = drawn_cases()
    fitted, measured = calibrate_level(cases, 0.05)
    probabilities, known = fitted(cases.features)
    assert np.abs(probabilities - truth).mean() < 0.02
    assert (probabilities <= known).all()
    assert measured["ece"] < 0.03
    assert measured["brier"] == pytest.approx(np.mean(truth * (1 - truth)), abs=0.01)
    assert sum(of_bin["count"] for of_bin in measured["reliability"]) == 4000


def test_so_many_are_rejected_as_was_asked_for() -> None:
    cases, _ = drawn_cases()
    for wanted in (0.05, 0.3):
        fitted, measured = calibrate_level(cases, wanted)
        assert measured["false_reject"] <= wanted + 1e-3
        probabilities, known = predict_held_out(cases)
        is_rejected = (known < fitted.reject_below) & (probabilities < 0.5)
        assert measured["false_reject"] == is_rejected[cases.is_known].mean()
        assert measured["false_accept"] == (~is_rejected[~cases.is_known]).mean()
        # What is most likely right is never rejected.
        assert not fitted.rejects(np.array([0.51]), np.array([0.0])).any()


def test_predictions_never_saw_the_class_of_the_query() -> None:
    cases, _ = drawn_cases(400)
    groups = cases.groups % 4
    cases = Cases(cases.features, cases.is_right, cases.is_known, groups)
    of_one = np.flatnonzero(groups == 1)
    lies = Cases(cases.features, cases.is_right.copy(), cases.is_known.copy(), groups)
    lies.is_known[of_one] = ~lies.is_known[of_one]
    lies.is_right[of_one] &= lies.is_known[of_one]
    before, after = predict_held_out(cases), predict_held_out(lies)
    np.testing.assert_array_equal(before[1][of_one], after[1][of_one])
    assert (np.delete(before[1], of_one) != np.delete(after[1], of_one)).all()


def test_a_perfect_vote_is_not_certain() -> None:
    cases, _ = drawn_cases(50)
    perfect = Cases(cases.features, cases.is_known, cases.is_known, cases.groups)
    probabilities, known = fit_level(perfect)(cases.features)
    n = cases.is_known.sum()
    np.testing.assert_allclose(probabilities / known, (n + 1) / (n + 2))


def test_lists_lack_what_was_taken_out() -> None:
    rng = np.random.default_rng(3)
    gallery = rng.normal(size=(60, 4)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    labels = np.repeat(np.arange(6), 10)
    makes = {0: "Ravo", 1: "Ravo", 2: "Ravo", 3: "Zet", 4: "Zet", 5: "Kimo"}
    years = np.array(["2010", "2012"] * 30, object)
    groups = groups_of(labels, makes, years)
    assert set(groups) == {"make", "model", "year"}
    queries = np.array([0, 13, 37, 59])
    cases = find_cases(gallery, groups, queries)
    exact = gallery.astype(np.float64) @ gallery.T.astype(np.float64)
    top = cases["make"].features[:, FEATURES.index("top")].reshape(3, 4)
    mean = cases["model"].features[:, FEATURES.index("mean")].reshape(2, 4)
    for column, row in enumerate(queries):
        others = np.arange(60) != row
        of_make = np.array([makes[label] for label in labels.tolist()])
        for line, gone in enumerate((labels == -5, labels == labels[row])):
            best = np.sort(exact[row, others & ~gone])[::-1][:NEIGHBORS]
            assert mean[line, column] == pytest.approx(best.mean(), abs=1e-6)
        left = others & (of_make != of_make[row])
        assert top[2, column] <= exact[row, left].max() + 1e-6
    assert cases["make"].is_known.reshape(3, 4).tolist() == [
        [True] * 4,
        [True, True, True, False],  # without the model: Kimo has one only
        [False] * 4,  # without the make
    ]
    assert cases["model"].is_known.reshape(2, 4).tolist() == [[True] * 4, [False] * 4]
    assert not cases["model"].is_right[4:].any() and not cases["make"].is_right[8:].any()
    _, measured = calibrate_answers(cases, 0.05)
    assert (measured["n_query"], measured["n_class"]) == (4, 4)
    assert set(measured["levels"]) == {"model", "year"}  # there are too few makes


def test_levels_need_something_to_tell_apart() -> None:
    labels = np.array([1, 1, 2, 2])
    assert set(groups_of(labels, {}, None)) == {"model"}
    one_year = np.array(["2010", "2010", "2012", ""], object)
    assert set(groups_of(labels, {1: "Ravo", 2: "Zet"}, one_year)) == {"make", "model"}


def test_queries_are_images_that_were_not_trained_on(pipeline: Path) -> None:
    found = load_query_gallery(pipeline, is_valid=True)
    assert sorted(query_rows(found)) == sorted(found.query_index)
    found.gallery_record["split"] = {}
    assert sorted(query_rows(found)) == list(range(len(found.gallery)))


def test_few_classes_are_refused() -> None:
    cases, _ = drawn_cases(20)
    one = Cases(cases.features, cases.is_right, cases.is_known, np.zeros(20, np.int64))
    with pytest.raises(InputError, match="at least 4 classes, and there are 1"):
        calibrate_answers({"model": one}, 0.05)


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
    coverage, risk = risk_coverage(probabilities, outcomes)
    assert coverage == [0.25, 0.5, 0.75, 1] and risk == [1, 1 / 2, 1 / 3, 1 / 2]


def test_it_is_kept_and_read(pipeline: Path) -> None:
    some = Calibration(dict.fromkeys(LEVELS, SOME))
    save_calibration(pipeline, "database.npy", some, MEASURES)
    assert load_calibration(pipeline, "database.npy") == (some, MEASURES)


def test_a_stale_one_is_ignored_with_a_line(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_calibration(pipeline, "database.npy") is None
    assert not caplog.messages
    save_calibration(pipeline, "database.npy", Calibration(dict.fromkeys(LEVELS, SOME)), MEASURES)
    replace_embeddings(pipeline, layout.DATABASE.load(pipeline)[::-1].copy())
    with caplog.at_level(logging.WARNING):
        assert load_calibration(pipeline, "database.npy") is None
    (line,) = caplog.messages
    assert "fitted on other embeddings than database.npy and is ignored" in line


BREAKS: list[Callable[[dict[str, Any]], Any]] = [
    lambda content: content.update(k=49),
    lambda content: content.update(features=["top"]),
    lambda content: content.update(levels={}),
    lambda content: content.update(levels={"wheel": content["levels"]["model"]}),
    lambda content: content["levels"]["model"].update(mean=[0.5] * 5),
    lambda content: content["levels"]["model"].update(scale=[0.0] * 6),
    lambda content: content["levels"]["model"].update(reject_below="NaN"),
    lambda content: content["levels"]["model"]["known"].update(weights="abcdef"),
    lambda content: content["levels"]["model"]["right"].update(intercept=None),
    lambda content: content["levels"].update(model=[1]),
    lambda content: content.update(measured={"n_query": 3}),
    lambda content: content["measured"].update(levels={"model": {}}),
    lambda content: content.clear(),
]


def test_a_broken_one_is_refused(pipeline: Path) -> None:
    path = save_calibration(
        pipeline, "database.npy", Calibration(dict.fromkeys(LEVELS, SOME)), MEASURES
    )
    whole = path.read_text()
    for break_it in BREAKS:
        content = json.loads(whole)
        break_it(content)
        path.write_text(json.dumps(content))
        with pytest.raises(
            InputError, match="(is not a calibration|does not hold what it should); make it again"
        ):
            load_calibration(pipeline, "database.npy")
