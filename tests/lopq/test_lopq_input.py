"""What is wrong with what comes in is a LOPQError, and changes nothing."""

import numpy as np
import pytest

from lopq import LOPQCode, LOPQError, LOPQModel, LOPQSearcher


@pytest.mark.parametrize("size", [1e16, 1e19, 1e22, 1e25, 3e38])
def test_vectors_too_long_for_float32_are_refused(
    size: float, searcher: LOPQSearcher, data: np.ndarray
) -> None:
    holed = data[:50].copy()
    holed[7, 3] = size
    calls = [
        lambda: LOPQModel(V=2).fit(holed),
        lambda: searcher.add_data(holed, np.arange(5000, 5050)),
        lambda: searcher.search_batch(holed, 3),
        lambda: searcher.model.encode(holed),
    ]
    for call in calls:
        with pytest.raises(LOPQError, match=r"1 row\(s\).*too large values, the first is row 7"):
            call()
    with pytest.raises(LOPQError, match="C holds NaN"):
        LOPQModel(parameters=([holed], None, None, None))


def test_long_vectors_below_the_limit_work(data: np.ndarray) -> None:
    X = data.astype(np.float64) * 1e13
    for rotation in ("pca", "procrustes", "none"):
        model = LOPQModel(V=4, M=4, rotation=rotation)
        model.fit(X, rotation_iters=2)
        searcher = LOPQSearcher(model)
        searcher.add_data(X)
        scores, ids = searcher.search_batch(X[:5], 3, rerank=50, vectors=X)
        assert ids[:, 0].tolist() == list(range(5))
        assert np.isfinite(scores).all()


