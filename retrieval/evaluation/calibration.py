"""What a similarity means: the probability that two images show the same model.

``process_data.calibrate`` fits it (`calibration_fit`) and keeps it as plain numbers in
``calibration.json``; here it is read and evaluated.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.data import layout, provenance
from retrieval.data.formats import InputError

log = logging.getLogger(__name__)

Method = Literal["isotonic", "logistic"]
SHOWN_FROM = 0.5  # probability; answers below it are more likely wrong than right
HASHES = ("checkpoint_sha256", "record_sha256")
MEASURED = {
    *("n_query", "n_class", "k", "method", "held_out", "reliability"),
    *("threshold", "false_reject", "false_accept"),
}


@dataclass(frozen=True)
class Calibration:
    """A rising function from similarities to probabilities.

    Attributes:
        method: ``isotonic`` interpolates between points; ``logistic`` is a sigmoid.
        similarities: (n,) float64, ascending: the points; empty for ``logistic``.
        probabilities: (n,) float64 in [0, 1], not descending.
        slope: Of the sigmoid, per unit of similarity; above 0.
        intercept: Of the sigmoid: p = 1 / (1 + exp(-(slope * similarity + intercept))).
    """

    method: Method
    similarities: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    slope: float = 0.0
    intercept: float = 0.0

    def __call__(self, similarities: np.ndarray) -> np.ndarray:
        """Return the probability of each similarity, float64 of the same shape.

        >>> Calibration("isotonic", (0.2, 0.6), (0.0, 0.8))(np.array([0.1, 0.4, 0.9])).round(2)
        array([0. , 0.4, 0.8])
        """
        values = np.asarray(similarities, np.float64)
        if self.method == "isotonic":
            return np.interp(values, self.similarities, self.probabilities)
        # Beyond 700, the exponential is not a float64.
        return 1 / (1 + np.exp(-np.clip(self.slope * values + self.intercept, -700, 700)))


def save_calibration(
    data_dir: Path, database: str, calibration: Calibration, measured: dict[str, Any]
) -> Path:
    """Write ``calibration.json``: the function, what it was measured to be worth, and for what.

    Args:
        data_dir: The data directory.
        database: Name of the embeddings that it was fitted on; they have a record.
        calibration: The function.
        measured: Plain values.
    """
    content = {"function": asdict(calibration), "measured": measured}
    return layout.CALIBRATION.save(data_dir, content | _origin(data_dir, database))


def load_calibration(data_dir: Path, database: str) -> tuple[Calibration, dict[str, Any]] | None:
    """Return the function and what was measured, from ``calibration.json``.

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
        function = content["function"]
        calibration = Calibration(
            function["method"],
            tuple(map(float, function["similarities"])),
            tuple(map(float, function["probabilities"])),
            float(function["slope"]),
            float(function["intercept"]),
        )
        measured = dict(content["measured"])
        is_right = _is_rising(calibration) and set(measured) >= MEASURED
    except (TypeError, KeyError, ValueError) as error:
        raise _broken(path) from error
    if not is_right:
        raise _broken(path)
    if origin != _origin(data_dir, database):
        log.warning(
            "%s was fitted on other embeddings than %s and is ignored; fit it again: %s",
            path.name,
            database,
            layout.CALIBRATION.made_by,
        )
        return None
    return calibration, measured


def _origin(data_dir: Path, database: str) -> dict[str, Any]:
    name = provenance.record_name(database)
    record = layout.DATABASE_RECORD.load(data_dir, name)
    file = layout.DATABASE_RECORD.at(data_dir, name)
    return {
        "database": database,
        "checkpoint_sha256": record.get("checkpoint_sha256"),
        "record_sha256": provenance.sha256(file),
    }


def _is_rising(calibration: Calibration) -> bool:
    """Return whether the numbers are those of a function as declared."""
    points = np.array([calibration.similarities, calibration.probabilities], np.float64)
    if calibration.method == "logistic":
        return bool(np.isfinite([calibration.slope, calibration.intercept]).all())
    if calibration.method != "isotonic" or points.shape[1] < 1 or not np.isfinite(points).all():
        return False
    is_sorted = (np.diff(points) >= 0).all()
    return bool(is_sorted and points[1, 0] >= 0 and points[1, -1] <= 1)


def _broken(path: Path) -> InputError:
    return InputError(
        f"{path} is not a calibration; make it again with: {layout.CALIBRATION.made_by}"
    )
