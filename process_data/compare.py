"""Say which of two evaluations of the same queries is better, and by how much.

Reads   two of evaluations/*.json, and the .npy beside each
Writes  nothing

    python -m process_data.compare --dpath=~/ir/ mips-test nns-test
    python -m process_data.compare old/evaluations/mips-test.json new/evaluations/mips-test.json

An evaluation is named as in evaluations/, or by the path of its .json file, of any data directory.
Queries are matched by their Index: of the same queries, or of some that are among the others.
Intervals are those of a bootstrap over classes. Where the k of the two differ, the metrics @k are
left out.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pandas as pd

from retrieval import cli, intervals, layout, setting
from retrieval.formats import InputError

log = logging.getLogger(__name__)


def run(data_dir: Path | None, first: str, second: str) -> pd.DataFrame:
    """Print and return, for each metric that both have, both means and what may be concluded.

    Args:
        data_dir: The data directory; None where both are paths.
        first: Name or path of an evaluation.
        second: Name or path of another, of the same queries.

    Returns:
        metric, first, second, difference (second - first), low and high (its 95% interval),
        p (two-sided) and verdict.
    """
    (record, before), (other, after) = (load(data_dir, name) for name in (first, second))
    common = before.index.intersection(after.index)
    _check_queries(record, other, first, second, len(common))
    n_class = common.get_level_values("Class").nunique()
    if n_class < 2:
        raise InputError(
            f"{first} and {second} share {len(common)} queries of {n_class} classes; two classes "
            "are needed at least: compare evaluations of the same queries and split"
        )
    for name in ("k", "n_gallery"):
        if record[name] != other[name]:
            log.warning("%s differs: %d and %d", name, record[name], other[name])
    if len(common) < max(len(before), len(after)):
        n_query = f"{len(before)} and {len(after)}"
        log.warning("only %d of %s queries are in both, and compared", len(common), n_query)
    before, after = before.loc[common], after.loc[common]
    clusters = common.get_level_values("Class").to_numpy()
    rows = []
    for name in [column for column in before if column in after]:
        if "@k" in name and record["k"] != other["k"]:
            continue
        pair = before[name].to_numpy(), after[name].to_numpy()
        found = intervals.paired_bootstrap(*pair, clusters)
        verdict = f"{second} is better" if found.low > 0 else f"{first} is better"
        if found.low <= 0 <= found.high:
            verdict = "no difference shown"
        means = float(pair[0].mean()), float(pair[1].mean())
        rows.append((name, *means, *found, verdict))
    columns = ["metric", "first", "second", "difference", "low", "high", "p", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    print(f"first: {first}, second: {second}; {len(common)} queries of {n_class} classes")
    print(table.to_string(index=False, float_format="{:.4f}".format))
    return table


def _check_queries(
    record: dict[str, Any], other: dict[str, Any], first: str, second: str, n_common: int
) -> None:
    """Refuse evaluations of different queries, whose Indexes may name different images."""
    if record["queries"] != other["queries"]:
        raise InputError(
            f"{first} is of the {record['queries']} queries and {second} of the "
            f"{other['queries']} queries: compare evaluations of the same"
        )
    hashes = {setting.query_hash(record), setting.query_hash(other)} - {None}
    is_part = n_common == min(record["n_query"], other["n_query"])
    if len(hashes) > 1 and not is_part:
        raise InputError(
            f"{first} and {second} are of different lists of queries, and none is part of the "
            "other: evaluate both with the same --to_test"
        )


def load(data_dir: Path | None, name: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return an evaluation and its queries, (Index, Class) -> a column for each metric."""
    path = Path(name).expanduser()
    if path.suffix == ".json":
        folder, record_name = path.parent, path.name
    elif path.name != name:
        raise InputError(
            f"{name} is no name of evaluations/, such as mips-test, and no path of a .json file"
        )
    elif data_dir is None:
        raise InputError(f"{name} is in evaluations/ of a data directory; name it: --dpath=...")
    else:
        folder = data_dir
        record_name = Path(layout.EVALUATION.name).with_name(f"{name}.json").as_posix()
    record = layout.EVALUATION.load(folder, record_name)
    array_name = str(Path(record_name).with_suffix(".npy"))
    array = layout.EVALUATION_PER_QUERY.load(folder, array_name)
    columns = record.get("per_query")
    if columns is None or array.shape != (record["n_query"], len(columns)):
        raise InputError(
            f"{folder / array_name} does not fit {record_name}: evaluate again, with: "
            f"{layout.EVALUATION.made_by}"
        )
    frame = pd.DataFrame(array, columns=columns).astype({"Index": "int64", "Class": "int64"})
    return record, frame.set_index(["Index", "Class"])


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__, needs_folder=False)
    parser.add_argument("first", help="name in evaluations/, or path of a .json")
    parser.add_argument("second", help="another of the same queries")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