def parameters_of(dim: int, V: int = 3, M: int = 4) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    R = np.linalg.qr(rng.normal(size=(V, dim, dim)))[0]
    C, mu = rng.normal(size=(2, V, dim))
    return [[C], [R], [mu], [rng.normal(size=(M, 8, dim // M))]]


@pytest.mark.parametrize("which", range(4))
def test_given_parameters_are_compared_with_the_data(which: int, data: np.ndarray) -> None:
    given = [p if i == which else None for i, p in enumerate(parameters_of(12))]
    model = LOPQModel(V=3, M=4, parameters=tuple(given))
    with pytest.raises(LOPQError, match="given parameters have 12 dimensions, the data 16"):
        model.fit(data)
    with pytest.raises(LOPQError, match="call fit"):
        model.encode(data)
    model.fit(data[:, :10], kmeans_coarse_iters=2)  # 12 with the zeros that let 4 divide them
    assert model.reconstruct(model.encode(data[:, :10])).shape == (len(data), 10)


@pytest.mark.parametrize("which", range(3))
def test_given_parameters_that_no_subspaces_divide(which: int, data: np.ndarray) -> None:
    given = [p if i == which else None for i, p in enumerate(parameters_of(10, M=5))]
    model = LOPQModel(V=3, M=4, parameters=tuple(given))
    with pytest.raises(LOPQError, match=r"have 10 dimensions, the data 10 \(12 after zero padding"):
        model.fit(data[:, :10])


@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        (0, [np.zeros((0, 4))], "C must be .*not empty"),
        (0, [np.zeros((3, 0))], "C must be .*not empty"),
        (1, [np.zeros((3, 0, 0))], "R must be .*not empty"),
        (3, [np.zeros((0, 8, 2))], "subs must be .*not empty"),
        (3, [np.zeros((2, 0, 2))], "subs must be .*not empty"),
        (0, [[[1.0, 2.0], [3.0]]], "unequal lengths"),
        (0, [[["a", "b"]]], "real numbers"),
        (0, [np.ones((2, 2)) * 1j], "real numbers"),
        (2, [[[1.0, np.nan]]], "mu holds NaN"),
        (0, 5, "one entry for each"),
        (0, [], "one entry for each"),
    ],
)
def test_parameters_without_sense(which: int, value: object, message: str) -> None:
    given = [value if i == which else None for i in range(4)]
    with pytest.raises(LOPQError, match=message):
        LOPQModel(parameters=tuple(given))  # type: ignore[arg-type]


def test_codes_of_another_kind_of_model_are_refused(
    searcher: LOPQSearcher, data: np.ndarray
) -> None:
    model = searcher.model
    other = LOPQSearcher(model)
    coarse, fine = model.predict(data[0])
    twice, half = LOPQCode(coarse * 2, fine * 2), LOPQCode(coarse, fine[:2])
    bad = [
        [twice],
        [half, half],
        [LOPQCode(coarse, tuple(f + 0.5 for f in fine))],
        [LOPQCode(tuple(float(c) for c in coarse), fine)],
        [LOPQCode(coarse, fine), twice],
        [5],
        5,
        LOPQCode(coarse, (32,) * 4),
        LOPQCode(coarse, (-1,) * 4),
    ]
    for codes in bad:
        with pytest.raises(LOPQError, match="codes"):
            other.add_codes(codes)  # type: ignore[arg-type]
    assert len(other) == 0


def test_codes_and_ids_may_be_any_iterable(searcher: LOPQSearcher, data: np.ndarray) -> None:
    other = LOPQSearcher(searcher.model)
    other.add_codes((searcher.model.predict(x) for x in data[:9]), (i for i in range(9)))
    other.add_codes(iter([]), iter([]))
    other.add_codes(searcher.model.predict(data[9]))
    other.add_data(data[10:20], ids=(i for i in range(10, 20)))
    other.remove(i for i in range(15, 20))
    whole = LOPQSearcher(searcher.model)
    whole.add_data(data[:15])
    other.optimize()
    np.testing.assert_array_equal(other.database.lists.ids, whole.database.lists.ids)
    np.testing.assert_array_equal(other.database.lists.codes, whole.database.lists.codes)


def test_ids_end_at_63_bits(searcher: LOPQSearcher, data: np.ndarray) -> None:
    other = LOPQSearcher(searcher.model)
    for ids in ([2**63, 0], [2**64, 0], [2**63, -1], np.array([2**63, 0], np.uint64)):
        with pytest.raises(LOPQError, match="from 0 to"):
            other.add_data(data[:2], ids)
    other.add_data(data[:2], [2**63 - 2, 4])
    other.add_data(data[2:3])
    other.optimize()
    assert sorted(other.database.lists.ids.tolist()) == [4, 2**63 - 2, 2**63 - 1]
    with pytest.raises(LOPQError, match="beyond"):
        other.add_data(data[3:4])
    other.add_data(data[3:4], [5])
    assert other.database.lists.ids.dtype == np.int64
    assert (np.sort(other.search_batch(data[:1], 4)[1][0]) == [4, 5, 2**63 - 2, 2**63 - 1]).all()


def test_calls_for_one_vector_say_what_is_wrong(searcher: LOPQSearcher, data: np.ndarray) -> None:
    model, x = searcher.model, data[0]
    cell = model.predict(x).coarse
    n = model.num_coarse_splits
    for bad in ((6,) * n, (-1,) * n, (0,) * (n + 1), (), (0.5,) * n, ("a",) * n, 3):
        for call in (searcher.get_cell, model.get_cell_id_for_coarse_codes):
            with pytest.raises(LOPQError, match="coarse codes"):
                call(bad)
        for project in (model.project, model.predict_fine, model.get_subquantizer_distances):
            with pytest.raises(LOPQError, match="coarse codes"):
                project(x, bad)
    for split in (n, -1, 0.5):
        for call in (model.project, model.get_subquantizer_distances):
            with pytest.raises(LOPQError, match="the split must be"):
                call(x, cell, split)
        with pytest.raises(LOPQError, match="the split must be"):
            model.get_split_parameters(split)
    for number in (model.V**n, -1):
        with pytest.raises(LOPQError, match="a cell's number"):
            model.get_coarse_codes_for_cell_id(number)
    for call in (searcher.search, searcher.get_result_quota, model.predict, model.predict_fine):
        with pytest.raises(LOPQError, match=r"one vector, \(dim,\); got shape \(2, 16\)"):
            call(data[:2])
    for ids in (5, np.array(5), [[1]], ["a"], [True]):
        with pytest.raises(LOPQError, match="ids must"):
            searcher.remove(ids)


def test_vectors_to_rerank_from_are_checked(searcher: LOPQSearcher, data: np.ndarray) -> None:
    def reranked(vectors: object) -> np.ndarray:
        return searcher.search_batch(data[:2], 3, rerank=20, vectors=vectors)[1]

    expected = reranked(data)
    np.testing.assert_array_equal(reranked(data.tolist()), expected)
    for value in (np.nan, np.inf, 1e30, 1e60):
        holed = data.astype(np.float64)
        holed[expected[1, 0]] = value
        with pytest.raises(LOPQError, match=f"row {expected[1, 0]} holds NaN"):
            reranked(holed)
    unread = data.copy()
    unread[np.setdiff1d(np.arange(len(data)), searcher.search_batch(data[:2], 20)[1])] = np.nan
    np.testing.assert_array_equal(reranked(unread), expected)
    for bad in (5, [1.0, 2.0], [[1.0], [2.0, 3.0]], data[:, :3]):
        with pytest.raises(LOPQError, match="vectors must be"):
            reranked(bad)
    few = searcher.search_batch(data[:2], 9, rerank=1, vectors=data)  # k are scored again
    exact = ((data[:2, None] - data[few[1]]) ** 2).sum(axis=2)
    np.testing.assert_allclose(-few[0], exact, rtol=1e-4)


def test_ids_are_compared_before_anything_is_encoded(
    searcher: LOPQSearcher, data: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(rows: np.ndarray) -> None:
        raise AssertionError("encoded")

    monkeypatch.setattr(searcher.model.quantizer, "encode", refuse)
    with pytest.raises(LOPQError, match=r"1 of the ids are in the index already, e\.g\. 3"):
        searcher.add_data(data[:2], [9000, 3])


def test_options_of_numpy_types_are_saved(data: np.ndarray, tmp_path) -> None:
    model = LOPQModel(V=np.int64(2), M=np.int64(2), bits=np.int64(4), renorm=np.True_, pca_dim=4)
    model.fit(data)
    model.save(tmp_path / "model")
    assert LOPQModel.load(tmp_path / "model").renorm is True
