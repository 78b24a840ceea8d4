"""Compare two evaluations of the same queries, query by query.

Reads   two of evaluations/*.json, and the .npy beside each
Writes  nothing

    python -m process_data.compare --dpath=~/ir/ mips-test nns-test
    python -m process_data.compare old/evaluations/mips-test.json new/evaluations/mips-test.json

An evaluation is named as in evaluations/, or by the path of its .json file, of any data directory.
Queries are matched by Index; one evaluation's queries may be part of the other's. Intervals come
from a bootstrap over classes. Metrics @k are left out if the two k differ.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.data.formats import InputError
from retrieval.evaluation.paired import (
    Comparison,
    Evaluation,
    compare_evaluations,
    load_evaluation,
    load_named_evaluation,
)
from retrieval.evaluation.tables import text_table

log = logging.getLogger(__name__)


def run(data_dir: Path | None, first: str, second: str) -> Comparison:
    """Print and return the comparison of two evaluations.

    Args:
        data_dir: The data directory; None if both are paths.
        first: Name or path of an evaluation.
        second: Name or path of another, of the same queries.
    """
    pair = load(data_dir, first), load(data_dir, second)
    comparison = compare_evaluations(*pair)
    for name in ("k", "n_gallery"):
        values = [evaluation.record[name] for evaluation in pair]
        if values[0] != values[1]:
            log.warning("%s differs: %d and %d", name, *values)
    counts, n_query = [len(evaluation.queries) for evaluation in pair], comparison.n_query
    if n_query < max(counts):
        log.warning("only %d of %d and %d queries are in both, and compared", n_query, *counts)
    print(f"first: {first}, second: {second}; {n_query} queries of {comparison.n_class} classes")
    rows = [metric._asdict() for metric in comparison.metrics]
    print(text_table([{k: _shown(value) for k, value in row.items()} for row in rows]))
    return comparison


def _shown(value: float | str) -> str:
    return f"{value:.4f}" if isinstance(value, float) else value


def load(data_dir: Path | None, name: str) -> Evaluation:
    """Return an evaluation by its name in the data directory, or by the path of its .json."""
    path = Path(name).expanduser()
    if path.suffix == ".json":
        return load_evaluation(path.parent, path.name, name)
    if path.name != name:
        raise InputError(
            f"{name} is neither an evaluation in evaluations/, such as mips-test, nor the path of "
            "a .json file"
        )
    if data_dir is None:
        raise InputError(f"{name} is in evaluations/ of a data directory; name that with --dpath")
    return load_named_evaluation(data_dir, name)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__, needs_folder=False)
    parser.add_argument("first", help="name in evaluations/, or path of a .json")
    parser.add_argument("second", help="another evaluation of the same queries")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
