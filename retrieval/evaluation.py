"""The evaluation that every search goes through, and where its results are kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from retrieval import layout, metrics, ranks, search
from retrieval.formats import InputError
from retrieval.task import Task

DEFINITIONS = {
    "n_query": "queries with at least one relevant image in the gallery",
    "n_query_left_out": "queries without one",
    "n_gallery": "images that may be retrieved",
    "cmc@1": "share of queries with a relevant image at rank 1 (recall@1 of metric learning)",
    "cmc@5": "share of queries with a relevant image among the first 5",
    "cmc@10": "share of queries with a relevant image among the first 10",
    "map@k": "mean of: sum of the precisions at the hits among the first k / min(k, R)",
    "map@k_hits": "the same sum / hits among the first k; for comparison with the original only",
    "map@R": "mean of: sum of the precisions at the hits among the first R / R",
    "map": "mean of the average precision over the whole ranking",
    "recall@k vs exact": "share of the exact first k that the approximate first k hold",
}


def measure(task: Task, ids: np.ndarray, k: int) -> dict[str, Any]:
    """Return the metrics of a ranking.

    Args:
        task: What was searched.
        ids: (n_query, depth) int64 rows of the gallery, best first, -1 where there is none;
            ``depth`` is at least ``task.depth(k)``.
        k: Of map@k.
    """
    hits = metrics.find_hits(ids, task.query_labels, task.gallery_labels)
    n_relevant = task.n_relevant
    values = {f"cmc@{depth}": metrics.cmc_at_k(hits, depth) for depth in (1, 5, 10)}
    values["map@k"] = metrics.average_precision_at_k(hits, n_relevant, k)
    values["map@k_hits"] = metrics.average_precision_at_k_over_hits(hits, k)
    values["map@R"] = metrics.average_precision_at_r(hits, n_relevant)
    return {
        "n_query": len(task.queries),
        "n_query_left_out": task.n_left_out,
        "n_gallery": int(task.is_allowed.sum()),
        "k": k,
        **{name: float(of_query.mean()) for name, of_query in values.items()},
    }


def search_exactly(
    task: Task, k: int, batch_size: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Rank the gallery by inner product, and measure.

    Args:
        task: What to search.
        k: Of map@k.
        batch_size: Queries scored at once.
        device: Where to compute.

    Returns:
        ids: (n_query, depth) int64, with the depth that the metrics take.
        similarities: (n_query, depth) float32.
        measured: The metrics, with ``map`` over the whole ranking.
    """
    depth = task.depth(k)
    ids, similarities = search.nearest(
        task.queries,
        task.gallery,
        depth,
        is_allowed=task.is_allowed,
        batch_size=batch_size,
        device=device,
    )
    relevant = ranks.relevant_ranks(
        task.queries,
        task.query_labels,
        task.gallery,
        task.gallery_labels,
        is_allowed=task.is_allowed,
        batch_size=batch_size,
        device=device,
    )
    whole = float(metrics.average_precision(relevant).mean())
    return ids, similarities, measure(task, ids, k) | {"map": whole}


def save(
    data_dir: Path,
    task: Task,
    search_name: str,
    ids: np.ndarray,
    similarities: np.ndarray,
    measured: dict[str, Any],
    options: dict[str, Any],
) -> Path:
    """Write neighbors, similarities and metrics, print the latter, and return their path.

    Args:
        data_dir: The data directory.
        task: What was searched.
        search_name: ``mips``, ``nns``, ...
        ids: (n_query, k) int64.
        similarities: (n_query, k) float32.
        measured: What ``measure`` returned, and more.
        options: Of the search, as it was called.
    """
    record = save_metrics(data_dir, task, search_name, measured, options)
    layout.NEIGHBORS.save(data_dir, ids)
    layout.SIMILARITIES.save(data_dir, similarities)
    print(table([record]))
    return layout.METRICS.save(data_dir, record)


def save_metrics(
    data_dir: Path,
    task: Task,
    search_name: str,
    measured: dict[str, Any],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Keep the metrics of a search beside those of others, and return the whole record."""
    record = {"search": search_name, "queries": task.name, **measured, "options": options}
    record["definitions"] = {name: DEFINITIONS[name] for name in measured if name in DEFINITIONS}
    layout.EVALUATION.save(data_dir, record, evaluation_name(search_name, task.name))
    return record


def load_all(data_dir: Path) -> list[dict[str, Any]]:
    """Return all evaluations that were kept, in the order of their file names."""
    folder = layout.EVALUATION.at(data_dir).parent
    names = sorted(path.name for path in folder.glob("*.json"))
    if not names:
        raise InputError(f"{folder} has no evaluations; make one with: {layout.METRICS.made_by}")
    return [layout.EVALUATION.load(data_dir, f"{folder.name}/{name}") for name in names]


def evaluation_name(search_name: str, queries: str) -> str:
    """Return the file name of an evaluation.

    >>> evaluation_name("mips", "test")
    'evaluations/mips-test.json'
    """
    return Path(layout.EVALUATION.name).with_name(f"{search_name}-{queries}.json").as_posix()


def table(records: list[dict[str, Any]]) -> str:
    """Return evaluations as a table, one line each."""
    columns = ["search", "queries", "n_query", "n_gallery", "k"]
    columns += [name for name in DEFINITIONS if "@" in name or name == "map"]
    frame = pd.DataFrame(records).reindex(columns=columns)
    return frame.to_string(index=False, na_rep="-", float_format="{:.4f}".format)
