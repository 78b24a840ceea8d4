"""Two evaluations of the same queries, compared query by query.

Queries are matched by their Index: of the same queries, or of some that are among the others.
Intervals are those of a bootstrap over classes. Where the k of the two differ, the metrics @k are
left out.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation import bootstrap, records


class Evaluation(NamedTuple):
    """What is kept of an evaluation.

    Attributes:
        name: For messages.
        record: Its json.
        per_query: (Index, Class) -> a column for each metric.
    """

    name: str
    record: dict[str, Any]
    per_query: pd.DataFrame


def load(folder: Path, file: str, name: str) -> Evaluation:
    """Return an evaluation of a data directory.

    Args:
        folder: The data directory, or the folder of the file.
        file: Its .json file, from there.
        name: For messages.
    """
    record = layout.EVALUATION.load(folder, file)
    array_name = str(Path(file).with_suffix(".npy"))
    array = layout.EVALUATION_PER_QUERY.load(folder, array_name)
    columns = record.get("per_query")
    if columns is None or array.shape != (record["n_query"], len(columns)):
        raise InputError(
            f"{folder / array_name} does not fit {file}: evaluate again, with: "
            f"{layout.EVALUATION.made_by}"
        )
    frame = pd.DataFrame(array, columns=columns).astype({"Index": "int64", "Class": "int64"})
    return Evaluation(name, record, frame.set_index(["Index", "Class"]))


def record_name(name: str) -> str:
    """Return the file of an evaluation, from the data directory.

    >>> record_name("mips-test")
    'evaluations/mips-test.json'
    """
    return Path(layout.EVALUATION.name).with_name(f"{name}.json").as_posix()


def kept(data_dir: Path, name: str) -> Evaluation:
    """Return an evaluation by its name in ``evaluations/``, such as mips-test."""
    return load(data_dir, record_name(name), name)


def compare(first: Evaluation, second: Evaluation) -> pd.DataFrame:
    """Return, for each metric that both have, both means and what may be concluded.

    Returns:
        metric, first, second, difference (second - first), low and high (its 95% interval),
        p (two-sided) and verdict; ``attrs`` has n_query and n_class of what both share.

    Raises:
        InputError: They are of different queries, or share fewer than two classes.
    """
    before, after = first.per_query, second.per_query
    common = before.index.intersection(after.index)
    _check_queries(first, second, len(common))
    n_class = common.get_level_values("Class").nunique()
    if n_class < 2:
        raise InputError(
            f"{first.name} and {second.name} share {len(common)} queries of {n_class} classes; two "
            "classes are needed at least: compare evaluations of the same queries and split"
        )
    before, after = before.loc[common], after.loc[common]
    clusters = common.get_level_values("Class").to_numpy()
    rows = []
    for name in [column for column in before if column in after]:
        if "@k" in name and first.record["k"] != second.record["k"]:
            continue
        pair = before[name].to_numpy(), after[name].to_numpy()
        found = bootstrap.paired_bootstrap(*pair, clusters)
        better = second.name if found.low > 0 else first.name
        is_open = found.low <= 0 <= found.high
        verdict = "no difference shown" if is_open else f"{better} is better"
        rows.append((name, float(pair[0].mean()), float(pair[1].mean()), *found, verdict))
    columns = ["metric", "first", "second", "difference", "low", "high", "p", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs = {"n_query": len(common), "n_class": n_class}
    return table


def _check_queries(first: Evaluation, second: Evaluation, n_common: int) -> None:
    """Refuse evaluations of different queries, whose Indexes may name different images."""
    record, other = first.record, second.record
    if record["queries"] != other["queries"]:
        raise InputError(
            f"{first.name} is of the {record['queries']} queries and {second.name} of the "
            f"{other['queries']} queries: compare evaluations of the same"
        )
    hashes = {records.query_hash(record), records.query_hash(other)} - {None}
    is_part = n_common == min(record["n_query"], other["n_query"])
    if len(hashes) > 1 and not is_part:
        raise InputError(
            f"{first.name} and {second.name} are of different lists of queries, and none is part "
            "of the other: evaluate both with the same --to_test"
        )
