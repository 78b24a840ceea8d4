"""k-reciprocal re-ranking against the formulas of the paper, over dense arrays and sets."""

from collections.abc import Callable

import numpy as np
import pytest

from retrieval.search import k_reciprocal
from retrieval.search.exact import nearest_neighbors
from tests.search.test_query_expansion import random_unit


def nearest(scores: np.ndarray, i: int | None, k: int) -> list[int]:
    """The k nearest of an image by its ``scores``, without itself."""
    others = [j for j in range(len(scores)) if j != i]
    return sorted(others, key=lambda j: (-scores[j], j))[:k]


def expand(mutual: set[int], half: Callable[[int], set[int]]) -> set[int]:
    grown = set(mutual)
    for j in mutual:
        if len(mutual & half(j)) >= 2 / 3 * len(half(j)):
            grown |= half(j)
    return grown


def oracle(
    query: np.ndarray, gallery: np.ndarray, shown: list[int], k1: int, k2: int, weight: float
) -> list[int]:
    """The order of ``shown`` by d*, in doubles, for a gallery without masks."""
    n = len(gallery)
    scores = gallery @ gallery.T
    to_query = gallery @ query

    def mutual_of(i: int, k: int) -> set[int]:
        near = nearest(scores[i], i, k)
        return {j for j in near if i in nearest(scores[j], j, k)} | {i}

    def vector(members: set[int], similarities: np.ndarray) -> np.ndarray:
        return np.array([np.exp(similarities[j] - 1) if j in members else 0 for j in range(n)])

    half = [mutual_of(j, max(1, k1 // 2)) for j in range(n)]
    raw = [vector(expand(mutual_of(i, k1), half.__getitem__), scores[i]) for i in range(n)]
    means = [
        np.mean([raw[i], *(raw[j] for j in nearest(scores[i], i, k2 - 1))], axis=0)
        for i in range(n)
    ]
    near = nearest(to_query, None, k1)
    mutual = {j for j in near if sum(scores[j, i] > to_query[j] for i in range(n) if i != j) < k1}
    own = vector(expand(mutual, half.__getitem__), to_query)
    own = np.mean([own, *(raw[j] for j in near[: k2 - 1])], axis=0)

    def distance(j: int) -> float:
        jaccard = 1 - np.minimum(own, means[j]).sum() / np.maximum(own, means[j]).sum()
        return (1 - weight) * jaccard + weight * (1 - to_query[j])

    return sorted(shown, key=lambda j: round(distance(j), 6))


@pytest.mark.parametrize(("k1", "k2"), [(2, 1), (4, 2), (6, 3), (9, 9)])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_against_the_paper(
    k1: int, k2: int, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BLOCK_ROWS", "NEIGHBOR_ROWS", "PAIR_BLOCK"):
        monkeypatch.setattr(k_reciprocal, name, 7)
    queries, gallery = random_unit(k1, 9, 3), random_unit(100 + k1, 30, 3)
    is_allowed = np.arange(30) % 5 != 2
    rows = np.flatnonzero(is_allowed)
    ids, _ = nearest_neighbors(queries, gallery, 16, is_allowed=is_allowed)
    encoding = k_reciprocal.encode(gallery, is_allowed, k1, k2)
    found = k_reciprocal.rerank(encoding, queries, gallery, ids, 12, weight)
    np.testing.assert_array_equal(found[:, 12:], ids[:, 12:])
    for row in range(len(queries)):
        shown = np.searchsorted(rows, ids[row, :12]).tolist()
        order = oracle(
            queries[row].astype(float), gallery[rows].astype(float), shown, k1, k2, weight
        )
        assert rows[order].tolist() == found[row, :12].tolist()


def test_the_plain_distance_alone_keeps_the_order() -> None:
    queries, gallery = random_unit(0, 5), random_unit(1, 20)
    everything = np.ones(20, bool)
    ids, _ = nearest_neighbors(queries, gallery, 20)
    encoding = k_reciprocal.encode(gallery, everything, 4, 2)
    np.testing.assert_array_equal(
        k_reciprocal.rerank(encoding, queries, gallery, ids, 20, weight=1.0), ids
    )


def test_a_query_is_ranked_alike_alone_and_among_others() -> None:
    queries, gallery = random_unit(2, 6), random_unit(3, 25)
    encoding = k_reciprocal.encode(gallery, np.ones(25, bool), 5, 3)
    ids, _ = nearest_neighbors(queries, gallery, 15)
    together = k_reciprocal.rerank(encoding, queries, gallery, ids, 15, 0.3)
    for row in range(6):
        alone = k_reciprocal.rerank(
            encoding, queries[row : row + 1], gallery, ids[row : row + 1], 15, 0.3
        )
        np.testing.assert_array_equal(alone[0], together[row])


def test_a_gallery_smaller_than_the_neighborhood() -> None:
    queries, gallery = random_unit(4, 3), random_unit(5, 6)
    is_allowed = np.array([True, True, True, False, False, False])
    ids, _ = nearest_neighbors(queries, gallery, 8, is_allowed=is_allowed)
    encoding = k_reciprocal.encode(gallery, is_allowed, 8, 2)
    found = k_reciprocal.rerank(encoding, queries, gallery, ids, 8, 0.3)
    assert (found[:, 3:] == -1).all()
    assert (np.sort(found[:, :3]) == [0, 1, 2]).all()
    similarities = k_reciprocal.similarities_of(queries, gallery, found)
    expected = np.take_along_axis(queries @ gallery.T, found[:, :3], 1)
    np.testing.assert_allclose(similarities[:, :3], expected, atol=1e-6)
    assert np.isneginf(similarities[:, 3:]).all()


def test_neighbors_outweigh_a_little_more_similarity() -> None:
    """Two groups; a result of the wrong group is the nearest, but shares no neighbors."""
    angles = np.deg2rad([0.0, 8, 16, 24, 60, 64, 68, 72])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    query = np.array([[np.cos(np.deg2rad(41.5)), np.sin(np.deg2rad(41.5))]], np.float32)
    ids, _ = nearest_neighbors(query, gallery, 8)
    assert ids[0, 0] == 3  # 17.5 degrees away, the other group 18.5
    encoding = k_reciprocal.encode(gallery, np.ones(8, bool), 3, 1)
    order = k_reciprocal.rerank(encoding, query, gallery, ids, 8, 0.0)
    assert set(order[0, :4]) in ({0, 1, 2, 3}, {4, 5, 6, 7})
