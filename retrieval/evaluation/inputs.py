"""Read what an evaluation compares, and check that the files belong together."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data import image_index, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.data.provenance import InputFiles
from retrieval.data.split import check_same_list, load_split_record
from retrieval.evaluation import metrics
from retrieval.evaluation.query_gallery import GroundTruth, QueryGallery
from retrieval.search.embeddings import check_unit_rows

log = logging.getLogger(__name__)


def load_query_gallery(
    data_dir: Path,
    is_valid: bool = False,
    to_test: str | None = None,
    test_matrix: str | None = None,
    database: str | None = None,
) -> QueryGallery:
    """Read the queries, the gallery, the masks and the embeddings.

    Args:
        data_dir: The data directory.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; None takes ``valid_for_test.npy`` or
            ``test_masked.npy``.
        test_matrix: Embeddings of the queries; None takes the database's or ``tdatabase.npy``.
        database: Embeddings of the database; None takes ``database.npy``.

    Raises:
        InputError: A file is missing, or files do not belong together.
    """
    truth = load_ground_truth(data_dir, is_valid, to_test)
    database = database or layout.DATABASE.name
    matrix = test_matrix or (database if is_valid else layout.TEST_DATABASE.name)
    gallery = layout.DATABASE.load(data_dir, database)
    rows = gallery if matrix == database else layout.TEST_DATABASE.load(data_dir, matrix)
    records = {name: provenance.load_record(data_dir, name) or {} for name in (database, matrix)}
    paths = [layout.DATABASE.at(data_dir, name) for name in (database, matrix)]
    check_n_image(truth, database, len(gallery))
    check_same_list(records[database], database, truth.split)
    if is_valid:
        _check_trained(records[database], database, truth.split)
    if gallery.shape[1] != rows.shape[1]:
        raise InputError(
            f"the queries have {rows.shape[1]} dimensions and {database} "
            f"{gallery.shape[1]}: encode both with the same checkpoint"
        )
    if is_valid:
        _check_same_images(records, database, matrix)
    else:
        _check_other_images(records, database, matrix, paths[0].samefile(paths[1]))
    image_index.check_rows(truth.query_index, len(rows), truth.query_file, matrix)
    check_unit_rows(gallery, database, data_dir)
    if matrix != database:
        provenance.check_same_model(data_dir, records)
        check_unit_rows(rows, matrix, data_dir)
    return truth.with_embeddings(
        rows[truth.query_index], gallery, paths, records[matrix], records[database]
    )


def load_ground_truth(
    data_dir: Path, is_valid: bool = False, to_test: str | None = None
) -> GroundTruth:
    """Read the list of queries, the labels and the masks.

    Args:
        data_dir: The data directory.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; None takes ``valid_for_test.npy`` or
            ``test_masked.npy``.

    Raises:
        InputError: A file is missing, files do not belong together, or no query has a relevant
            image.
    """
    query_list = layout.VALID_QUERIES if is_valid else layout.TEST_MASKED
    query_file = to_test or query_list.name
    if not is_valid and query_file == layout.VALID_QUERIES.name:
        raise InputError(
            f"{query_file} lists images of the database, which would find themselves; take them "
            "out of the gallery with --isValid=1"
        )
    if query_file == layout.TEST_MASKED.name and not query_list.at(data_dir).exists():
        raise InputError(
            f"{query_list.at(data_dir)} is missing; without test images, evaluate with "
            f"--isValid=1; with them, make it with: {query_list.made_by(data_dir)}"
        )
    chosen = np.array(query_list.load(data_dir, query_file))
    labels = image_index.load_labels(data_dir)
    is_allowed = layout.GALLERY_MASK.load(data_dir)[0] == 1
    if len(labels) != len(is_allowed):
        raise InputError(
            f"the split has {len(labels)} images and {layout.GALLERY_MASK.name} "
            f"{len(is_allowed)}: run again: {layout.GALLERY_MASK.made_by(data_dir)}"
        )
    split, masks = load_split_record(data_dir), layout.MASKS_RECORD.load(data_dir)
    if masks["split_sha256"] != split["sha256"]:
        raise InputError(
            "the masks were made for another split; run again: "
            f"{layout.GALLERY_MASK.made_by(data_dir)}"
        )
    _check_labels(data_dir, chosen, query_file, labels if is_valid else None, masks["tindex"])
    is_same_set = is_valid and split["protocol"] == "classes"
    if is_valid:
        is_usual = query_file == query_list.name
        all_queries = chosen if is_usual else layout.VALID_QUERIES.load(data_dir)
        for name, pairs in ((query_file, chosen), (query_list.name, all_queries)):
            image_index.check_rows(pairs[:, 0], len(labels), name, layout.CLASS_IMAGES.name)
            is_allowed[pairs[:, 0]] = is_same_set
    counts = metrics.count_relevant(chosen[:, 1], labels[is_allowed])
    is_relevant = counts > is_same_set
    if not is_relevant.any():
        raise InputError(f"no query of {query_file} has an image of its class in the gallery")
    index, query_labels = chosen[is_relevant].T
    files = (query_list.at(data_dir, query_file), *(
        file.at(data_dir) for file in (layout.GALLERY_MASK, layout.CLASS_IMAGES)
    ))  # fmt: skip
    return GroundTruth(
        name="valid" if is_valid else "test",
        query_index=index,
        query_labels=query_labels,
        gallery_labels=labels,
        is_allowed=is_allowed,
        n_left_out=int((~is_relevant).sum()),
        is_same_set=is_same_set,
        query_file=provenance.input_name(data_dir, files[0]),
        inputs=InputFiles(data_dir, files),
        split=split,
    )


def warn_stale_inputs(query_gallery: QueryGallery) -> None:
    """Warn in one line which inputs of an evaluation are older than their sources."""
    data_dir, paths = query_gallery.inputs.data_dir, query_gallery.inputs.paths
    names = (sources.source_name(data_dir, path) for path in paths)
    sources.warn_stale(data_dir, *names, layout.SPLIT.name, layout.MASKS_RECORD.name)


def check_n_image(truth: GroundTruth, name: str, n_row: int) -> None:
    """Refuse a database, or an image matrix, that does not have a row for each image."""
    n_image = len(truth.gallery_labels)
    if n_row != n_image:
        raise InputError(
            f"{name} has {n_row} rows, but the split and {layout.GALLERY_MASK.name} have "
            f"{n_image} images: they were made at different times; run again: "
            f"{layout.GALLERY_MASK.made_by(truth.inputs.data_dir)}"
        )


def _check_labels(
    data_dir: Path,
    chosen: np.ndarray,
    name: str,
    labels: np.ndarray | None,
    tindex: str | None,
) -> None:
    """Refuse queries whose classes differ from those in the list that they were taken from.

    Args:
        data_dir: The data directory.
        chosen: (n_query, 2) int64, Index and Class.
        name: Its file, for the message.
        labels: (n_image,) int64 of the database, for queries that are its rows; None: test queries.
        tindex: Index csv of the test images; None takes ``test.npy``, if there is one.
    """
    image_index.check_once(chosen[:, 0], name)
    listed, source = labels, layout.CLASS_IMAGES.name
    if listed is None:
        source = tindex or layout.TEST_QUERIES.name
        if not layout.TEST_QUERIES.at(data_dir, source).exists():
            return
        listed = image_index.load_test_labels(data_dir, tindex)
    image_index.check_listed(
        chosen,
        listed,
        name,
        source,
        f"name the queries with --to_test, or run again: {layout.GALLERY_MASK.made_by(data_dir)}",
    )


def _check_trained(record: dict[str, Any], database: str, split: dict[str, Any]) -> None:
    """Refuse validation queries that the model may have been trained on."""
    trained = record.get("split")
    if not trained:
        return
    if trained.get("index_sha256") != split["index_sha256"]:
        log.info("%s: the model was trained on other images than these", database)
    elif trained.get("sha256") != split["sha256"]:
        raise InputError(
            f"the model of {database} was trained on another split of the same images, so "
            "validation queries may have been trained on; make that split again, with the "
            "options that it had, or train again"
        )


def _check_same_images(records: dict[str, dict[str, Any]], database: str, matrix: str) -> None:
    """Refuse embeddings of validation queries that are not of the database's images."""
    images = [records[name].get("images_sha256") for name in (database, matrix)]
    if None not in images and images[0] != images[1]:
        raise InputError(
            f"--isValid=1 takes its queries from the images of {database}, and {matrix} was made "
            "from others; leave --test_matrix out, or use --isValid=0"
        )


def _check_other_images(
    records: dict[str, dict[str, Any]], database: str, matrix: str, is_same_file: bool
) -> None:
    """Refuse test queries that are the gallery's own images: each would find itself."""
    images = [records[name].get("images_sha256") for name in (database, matrix)]
    if is_same_file or (images[0] is not None and images[0] == images[1]):
        raise InputError(
            f"{matrix} holds the images of {database}, which would find themselves; take "
            "them out of the gallery with --isValid=1, or name other queries with --test_matrix"
        )
