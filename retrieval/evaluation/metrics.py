"""Metrics of ranked retrieval, each by its definition: ``METRICS`` lists them.

Most functions take ``hits``, (n_query, depth) bool: whether the result at each rank is relevant,
best first, False past the last result; and ``n_relevant``, (n_query,) int: the number of relevant
gallery images. They return one value per query. A query without a relevant image has no value:
remove it first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retrieval.evaluation import bootstrap

if TYPE_CHECKING:
    from retrieval.evaluation.query_gallery import GroundTruth


def find_hits(ids: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """Return which results have their query's class.

    Args:
        ids: (n_query, depth) int64 rows of the gallery, -1 where there is no result.
        query_labels: (n_query,) int64.
        gallery_labels: (n_gallery,) int64.

    Returns:
        (n_query, depth) bool.
    """
    if not len(gallery_labels):
        return np.zeros(ids.shape, bool)
    return (gallery_labels[ids] == query_labels[:, None]) & (ids >= 0)


def count_relevant(query_labels: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """Count the gallery images of each query's class, (n_query,) int64.

    >>> count_relevant(np.array([5, 7]), np.array([7, 3, 7])).tolist()
    [0, 2]
    """
    if not len(gallery_labels):
        return np.zeros(len(query_labels), np.int64)
    classes, counts = np.unique(gallery_labels, return_counts=True)
    places = np.searchsorted(classes, query_labels)
    is_there = np.isin(query_labels, classes)
    return np.where(is_there, counts[np.where(is_there, places, 0)], 0)


def cmc_at_k(hits: np.ndarray, k: int) -> np.ndarray:
    """Return 1 if the first ``k`` results hold a relevant one, else 0.

    Known as recall@k in metric learning, as hit rate elsewhere (Wang et al., 2007).

    >>> cmc_at_k(np.array([[False, True], [False, False]]), k=2).tolist()
    [1.0, 0.0]
    """
    return np.asarray(hits[:, :k].any(axis=1), np.float64)


def precision_at_k(hits: np.ndarray, k: int) -> np.ndarray:
    """Return the share of relevant results among the first ``k``; missing ones count as wrong.

    >>> precision_at_k(np.array([[True, False, True, True]]), k=4).tolist()
    [0.75]
    """
    return hits[:, :k].sum(axis=1) / k


def recall_at_k(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Return the share of all relevant images that the first ``k`` hold: hits / R.

    The recall of information retrieval, which metric learning's recall@k (cmc@k) is not.

    >>> recall_at_k(np.array([[True, False, True, True]]), np.array([6]), k=4).tolist()
    [0.5]
    """
    return hits[:, :k].sum(axis=1) / n_relevant


