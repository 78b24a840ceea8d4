"""All metrics of one ranking, for each query and in the mean."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retrieval.evaluation import bootstrap, metrics
from retrieval.evaluation.ground_truth import GroundTruth

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
    "trained_on": "domains of the labeled images that the model was trained on",
    "intervals": "95% of the bootstrap over classes, for the mean over queries",
}


@dataclass(frozen=True)
class Measured:
    """The metrics of a ranking.

    Attributes:
        counts: Numbers of queries and images, and k.
        query_index: (n_query,) int64.
        query_labels: (n_query,) int64.
        per_query: Metric -> (n_query,) float64.
        more: Other values of the whole ranking.
    """

    counts: dict[str, int]
    query_index: np.ndarray
    query_labels: np.ndarray
    per_query: dict[str, np.ndarray]
    more: dict[str, float] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of `table`."""
        return ["Index", "Class", *self.per_query]

    def table(self) -> np.ndarray:
        """Return one row per query, (n_query, n_column) float64."""
        columns = [self.query_index, self.query_labels, *self.per_query.values()]
        return np.array(columns, np.float64).T

    def record(self) -> dict[str, Any]:
        """Return the means of the metrics, their macro averages and their intervals."""
        labels = self.query_labels
        means = {name: float(values.mean()) for name, values in self.per_query.items()}
        macro = {
            name: metrics.mean_within_classes(values, labels)
            for name, values in self.per_query.items()
        }
        record = self.counts | means | self.more | {"macro": macro}
        if len(np.unique(labels)) > 1:
            ends = bootstrap.cluster_bootstrap(self.table()[:, 2:], labels)
            pairs = np.stack(ends, axis=1).tolist()
            record["intervals"] = dict(zip(self.per_query, pairs, strict=True))
        return record


def measure(
    truth: GroundTruth, ids: np.ndarray, k: int, relevant_ranks: list[np.ndarray] | None = None
) -> Measured:
    """Measure a ranking.

    Args:
        truth: The queries and what is relevant.
        ids: (n_query, depth) int64 rows of the gallery, best first, -1 where there is none;
            ``depth`` is at least ``truth.depth(k)``.
        k: The k of the metrics @k.
        relevant_ranks: For each query, the ranks of all relevant images; None leaves out ``map``
            and ``minp``.
    """
    hits = metrics.find_hits(ids, truth.query_labels, truth.gallery_labels)
    n_relevant = truth.n_relevant
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
        "n_query": len(truth.query_index),
        "n_query_left_out": truth.n_left_out,
        "n_gallery": truth.n_gallery,
        "k": k,
    }
    return Measured(counts, truth.query_index, truth.query_labels, values)
