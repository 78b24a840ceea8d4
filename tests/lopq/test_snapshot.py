"""An index that changes: adding, removing, loading, and searching meanwhile."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lopq import LOPQError, LOPQModel, LOPQSearcher


def filled(model: LOPQModel, data: np.ndarray, ids: np.ndarray | None = None) -> LOPQSearcher:
    searcher = LOPQSearcher(model)
    searcher.add_data(data, ids)
    return searcher


def assert_search_alike(one: LOPQSearcher, other: LOPQSearcher, queries: np.ndarray) -> None:
    for quota in (1, 100, None):
        found = [s.search(queries, 9, quota=quota) for s in (one, other)]
        for mine, its in zip(*found, strict=True):
            np.testing.assert_array_equal(mine, its)


def test_adding_after_loading_equals_an_index_built_at_once(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    filled(searcher.model, data[:900]).save(tmp_path / "index")
    grown = LOPQSearcher.load(tmp_path / "index")
    grown.search(queries, 3)  # on the arrays of the smaller state
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
    assert (shrunk.search(queries, 3)[1] == -1).all()
    assert len(LOPQSearcher.load(tmp_path / "index")) == len(data)  # the file stays as it was


def test_a_search_beside_changes_sees_one_state_of_the_database(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    sizes = range(1200, 1501, 30)  # added after the sorted codes, not sorted into them
    options = [{"quota": q} for q in (1, 40, 400, None)]
    states = [filled(searcher.model, data[:n]) for n in sizes]
    possible = [{s.search(queries, 5, **option)[1].tobytes() for s in states} for option in options]
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
                jobs = [pool.submit(changing.search, queries, 5, **o) for o in options]
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
    """Rows are added and removed in small steps; every state searches like a fresh index."""
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
            found = [s.search(queries, 9, quota=60) for s in (grown, anew)]
            for mine, its in zip(*found, strict=True):
                np.testing.assert_array_equal(mine, its)
    before = grown.search(queries, 9)
    grown.optimize()
    assert len(grown) == len(present)
    for mine, its in zip(grown.search(queries, 9), before, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_two_searchers_may_grow_from_one_state(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    first = filled(searcher.model, data[:1000])
    first.add_data(data[1000:1010])
    second = copy.copy(first)
    first.add_data(data[1010:1020])
    second.add_data(data[1020:1030])
    assert_search_alike(first, filled(searcher.model, data[:1020]), queries)
    other = filled(searcher.model, np.concatenate([data[:1010], data[1020:1030]]))
    assert_search_alike(second, other, queries)


def test_a_state_keeps_what_newer_states_removed_and_added_again(
    searcher: LOPQSearcher, data: np.ndarray
) -> None:
    first = filled(searcher.model, data[:1000])
    first.add_data(data[1000:1010])
    second = copy.copy(first)
    first.remove([1003])
    first.add_data(data[5:6], [1003])
    with pytest.raises(LOPQError, match="in the index already"):
        second.add_data(data[:1], [1003])


def test_copies_share_no_arrays_that_are_made_again(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    one = filled(searcher.model, data)
    before = len(pickle.dumps(one))
    one.search(queries, 3)
    one.remove([5])
    assert len(pickle.dumps(one)) < before + 5000
