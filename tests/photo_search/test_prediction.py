"""Make, model and year of a prediction, and the words for it."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.evaluation.calibration import Calibration
from retrieval.photo_search.answers import Answer
from retrieval.photo_search.prediction import (
    LevelPrediction,
    Prediction,
    headline,
    predict,
    summary,
)
from retrieval.store.rows import Metadata
from tests.calibrations import some_calibration


def answers(*rows: tuple[float, int, str, str]) -> list[Answer]:
    """Return answers of similarity, label, make and year.

    Their embeddings have nothing in common but their similarity to the photo.
    """
    found = []
    for number, (similarity, label, make, year) in enumerate(rows):
        embedding = np.zeros(len(rows) + 1)
        embedding[[0, number + 1]] = similarity, (1 - similarity**2) ** 0.5
        known = Metadata(make, f"m{label}", label, year)
        found.append(Answer(number, similarity, known, embedding))
    return found


CARS = answers(
    (0.9, 1, "Ravo", "2010"),
    (0.88, 1, "Ravo", "2011"),
    (0.87, 1, "Ravo", "2011"),
    (0.8, 2, "Zet", "2012"),
    (0.3, 2, "Zet", "2012"),
)


def test_each_level_has_its_name() -> None:
    prediction = predict(CARS, None)
    assert (prediction.make.name, prediction.model.name, prediction.year.name) == (
        "Ravo",
        "m1",
        "2011",
    )  # type: ignore[union-attr]
    # Above the last: .6, .58 and .57 of 2.25 are model 1, and .58 + .57 are of 2011.
    assert prediction.model is not None and prediction.model.share == pytest.approx(1.75 / 2.25)
    assert prediction.year is not None and prediction.year.share == pytest.approx(1.15 / 2.25)
    assert prediction.in_database is None and predict([], None) == Prediction()


def test_the_year_is_one_of_the_model() -> None:
    cars = answers(
        (0.9, 1, "", "2010"), (0.85, 1, "", ""), (0.8, 2, "", "2012"), (0.8, 2, "", "2012")
    )
    prediction = predict(cars, None)
    assert prediction.make is None
    assert prediction.model is not None and prediction.year is not None
    assert (prediction.model.name, prediction.year.name) == ("m1", "2010")


def test_levels_agree() -> None:
    calibration = some_calibration()
    of_level = calibration.levels["model"]
    surer = replace(of_level, known=replace(of_level.known, intercept=9.0))
    skewed = Calibration({"make": of_level, "model": surer, "year": surer})
    prediction = predict(CARS, skewed)
    make, model, year = prediction.make, prediction.model, prediction.year
    assert make and model and year
    assert make.probability == model.probability and make.known == model.known
    assert year.probability is not None and model.probability is not None
    assert year.probability <= model.probability <= (model.known or 0)


def test_what_is_probably_missing_is_said() -> None:
    prediction = predict(CARS, some_calibration(known=-1.0, reject_below=0.7))
    assert prediction.in_database is False
    assert headline(prediction) == "Probably not in the database"
    assert summary(prediction).startswith("probably not in the database, ")
    assert "nearest model: m1, " in summary(prediction)
    make = LevelPrediction("Zet", 2, 0.9, 0.94, 0.97)
    text = summary(replace(prediction, make=make))
    assert "; make: Zet, 94 %; " in text and "year" not in text


def test_words_without_probabilities() -> None:
    prediction = predict(CARS, None)
    assert summary(prediction) == "most likely: m1, 78 % of the vote"
    assert summary(prediction, is_filtered=True) == "most likely among these: m1, 78 % of the vote"
    assert headline(prediction) == "m1" and headline(Prediction()) == summary(Prediction()) == ""
