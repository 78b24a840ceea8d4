"""Draw some queries of the last evaluation with their results.

Reads   mAP.json, neighbors.npy, similarities.npy, the image matrices, the list of queries,
        mask2.npy, model_num.json; class_names.csv if it exists
Writes  contact_sheet.png, or the name given as --output

    python -m process_data.contact_sheet --dpath=~/ir/
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

import numpy as np

from retrieval import cli
from retrieval.data import files, layout
from retrieval.data.formats import InputError
from retrieval.data.sources import warn_stale
from retrieval.report.retrieval_results import load_last_results

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    rows: int = 8,
    k: int = 8,
    seed: int = 7,
    output: str = layout.CONTACT_SHEET.name,
) -> Path:
    """Write the contact sheet as a PNG, and return its path.

    Args:
        data_dir: The data directory.
        rows: Queries to draw, at random, in the order of the evaluation.
        k: Results to draw of each.
        seed: Random seed of the choice.
        output: Name of the file.
    """
    if rows < 1 or k < 1:
        raise InputError(f"--rows and --k must be at least 1; got {rows} and {k}")
    path = layout.CONTACT_SHEET.target(data_dir, output)
    record = layout.METRICS.load(data_dir)
    results = load_last_results(data_dir, record)
    warn_stale(data_dir, layout.METRICS.name)
    n_query = len(results.ids)
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(n_query, min(rows, n_query), replace=False))
    title = (
        f"{record['search']}, {record['queries']} queries: cmc@1 {record['cmc@1']:.3f}, "
        f"map@{record['k']} {record['map@k']:.3f}   green: right class, red: wrong"
    )
    with files.whole(path) as part:
        results.sheet(positions.tolist(), k, title).save(part, format="PNG")
    log.info("%s: %d queries and their first %d results", path, len(positions), k)
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--rows", type=int, help="number of random queries to draw")
    parser.add_argument("--k", type=int, help="results to draw for each query")
    parser.add_argument("--seed", type=int, help="random seed of the choice of queries")
    parser.add_argument("--output", help="name of the file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
