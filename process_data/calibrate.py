"""Calibrate: fit the probability that a predicted model, make and year are right.

Reads   what process_data.mips --isValid=1 reads
Writes  calibration.json

    python -m process_data.calibrate --dpath=~/ir/

Images that the model was not trained on are searched among all others, as they are, and with the
images of their own year, model or make taken out. process_data.search and the page then say how
likely the model is right, and which photos are probably not in the database.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np

from retrieval import cli
from retrieval.compute import devices
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation.calibration import save_calibration
from retrieval.evaluation.calibration_fit import (
    calibrate_answers,
    find_cases,
    groups_of,
    query_rows,
)
from retrieval.evaluation.inputs import load_query_gallery, warn_stale_inputs
from retrieval.photo_search.metadata import load_image_table
from retrieval.photo_search.preprocessing import Preprocessing

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    false_reject: float = 0.05,
    database: str = layout.DATABASE.name,
    device: str = "auto",
) -> Path:
    """Write ``calibration.json``, print what it was measured to be worth, and return its path.

    Args:
        data_dir: The data directory.
        false_reject: The share of photos of models of the database that may be said not to be in
            it, above 0 and below 1. The more, the fewer photos of other models are missed.
        database: Name of the embeddings.
        device: auto, cpu, cuda or cuda:n.
    """
    if not 0 < false_reject < 1:
        raise InputError(f"--false_reject must be above 0 and below 1; got {false_reject:g}")
    found = load_query_gallery(data_dir, is_valid=True, database=database)
    warn_stale_inputs(found)
    Preprocessing.of_record(found.gallery_record, database, data_dir)
    columns = load_image_table(data_dir, found.gallery_record, database).columns
    pairs = zip(columns["label"], columns["make"], strict=True)
    makes = {label: make for label, make in pairs if make}
    labels, years = np.array(columns["label"], np.int64), np.array(columns["year"], object)
    groups = groups_of(labels, makes, years)
    cases = find_cases(found.gallery, groups, query_rows(found), devices.resolve(device))
    calibration, measured = calibrate_answers(cases, false_reject)
    path = save_calibration(data_dir, database, calibration, measured, found.inputs.paths)
    print(_text(measured))
    log.info("%s: %d queries of %d classes", path, measured["n_query"], measured["n_class"])
    return path


def _text(measured: dict[str, Any]) -> str:
    """Return the measurements as text."""
    lines = [
        f"{measured['n_query']} queries of {measured['n_class']} classes; on classes held out:",
        f"{'':8}{'right':>8}{'Brier':>8}{'ECE':>8}{'AUC right':>11}{'AUC known':>11}"
        f"{'false rejects':>14}{'missed':>14}",
    ]
    for level, of_level in measured["levels"].items():
        areas = [of_level[name] for name in ("auc_right", "auc_known")]
        cells = [f"{'–' if area is None else f'{area:.3f}':>11}" for area in areas]
        shares = [of_level[name] for name in ("false_reject", "false_accept")]
        lines.append(
            f"{level:8}{of_level['name_right']:8.3f}{of_level['brier']:8.4f}{of_level['ece']:8.4f}"
            + "".join(cells)
            + "".join(f"{100 * share:12.1f} %" for share in shares)
        )
    lines += [
        "right: accuracy of the queries whose class is in the database",
        "AUC: right predictions against all others; known classes against unknown ones",
        "false rejects: known classes rejected as not in the database; missed: unknown classes "
        "not rejected",
        "predicted       answers   mean predicted   right model",
    ]
    for of_bin in measured["levels"]["model"]["reliability"]:
        ends = f"{100 * of_bin['lower']:.0f} to {100 * of_bin['upper']:.0f} %"
        lines.append(
            f"{ends:14} {of_bin['count']:8d} {100 * of_bin['predicted']:14.1f} %"
            f" {100 * of_bin['observed']:11.1f} %"
        )
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--false_reject",
        type=float,
        metavar="SHARE",
        help="accepted rate of false rejections (the model is in the database)",
    )
    parser.add_argument("--database", help="name of the embeddings")
    parser.add_argument("--device", help=devices.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
