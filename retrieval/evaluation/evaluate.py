"""The evaluation that every search goes through, and where its results are kept."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from retrieval.data import layout, provenance
from retrieval.data.formats import InputError
from retrieval.evaluation import bootstrap, metrics, paired, records
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.evaluation.ranks import relevant_ranks as find_ranks
from retrieval.evaluation.tables import table
from retrieval.search.nearest import nearest_neighbors

DEFINITIONS = {
    "n_query": "queries with at least one relevant image in the gallery",
    "n_query_left_out": "queries without one",
    "n_gallery": "images that may be retrieved",
    "cmc@1": "share of queries with a relevant image at rank 1 (recall@1 of metric learning)",
    "cmc@5": "share of queries with a relevant image among the first 5",
    "cmc@10": "share of queries with a relevant image among the first 10",
    "precision@k": "mean of: hits among the first k / k",
    "ir_recall@k": "mean of: hits among the first k / R, the number of relevant images",
    "r_precision": "mean of: hits among the first R / R",
    "map@k": "mean of: sum of the precisions at the hits among the first k / min(k, R)",
    "map@k_R": "the same sum / R, as trec_eval's map_cut",
    "map@k_hits": "the same sum / hits among the first k; for comparison with the original only",
    "map@R": "mean of: sum of the precisions at the hits among the first R / R",
    "map": "mean of the average precision over the whole ranking",
    "minp": "mean of: R / rank of the last relevant image",
    "recall@k vs exact": "share of the exact first k that the approximate first k hold",
    "macro": "the mean over classes of the mean over each class's queries",
    "transductive": "whether a query's embedding depends on other queries, if on no label",
    "intervals": "95% of the bootstrap over classes, for the mean over queries",
}


@dataclass(frozen=True)
class Measured:
    """What was measured of a ranking.

    Attributes:
        counts: Of queries and images, and k.
        per_query: One row for each query: Index, Class, and a column for each metric.
        more: Other values of the whole ranking.
    """

    counts: dict[str, int]
    per_query: pd.DataFrame
    more: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the means of the metrics, their macro averages and their intervals."""
        values = self.per_query.drop(columns=["Index", "Class"])
        labels = self.per_query["Class"].to_numpy()
        macro = {
            name: metrics.mean_within_classes(values[name].to_numpy(), labels) for name in values
        }
        record = self.counts | values.mean().to_dict() | self.more | {"macro": macro}
        if len(np.unique(labels)) > 1:
            ends = bootstrap.cluster_bootstrap(values.to_numpy(), labels)
            pairs = np.stack(ends, axis=1).tolist()
            record["intervals"] = dict(zip(values.columns, pairs, strict=True))
        return record


def measure(
    task: QueryGallery, ids: np.ndarray, k: int, relevant_ranks: list[np.ndarray] | None = None
) -> Measured:
    """Measure a ranking.

    Args:
        task: What was searched.
        ids: (n_query, depth) int64 rows of the gallery, best first, -1 where there is none;
            ``depth`` is at least ``task.depth(k)``.
        k: Of the metrics @k.
        relevant_ranks: Of each query, the ranks of all relevant images, where they are known.
    """
    hits = metrics.find_hits(ids, task.query_labels, task.gallery_labels)
    n_relevant = task.n_relevant
    values = {f"cmc@{depth}": metrics.cmc_at_k(hits, depth) for depth in (1, 5, 10)}
    values["precision@k"] = metrics.precision_at_k(hits, k)
    values["ir_recall@k"] = metrics.recall_at_k(hits, n_relevant, k)
    values["r_precision"] = metrics.r_precision(hits, n_relevant)
    values["map@k"] = metrics.average_precision_at_k(hits, n_relevant, k)
    values["map@k_R"] = metrics.average_precision_at_k_over_r(hits, n_relevant, k)
    values["map@k_hits"] = metrics.average_precision_at_k_over_hits(hits, k)
    values["map@R"] = metrics.average_precision_at_r(hits, n_relevant)
    if relevant_ranks is not None:
        values["map"] = metrics.average_precision(relevant_ranks)
        values["minp"] = metrics.inverse_negative_penalty(relevant_ranks)
    counts = {
        "n_query": len(task.queries),
        "n_query_left_out": task.n_left_out,
        "n_gallery": int(task.is_allowed.sum()),
        "k": k,
    }
    queries = {"Index": task.query_index, "Class": task.query_labels}
    return Measured(counts, pd.DataFrame(queries | values))


