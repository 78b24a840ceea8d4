"""Predictions from the answers to a photo: make, model and year, with probabilities.

The command, the page and the API predict from the first `local_means.NEIGHBORS` answers, however
many are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrieval.evaluation.calibration import Calibration, Level
from retrieval.evaluation.local_means import NEIGHBORS, name_classes
from retrieval.photo_search.answers import Answer
from retrieval.store.rows import Metadata


@dataclass(frozen=True)
class LevelPrediction:
    """The prediction at one level.

    Attributes:
        name: Of the make, the model or the year.
        label: Class of the model; of a make, that of its best answer.
        share: Its share of the vote, in (0, 1]: `local_means.NamedClasses.shares`.
        probability: That it is right, in [0, 1]; None without a calibration.
        known: Probability that the right one is in the database, at least ``probability``; None
            without a calibration.
        is_rejected: Whether the right one is probably not in the database.
    """

    name: str
    label: int
    share: float
    probability: float | None = None
    known: float | None = None
    is_rejected: bool = False


@dataclass(frozen=True)
class Prediction:
    """The predictions at each level; None where the database has no names.

    Attributes:
        make: The make.
        model: The model.
        year: The year of the model.
    """

    make: LevelPrediction | None = None
    model: LevelPrediction | None = None
    year: LevelPrediction | None = None

    @property
    def in_database(self) -> bool | None:
        """Whether the model is predicted to be in the database; None without a calibration.

        It is said to be missing if that is probable enough: see ``reject_below`` of
        `LevelCalibration`.
        """
        is_judged = self.model is not None and self.model.probability is not None
        return not self.model.is_rejected if self.model is not None and is_judged else None


def predict(answers: Sequence[Answer], calibration: Calibration | None) -> Prediction:
    """Predict from the first answers.

    Args:
        answers: The answers, best first, none left out.
        calibration: How likely names are right; None: not known, or the answers were filtered.
    """
    answers = answers[:NEIGHBORS]
    known = [answer.metadata for answer in answers]
    makes = [image.make or None for image in known]
    models = [image.label if image.model else None for image in known]
    years = [(image.label, image.year) if image.year else None for image in known]
    make = _predict_level("make", answers, makes, calibration)
    model, year = _predict_level("model", answers, models, calibration), None
    if model is not None:  # the year is one of the predicted model
        is_of_model = np.array([label == model.label for label in models])
        year = _predict_level("year", answers, years, calibration, is_of_model)
    return _nested(Prediction(make, model, year), known)


def _predict_level(
    level: Level,
    answers: Sequence[Answer],
    groups: Sequence[object],
    calibration: Calibration | None,
    may_win: np.ndarray | None = None,
) -> LevelPrediction | None:
    """Return what is most likely at a level.

    Args:
        level: The level.
        answers: The answers.
        groups: The group of each answer; None: it is not known.
        calibration: How likely names are right.
        may_win: (n,) bool: whose groups can be named; None: all.
    """
    numbers: dict[object, int] = {None: -1}
    for group in groups:
        numbers.setdefault(group, len(numbers) - 1)
    if len(numbers) == 1:
        return None
    codes = np.array([numbers[group] for group in groups], np.int64)
    named = name_classes(
        np.array([answer.similarity for answer in answers])[None],
        codes[None],
        np.stack([answer.embedding for answer in answers])[None],
        None if may_win is None else may_win[None],
    )
    if named.labels[0] < 0:
        return None
    first = answers[int((codes == named.labels[0]).argmax())].metadata
    plain = LevelPrediction(getattr(first, level), first.label, float(named.shares[0]))
    of_level = None if calibration is None else calibration.levels.get(level)
    if of_level is None:
        return plain
    probabilities, known = of_level(named.features)
    return replace(
        plain,
        probability=float(probabilities[0]),
        known=float(known[0]),
        is_rejected=bool(of_level.rejects(probabilities, known)[0]),
    )


def _nested(prediction: Prediction, images: Sequence[Metadata]) -> Prediction:
    """Make levels agree: a model is never more probable than its make, nor a year than its model.

    Args:
        prediction: What is most likely at each level; each was calibrated alone.
        images: The metadata of the answers.
    """
    make, model, year = prediction.make, prediction.model, prediction.year
    if model is None or model.probability is None or model.known is None:
        return prediction
    make_of_model = next(image.make for image in images if image.label == model.label)
    if make is not None and make.name == make_of_model and make.known is not None:
        make = replace(
            make,
            probability=max(make.probability or 0.0, model.probability),
            known=max(make.known, model.known),
            is_rejected=make.is_rejected and model.is_rejected,
        )
    if year is not None and year.known is not None:
        year = replace(
            year,
            probability=min(year.probability or 0.0, model.probability),
            known=min(year.known, model.known),
            is_rejected=year.is_rejected or model.is_rejected,
        )
    return Prediction(make, model, year)


def percent(probability: float) -> str:
    """Return a probability as text; nothing measured is certain.

    >>> percent(0.934), percent(0.999), percent(0.001)
    ('93 %', 'over 99 %', 'under 1 %')
    """
    if probability >= 0.995:
        return "over 99 %"
    return "under 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def headline(prediction: Prediction) -> str:
    """Return the prediction in a few words; empty if the database has no names."""
    if prediction.model is None:
        return ""
    if prediction.in_database is False:
        return "Probably not in the database"
    probability = prediction.model.probability
    return prediction.model.name + ("" if probability is None else f", {percent(probability)}")


def summary(prediction: Prediction, is_filtered: bool = False) -> str:
    """Return a prediction in one line; empty if the database has no names.

    Args:
        prediction: The prediction.
        is_filtered: Whether only some images were searched.

    >>> sure = LevelPrediction("Ravo A", 1, 0.8, 0.87, 0.95)
    >>> summary(Prediction(LevelPrediction("Ravo", 1, 0.9, 0.96, 0.98), sure))
    'most likely: Ravo A, 87 %; make: Ravo, 96 %'
    >>> summary(Prediction(None, replace(sure, probability=0.1, known=0.19, is_rejected=True)))
    'probably not in the database, 81 %; nearest model: Ravo A, 10 %'
    """
    model = prediction.model
    if model is None:
        return ""
    if model.probability is None or model.known is None:
        where = " among these" if is_filtered else ""
        return f"most likely{where}: {model.name}, {100 * model.share:.0f} % of the vote"
    if model.is_rejected:
        nearest = f"nearest model: {model.name}, {percent(model.probability)}"
        first = f"probably not in the database, {percent(1 - model.known)}"
        return "; ".join([first, *_line("make", prediction.make), nearest])
    first = f"most likely: {model.name}, {percent(model.probability)}"
    return "; ".join([first, *_line("make", prediction.make), *_line("year", prediction.year)])


def _line(level: str, named: LevelPrediction | None) -> list[str]:
    """Return the text of another level than the model's; empty if it is not calibrated."""
    if named is None or named.probability is None or named.known is None:
        return []
    if named.is_rejected:
        return [f"{level}: probably not in the database, {percent(1 - named.known)}"]
    return [f"{level}: {named.name}, {percent(named.probability)}"]
