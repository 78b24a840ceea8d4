"""Fit the calibration, and measure it on classes that the fit has not seen.

Each query is an image of the database that the model was not trained on. It is searched among all
others: as it is, and again with all images of its own year, model or make taken out, one level at
a time. Without these, nothing tells what a photo looks like whose model is not in the database,
and any photo seems to be in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrieval.data.formats import InputError
from retrieval.evaluation import reliability
from retrieval.evaluation.calibration import (
    Calibration,
    Level,
    LevelCalibration,
    Logistic,
)
from retrieval.evaluation.local_means import FEATURES, NEIGHBORS, name_classes
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.search.exact import nearest_neighbors, without_own

FOLDS = 5
LEAST_GROUPS = 4  # fewer, and what is left without one of them looks like no real database
MOST_QUERIES = 4000  # spread evenly over the classes; more change the numbers no more
BATCH_VALUES = 1 << 24  # neighbors at once: bounds the memory
BATCH = 256  # queries at once, at most

# The lists that each level is fitted on: None as it is, else without the query's own group of that
# level. A new model of a known make is what a make has to be told from.
Groups = Mapping[Level, np.ndarray]
LISTS: dict[Level, tuple[Level | None, ...]] = {
    "make": (None, "model", "make"),
    "model": (None, "model"),
    "year": (None, "year"),
}


@dataclass(frozen=True)
class Cases:
    """Lists of neighbors, what they name, and whether that is right.

    Attributes:
        features: (n, 6) float64, those of the name.
        is_right: (n,) bool: the query's own group is named.
        is_known: (n,) bool: the query's own group can be found.
        groups: (n,) int64, the group of the query; of a year, its model.
    """

    features: np.ndarray
    is_right: np.ndarray
    is_known: np.ndarray
    groups: np.ndarray

    def part(self, rows: np.ndarray) -> "Cases":
        """Return some of them."""
        return Cases(
            self.features[rows], self.is_right[rows], self.is_known[rows], self.groups[rows]
        )


def groups_of(
    labels: np.ndarray, makes: Mapping[int, str], years: np.ndarray | None
) -> dict[Level, np.ndarray]:
    """Return the group of each image at each level that there is: (n_image,) int64, -1: unknown.

    A year is one of a model; years need a model that has two.

    Args:
        labels: (n_image,) int64, class (model) of each image; -1: unknown.
        makes: Class -> name of its make.
        years: (n_image,) year of each image, empty if unknown; None: there are none.

    >>> groups_of(np.array([4, 4, 6]), {4: "Ravo"}, np.array(["2010", "2012", ""]))["year"].tolist()
    [0, 1, -1]
    """
    found: dict[Level, np.ndarray] = {"model": labels}
    if makes:
        found["make"] = _codes([makes.get(label, "") for label in labels.tolist()])
    if years is not None:
        of_model = [
            f"{label} {year}" if year and label >= 0 else ""
            for label, year in zip(labels.tolist(), years.tolist(), strict=True)
        ]
        codes = _codes(of_model)
        is_there = codes >= 0
        if len(np.unique(codes[is_there])) > len(np.unique(labels[is_there])):
            found["year"] = codes
    return found


def _codes(names: list[str]) -> np.ndarray:
    """Return a number for each name, -1 for empty ones."""
    number = {name: i for i, name in enumerate(sorted({name for name in names if name}))}
    return np.array([number.get(name, -1) for name in names], np.int64)


def query_rows(found: QueryGallery) -> np.ndarray:
    """Return the images to search with: rows of the database, (n,) int64, spread over the classes.

    They are the validation images, or all images if the model was trained on none of them: what it
    was trained on finds its class too easily.

    Args:
        found: The validation queries and the database.
    """
    is_untrained = found.gallery_record.get("split") == {}
    rows = np.arange(len(found.gallery)) if is_untrained else found.query_index
    labels = found.gallery_labels[rows]
    rows = rows[np.argsort(labels, kind="stable")]
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_QUERIES)).round().astype(int)
    return rows[chosen]


def find_cases(
    gallery: np.ndarray, groups: Groups, queries: np.ndarray, device: str = "cpu"
) -> dict[Level, Cases]:
    """Search each query in every way that a level asks for, and name its group.

    Args:
        gallery: (n_image, dim) float32, the database.
        groups: What `groups_of` returned.
        queries: (n_query,) int64, rows of the database, of known class.
        device: Where to compute.
    """
    largest = max(int(np.bincount(of[of >= 0]).max()) for of in groups.values())
    depth = min(NEIGHBORS + largest + 1, len(gallery))
    step = min(BATCH, max(16, BATCH_VALUES // depth))
    found: dict[Level, list[Cases]] = {level: [] for level in groups}
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        ids, similarities = nearest_neighbors(gallery[rows], gallery, depth, device=device)
        ids, similarities = without_own(ids, similarities, rows)
        for dropped in (None, *groups):
            if not any(dropped in LISTS[level] for level in groups):
                continue
            lists = _first(ids, similarities, rows, None if dropped is None else groups[dropped])
            embeddings = gallery[lists[0]]
            for level in groups:
                if dropped in LISTS[level]:
                    found[level].append(_cases(lists, embeddings, rows, groups, level, dropped))
    return {level: _joined(parts) for level, parts in found.items()}


def _first(
    ids: np.ndarray, similarities: np.ndarray, rows: np.ndarray, dropped: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first neighbors that are not of the query's own group."""
    is_gone = ids < 0
    if dropped is not None:
        is_gone |= dropped[ids] == dropped[rows, None]
    order = np.argsort(is_gone, axis=1, kind="stable")[:, :NEIGHBORS]
    is_gone = np.take_along_axis(is_gone, order, axis=1)
    kept = np.take_along_axis(ids, order, axis=1)
    return np.where(is_gone, -1, kept), np.take_along_axis(similarities, order, axis=1)


