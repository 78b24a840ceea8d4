"""What is wrong with what comes in is a LOPQError, and changes nothing."""

import numpy as np
import pytest

from lopq import LOPQError, LOPQModel, LOPQSearcher


@pytest.mark.parametrize("size", [1e16, 1e19, 1e22, 1e25, 3e38])
def test_vectors_too_long_for_float32_are_refused(
    size: float, searcher: LOPQSearcher, data: np.ndarray
) -> None:
    holed = data[:50].copy()
    holed[7, 3] = size
    calls = [
        lambda: LOPQModel(V=2).fit(holed),
        lambda: searcher.add_data(holed, np.arange(5000, 5050)),
        lambda: searcher.search(holed, 3),
        lambda: searcher.model.encode(holed),
    ]
    for call in calls:
        with pytest.raises(LOPQError, match=r"1 row\(s\).*too large values, the first is row 7"):
            call()


def test_long_vectors_below_the_limit_work(data: np.ndarray) -> None:
    X = data.astype(np.float64) * 1e13
    for rotation in ("pca", "none"):
        model = LOPQModel(V=4, M=4, rotation=rotation)
        model.fit(X)
        searcher = LOPQSearcher(model)
        searcher.add_data(X)
        scores, ids = searcher.search(X[:5], 3, rerank=50, vectors=X)
        assert ids[:, 0].tolist() == list(range(5))
        assert np.isfinite(scores).all()


def test_ids_end_at_63_bits(searcher: LOPQSearcher, data: np.ndarray) -> None:
    other = LOPQSearcher(searcher.model)
    for ids in ([2**63, 0], [2**64, 0], [2**63, -1], np.array([2**63, 0], np.uint64)):
        with pytest.raises(LOPQError, match="from 0 to"):
            other.add_data(data[:2], ids)
    other.add_data(data[:2], [2**63 - 2, 4])
    other.add_data(data[2:3])
    assert other.ids.tolist() == [4, 2**63 - 2, 2**63 - 1]
    with pytest.raises(LOPQError, match="beyond"):
        other.add_data(data[3:4])
    other.add_data(data[3:4], [5])
    assert other.ids.dtype == np.int64
    assert (np.sort(other.search(data[:1], 4)[1][0]) == [4, 5, 2**63 - 2, 2**63 - 1]).all()


def test_vectors_to_rerank_from_are_checked(searcher: LOPQSearcher, data: np.ndarray) -> None:
    def reranked(vectors: object) -> np.ndarray:
        return searcher.search(data[:2], 3, rerank=20, vectors=vectors)[1]

    expected = reranked(data)
    np.testing.assert_array_equal(reranked(data.tolist()), expected)
    for value in (np.nan, np.inf, 1e30, 1e60):
        holed = data.astype(np.float64)
        holed[expected[1, 0]] = value
        with pytest.raises(LOPQError, match=f"row {expected[1, 0]} holds NaN"):
            reranked(holed)
    unread = data.copy()
    unread[np.setdiff1d(np.arange(len(data)), searcher.search(data[:2], 20)[1])] = np.nan
    np.testing.assert_array_equal(reranked(unread), expected)
    for bad in (5, [1.0, 2.0], [[1.0], [2.0, 3.0]], data[:, :3]):
        with pytest.raises(LOPQError, match="vectors must be"):
            reranked(bad)
    few = searcher.search(data[:2], 9, rerank=1, vectors=data)  # k are scored again
    exact = ((data[:2, None] - data[few[1]]) ** 2).sum(axis=2)
    np.testing.assert_allclose(-few[0], exact, rtol=1e-4)


def test_options_of_numpy_types_are_saved(data: np.ndarray, tmp_path) -> None:
    model = LOPQModel(V=np.int64(2), M=np.int64(2), bits=np.int64(4), renorm=np.True_, pca_dim=4)
    model.fit(data)
    model.save(tmp_path / "model")
    assert LOPQModel.load(tmp_path / "model").renorm is True


def test_taken_ids_are_refused_before_anything_is_encoded(
    searcher: LOPQSearcher, data: np.ndarray
) -> None:
    holed = np.where(data[:2] == data[1, 2], np.nan, data[:2])
    with pytest.raises(LOPQError, match=r"1 of the ids are in the index already, e\.g\. 3"):
        searcher.add_data(holed, [9000, 3])
