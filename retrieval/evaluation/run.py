"""Evaluate a search on a data directory, the same way for every search."""

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.compute import devices, distributed
from retrieval.data import layout, provenance
from retrieval.data.provenance import fingerprint
from retrieval.evaluation.inputs import load_query_gallery, warn_stale_inputs
from retrieval.evaluation.metrics import DEFINITIONS, Measured
from retrieval.evaluation.pipeline import RankingOptions, Search, rank_gallery
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.evaluation.records import check_run_name, evaluation_file, evaluation_metadata
from retrieval.evaluation.tables import evaluation_table

SELECTION = ("is_valid", "to_test", "test_matrix", "database")  # of queries and gallery


def evaluate_search(
    data_dir: Path, stage: str, search: Search, ranking: RankingOptions, options: dict[str, Any]
) -> Path:
    """Search and measure; write neighbors, similarities and metrics, and print the latter.

    Args:
        data_dir: The data directory.
        stage: The stage that searches, ``mips`` or ``nns``.
        search: How it finds neighbors.
        ranking: Expansion and re-ranking.
        options: The stage's options as they are recorded: ``is_valid``, ``to_test``,
            ``test_matrix``, ``database``, ``k``, ``run_name``, and its own.

    Returns:
        The path of ``mAP.json``.

    Raises:
        InputError: Options are out of range, or files are missing or do not belong together.
    """
    check_run_name(options["run_name"])
    ranking.check()
    k = options["k"]
    query_gallery = load_query_gallery(data_dir, **{name: options[name] for name in SELECTION})
    query_gallery.check_k(k)
    if distributed.is_main():
        warn_stale_inputs(query_gallery)
    ranked = rank_gallery(query_gallery, k, ranking, search)
    measured = search.measure(ranked, k)
    if not distributed.is_main():
        return layout.METRICS.at(data_dir)
    record = save_evaluation(
        data_dir, query_gallery, options["run_name"], measured, options, stage, search.device
    )
    arrays = {
        layout.NEIGHBORS: np.ascontiguousarray(ranked.ids[:, :k]),
        layout.SIMILARITIES: np.ascontiguousarray(ranked.similarities[:, :k]),
        layout.PER_QUERY: measured.table(),
    }
    for file, array in arrays.items():
        file.save(data_dir, array)
    print(evaluation_table([record]))
    # The record comes last and knows its arrays: readers refuse those of another run.
    record["files"] = {file.name: fingerprint(array) for file, array in arrays.items()}
    return layout.METRICS.save(data_dir, record)


def save_evaluation(
    data_dir: Path,
    query_gallery: QueryGallery,
    search_name: str,
    measured: Measured,
    options: dict[str, Any],
    stage: str,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write an evaluation into ``evaluations/``, and return its record.

    Args:
        data_dir: The data directory.
        query_gallery: What was searched.
        search_name: Name of the evaluation: ``mips``, ``nns``, or the user's.
        measured: The metrics.
        options: Options of the search.
        stage: The stage that searched.
        device: The device that it used.
    """
    table = measured.table()
    record = {"search": search_name, "queries": query_gallery.name, **measured.record()}
    record |= {"stage": stage, "options": options, "device": devices.describe(device)}
    record["per_query"] = measured.columns
    record |= evaluation_metadata(query_gallery)
    record["versions"] = provenance.versions()
    record["definitions"] = {name: text for name, text in DEFINITIONS.items() if name in record}
    file = evaluation_file(f"{search_name}-{query_gallery.name}")
    arrays = Path(file).with_suffix(".npy").as_posix()
    layout.EVALUATION_PER_QUERY.save(data_dir, table, arrays)
    record["files"] = {Path(arrays).name: fingerprint(table)}
    layout.EVALUATION.save(data_dir, record, file)
    return record
