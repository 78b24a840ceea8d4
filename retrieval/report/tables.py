"""The tables of a report."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from retrieval.data.formats import InputError
from retrieval.evaluation import evaluate, paired, records
from retrieval.report.confusion import first_results
from retrieval.report.runs import Run

MAIN = ("cmc@1", "cmc@10", "map@k", "map@R", "map")
COUNTS = ("n_query", "n_query_left_out", "n_gallery", "k", "transductive")


@dataclass(frozen=True)
class Cell:
    """One metric of one run.

    Attributes:
        value: None where the run has none.
        interval: Its 95% interval; None where there is none.
        is_best: No other run on the same queries and gallery has a higher value.
        macro: The mean over classes of the mean over each class's queries; None where unknown.
    """

    value: float | None
    interval: tuple[float, float] | None
    is_best: bool
    macro: float | None = None


def metric_names(runs: list[Run]) -> list[str]:
    """Return the metrics that some run has, in the order of their definitions."""
    defined = [name for name in evaluate.DEFINITIONS if name not in COUNTS]
    return [n for n in defined if any(isinstance(run.record.get(n), float) for run in runs)]


def definitions(runs: list[Run]) -> dict[str, str]:
    """Return what each count and metric means, as recorded with the runs."""
    recorded: dict[str, str] = {}
    for run in runs:
        recorded |= run.record.get("definitions", {})
    shown = [*COUNTS, *metric_names(runs)]
    found = {name: recorded.get(name) or evaluate.DEFINITIONS.get(name) for name in shown}
    return {name: text for name, text in found.items() if text}


def cells(runs: list[Run], name: str) -> list[Cell]:
    """Return one metric of all runs."""
    rivals: dict[tuple[object, ...], list[float]] = {}
    for run in runs:
        if name in run.record:
            rivals.setdefault(_task(run, name), []).append(run.record[name])
    rows = []
    for run in runs:
        value = run.record.get(name)
        interval = run.record.get("intervals", {}).get(name)
        values = rivals.get(_task(run, name), [])
        is_best = value is not None and len(values) > 1 and value == max(values)
        macro = run.record.get("macro", {}).get(name)
        rows.append(Cell(value, tuple(interval) if interval else None, is_best, macro))
    return rows


def _task(run: Run, metric: str) -> tuple[object, ...]:
    """Return what two runs must share for a metric of theirs to be compared."""
    names = ("queries", "n_query", "n_gallery", *(["k"] if "@k" in metric else []))
    return (records.query_hash(run.record), *(run.record.get(name) for name in names))


@dataclass(frozen=True)
class Gain:
    """What a run has more than another one of the same queries, query by query.

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
    """Return the gains over the plain exact search, or else over the first run of the queries."""
    found = []
    for queries in dict.fromkeys(run.record["queries"] for run in runs):
        group = [run.name for run in runs if run.record["queries"] == queries]
        plain = f"mips-{queries}"
        other = plain if plain in group else group[0]
        for name in group:
            if name == other:
                continue
            with suppress(InputError):  # other queries, or kept by an older version
                table = paired.compare(*(paired.kept(data_dir, one) for one in (other, name)))
                ends = table.set_index("metric")[["difference", "low", "high"]]
                values = {m: tuple(ends.loc[m]) for m in metrics if m in ends.index}
                found.append(Gain(name, other, table.attrs["n_query"], values))
    return found


def classes(run: Run, makes: dict[int, str]) -> pd.DataFrame:
    """Return how each class of the queries fares, the worst first.

    Returns:
        Class, ClassName, Make (empty where unknown), Queries, Relevant (images in the gallery),
        cmc@1, AP (mean, as in map@k), and Mistaken: the wrong class that is most often first.
    """
    assert run.ranking is not None
    ranking = run.ranking
    labels, first = ranking.task.query_labels, first_results(ranking)
    table = ranking.average_precisions()
    table["Relevant"] = ranking.task.n_relevant
    table["First"] = (first == labels).astype(float)
    groups = table.groupby(["Class", "ClassName"], sort=True)
    result = groups.agg(
        Queries=("AP", "size"), Relevant=("Relevant", "first"), First=("First", "mean"),
        AP=("AP", "mean"),
    ).reset_index()  # fmt: skip
    result.insert(2, "Make", [makes.get(label, "") for label in result["Class"]])
    mistaken = _mistaken(labels, first)
    result["Mistaken"] = [
        ranking.name(mistaken[label]) if label in mistaken else "" for label in result["Class"]
    ]
    return result.sort_values(["AP", "Class"]).reset_index(drop=True)


def _mistaken(labels: np.ndarray, first: np.ndarray) -> dict[int, int]:
    is_wrong = (labels != first) & (first >= 0)
    pairs = Counter(zip(labels[is_wrong].tolist(), first[is_wrong].tolist(), strict=True))
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return {label: other for (label, other), _ in reversed(ordered)}
