"""How far predicted probabilities are from what happened."""

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of about one probability.

    Attributes:
        lower: Lower end of the bin, inclusive.
        upper: Upper end, exclusive but for 1.
        count: Predictions in it.
        predicted: Their mean.
        observed: The share of them that came true.
    """

    lower: float
    upper: float
    count: int
    predicted: float
    observed: float


def reliability_bins(
    probabilities: np.ndarray, outcomes: np.ndarray, n_bin: int = BINS
) -> list[ReliabilityBin]:
    """Return the bins of equal width that have predictions.

    Args:
        probabilities: (n,) float64 in [0, 1].
        outcomes: (n,) bool: what came true.
        n_bin: Bins from 0 to 1.

    >>> reliability_bins(np.array([0.1, 0.3, 0.9]), np.array([False, True, True]), 2)[0]
    ReliabilityBin(lower=0.0, upper=0.5, count=2, predicted=0.2, observed=0.5)
    """
    places = np.minimum((probabilities * n_bin).astype(int), n_bin - 1)
    return [
        ReliabilityBin(
            place / n_bin,
            (place + 1) / n_bin,
            int((places == place).sum()),
            float(probabilities[places == place].mean()),
            float(outcomes[places == place].mean()),
        )
        for place in np.unique(places).tolist()
    ]


def expected_calibration_error(
    probabilities: np.ndarray, outcomes: np.ndarray, n_bin: int = BINS
) -> float:
    """Return the mean of ``|predicted - observed|`` over all predictions, by bins of equal width.

    Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    Args:
        probabilities: (n,) float64 in [0, 1].
        outcomes: (n,) bool: what came true.
        n_bin: Bins from 0 to 1.
    """
    bins = reliability_bins(probabilities, outcomes, n_bin)
    gaps = [of_bin.count * abs(of_bin.predicted - of_bin.observed) for of_bin in bins]
    return sum(gaps) / len(probabilities)


def brier_score(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Return the mean squared difference of probabilities and outcomes: 0 is perfect.

    >>> brier_score(np.array([1.0, 0.5]), np.array([True, False]))
    0.125
    """
    return float(np.mean((probabilities - outcomes) ** 2))
