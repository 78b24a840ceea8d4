"""One query at a time, as in the old package."""

import itertools

import numpy as np
import pytest

from lopq.compat import LOPQModel, LOPQSearcher, model, search
from lopq.compat.search import Result


@pytest.mark.parametrize("quota", [1, 60, 400])
def test_batch_and_single_search_agree(
    searcher: LOPQSearcher, queries: np.ndarray, quota: int
) -> None:
    scores, ids = searcher.search_batch(queries, 5, quota=quota)
    quota = max(quota, 5)
    for row, query in enumerate(queries):
        results, _ = searcher.search(query, quota=quota, limit=5, with_dists=True)
        dists = [r.dist for r in results]
        np.testing.assert_allclose(-scores[row], dists, rtol=1e-4, atol=1e-4)
        if np.diff(dists).min() > 1e-3:  # ties keep the order of retrieval in the single search
            assert [r.id for r in results][:4] == ids[row].tolist()[:4]


def test_quota_counts_candidates_in_whole_cells(
    searcher: LOPQSearcher, queries: np.ndarray
) -> None:
    for query in queries[:5]:
        results, visited = searcher.get_result_quota(query, quota=100)
        fewer, one_less = searcher.get_result_quota(query, quota=len(results) - 1)
        assert len(results) >= 100
        assert (len(fewer), one_less) == (len(results), visited)
        sizes = [
            len(searcher.get_cell(cell)) for cell in dict.fromkeys(r.code.coarse for r in results)
        ]
        assert sum(sizes) == len(results)
        assert sum(sizes[:-1]) < 100


def test_single_search_keeps_the_old_contract(searcher: LOPQSearcher, queries: np.ndarray) -> None:
    results, visited = searcher.search(queries[0], quota=50)
    with_dists, _ = searcher.search(queries[0], quota=50, limit=7, with_dists=True)
    assert len(results) == 50
    assert [r[:2] for r in with_dists] == list(results[:7])
    assert type(results[0]) is Result
    assert results[0].code == searcher.model.predict(searcher.model.reconstruct(results[0].code))
    everything, cells = searcher.search(queries[0], quota=10**6)
    assert len(everything) == len(searcher)
    assert cells == searcher.model.V**searcher.model.num_coarse_splits
    assert visited <= cells


@pytest.mark.parametrize("quota", [1, 8, 25, 40, 1000])
def test_empty_cells_count_as_visited(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, quota: int
) -> None:
    model = searcher.model
    few = data[model.encode(data).coarse[:, 0] % 2 == 0][:40]
    sparse = LOPQSearcher(model)
    sparse.add_data(few)
    held = [tuple(coarse) for coarse in model.encode(few).coarse.tolist()]
    cells = list(itertools.product(range(model.V), repeat=model.num_coarse_splits))
    assert len(set(held)) < len(cells)  # some are empty
    for query in queries:
        parts = np.split(query, model.num_coarse_splits)
        away = [
            sum(((C[c] - p) ** 2).sum() for C, c, p in zip(model.Cs, cell, parts, strict=True))
            for cell in cells
        ]
        visited = count = 0
        for at in np.argsort(away):
            if count >= quota:
                break
            count += held.count(cells[at])
            visited += 1
        results, n_cell = sparse.get_result_quota(query, quota)
        assert (len(results), n_cell) == (count, visited)
        assert sparse.search(query, quota)[1] == visited


def test_equal_distances_of_one_query_keep_the_order_of_adding(
    searcher: LOPQSearcher, data: np.ndarray
) -> None:
    ids = np.array([9, 3, 700, 1, 500])
    other = LOPQSearcher(searcher.model)
    other.add_data(data[5:30], np.arange(100, 125))
    for part in (ids[:2], ids[2:]):
        other.add_data(np.repeat(data[:1], len(part), axis=0), part)
    results, _ = other.search(data[0], quota=10**6, with_dists=True)
    same = [r.id for r in results if r.id in ids]
    assert len({r.dist for r in results if r.id in ids}) == 1
    assert same == ids.tolist()
    assert [r.dist for r in results] == sorted(r.dist for r in results)


def test_names_are_in_the_modules_of_the_old_package() -> None:
    assert search.LOPQSearcher is LOPQSearcher
    assert model.LOPQModel is LOPQModel
    assert model.eigenvalue_allocation(2, np.array([8.0, 4.0, 2.0, 1.0])).tolist() == [0, 3, 1, 2]
    C = np.array([[0.0], [2.0]])
    assert [cell for _, cell in search.multisequence(np.array([1.5]), (C,))] == [(1,), (0,)]
