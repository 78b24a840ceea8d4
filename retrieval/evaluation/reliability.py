"""Calibration error: how far predicted probabilities are from outcomes."""

from dataclasses import dataclass

import numpy as np

BINS = 10
POINTS = 100  # of a risk-coverage curve


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


def area_under_curve(scores: np.ndarray, outcomes: np.ndarray) -> float | None:
    """Return how often a true outcome scores above a false one; equal scores count half.

    That is the area under the ROC curve. None if all outcomes are alike.

    Args:
        scores: (n,) float64.
        outcomes: (n,) bool.

    >>> area_under_curve(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    from scipy.stats import rankdata

    n_true = int(outcomes.sum())
    n_pair = n_true * (len(outcomes) - n_true)
    if not n_pair:
        return None
    return float((rankdata(scores)[outcomes].sum() - n_true * (n_true + 1) / 2) / n_pair)


def risk_coverage(
    probabilities: np.ndarray, outcomes: np.ndarray, n_point: int = POINTS
) -> tuple[list[float], list[float]]:
    """Return the share of wrong answers among the most probable ones, for growing shares of them.

    El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 2010.

    Args:
        probabilities: (n,) float64.
        outcomes: (n,) bool: what came true.
        n_point: Points of the curve, fewer if there are fewer answers.

    Returns:
        coverage: Ascending to 1, the share of answers that are given.
        risk: The share of these that are wrong.

    >>> risk_coverage(np.array([0.9, 0.2, 0.6]), np.array([True, False, False]))[1]
    [0.0, 0.5, 0.6666666666666666]
    """
    order = np.argsort(-probabilities, kind="stable")
    wrong = np.cumsum(~outcomes[order])
    n = len(order)
    counts = np.unique(np.linspace(1, n, min(n, n_point)).round().astype(int))
    return (counts / n).tolist(), (wrong[counts - 1] / counts).tolist()
