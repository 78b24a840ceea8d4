"""Metrics against plain-Python definitions, an independent library, and hand-computed cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from retrieval.evaluation import metrics

RANKINGS = st.lists(st.booleans(), min_size=1, max_size=12)


def plain_average_precision(ranking: list[bool], k: int, divisor: int) -> float:
    total, found = 0.0, 0
    for rank, hit in enumerate(ranking[:k], start=1):
        found += hit
        total += found / rank if hit else 0
    return total / divisor


@given(RANKINGS, st.integers(1, 15), st.integers(0, 5))
def test_average_precisions(ranking: list[bool], k: int, missed: int) -> None:
    hits = np.array([ranking])
    n_relevant = max(1, sum(ranking) + missed)
    relevant = np.array([n_relevant])
    found = sum(ranking[:k])
    assert metrics.cmc_at_k(hits, k)[0] == any(ranking[:k])
    assert metrics.average_precision_at_k(hits, relevant, k)[0] == pytest.approx(
        plain_average_precision(ranking, k, min(k, n_relevant))
    )
    assert metrics.average_precision_at_k_over_hits(hits, k)[0] == pytest.approx(
        plain_average_precision(ranking, k, max(found, 1))
    )
    if n_relevant <= len(ranking):
        assert metrics.average_precision_at_r(hits, relevant)[0] == pytest.approx(
            plain_average_precision(ranking, n_relevant, n_relevant)
        )


@given(RANKINGS.filter(any))
def test_the_whole_ranking_equals_scikit_learn(ranking: list[bool]) -> None:
    ranks = np.flatnonzero(ranking) + 1
    scores = -np.arange(len(ranking))
    expected = average_precision_score(ranking, scores)
    assert metrics.average_precision([ranks])[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("hit_ranks", "n_relevant", "k", "over_hits", "over_min", "at_r"),
    [
        ([1, 5], 8, 10, 0.700, 0.175, 0.175),
        ([1], 60, 20, 1.0, 0.05, 1 / 60),
        ([1, 2, 3], 3, 5, 1.0, 1.0, 1.0),
        ([], 3, 5, 0.0, 0.0, 0.0),
        ([4, 5], 2, 5, (1 / 4 + 2 / 5) / 2, (1 / 4 + 2 / 5) / 2, 0.0),
    ],
)
def test_denominators(
    hit_ranks: list[int],
    n_relevant: int,
    k: int,
    over_hits: float,
    over_min: float,
    at_r: float,
) -> None:
    hits = np.isin(np.arange(1, 61), hit_ranks)[None]
    relevant = np.array([n_relevant])
    assert metrics.average_precision_at_k_over_hits(hits, k)[0] == pytest.approx(over_hits)
    assert metrics.average_precision_at_k(hits, relevant, k)[0] == pytest.approx(over_min)
    assert metrics.average_precision_at_r(hits, relevant)[0] == pytest.approx(at_r)


def test_a_shallow_ranking_cannot_give_map_at_r() -> None:
    with pytest.raises(ValueError, match="does not reach R"):
        metrics.average_precision_at_r(np.ones((1, 3), bool), np.array([4]))


def test_relevant_images_are_counted() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.integers(0, 9, 20), rng.integers(2, 7, 30)
    expected = (queries[:, None] == gallery).sum(axis=1)
    np.testing.assert_array_equal(metrics.count_relevant(queries, gallery), expected)


def test_nothing_is_relevant_in_an_empty_gallery() -> None:
    queries, nothing = np.array([3, 4]), np.empty(0, np.int64)
    assert metrics.count_relevant(queries, nothing).tolist() == [0, 0]
    assert metrics.find_hits(np.full((2, 3), -1), queries, nothing).tolist() == [[False] * 3] * 2


def test_missing_results_are_no_hits() -> None:
    ids = np.array([[1, -1], [2, 0]])
    hits = metrics.find_hits(ids, np.array([7, 7]), np.array([7, 5, 7]))
    assert hits.tolist() == [[False, False], [True, True]]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30).filter(
        lambda pairs: len({same for _, same in pairs}) == 2
    )
)
def test_auc_equals_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], float)
    is_same = np.array([same for _, same in pairs])
    auc, eer = metrics.pair_auc_and_eer(scores, is_same)
    assert auc == pytest.approx(roc_auc_score(is_same, scores))
    assert 0 <= eer <= 1


@pytest.mark.parametrize(
    ("same", "different", "eer"),
    [([2, 3], [0, 1], 0.0), ([0, 1], [2, 3], 1.0), ([1, 3, 4, 5], [0, 0, 0, 2], 0.25)],
)
def test_equal_error_rates(same: list[int], different: list[int], eer: float) -> None:
    scores = np.array(same + different, float)
    is_same = np.arange(len(scores)) < len(same)
    assert metrics.pair_auc_and_eer(scores, is_same)[1] == pytest.approx(eer)
