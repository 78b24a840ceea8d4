"""Two evaluations of the same queries, compared query by query.

Queries are matched by Index; one evaluation's queries may be part of the other's. Intervals come
from a bootstrap over classes. Metrics @k are left out if the two k differ.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retrieval.data import layout
from retrieval.data.command_lines import search_command
from retrieval.data.formats import InputError
from retrieval.data.provenance import check_members
from retrieval.evaluation import bootstrap, records


class Evaluation(NamedTuple):
    """An evaluation read from its files.

    Attributes:
        name: For messages.
        record: Its json.
        queries: The (Index, Class) of each query.
        per_query: Metric -> (n_query,) float64.
    """

    name: str
    record: dict[str, Any]
    queries: list[tuple[int, int]]
    per_query: dict[str, np.ndarray]


class MetricDifference(NamedTuple):
    """One metric of two evaluations.

    Attributes:
        metric: Its name.
        first: Mean of the first evaluation over the common queries.
        second: Mean of the second.
        difference: second - first.
        low: Lower end of the difference's 95% interval.
        high: Upper end.
        p: Two-sided p value.
        verdict: Which is better, if the interval excludes zero.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Two evaluations compared.

    Attributes:
        metrics: The metrics that both have.
        n_query: Common queries.
        n_class: Their classes.
    """

    metrics: list[MetricDifference]
    n_query: int
    n_class: int

    def of(self, metric: str) -> MetricDifference | None:
        """Return one metric's difference, None if it was not compared."""
        return next((found for found in self.metrics if found.metric == metric), None)


def load_evaluation(folder: Path, file: str, name: str) -> Evaluation:
    """Read an evaluation.

    Args:
        folder: The data directory, or the folder of the file.
        file: Its .json file, relative to the folder.
        name: For messages.
    """
    record = layout.EVALUATION.load(folder, file)
    array_name = str(Path(file).with_suffix(".npy"))
    array = layout.EVALUATION_PER_QUERY.load(folder, array_name)
    columns = record["per_query"]
    again = search_command(record, (folder / file).parent.parent)
    check_members(record, folder / file, again, {Path(array_name).name: array})
    if array.shape != (record["n_query"], len(columns)):
        raise InputError(
            f"{folder / array_name} does not fit {file}: evaluate again, with: {again}"
        )
    values = dict(zip(columns, np.array(array).T, strict=True))
    index, labels = (values.pop(column).astype(np.int64).tolist() for column in ("Index", "Class"))
    return Evaluation(name, record, list(zip(index, labels, strict=True)), values)


def load_named_evaluation(data_dir: Path, name: str) -> Evaluation:
    """Read an evaluation by its name in ``evaluations/``, such as mips-test."""
    file = records.evaluation_file(name)
    if not (data_dir / file).is_file():
        made_by = records.evaluation_command(data_dir, name)
        raise InputError(f"{data_dir / file} is missing; make it with: {made_by}")
    return load_evaluation(data_dir, file, name)


def compare_evaluations(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare the metrics that both evaluations have.

    Raises:
        InputError: Their queries differ, or share fewer than two classes.
    """
    row_of = {query: row for row, query in enumerate(second.queries)}
    common = [query for query in first.queries if query in row_of]
    _check_queries(first, second, len(common))
    clusters = np.array([label for _, label in common], np.int64)
    n_class = len(np.unique(clusters))
    if n_class < 2:
        raise InputError(
            f"{first.name} and {second.name} share {len(common)} queries of {n_class} classes; two "
            "classes are needed at least: compare evaluations of the same queries and split"
        )
    before = np.array([row for row, query in enumerate(first.queries) if query in row_of])
    after = np.array([row_of[query] for query in common])
    is_same_k = first.record["k"] == second.record["k"]
    found = []
    for name in (name for name in first.per_query if name in second.per_query):
        if "@k" in name and not is_same_k:
            continue
        pair = first.per_query[name][before], second.per_query[name][after]
        change = bootstrap.paired_bootstrap(*pair, clusters)
        better = second.name if change.low > 0 else first.name
        is_open = change.low <= 0 <= change.high
        verdict = "no difference shown" if is_open else f"{better} is better"
        means = float(pair[0].mean()), float(pair[1].mean())
        found.append(MetricDifference(name, *means, *change, verdict))
    return Comparison(found, len(common), n_class)


def _check_queries(first: Evaluation, second: Evaluation, n_common: int) -> None:
    """Refuse evaluations of different queries, whose Indexes may name different images."""
    record, other = first.record, second.record
    if record["queries"] != other["queries"]:
        raise InputError(
            f"{first.name} has the {record['queries']} queries and {second.name} the "
            f"{other['queries']} queries: compare evaluations of the same queries"
        )
    is_part = n_common == min(record["n_query"], other["n_query"])
    if records.query_hash(record) != records.query_hash(other) and not is_part:
        raise InputError(
            f"{first.name} and {second.name} have different queries, and neither list contains the "
            "other: evaluate both with the same --to_test"
        )
