"""Predictions from the answers to a photo: make, model and year, with probabilities.

The command, the page and the API predict from the first `local_means.NEIGHBORS` answers, however
many are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrieval.evaluation.calibration import Calibration, Level
from retrieval.evaluation.local_means import NEIGHBORS, name_classes
from retrieval.photo_search.results import Answer, percent


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


def predict(
    answers: Sequence[Answer], embeddings: np.ndarray, calibration: Calibration | None
) -> Prediction:
    """Predict from the first answers.

    Args:
        answers: The answers, best first, none left out.
        embeddings: (n, dim) float32 of unit L2 norm, those of the answers.
        calibration: How likely names are right; None: not known, or the answers were filtered.
    """
    judged = _Ranked(answers[:NEIGHBORS], embeddings[:NEIGHBORS], calibration)
    makes = [answer.make or None for answer in judged.answers]
    models = [answer.label if answer.name else None for answer in judged.answers]
    years = [(answer.label, answer.year) if answer.year else None for answer in judged.answers]
    make, model = judged.name("make", makes), judged.name("model", models)
    year = None
    if model is not None:  # the year is one of the model that is named
        year = judged.name("year", years, np.array([label == model.label for label in models]))
    return _nested(Prediction(make, model, year), judged.answers)


@dataclass(frozen=True)
class _Ranked:
    """The answers that are judged, their embeddings, and how likely names are right."""

    answers: Sequence[Answer]
    embeddings: np.ndarray
    calibration: Calibration | None

    def name(
        self, level: Level, groups: Sequence[object], may_win: np.ndarray | None = None
    ) -> LevelPrediction | None:
        """Return what is named at a level.

        Args:
            level: The level.
            groups: The group of each answer; None: it is not known.
            may_win: (n,) bool: whose groups can be named; None: all.
        """
        numbers: dict[object, int] = {None: -1}
        for group in groups:
            numbers.setdefault(group, len(numbers) - 1)
        if len(numbers) == 1:
            return None
        codes = np.array([numbers[group] for group in groups], np.int64)
        similarities = np.array([answer.similarity for answer in self.answers])
        found = name_classes(
            similarities[None],
            codes[None],
            self.embeddings[None],
            None if may_win is None else may_win[None],
        )
        if found.labels[0] < 0:
            return None
        first = self.answers[int((codes == found.labels[0]).argmax())]
        name = {"make": first.make, "model": first.name, "year": first.year}[level]
        plain = LevelPrediction(name or "", first.label, float(found.shares[0]))
        of_level = self.calibration.levels.get(level) if self.calibration is not None else None
        if of_level is None:
            return plain
        probabilities, known = of_level(found.features)
        return replace(
            plain,
            probability=float(probabilities[0]),
            known=float(known[0]),
            is_rejected=bool(of_level.rejects(probabilities, known)[0]),
        )


def _nested(prediction: Prediction, answers: Sequence[Answer]) -> Prediction:
    """Make levels agree: a model is never more probable than its make, nor a year than its model.

    Args:
        prediction: What is named at each level; each was calibrated alone.
        answers: The answers that it was named from.
    """
    make, model, year = prediction.make, prediction.model, prediction.year
    if model is None or model.probability is None or model.known is None:
        return prediction
    own_make = next(answer.make for answer in answers if answer.label == model.label)
    if make is not None and make.name == own_make and make.known is not None:
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
