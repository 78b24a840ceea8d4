"""The tables of a report."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data.formats import InputError
from retrieval.evaluation import paired, records
from retrieval.evaluation.metrics import DEFINITIONS
from retrieval.report.confusion import first_results
from retrieval.report.runs import Run

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MAIN = ("cmc@1", "cmc@10", "map@k", "map@R", "map")
COUNTS = ("n_query", "n_query_left_out", "n_gallery", "k", "transductive", "trained_on")


@dataclass(frozen=True)
class MetricCell:
    """One metric of one run.

    Attributes:
        value: None if the run has none.
        interval: Its 95% interval; None if there is none.
        is_best: No other run on the same queries and gallery has a higher value.
        macro: The mean over classes of the mean over each class's queries; None if unknown.
    """

    value: float | None
    interval: tuple[float, float] | None
    is_best: bool
    macro: float | None = None


def metric_names(runs: list[Run]) -> list[str]:
    """Return the metrics that some run has, in the order of their definitions."""
    defined = [name for name in DEFINITIONS if name not in COUNTS]
    return [n for n in defined if any(isinstance(run.record.get(n), float) for run in runs)]


def metric_definitions(runs: list[Run]) -> dict[str, str]:
    """Return the definition of each count and metric, as recorded with the runs."""
    recorded: dict[str, str] = {}
    for run in runs:
        recorded |= run.record.get("definitions", {})
    shown = [*COUNTS, *metric_names(runs)]
    found = {name: recorded.get(name) or DEFINITIONS.get(name) for name in shown}
    return {name: text for name, text in found.items() if text}


def metric_cells(runs: list[Run], name: str) -> list[MetricCell]:
    """Return one metric of all runs."""
    rivals: dict[tuple[object, ...], list[float]] = {}
    for run in runs:
        if name in run.record:
            rivals.setdefault(_setting(run, name), []).append(run.record[name])
    rows = []
    for run in runs:
        value = run.record.get(name)
        interval = run.record.get("intervals", {}).get(name)
        values = rivals.get(_setting(run, name), [])
        is_best = value is not None and len(values) > 1 and value == max(values)
        macro = run.record.get("macro", {}).get(name)
        rows.append(MetricCell(value, tuple(interval) if interval else None, is_best, macro))
    return rows


def _setting(run: Run, metric: str) -> tuple[object, ...]:
    """Return the settings that two runs must share to be comparable in a metric."""
    names = ("queries", "n_query", "n_gallery", *(["k"] if "@k" in metric else []))
    values = (run.record.get(name) for name in names)
    return (records.query_hash(run.record), sees_cameras(run), *values)


def sees_cameras(run: Run) -> bool:
    """Return whether the model was trained on labeled images of the queries' cameras."""
    return "cameras" in run.record.get("trained_on", "")


@dataclass(frozen=True)
class Gain:
    """The gain of a run over another one of the same queries, query by query.

    Attributes:
        run, other: Their names.
        n_query: Queries that both have.
        of_metric: Metric -> difference, and the ends of its 95% interval.
    """

    run: str
    other: str
    n_query: int
    of_metric: dict[str, tuple[float, float, float]]


def gains(data_dir: Path, runs: list[Run], metrics: Sequence[str]) -> list[Gain]:
    """Return the gains over the plain exact search, or else over the first run of the queries.

    Models that were trained on camera images are compared among themselves.
    """
    load = cache(partial(paired.load_named_evaluation, data_dir))
    found = []
    settings = {run.name: (run.record["queries"], sees_cameras(run)) for run in runs}
    for queries, has_cameras in dict.fromkeys(settings.values()):
        group = [name for name, own in settings.items() if own == (queries, has_cameras)]
        plain = f"mips-{queries}"
        other = plain if plain in group else group[0]
        for name in group:
            if name == other:
                continue
            try:
                comparison = paired.compare_evaluations(load(other), load(name))
            except InputError as error:
                log.warning("%s and %s are not compared: %s", other, name, error)
                continue
            values = {m: comparison.of(m) for m in metrics}
            ends = {m: (v.difference, v.low, v.high) for m, v in values.items() if v}
            found.append(Gain(name, other, comparison.n_query, ends))
    return found


def class_table(run: Run, makes: dict[int, str]) -> "pd.DataFrame":
    """Return the metrics of each class of the queries, the worst first.

    Returns:
        Class, ClassName, Make (empty if unknown), Queries, Relevant (images in the gallery),
        cmc@1, AP (mean, as in map@k), and Mistaken: the wrong class that is most often first.
    """
    assert run.results is not None
    results = run.results
    labels, first = results.truth.query_labels, first_results(results)
    table = results.average_precisions()
    table["Relevant"] = results.truth.n_relevant
    table["First"] = (first == labels).astype(float)
    groups = table.groupby(["Class", "ClassName"], sort=True)
    result = groups.agg(
        Queries=("AP", "size"), Relevant=("Relevant", "first"), First=("First", "mean"),
        AP=("AP", "mean"),
    ).reset_index()  # fmt: skip
    result.insert(2, "Make", [makes.get(label, "") for label in result["Class"]])
    mistaken = _mistaken(labels, first)
    result["Mistaken"] = [
        results.name(mistaken[label]) if label in mistaken else "" for label in result["Class"]
    ]
    return result.sort_values(["AP", "Class"]).reset_index(drop=True)


def _mistaken(labels: np.ndarray, first: np.ndarray) -> dict[int, int]:
    is_wrong = (labels != first) & (first >= 0)
    pairs = Counter(zip(labels[is_wrong].tolist(), first[is_wrong].tolist(), strict=True))
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return {label: other for (label, other), _ in reversed(ordered)}