def r_precision(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the share of relevant results among the first R, the number of relevant images.

    Raises:
        ValueError: ``hits`` is less deep than some R.

    >>> r_precision(np.array([[True, False, True]]), np.array([2])).tolist()
    [0.5]
    """
    return _within_r(hits, n_relevant).sum(axis=1) / n_relevant


def average_precision_at_k(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Return the sum of the precisions at the hits among the first ``k``, over min(k, R).

    1 exactly if the relevant images fill the first ``min(k, R)`` ranks.

    >>> hits = np.array([[True, False, False, False, True]])
    >>> round(float(average_precision_at_k(hits, np.array([8]), k=5)[0]), 3)
    0.28
    """
    return _precision_sum(hits[:, :k]) / np.minimum(k, n_relevant)


def average_precision_at_k_over_r(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Return the sum of the precisions at the hits among the first ``k``, over R.

    trec_eval's ``map_cut``. Below 1 for any ranking if k < R.

    >>> hits = np.array([[True, False, False, False, True]])
    >>> round(float(average_precision_at_k_over_r(hits, np.array([8]), k=5)[0]), 3)
    0.175
    """
    return _precision_sum(hits[:, :k]) / n_relevant


def average_precision_at_k_over_hits(hits: np.ndarray, k: int) -> np.ndarray:
    """Return the sum of the precisions at the hits among the first ``k``, over their number.

    0 without a hit. For comparison with tools that divide like this: misses cost nothing, and a
    single hit at rank 1 scores 1.

    >>> average_precision_at_k_over_hits(np.array([[True] + [False] * 19]), k=20).tolist()
    [1.0]
    """
    found = hits[:, :k].sum(axis=1)
    return _precision_sum(hits[:, :k]) / np.maximum(found, 1)


def average_precision_at_r(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the sum of the precisions at the hits among the first R, over R.

    R is the query's number of relevant images (Musgrave et al., A Metric Learning Reality Check,
    ECCV 2020, arXiv:2003.08505).

    Raises:
        ValueError: ``hits`` is less deep than some R.

    >>> hits = np.array([[True, False, True, True]])
    >>> round(float(average_precision_at_r(hits, np.array([3]))[0]), 3)
    0.556
    """
    return _precision_sum(_within_r(hits, n_relevant)) / n_relevant


def average_precision(relevant_ranks: list[np.ndarray]) -> np.ndarray:
    """Return the average precision over the whole ranking: the mean of the precisions at all hits.

    Args:
        relevant_ranks: For each query, the ranks of all relevant images, from 1, ascending.

    >>> average_precision([np.array([1, 4])]).tolist()
    [0.75]
    """
    return np.array([(np.arange(1, len(r) + 1) / r).mean() for r in relevant_ranks])


def inverse_negative_penalty(relevant_ranks: list[np.ndarray]) -> np.ndarray:
    """Return R over the rank of the last relevant image.

    Its mean is mINP (Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook,
    TPAMI 2021, arXiv:2001.04193).

    >>> inverse_negative_penalty([np.array([1, 4])]).tolist()
    [0.5]
    """
    return np.array([len(ranks) / ranks[-1] for ranks in relevant_ranks])


def mean_within_classes(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over classes of the mean over each class's queries (macro average).

    Args:
        values: (n_query,) float64.
        labels: (n_query,) int64.

    >>> mean_within_classes(np.array([1.0, 1.0, 1.0, 0.0]), np.array([3, 3, 3, 4]))
    0.5
    """
    _, member, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return float((np.bincount(member, values) / counts).mean())


def _within_r(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    if n_relevant.max(initial=0) > hits.shape[1]:
        raise ValueError(f"a ranking of {hits.shape[1]} does not reach R = {n_relevant.max()}")
    return hits & (np.arange(hits.shape[1]) < n_relevant[:, None])


def _precision_sum(hits: np.ndarray) -> np.ndarray:
    ranks = np.arange(1, hits.shape[1] + 1)
    return (hits * hits.cumsum(axis=1) / ranks).sum(axis=1)


def pair_auc_and_eer(scores: np.ndarray, is_same: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve and the equal error rate of a pair verification.

    Args:
        scores: (n,) similarity of each pair.
        is_same: (n,) bool: the pair has one class; both kinds must occur.

    Returns:
        auc: In [0, 1]; ties count half (Mann and Whitney).
        eer: In [0, 1]: the rate at which false accepts equal false rejects, interpolated between
            the two thresholds next to it.

    >>> pair_auc_and_eer(np.array([0.9, 0.2, 0.5, 0.1]), np.array([True, True, False, False]))
    (0.75, 0.5)
    """
    thresholds = np.unique(scores)[::-1]
    same, different = np.sort(scores[is_same]), np.sort(scores[~is_same])
    accepted = 1 - np.searchsorted(same, thresholds, side="left") / len(same)
    false_accepts = 1 - np.searchsorted(different, thresholds, side="left") / len(different)
    accepted = np.concatenate([[0.0], accepted])
    false_accepts = np.concatenate([[0.0], false_accepts])
    auc = float(np.trapezoid(accepted, false_accepts))
    gap = false_accepts - (1 - accepted)  # from -1 to 1, never falling
    after = int(np.argmax(gap >= 0))
    share = gap[after] / (gap[after] - gap[after - 1])
    eer = false_accepts[after] + share * (false_accepts[after - 1] - false_accepts[after])
    return auc, float(eer)


class Ranking(NamedTuple):
    """What the metrics of a ranking are computed from.

    Attributes:
        hits: (n_query, depth) bool, at least as deep as k and the largest R.
        n_relevant: (n_query,) int64, R.
        k: The k of the metrics @k.
        relevant_ranks: For each query, the ranks of all relevant images; empty if unknown.
    """

    hits: np.ndarray
    n_relevant: np.ndarray
    k: int
    relevant_ranks: list[np.ndarray]


class Metric(NamedTuple):
    """A metric.

    Attributes:
        definition: Its definition, for records and documents.
        values: Returns the value of each query, (n_query,) float64.
        needs_ranks: Whether it needs the ranks of all relevant images.
    """

    definition: str
    values: Callable[[Ranking], np.ndarray]
    needs_ranks: bool = False


METRICS = {
    "cmc@1": Metric(
        "share of queries with a relevant image at rank 1 (recall@1 of metric learning)",
        lambda of: cmc_at_k(of.hits, 1),
    ),
    "cmc@5": Metric(
        "share of queries with a relevant image among the first 5",
        lambda of: cmc_at_k(of.hits, 5),
    ),
    "cmc@10": Metric(
        "share of queries with a relevant image among the first 10",
        lambda of: cmc_at_k(of.hits, 10),
    ),
    "precision@k": Metric(
        "mean of: hits among the first k / k",
        lambda of: precision_at_k(of.hits, of.k),
    ),
    "ir_recall@k": Metric(
        "mean of: hits among the first k / R, the number of relevant images",
        lambda of: recall_at_k(of.hits, of.n_relevant, of.k),
    ),
    "r_precision": Metric(
        "mean of: hits among the first R / R",
        lambda of: r_precision(of.hits, of.n_relevant),
    ),
    "map@k": Metric(
        "mean of: sum of the precisions at the hits among the first k / min(k, R)",
        lambda of: average_precision_at_k(of.hits, of.n_relevant, of.k),
    ),
    "map@k_R": Metric(
        "the same sum / R, as trec_eval's map_cut",
        lambda of: average_precision_at_k_over_r(of.hits, of.n_relevant, of.k),
    ),
    "map@k_hits": Metric(
        "the same sum / hits among the first k; for comparison with the original only",
        lambda of: average_precision_at_k_over_hits(of.hits, of.k),
    ),
    "map@R": Metric(
        "mean of: sum of the precisions at the hits among the first R / R",
        lambda of: average_precision_at_r(of.hits, of.n_relevant),
    ),
    "map": Metric(
        "mean of the average precision over the whole ranking",
        lambda of: average_precision(of.relevant_ranks),
        needs_ranks=True,
    ),
    "minp": Metric(
        "mean of: R / rank of the last relevant image",
        lambda of: inverse_negative_penalty(of.relevant_ranks),
        needs_ranks=True,
    ),
}
RECALL = "recall@k vs exact"  # of an approximate search
# Of all values of a record, in the order of its columns.
DEFINITIONS = {
    "n_query": "queries with at least one relevant image in the gallery",
    "n_query_left_out": "queries without one",
    "n_gallery": "images that may be retrieved",
    **{name: metric.definition for name, metric in METRICS.items()},
    RECALL: "share of the exact first k that the approximate first k hold",
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
            name: mean_within_classes(values, labels) for name, values in self.per_query.items()
        }
        record = self.counts | means | self.more | {"macro": macro}
        if len(np.unique(labels)) > 1:
            ends = bootstrap.cluster_bootstrap(self.table()[:, 2:], labels)
            pairs = np.stack(ends, axis=1).tolist()
            record["intervals"] = dict(zip(self.per_query, pairs, strict=True))
        return record


def measure(
    truth: "GroundTruth", ids: np.ndarray, k: int, relevant_ranks: list[np.ndarray] | None = None
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
    hits = find_hits(ids, truth.query_labels, truth.gallery_labels)
    ranking = Ranking(hits, truth.n_relevant, k, relevant_ranks or [])
    values = {
        name: metric.values(ranking)
        for name, metric in METRICS.items()
        if relevant_ranks is not None or not metric.needs_ranks
    }
    counts = {
        "n_query": len(truth.query_index),
        "n_query_left_out": truth.n_left_out,
        "n_gallery": truth.n_gallery,
        "k": k,
    }
    return Measured(counts, truth.query_index, truth.query_labels, values)
