"""Calibration: the probability that the predicted make, model and year are right.

``process_data.calibrate`` fits it (`calibration_fit`) and keeps it as plain numbers in
``calibration.json``; here it is read and evaluated.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from retrieval.data import layout, provenance, sources
from retrieval.data.command_lines import command
from retrieval.data.formats import InputError
from retrieval.evaluation.local_means import FEATURES, NEIGHBORS

log = logging.getLogger(__name__)

Level = Literal["make", "model", "year"]
LEVELS: tuple[Level, ...] = get_args(Level)
HASHES = ("checkpoint_sha256", "record_sha256")
MEASURED = {"n_query", "n_class", "wanted_false_reject", "levels"}
OF_LEVEL = {
    *("n_list", "n_group", "name_right", "brier", "ece", "auc_right", "auc_known"),
    *("auc_known_by_similarity", "false_reject", "false_accept", "reliability", "risk_coverage"),
}


@dataclass(frozen=True)
class Logistic:
    """A sigmoid of a weighted sum: p = 1 / (1 + exp(-(weights @ x + intercept))).

    Attributes:
        weights: (6,) one for each of `local_means.FEATURES`, standardized.
        intercept: Added to the sum.
    """

    weights: tuple[float, ...]
    intercept: float

    def __call__(self, standardized: np.ndarray) -> np.ndarray:
        """Return the probabilities of n rows of features, (n,) float64."""
        total = standardized @ np.array(self.weights) + self.intercept
        # Beyond 700, the exponential is not a float64.
        return 1 / (1 + np.exp(-np.clip(total, -700, 700)))


@dataclass(frozen=True)
class LevelCalibration:
    """Logistic regressions of one level (model, make or year) on the features of its prediction.

    Attributes:
        mean: (6,) subtracted from the features.
        scale: (6,) above 0; the features are then divided by it.
        known: Probability that the right answer is in the database.
        right: If it is: probability that it is the one that was named.
        reject_below: Least probability of ``known``: below it, an answer that is not most likely
            right is said to be missing from the database.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    known: Logistic
    right: Logistic
    reject_below: float = 0.0

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how likely n names are right, and that the right one is there at all.

        Args:
            features: (n, 6) float64, `NamedClasses.features`.

        Returns:
            probabilities, known: (n,) float64 in [0, 1]; the first is never above the second.
        """
        standardized = (features - np.array(self.mean)) / np.array(self.scale)
        known = self.known(standardized)
        return known * self.right(standardized), known

    def rejects(self, probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return which answers are probably not in the database, (n,) bool."""
        return (known < self.reject_below) & (probabilities < 0.5)


@dataclass(frozen=True)
class Calibration:
    """The calibration of each level that the database has; ``model`` is always one.

    Attributes:
        levels: Level -> what the features of its names mean.
    """

    levels: dict[Level, LevelCalibration]


def save_calibration(
    data_dir: Path,
    database: str,
    calibration: Calibration,
    measured: dict[str, Any],
    inputs: Sequence[Path] = (),
) -> Path:
    """Write ``calibration.json``: the numbers, what they were measured to be worth, and for what.

    Args:
        data_dir: The data directory.
        database: Name of the embeddings that it was fitted on; they have a record.
        calibration: The numbers.
        measured: Plain values.
        inputs: The files that the queries and the gallery come from.
    """
    content = {
        "k": NEIGHBORS,
        "features": list(FEATURES),
        **asdict(calibration),
        "measured": measured,
        "sources": sources.states(data_dir, *inputs),
    }
    return layout.CALIBRATION.save(data_dir, content | _origin(data_dir, database))


def load_calibration(data_dir: Path, database: str) -> tuple[Calibration, dict[str, Any]] | None:
    """Return the calibration and what was measured, from ``calibration.json``.

    None if there is no such file, or, with a warning, if it was fitted on other embeddings.

    Raises:
        InputError: The file holds something else.
    """
    path = layout.CALIBRATION.at(data_dir)
    if not path.exists():
        return None
    content = layout.CALIBRATION.load(data_dir)
    try:
        origin = {name: content[name] for name in ("database", *HASHES)}
        is_ours = content["k"] == NEIGHBORS and content["features"] == list(FEATURES)
        levels = {level: _level(content["levels"][level]) for level in content["levels"]}
        measured = dict(content["measured"])
        is_whole = set(measured) >= MEASURED and set(measured["levels"]) == set(levels)
        is_whole &= all(set(of_level) >= OF_LEVEL for of_level in measured["levels"].values())
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise _broken(data_dir) from error
    if not (is_ours and is_whole and {"model"} <= set(levels) <= set(LEVELS)):
        raise _broken(data_dir)
    again = command(layout.CALIBRATION.stage, {"database": database}, data_dir)
    if origin != _origin(data_dir, database):
        log.warning(
            "%s was fitted on other embeddings than %s and is ignored; fit it again: %s",
            path.name,
            database,
            again,
        )
        return None
    if changed := sources.changed_sources(data_dir, content):
        log.warning(
            "%s is older than %s; fit it again: %s", path.name, " and ".join(changed), again
        )
    return Calibration(levels), measured


def _level(content: dict[str, Any]) -> LevelCalibration:
    """Return what the file says of a level; raise ValueError for numbers that cannot be."""
    mean, scale = _numbers(content["mean"]), _numbers(content["scale"])
    known, right = (
        Logistic(_numbers(of["weights"]), float(of["intercept"]))
        for of in (content["known"], content["right"])
    )
    reject_below = float(content["reject_below"])
    single = [known.intercept, right.intercept, reject_below]
    if not (np.isfinite(single).all() and min(scale) > 0):
        raise ValueError
    return LevelCalibration(mean, scale, known, right, reject_below)


def _numbers(values: list[float]) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if len(numbers) != len(FEATURES) or not np.isfinite(numbers).all():
        raise ValueError
    return numbers


def _origin(data_dir: Path, database: str) -> dict[str, Any]:
    name = provenance.record_name(database)
    record = layout.DATABASE_RECORD.load(data_dir, name)
    file = layout.DATABASE_RECORD.at(data_dir, name)
    return {
        "database": database,
        "checkpoint_sha256": record.get("checkpoint_sha256"),
        "record_sha256": provenance.sha256(file),
    }


def _broken(data_dir: Path) -> InputError:
    file = layout.CALIBRATION
    return InputError(
        f"{file.at(data_dir)} is not a calibration; make it again with: {file.made_by(data_dir)}"
    )
