"""Build the evaluation masks, which leave out the minor classes.

Reads   split.json, cutted_class.json, model_num.json, database.npy; and, if there are test images,
        test.npy (or --tindex) and tdatabase.npy
Writes  mask2.npy, database_masked.npy, dbcm.npy, masks.json; and test_masked.npy

    python -m process_data.mask_data --dpath=~/ir/
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
from retrieval.data import files, image_index, layout, provenance
from retrieval.data.formats import InputError
from retrieval.data.split import load_split_record

log = logging.getLogger(__name__)

ROW_BLOCK = 65_536


def run(data_dir: Path, tindex: str | None = None) -> Path:
    """Write the masks of the database and the queries, and return the path of ``mask2.npy``.

    Args:
        data_dir: The data directory.
        tindex: Index csv of the test images that ``tdatabase.npy`` was made from; None takes
            ``test.npy``. Without test images, only the validation is prepared.
    """
    split = load_split_record(data_dir)
    database = layout.DATABASE.load(data_dir)
    labels = image_index.load_labels(data_dir)
    if len(labels) != len(database):
        raise InputError(
            f"{layout.DATABASE.name} has {len(database)} rows, but the split has {len(labels)} "
            "images: make both from the same csv (process_data.make_train_valid --iname=...)"
        )
    minor = np.array(layout.MINOR_CLASSES.load(data_dir), np.int64)
    is_kept = ~np.isin(labels, minor)
    queries = _queries(data_dir, tindex)
    # Masks without their record are not finished, and refused.
    layout.MASKS_RECORD.at(data_dir).unlink(missing_ok=True)
    if queries is not None:
        is_masked = np.isin(queries[:, 1], minor)
        layout.TEST_MASKED.save(data_dir, queries[~is_masked])
        log.info(
            "%s: %d queries, %d of minor classes left out",
            layout.TEST_MASKED.name,
            len(queries) - is_masked.sum(),
            is_masked.sum(),
        )
    _save_kept_rows(data_dir, database, np.flatnonzero(is_kept))
    layout.CLASSES_MASKED.save(data_dir, labels[is_kept])
    path = layout.GALLERY_MASK.save(data_dir, is_kept.astype(np.uint8)[None])
    layout.MASKS_RECORD.save(data_dir, {"split_sha256": split["sha256"], "tindex": tindex})
    log.info("%s: %d of %d database images may be retrieved", path, is_kept.sum(), len(is_kept))
    return path


def _queries(data_dir: Path, tindex: str | None) -> np.ndarray | None:
    """Return Index and Class of the test images, (n_test, 2) int64; None if there are none."""
    if tindex is None and not layout.TEST_QUERIES.at(data_dir).exists():
        log.info("no %s: only validation queries can be evaluated", layout.TEST_QUERIES.name)
        return None
    n_image, name = len(layout.TEST_DATABASE.load(data_dir)), layout.TEST_DATABASE.name
    queries = image_index.load_test_queries(data_dir, tindex, n_image, name)
    names = (layout.DATABASE.name, layout.TEST_DATABASE.name)
    provenance.check_same_model(
        {name: provenance.load_record(data_dir, name) or {} for name in names}
    )
    return queries


def _save_kept_rows(data_dir: Path, database: np.ndarray, rows: np.ndarray) -> None:
    path = layout.DATABASE_MASKED.at(data_dir)
    shape = (len(rows), database.shape[1])
    with files.row_writer(path, shape, layout.DATABASE_MASKED.dtype) as kept:
        for start in range(0, len(rows), ROW_BLOCK):
            kept.write(start, database[rows[start : start + ROW_BLOCK]])


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--tindex", help="index csv of the test images; default: test.npy")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
