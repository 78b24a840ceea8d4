import copy
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

from lopq import LOPQCode, LOPQError, LOPQModel, LOPQSearcher


def brute_force(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: distances to all decoded vectors, sorted by (distance, id)."""
    codes = np.concatenate(searcher.model.encode(data), axis=1)
    distinct, which = np.unique(codes, axis=0, return_inverse=True)  # equal codes tie exactly
    parts = np.split(distinct, [len(searcher.model.Cs)], axis=1)
    decoded = searcher.model.decode(LOPQCode(*parts)).astype(np.float64)[which.ravel()]
    rows = searcher.model.to_model_space(queries).astype(np.float64)
    distances = ((rows[:, None] - decoded) ** 2).sum(axis=2)
    ids = np.broadcast_to(np.arange(len(data)), distances.shape)
    order = np.lexsort((ids, distances), axis=1)
    return np.take_along_axis(distances, order, axis=1), order


def test_exhaustive_search_is_brute_force_over_decoded_vectors(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    distances, order = brute_force(searcher, data, queries)
    scores, ids = searcher.search(queries, 10)
    np.testing.assert_allclose(-scores, distances[:, :10], rtol=1e-4, atol=1e-4)
    assert (ids == order[:, :10]).mean() > 0.98  # the rest: ties up to rounding
    assert scores.dtype == np.float32
    assert ids.dtype == np.int64
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_equal_distances_go_by_id(data: np.ndarray, bits: int) -> None:
    model = LOPQModel(V=3, M=4, subquantizer_clusters=16, bits=bits)
    model.fit(data)
    searcher = LOPQSearcher(model)
    ids = np.random.default_rng(0).permutation(300)
    searcher.add_data(np.repeat(data[:3], 100, axis=0), ids)
    _, found = searcher.search(data[:3], 20)
    for row in range(3):
        same = np.sort(ids[100 * row : 100 * (row + 1)])
        np.testing.assert_array_equal(found[row], same[:20])
    _, found = searcher.search(data[:1], 100, quota=1)
    assert found[0].tolist() == np.sort(ids[:100]).tolist()


def test_reranking_is_exact_among_the_candidates(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    scores, ids = searcher.search(queries, 10, rerank=len(data), vectors=data)
    distances = ((queries[:, None].astype(np.float64) - data) ** 2).sum(axis=2)
    np.testing.assert_array_equal(ids, np.argsort(distances, axis=1)[:, :10])
    np.testing.assert_allclose(-scores, np.sort(distances, axis=1)[:, :10], rtol=1e-4)
    approximate = searcher.search(queries, 30)[1]
    reranked = searcher.search(queries, 10, rerank=30, vectors=data)[1]
    for row in range(len(queries)):
        candidates = approximate[row][np.argsort(distances[row, approximate[row]])]
        np.testing.assert_array_equal(reranked[row], candidates[:10])


def test_reranking_needs_a_row_for_each_id(searcher: LOPQSearcher, data: np.ndarray) -> None:
    with pytest.raises(LOPQError, match="beyond its 10 rows"):
        searcher.search(data[:2], 5, rerank=50, vectors=data[:10])
    with pytest.raises(LOPQError, match="rerank needs vectors"):
        searcher.search(data[:2], 5, rerank=50)


def test_k_beyond_the_database_is_padded(searcher: LOPQSearcher, queries: np.ndarray) -> None:
    small = LOPQSearcher(searcher.model)
    scores, ids = small.search(queries, 3)
    assert (ids == -1).all()
    assert np.isneginf(scores).all()
    small.add_data(queries[:4], ids=[7, 2**40, 0, 2**62])
    scores, ids = small.search(queries, 6)
    assert (np.sort(ids[:, :4], axis=1) == [0, 7, 2**40, 2**62]).all()
    assert (ids[:, 4:] == -1).all()
    assert np.isneginf(scores[:, 4:]).all()
    assert np.isfinite(scores[:, :4]).all()
    assert small.search(queries[:0], 3)[0].shape == (0, 3)


def test_adding_and_removing(searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray) -> None:
    pieces = LOPQSearcher(searcher.model)
    pieces.add_data(data[:700])
    pieces.add_codes(searcher.model.encode(data[700:]))  # ids go on at 700
    for whole, part in zip(searcher.search(queries, 9), pieces.search(queries, 9), strict=True):
        np.testing.assert_array_equal(whole, part)
    nearest = searcher.search(queries[:1], 4)[1][0]
    pieces.remove(nearest[:2])
    assert pieces.search(queries[:1], 2)[1][0].tolist() == nearest[2:].tolist()
    assert len(pieces) == len(data) - 2
    with pytest.raises(LOPQError, match="not in the index"):
        pieces.remove(nearest[:1])
    with pytest.raises(LOPQError, match="in the index already"):
        pieces.add_data(data[:1], ids=[int(nearest[2])])
    with pytest.raises(LOPQError, match="distinct"):
        pieces.add_data(data[:2], ids=[9000, 9000])
    assert len(pieces) == len(data) - 2
    pieces.add_codes(searcher.model.encode(data[nearest[:2]]), nearest[:2])
    assert pieces.search(queries[:1], 4)[1][0].tolist() == nearest.tolist()


def test_searching_from_threads_changes_nothing(
    searcher: LOPQSearcher, queries: np.ndarray
) -> None:
    expected = [searcher.search(queries, 5, quota=q)[1] for q in (5, 50, 500)]
    fresh = copy.copy(searcher)
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(fresh.search, queries, 5, (5, 50, 500)[i % 3]) for i in range(24)]
        for i, job in enumerate(jobs):
            np.testing.assert_array_equal(job.result()[1], expected[i % 3])


def test_only_allowed_ids_are_found_and_enough_of_them(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray
) -> None:
    allowed = np.zeros(1200, bool)  # ids from 1,200 up are not allowed either
    allowed[::37] = True
    chosen = np.flatnonzero(allowed)
    only = LOPQSearcher(searcher.model)
    only.add_data(data[chosen], chosen)
    for quota in (1, 20, None):
        expected = only.search(queries, 9, quota=quota)
        for mine, its in zip(
            searcher.search(queries, 9, quota=quota, allowed=allowed), expected, strict=True
        ):
            np.testing.assert_array_equal(mine, its)
    huge = searcher.search(queries, 9, quota=2**70, allowed=allowed)[1]
    np.testing.assert_array_equal(huge, only.search(queries, 9)[1])
    nothing = searcher.search(queries, 3, allowed=np.zeros(0, bool))[1]
    assert (nothing == -1).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_results_do_not_depend_on_threads_and_batches(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, threads: int
) -> None:
    expected = [searcher.search(query[None], 7, quota=90) for query in queries]
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        scores, ids = searcher.search(queries, 7, quota=90)
        codes = searcher.model.encode(np.tile(data, (8, 1)))  # several blocks
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(scores, np.concatenate([s for s, _ in expected]))
    np.testing.assert_array_equal(ids, np.concatenate([i for _, i in expected]))
    np.testing.assert_array_equal(codes.fine, np.tile(searcher.model.encode(data).fine, (8, 1)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_searches_on_threads_of_its_own(
    searcher: LOPQSearcher, queries: np.ndarray
) -> None:
    expected = searcher.search(queries, 5)[1]  # starts the threads of this process
    child = os.fork()
    if child == 0:
        is_same = (searcher.search(queries, 5)[1] == expected).all()
        os._exit(0 if is_same else 1)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the forked process waits for ever")
    assert os.waitstatus_to_exitcode(status) == 0