def _cases(
    lists: tuple[np.ndarray, np.ndarray],
    embeddings: np.ndarray,
    rows: np.ndarray,
    groups: Groups,
    level: Level,
    dropped: Level | None,
) -> Cases:
    """Return the cases of a level among lists that a level was dropped from."""
    ids, similarities = lists
    of_level = groups[level]
    own = of_level[rows]
    may_win = None
    if level == "year":  # it is one of the model that is named
        labels = np.where(ids >= 0, groups["model"][ids], -1)
        model = name_classes(similarities, labels, embeddings).labels
        may_win = labels == model[:, None]
    own_labels = np.where(ids >= 0, of_level[ids], -1)
    named = name_classes(similarities, own_labels, embeddings, may_win)
    n_left = np.bincount(of_level[of_level >= 0])[own] - 1
    if dropped is not None:
        gone = groups[dropped][rows]
        is_gone = groups[dropped] >= 0
        n_left -= np.bincount(groups[dropped][is_gone])[gone] - 1
    is_case = (own >= 0) & (named.labels >= 0)
    if dropped is not None:
        is_case &= gone >= 0
    held_together = groups["model"][rows] if level == "year" else own
    cases = Cases(named.features, named.labels == own, n_left > 0, held_together)
    return cases.part(np.flatnonzero(is_case))


