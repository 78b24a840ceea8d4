"""Fit what a similarity means: the probability that two images show the same model.

Reads   what process_data.mips --isValid=1 reads
Writes  calibration.json

    python -m process_data.calibrate --dpath=~/ir/

Each validation query is searched as it is, and once more with all images of its model taken out of
the gallery. process_data.search shows the probabilities and hides answers below one half.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from retrieval import cli
from retrieval.compute import devices
from retrieval.data import layout
from retrieval.evaluation.calibration import save_calibration
from retrieval.evaluation.calibration_fit import calibrate_neighbors, find_neighbors
from retrieval.evaluation.query_gallery import load_query_gallery

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    k: int = 20,
    database: str = layout.DATABASE.name,
    device: str = "auto",
) -> Path:
    """Write ``calibration.json``, print how far it can be trusted, and return its path.

    The method, isotonic or logistic, is the one with the lower Brier score on queries of classes
    that it was not fitted on.

    Args:
        data_dir: The data directory.
        k: Neighbors of each query to fit on.
        database: Name of the embeddings.
        device: auto, cpu, cuda or cuda:n.
    """
    found = load_query_gallery(data_dir, is_valid=True, database=database)
    neighbors = find_neighbors(found, k, devices.resolve(device))
    calibration, measured = calibrate_neighbors(neighbors)
    path = save_calibration(data_dir, database, calibration, measured)
    print(_text(measured))
    log.info("%s: %s, %d queries", path, measured["method"], measured["n_query"])
    return path


def _text(measured: dict[str, Any]) -> str:
    """Return what was measured as text."""
    lines = [
        f"{measured['n_query']} validation queries of {measured['n_class']} classes, "
        f"{measured['k']} neighbors each, with their class in the database and without",
        "on classes held out        ECE    Brier",
    ]
    for method, figures in measured["held_out"].items():
        mark = "  chosen" if method == measured["method"] else ""
        lines.append(f"{method:20}     {figures['ece']:.4f}   {figures['brier']:.4f}{mark}")
    lines.append("predicted       neighbors   mean predicted   really the same model")
    for of_bin in measured["reliability"]:
        ends = f"{100 * of_bin['lower']:.0f} to {100 * of_bin['upper']:.0f} %"
        lines.append(
            f"{ends:14} {of_bin['count']:10d} {100 * of_bin['predicted']:14.1f} %"
            f" {100 * of_bin['observed']:21.1f} %"
        )
    lines += [
        f'"not in the database" is said for {100 * measured["false_reject"]:.1f} % of the queries '
        "whose class is there (false reject)",
        f"and is not said for {100 * measured['false_accept']:.1f} % of the queries whose class "
        "was taken out (false accept)",
    ]
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--k", type=int, help="neighbors of each query to fit on")
    parser.add_argument("--database", help="name of the embeddings")
    parser.add_argument("--device", help=devices.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
