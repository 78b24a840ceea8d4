"""The database from one state to the next: adding, removing, loading, and searching meanwhile."""

import copy
import itertools
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lopq import LOPQError, LOPQModel, LOPQSearcher, later
from lopq.search import multisequence


def filled(model: LOPQModel, data: np.ndarray, ids: np.ndarray | None = None) -> LOPQSearcher:
    searcher = LOPQSearcher(model)
    searcher.add_data(data, ids)
    return searcher


def assert_search_alike(one: LOPQSearcher, other: LOPQSearcher, queries: np.ndarray) -> None:
    for quota in (1, 100, None):
        found = [s.search_batch(queries, 9, quota=quota) for s in (one, other)]
        for mine, its in zip(*found, strict=True):
            np.testing.assert_array_equal(mine, its)
    for query in queries[:5]:
        assert one.search(query, 50, with_dists=True) == other.search(query, 50, with_dists=True)


def test_adding_after_loading_equals_an_index_built_at_once(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    filled(searcher.model, data[:900]).save(tmp_path / "index")
    grown = LOPQSearcher.load(tmp_path / "index")
    grown.search_batch(queries, 3)  # on the arrays of the smaller state
    grown.add_data(data[900:])
    assert_search_alike(grown, searcher, queries)


def test_removing_after_loading(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    searcher.save(tmp_path / "index")
    shrunk = LOPQSearcher.load(tmp_path / "index")
    left = np.arange(0, len(data), 3)
    shrunk.remove(np.setdiff1d(np.arange(len(data)), left))
    assert_search_alike(shrunk, filled(searcher.model, data[left], left), queries)
    shrunk.remove(left)
    assert (shrunk.search_batch(queries, 3)[1] == -1).all()
    assert len(LOPQSearcher.load(tmp_path / "index")) == len(data)  # the file stays as it was


@pytest.mark.parametrize("quota", [1, 8, 25, 40, 1000])
def test_empty_cells_count_as_visited(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, quota: int
) -> None:
    model = searcher.model
    few = data[model.encode(data).coarse[:, 0] % 2 == 0][:40]
    sparse = filled(model, few)
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


def test_a_search_beside_changes_sees_one_state_of_the_database(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    sizes = range(1200, 1501, 30)  # added after the sorted codes, not sorted into them
    options = [{"quota": q} for q in (1, 40, 400, None)]
    states = [filled(searcher.model, data[:n]) for n in sizes]
    possible = [
        {s.search_batch(queries, 5, **option)[1].tobytes() for s in states} for option in options
    ]
    changing, enough = filled(searcher.model, data[: sizes[0]]), threading.Event()

    def change() -> None:
        while not enough.is_set():
            for first in sizes[:-1]:
                changing.add_data(data[first : first + 30], range(first, first + 30))
            for first in sizes[-2::-1]:
                changing.remove(range(first, first + 30))

    with ThreadPoolExecutor(5) as pool:
        job, found = pool.submit(change), []
        try:
            for _ in range(15):
                jobs = [pool.submit(changing.search_batch, queries, 5, **o) for o in options]
                found.append([j.result()[1].tobytes() for j in jobs])
        finally:
            enough.set()
        job.result()
    for results in found:
        for result, allowed in zip(results, possible, strict=True):
            assert result in allowed


def test_any_history_equals_an_index_built_at_once(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    """Rows come and go in small steps; all states search as if they were made anew."""
    rng = np.random.default_rng(3)
    grown, present = filled(searcher.model, data[:1000]), set(range(1000))
    for step in range(30):
        if step % 3 == 2:
            ids = rng.choice(sorted(present), 25, replace=False)
            grown.remove(ids)
            present -= set(ids.tolist())
        else:
            ids = rng.choice(sorted(set(range(len(data))) - present), 20, replace=False)
            grown.add_data(data[ids], ids)  # some come back
            present |= set(ids.tolist())
        assert len(grown) == len(present)
        if step % 6 == 5:
            ids = np.array(sorted(present))
            anew = filled(searcher.model, data[ids], ids)
            found = [s.search_batch(queries, 9, quota=60) for s in (grown, anew)]
            for mine, its in zip(*found, strict=True):
                np.testing.assert_array_equal(mine, its)
    assert grown.database.n_later > 0 < grown.database.n_gone
    before = grown.search_batch(queries, 9)
    grown.optimize()
    assert grown.database.n_later == grown.database.n_gone == 0
    assert len(grown.database.lists) == len(grown) == len(present)
    for mine, its in zip(grown.search_batch(queries, 9), before, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_two_searchers_may_grow_from_one_state(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    first = filled(searcher.model, data[:1000])
    first.add_data(data[1000:1010])
    second = LOPQSearcher(searcher.model)
    second.database = first.database
    first.add_data(data[1010:1020])
    second.add_data(data[1020:1030])
    assert_search_alike(first, filled(searcher.model, data[:1020]), queries)
    other = filled(searcher.model, np.concatenate([data[:1010], data[1020:1030]]))
    assert_search_alike(second, other, queries)


def test_an_add_that_was_interrupted_leaves_the_database_as_it_was(
    searcher: LOPQSearcher,
    data: np.ndarray,
    queries: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(dict[int, int]):
        pass

    grown = filled(searcher.model, data[:1000])
    grown.add_data(data[1000:1002])
    grown.database.later.row_of = Interrupted(grown.database.later.row_of)
    same = np.repeat(data[:1], 8, axis=0)  # one cell
    monkeypatch.setattr(Interrupted, "__setitem__", _interrupt_at(4), raising=False)
    with pytest.raises(KeyboardInterrupt):
        grown.add_data(same)
    assert len(grown) == 1002
    monkeypatch.undo()
    grown.add_data(same)
    expected = filled(searcher.model, np.concatenate([data[:1002], same]))
    assert_search_alike(grown, expected, queries)


def _interrupt_at(row: int) -> Callable[[dict[int, int], int, int], None]:
    def set_item(self: dict[int, int], key: int, value: int) -> None:
        if value >= row:
            raise KeyboardInterrupt
        dict.__setitem__(self, key, value)

    return set_item


def test_a_state_keeps_what_newer_states_removed_and_added_again(
    searcher: LOPQSearcher, data: np.ndarray
) -> None:
    first = filled(searcher.model, data[:1000])
    first.add_data(data[1000:1010])
    second = copy.copy(first)
    first.remove([1003])
    first.add_data(data[5:6], [1003])
    assert second.database.find(np.array([1003])).tolist() == [1003]
    with pytest.raises(LOPQError, match="in the index already"):
        second.add_data(data[:1], [1003])


def test_copies_share_no_arrays_that_are_made_again(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    one = filled(searcher.model, data)
    before = len(pickle.dumps(one))
    one.search_batch(queries, 3)
    one.remove([5])
    assert len(pickle.dumps(one)) < before + 5000


def test_room_for_later_codes_grows(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "FIRST_ROOM", 4)
    grown = filled(searcher.model, data[:1200])
    for first in range(1200, 1320, 3):
        grown.add_data(data[first : first + 3])
    assert grown.database.n_later == 120
    assert_search_alike(grown, filled(searcher.model, data[:1320]), queries)


def test_the_old_names_are_where_they_were() -> None:
    C = np.array([[0.0], [2.0]])
    assert [cell for _, cell in multisequence(np.array([1.5]), (C,))] == [(1,), (0,)]
