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
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np

from retrieval import cli
from retrieval.data import files, image_index, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.data.split import check_same_list, load_split_record

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
    sources.warn_stale(data_dir, layout.DATABASE.name, layout.TEST_DATABASE.name, layout.SPLIT.name)
    database = layout.DATABASE.load(data_dir)
    record = provenance.load_record(data_dir, layout.DATABASE.name)
    labels = image_index.load_labels(data_dir)
    if len(labels) != len(database):
        raise InputError(
            f"{layout.DATABASE.name} has {len(database)} rows, but the split has {len(labels)} "
            f"images: make all from the same csv: {layout.SPLIT.made_by(data_dir)}, then "
            f"{layout.IMAGE_MATRIX.made_by(data_dir)}, then {layout.DATABASE.made_by(data_dir)}"
        )
    check_same_list(record, layout.DATABASE.name, split)
    minor = np.array(layout.MINOR_CLASSES.load(data_dir), np.int64)
    is_kept = ~np.isin(labels, minor)
    queries = _queries(data_dir, tindex)
    origins = sources.states(data_dir, layout.DATABASE.name, layout.SPLIT.name)
    if queries is not None:
        listed = tindex or layout.TEST_QUERIES.name
        origins |= sources.states(data_dir, listed, columns=("Index", "Class"))
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
    layout.MASKS_RECORD.save(
        data_dir, {"split_sha256": split["sha256"], "tindex": tindex, "sources": origins}
    )
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
    records = {name: provenance.load_record(data_dir, name) or {} for name in names}
    provenance.check_same_model(data_dir, records)
    _check_test_list(data_dir, records[name], queries, tindex or layout.TEST_QUERIES.name)
    return queries


def _check_test_list(
    data_dir: Path, record: dict[str, Any], queries: np.ndarray, query_file: str
) -> None:
    """Refuse queries that are not listed as the images of ``tdatabase.npy`` are now.

    Args:
        data_dir: The data directory.
        record: The record of ``tdatabase.npy``, which names the csv of its images.
        queries: (n_test, 2) int64, Index and Class.
        query_file: Their file.
    """
    listed = (record.get("preparation") or {}).get("index")
    if listed is None or not layout.TEST_INDEX.at(data_dir, listed).exists():
        return
    table = image_index.by_index(layout.TEST_INDEX.load(data_dir, listed), listed)
    if record["index_sha256"] != provenance.index_hash(table):
        raise InputError(
            f"{layout.TEST_DATABASE.name} was made from another list of images than {listed} is "
            f"now; make the image matrix of the queries and their embeddings again: "
            f"{sources.commands_to_renew(data_dir, layout.TEST_DATABASE.name)}"
        )
    labels = table["Class"].to_numpy(np.int64)
    made_by = sources.commands_to_renew(data_dir, listed) or layout.TEST_QUERIES.made_by(data_dir)
    remedy = f"make both again: {made_by}"
    image_index.check_listed(queries, labels, query_file, listed, remedy)
    source = load_split_record(data_dir)["index"]
    if layout.IMAGE_INDEX.at(data_dir, source).exists():
        database = layout.IMAGE_INDEX.load(data_dir, source)
        image_index.check_same_names(table, listed, database, source)


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