def search_exactly(
    task: QueryGallery, k: int, batch_size: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, Measured]:
    """Rank the gallery by inner product, and measure, over the whole ranking too.

    The processes of torchrun, where there are several, share the gallery among them.

    Args:
        task: What to search.
        k: Of the metrics @k.
        batch_size: Queries scored at once.
        device: Where to compute.

    Returns:
        ids: (n_query, depth) int64, with the depth that the metrics take.
        similarities: (n_query, depth) float32.
        measured: All metrics.
    """
    depth = task.depth(k)
    ids, similarities = nearest_neighbors(
        task.queries,
        task.gallery,
        depth,
        is_allowed=task.is_allowed,
        batch_size=batch_size,
        device=device,
        is_shared=True,
    )
    ranks = exact_ranks(task, batch_size, device)
    return ids, similarities, measure(task, ids, k, ranks)


def exact_ranks(task: QueryGallery, batch_size: int, device: torch.device) -> list[np.ndarray]:
    """Return, of each query, the ranks of all relevant images in the exact ranking."""
    return find_ranks(
        task.queries,
        task.query_labels,
        task.gallery,
        task.gallery_labels,
        is_allowed=task.is_allowed,
        batch_size=batch_size,
        device=device,
        is_shared=True,
    )


def save(
    data_dir: Path,
    task: QueryGallery,
    search_name: str,
    ids: np.ndarray,
    similarities: np.ndarray,
    measured: Measured,
    options: dict[str, Any],
    stage: str,
    device: str = "cpu",
) -> Path:
    """Write neighbors, similarities and metrics, print the latter, and return their path.

    Args:
        data_dir: The data directory.
        task: What was searched.
        search_name: ``mips``, ``nns``, or what people call it.
        ids: (n_query, k) int64.
        similarities: (n_query, k) float32.
        measured: The metrics.
        options: Of the search, as it was called.
        stage: The stage that searched.
        device: That it searched on, in words.
    """
    if search_name in records.BASELINES:
        raise InputError(
            f"--run={search_name} is the name of a baseline (process_data.baselines); take another"
        )
    record = save_metrics(data_dir, task, search_name, measured, options, stage, device)
    layout.NEIGHBORS.save(data_dir, ids)
    layout.SIMILARITIES.save(data_dir, similarities)
    layout.PER_QUERY.save(data_dir, measured.per_query.to_numpy(np.float64))
    print(table([record]))
    return layout.METRICS.save(data_dir, record)


def save_metrics(
    data_dir: Path,
    task: QueryGallery,
    search_name: str,
    measured: Measured,
    options: dict[str, Any],
    stage: str,
    device: str = "cpu",
) -> dict[str, Any]:
    """Keep the metrics of a search beside those of others, and return the whole record."""
    record = {"search": search_name, "queries": task.name, **measured.record()}
    record |= {"stage": stage, "options": options, "device": device}
    record["per_query"] = list(measured.per_query.columns)
    record |= records.describe(data_dir, task)
    record["versions"] = provenance.versions()
    record["definitions"] = {name: text for name, text in DEFINITIONS.items() if name in record}
    name = evaluation_name(search_name, task.name)
    values = measured.per_query.to_numpy(np.float64)
    layout.EVALUATION_PER_QUERY.save(data_dir, values, Path(name).with_suffix(".npy").as_posix())
    layout.EVALUATION.save(data_dir, record, name)
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
    return paired.record_name(f"{search_name}-{queries}")
