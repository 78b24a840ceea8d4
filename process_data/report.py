"""Write a self-contained HTML report of the evaluations.

Reads   evaluations/*.json, mAP.json, neighbors.npy, similarities.npy, the image matrices, and
        what process_data.mips reads
Writes  report.html, or the name given as --output

    python -m process_data.report --dpath=~/ir/
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
from retrieval.compute import devices
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation.records import warn_stale_evaluations
from retrieval.report.content import report_content
from retrieval.report.page import write_page
from retrieval.report.retrieval_results import load_class_names
from retrieval.report.runs import load_runs

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    runs: Sequence[str] | None = None,
    rows: int = 6,
    k: int = 8,
    title: str = "Retrieval report",
    output: str = layout.REPORT.name,
    device: str = "auto",
) -> Path:
    """Write the report, and return its path.

    Metrics, commands and versions come from the records. Curves, classes, confusions and pictures
    need the ranking: that of the last search is kept, and exact searches are repeated and must give
    the recorded metrics.

    Args:
        data_dir: The data directory.
        runs: Evaluations to report, such as ``mips-test``; None takes all.
        rows: Best and worst queries to show of each.
        k: Results to show of each query.
        title: Title of the page.
        output: Name of the file.
        device: Where to search: auto, cpu, cuda or cuda:n.
    """
    if rows < 1 or k < 1:
        raise InputError(f"--rows and --k must be at least 1; got {rows} and {k}")
    found = load_runs(data_dir, runs, devices.resolve(device))
    warn_stale_evaluations(data_dir, {run.name: run.record for run in found})
    content = report_content(data_dir, found, load_class_names(data_dir), rows, k)
    path = write_page(
        layout.REPORT.target(data_dir, output), layout.REPORT.name, title=title, **content
    )
    log.info("%s: %d evaluations, %.1f MB", path, len(found), path.stat().st_size / 1e6)
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--runs",
        nargs="+",
        metavar="RUN",
        help="evaluations, such as mips-test; default: all",
    )
    parser.add_argument("--rows", type=int, help="best and worst queries to show for each run")
    parser.add_argument("--k", type=int, help="results to show for each query")
    parser.add_argument("--title", type=cli.plain_text, help="title of the page")
    parser.add_argument("--output", help="name of the file to write")
    parser.add_argument("--device", help=devices.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
