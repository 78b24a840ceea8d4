"""Find images that distort an evaluation: duplicates, wrong labels, blank ones.

Reads   imageset.npy, car_front.csv or indexinfo.csv; if they exist: test_image.npy and
        tindexinfo.csv, train.npy and valid_for_test.npy, class_names.csv
Writes  audit.csv (all that was found), audit.html (the most serious, with their pictures)

    python -m process_data.audit --dpath=~/ir/
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
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.sources import warn_stale
from retrieval.report import findings, image_audit
from retrieval.report.page import write_page
from retrieval.report.retrieval_results import load_class_names

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    iname: str | None = None,
    tindex: str | None = None,
    distance: int = 10,
    similarity: float = 0.97,
    contrast: float = 2.0,
    limit: int = 100,
) -> Path:
    """Write the findings, print their numbers, and return the path of ``audit.csv``.

    Training images, validation queries, the rest of the database and test images are compared
    all with all. No image is changed.

    Args:
        data_dir: The data directory.
        iname: Index csv of ``imageset.npy``; None takes ``car_front.csv`` or ``indexinfo.csv``.
        tindex: Index csv of ``test_image.npy``; None takes ``tindexinfo.csv``.
        distance: Bits of 64 in which the perceptual hashes of near duplicates may differ.
        similarity: Correlation that the pictures of near duplicates must have at least.
        contrast: Standard deviation, in grey levels of 255, below which an image is blank.
        limit: Pairs to show on the page.
    """
    if not 0 <= distance <= 64 or limit < 1:
        raise InputError(
            f"--distance must be from 0 to 64 and --limit at least 1; got {distance} and {limit}"
        )
    images = image_audit.load_images(data_dir, iname, tindex)
    warn_stale(data_dir, layout.IMAGE_MATRIX.name, layout.TEST_MATRIX.name, layout.SPLIT.name)
    found = image_audit.find(images, distance, similarity, contrast)
    counts = image_audit.count(found)
    places = image_audit.count_places(images)
    print(", ".join(f"{place}: {count} images" for place, count in places.items()))
    print(counts.to_string(index=False) if len(counts) else "nothing was found")
    names = load_class_names(data_dir)
    content = findings.audit_content(images, found, counts, names, limit)
    path = layout.AUDIT.save(data_dir, found)
    page_path = write_page(layout.AUDIT_PAGE.at(data_dir), layout.AUDIT_PAGE.name, **content)
    log.info("%s: %d findings; %s shows them", path, len(found), page_path.name)
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add = parser.add_argument
    add("--iname", help="index csv of imageset.npy; default: car_front.csv or indexinfo.csv")
    add("--tindex", help="index csv of test_image.npy; default: tindexinfo.csv")
    add("--distance", type=int, help="bits of 64 in which hashes of near duplicates may differ")
    add(
        "--similarity",
        type=float,
        help="least correlation of near duplicates, up to 1",
    )
    add(
        "--contrast",
        type=float,
        help="standard deviation, in grey levels of 255, below which an image is blank",
    )
    add("--limit", type=int, help="pairs to show on the page")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
