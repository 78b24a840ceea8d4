"""Metrics of ranked retrieval, each by its definition.

Most functions take ``hits``, (n_query, depth) bool: whether the result at each rank is relevant,
best first, False past the last result; and ``n_relevant``, (n_query,) int: the number of relevant
gallery images. They return one value per query. A query without a relevant image has no value:
remove it first.
"""

import numpy as np


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