def _joined(parts: list[Cases]) -> Cases:
    names = Cases.__dataclass_fields__
    return Cases(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def fit_level(cases: Cases) -> LevelCalibration:
    """Fit both sigmoids of a level; no answer is rejected yet.

    Args:
        cases: Some of known groups, and some of others.
    """
    mean, scale = cases.features.mean(axis=0), cases.features.std(axis=0)
    scale[scale < 1e-9] = 1.0
    standardized = (cases.features - mean) / scale
    known = cases.is_known
    return LevelCalibration(
        tuple(mean.tolist()),
        tuple(scale.tolist()),
        _logistic(standardized, known),
        _logistic(standardized[known], cases.is_right[known]),
    )


def _logistic(standardized: np.ndarray, outcomes: np.ndarray) -> Logistic:
    from sklearn.linear_model import LogisticRegression

    n, n_true = len(outcomes), int(outcomes.sum())
    if n_true in (0, n):  # nothing tells them apart; Laplace's rule of succession
        return Logistic((0.0,) * len(FEATURES), float(np.log((n_true + 1) / (n - n_true + 1))))
    fitted = LogisticRegression(max_iter=1000).fit(standardized, outcomes)
    return Logistic(tuple(fitted.coef_[0].tolist()), float(fitted.intercept_[0]))


def predict_held_out(cases: Cases) -> tuple[np.ndarray, np.ndarray]:
    """Return probability and ``known`` of each case, by a fit that saw none of its group."""
    from sklearn.model_selection import GroupKFold

    groups = cases.groups
    probabilities, known = np.zeros(len(groups)), np.zeros(len(groups))
    n_fold = min(FOLDS, len(np.unique(groups)))
    for rest, held in GroupKFold(n_fold).split(groups, groups=groups):
        probabilities[held], known[held] = fit_level(cases.part(rest))(cases.features[held])
    return probabilities, known


def calibrate_level(cases: Cases, false_reject: float) -> tuple[LevelCalibration, dict[str, Any]]:
    """Return the calibration of a level, and what was measured of it on held-out groups.

    Args:
        cases: Its cases, of at least two groups.
        false_reject: The share of answers whose group is in the database that may be said to be
            missing.
    """
    probabilities, known = predict_held_out(cases)
    is_known, is_right = cases.is_known, cases.is_right
    fitted = fit_level(cases)
    fitted = replace(fitted, reject_below=float(np.quantile(known[is_known], false_reject)))
    is_rejected = fitted.rejects(probabilities, known)
    by_similarity = cases.features[:, FEATURES.index("top")]
    bins = reliability.reliability_bins(probabilities, is_right)
    coverage, risk = reliability.risk_coverage(probabilities, is_right)
    return fitted, {
        "n_list": len(is_right),
        "n_group": len(np.unique(cases.groups)),
        "name_right": float(is_right[is_known].mean()),
        "brier": reliability.brier_score(probabilities, is_right),
        "ece": reliability.expected_calibration_error(probabilities, is_right),
        "auc_right": reliability.area_under_curve(probabilities, is_right),
        "auc_known": reliability.area_under_curve(known, is_known),
        "auc_known_by_similarity": reliability.area_under_curve(by_similarity, is_known),
        "false_reject": float(is_rejected[is_known].mean()),
        "false_accept": float((~is_rejected[~is_known]).mean()),
        "reliability": [vars(of_bin) for of_bin in bins],
        "risk_coverage": [coverage, risk],
    }


def calibrate_answers(
    cases: Mapping[Level, Cases], false_reject: float
) -> tuple[Calibration, dict[str, Any]]:
    """Return the calibration of all levels, and what was measured.

    Args:
        cases: What `find_cases` returned.
        false_reject: As in `calibrate_level`.

    Raises:
        InputError: There are queries of too few classes.
    """
    n_class = len(np.unique(cases["model"].groups))
    if n_class < LEAST_GROUPS:
        raise InputError(
            f"a calibration takes queries of at least {LEAST_GROUPS} classes, and there are "
            f"{n_class}; add photos of others, and make the split and the embeddings again"
        )
    pairs = {
        level: calibrate_level(of_level, false_reject)
        for level, of_level in cases.items()
        if len(np.unique(of_level.groups)) >= LEAST_GROUPS
    }
    return Calibration({level: fitted for level, (fitted, _) in pairs.items()}), {
        "n_query": len(cases["model"].groups) // len(LISTS["model"]),
        "n_class": n_class,
        "wanted_false_reject": false_reject,
        "levels": {level: measured for level, (_, measured) in pairs.items()},
    }
