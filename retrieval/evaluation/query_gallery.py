"""Queries and gallery with their embeddings, checked to belong together."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data import image_index, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.data.provenance import InputFiles
from retrieval.data.split import check_same_list, load_split_record
from retrieval.evaluation.ground_truth import GroundTruth, check_n_image, load_ground_truth
from retrieval.search.embeddings import check_unit_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class QueryGallery(GroundTruth):
    """Queries and gallery with their embeddings.

    Attributes:
        queries: (n_query, dim) float32.
        gallery: (n_image, dim) float32, the whole database, memory-mapped.
        query_record: Origin of the queries' embeddings; empty if it was not recorded.
        gallery_record: The same of the database's.
    """

    queries: np.ndarray
    gallery: np.ndarray
    query_record: dict[str, Any] = field(default_factory=dict)
    gallery_record: dict[str, Any] = field(default_factory=dict)

    def with_embeddings(self, queries: np.ndarray, gallery: np.ndarray) -> "QueryGallery":
        """Return the same queries and gallery with other embeddings of the same images."""
        return replace(self, queries=queries, gallery=gallery)


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
    _check_split(data_dir, records[database], database, is_valid)
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
    return attach_embeddings(
        truth, rows[truth.query_index], gallery, paths, records[matrix], records[database]
    )


def tell_old_inputs(query_gallery: QueryGallery) -> None:
    """Warn in one line which inputs of an evaluation are older than their sources."""
    data_dir, paths = query_gallery.inputs.data_dir, query_gallery.inputs.paths
    names = (sources.source_name(data_dir, path) for path in paths)
    sources.tell_old(data_dir, *names, layout.SPLIT.name, layout.MASKS_RECORD.name)


def attach_embeddings(
    truth: GroundTruth,
    queries: np.ndarray,
    gallery: np.ndarray,
    paths: list[Path],
    query_record: dict[str, Any] | None = None,
    gallery_record: dict[str, Any] | None = None,
) -> QueryGallery:
    """Return queries and gallery with embeddings.

    Args:
        truth: The queries and what may be retrieved.
        queries: (n_query, dim) float32.
        gallery: (n_image, dim) float32.
        paths: The files of the gallery's and the queries' embeddings.
        query_record: Origin of the queries' embeddings.
        gallery_record: Origin of the gallery's.
    """
    inputs = InputFiles(truth.inputs.data_dir, (*paths, *truth.inputs.paths))
    kept = {name: getattr(truth, name) for name in GroundTruth.__dataclass_fields__}
    return QueryGallery(
        **kept | {"inputs": inputs},
        queries=queries,
        gallery=gallery,
        query_record=query_record or {},
        gallery_record=gallery_record or {},
    )


def _check_split(data_dir: Path, record: dict[str, Any], database: str, is_valid: bool) -> None:
    """Refuse a database of other images than the split's, and queries that were trained on."""
    split, trained = load_split_record(data_dir), record.get("split") or {}
    check_same_list(record, database, split)
    if not is_valid or not trained:
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
