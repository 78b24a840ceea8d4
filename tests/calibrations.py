"""Calibrations by hand, for tests that need one."""

from pathlib import Path
from typing import Any

from retrieval.evaluation.calibration import (
    LEVELS,
    MEASURED,
    OF_LEVEL,
    Calibration,
    LevelCalibration,
    Logistic,
    save_calibration,
)

MEASURES: dict[str, Any] = {
    **dict.fromkeys(MEASURED, 0),
    "levels": {level: dict.fromkeys(OF_LEVEL, 0) for level in LEVELS},
}


def some_calibration(
    known: float = 3.0, right: float = 2.0, reject_below: float = 0.0
) -> Calibration:
    """Return a calibration by which surer votes are more probable.

    Args:
        known: Intercept of the probability that the right one is in the database.
        right: The same of the probability that it is named.
        reject_below: Least probability to be in the database.
    """
    weights = (0.0, 1.0, 0.0, 0.0, 1.0, 0.0)  # ahead and share
    sigmoids = Logistic(weights, known), Logistic(weights, right)
    level = LevelCalibration((0.0,) * 6, (1.0,) * 6, *sigmoids, reject_below)
    return Calibration(dict.fromkeys(LEVELS, level))


def save_some(data_dir: Path, **values: float) -> None:
    """Write ``calibration.json`` for ``database.npy``, as `some_calibration` takes them."""
    save_calibration(data_dir, "database.npy", some_calibration(**values), MEASURES)
