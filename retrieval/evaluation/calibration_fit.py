"""Fit what a similarity means, and measure it on queries of classes that were held out.

Each validation query is searched twice: as it is, and with all images of its class taken out of the
gallery. Without the second search, nearly all neighbors of a good model are right, nothing tells
what a query without an answer looks like, and any photo seems to be in the database. So the
probabilities presume that the model of a photo is in the database every second time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from retrieval.data.formats import InputError
from retrieval.evaluation import reliability
from retrieval.evaluation.calibration import SHOWN_FROM, Calibration, Method
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.search.nearest import nearest_neighbors, without_own

FOLDS = 5
WEAK = 1e6  # inverse strength of the penalty on the sigmoid's slope: as good as none


@dataclass(frozen=True)
class Neighbors:
    """The neighbors of each query, with its class in the gallery (0) and taken out (1).

    Attributes:
        similarities: (2, n_query, k) float64, descending; -inf where there are fewer.
        is_same: (2, n_query, k) bool: the neighbor is of the query's class; the second half is
            False.
        labels: (n_query,) int64, the class of each query.
    """

    similarities: np.ndarray
    is_same: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class HeldOut:
    """Predictions of functions that were fitted without the class of the query.

    Attributes:
        probabilities: (2, n_query, k) float64, in the form of `Neighbors`.
        ece: Expected calibration error over all neighbors.
        brier: Brier score over all neighbors.
    """

    probabilities: np.ndarray
    ece: float
    brier: float


def find_neighbors(found: QueryGallery, k: int, device: str = "cpu") -> Neighbors:
    """Search the queries exactly, and once more without the images of their classes.

    Args:
        found: The queries and the gallery.
        k: Neighbors of each query.
        device: Where to compute.
    """
    found.check_k(k)
    # Deep enough that k neighbors remain after those of the query's class have left.
    depth = k + int(found.n_relevant.max()) + 1
    ids, similarities = nearest_neighbors(
        found.queries, found.gallery, depth, is_allowed=found.is_allowed, device=device
    )
    if found.own_rows is not None:
        ids, similarities = without_own(ids, similarities, found.own_rows)
    is_same = (found.gallery_labels[ids] == found.query_labels[:, None]) & (ids >= 0)
    others = np.argsort(is_same, axis=1, kind="stable")[:, :k]  # the first k of other classes
    alone = np.take_along_axis(similarities, others, axis=1)
    alone[np.take_along_axis(is_same, others, axis=1)] = -np.inf
    both = np.stack([similarities[:, :k], alone]).astype(np.float64)
    return Neighbors(
        both, np.stack([is_same[:, :k], np.zeros_like(is_same[:, :k])]), found.query_labels
    )


def fit_calibration(method: Method, similarities: np.ndarray, is_same: np.ndarray) -> Calibration:
    """Fit a function.

    Args:
        method: Which kind.
        similarities: (n,) float64.
        is_same: (n,) bool, of both kinds.
    """
    return FIT[method](similarities, is_same)


def _isotonic(similarities: np.ndarray, is_same: np.ndarray) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(similarities, is_same)
    points = fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist()
    return Calibration("isotonic", tuple(points[0]), tuple(points[1]))


def _logistic(similarities: np.ndarray, is_same: np.ndarray) -> Calibration:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=WEAK).fit(similarities[:, None], is_same)
    return Calibration(
        "logistic", slope=float(fitted.coef_[0, 0]), intercept=float(fitted.intercept_[0])
    )


FIT: dict[Method, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    "isotonic": _isotonic,
    "logistic": _logistic,
}


def cross_validate(method: Method, neighbors: Neighbors) -> HeldOut:
    """Predict the neighbors of each query by a function fitted on the other folds' classes."""
    from sklearn.model_selection import GroupKFold

    n_class = len(np.unique(neighbors.labels))
    if n_class < 2:
        raise InputError("a calibration takes validation queries of at least two classes")
    probabilities = np.zeros_like(neighbors.similarities)
    folds = GroupKFold(min(FOLDS, n_class))
    for rest, held in folds.split(neighbors.labels, groups=neighbors.labels):
        function = fit_calibration(method, *_pairs(neighbors, rest))
        probabilities[:, held] = function(neighbors.similarities[:, held])
    is_there = np.isfinite(neighbors.similarities)
    predicted, outcomes = probabilities[is_there], neighbors.is_same[is_there]
    return HeldOut(
        probabilities,
        reliability.expected_calibration_error(predicted, outcomes),
        reliability.brier_score(predicted, outcomes),
    )


def calibrate_neighbors(neighbors: Neighbors) -> tuple[Calibration, dict[str, Any]]:
    """Return the function of the better method, by held-out Brier score, and what was measured."""
    held_out = {method: cross_validate(method, neighbors) for method in get_args(Method)}
    best: Method = min(held_out, key=lambda method: held_out[method].brier)
    chosen = held_out[best].probabilities
    is_there = np.isfinite(neighbors.similarities)
    bins = reliability.reliability_bins(chosen[is_there], neighbors.is_same[is_there])
    function = fit_calibration(best, *_pairs(neighbors, np.arange(len(neighbors.labels))))
    is_shown = chosen[:, :, 0] >= SHOWN_FROM  # the first neighbor is the most probable one
    return function, {
        "n_query": len(neighbors.labels),
        "n_class": len(np.unique(neighbors.labels)),
        "k": neighbors.similarities.shape[2],
        "method": best,
        "held_out": {m: {"ece": h.ece, "brier": h.brier} for m, h in held_out.items()},
        "reliability": [vars(of_bin) for of_bin in bins],
        "threshold": SHOWN_FROM,
        "false_reject": float((~is_shown[0]).mean()),
        "false_accept": float(is_shown[1].mean()),
    }


def _pairs(neighbors: Neighbors, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return similarity and sameness of all neighbors of some queries."""
    similarities, is_same = neighbors.similarities[:, queries], neighbors.is_same[:, queries]
    is_there = np.isfinite(similarities)
    similarities, is_same = similarities[is_there], is_same[is_there]
    if is_same.all() or not is_same.any():
        raise InputError(
            "the neighbors of the validation queries are all right or all wrong: nothing can be "
            "calibrated; take a larger --k, or a model that was trained longer"
        )
    return similarities, is_same
