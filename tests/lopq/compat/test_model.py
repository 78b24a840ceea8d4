"""Calls for one vector, and given parameters, as in the old package."""

import numpy as np
import pytest

from lopq import LOPQCode, LOPQError
from lopq.compat import LOPQModel, LOPQSearcher


def mean_error(model: LOPQModel, data: np.ndarray) -> float:
    return float(((model.reconstruct(model.encode(data)) - data) ** 2).sum(axis=1).mean())


def test_one_vector_agrees_with_many(searcher: LOPQSearcher, queries: np.ndarray) -> None:
    model = searcher.model
    codes = model.encode(queries)
    for i in range(5):
        one = model.predict(queries[i])
        assert one == (tuple(codes.coarse[i]), tuple(codes.fine[i]))
        assert model.predict_coarse(queries[i]) == one.coarse
        assert model.predict_fine(queries[i]) == one.fine
        np.testing.assert_allclose(
            model.reconstruct(one), model.reconstruct(codes)[i], rtol=1e-5, atol=1e-5
        )
        cell_id = model.get_cell_id_for_coarse_codes(one.coarse)
        assert model.get_coarse_codes_for_cell_id(cell_id) == one.coarse


def test_tables_give_the_distance_to_the_decoded_vector(
    searcher: LOPQSearcher, queries: np.ndarray
) -> None:
    model = searcher.model
    code = model.predict(queries[1])
    tables = model.get_subquantizer_distances(queries[0], code.coarse)
    by_tables = sum(table[entry] for table, entry in zip(tables, code.fine, strict=True))
    decoded = model.decode(LOPQCode(np.array([code.coarse]), np.array([code.fine])))
    expected = ((model.to_model_space(queries[:1]) - decoded) ** 2).sum()
    assert by_tables == pytest.approx(expected, rel=1e-4)
    of_splits = [
        model.get_subquantizer_distances(queries[0], code.coarse, s)
        for s in range(model.num_coarse_splits)
    ]
    np.testing.assert_allclose(np.concatenate(of_splits), tables)


def test_given_parameters_stay_and_the_rest_is_fitted(data: np.ndarray) -> None:
    whole = LOPQModel(V=5, M=4, subquantizer_clusters=16, split="multi")
    whole.fit(data, n_init=1)
    parameters = (whole.Cs, whole.Rs, whole.mus, whole.subquantizers)
    for missing in range(16):
        partial = [None if missing >> i & 1 else p for i, p in enumerate(parameters)]
        model = LOPQModel(
            V=5, M=4, subquantizer_clusters=16, split="multi", parameters=tuple(partial)
        )
        model.fit(data, n_init=1)
        fitted = (model.Cs, model.Rs, model.mus, model.subquantizers)
        for kept, got in zip(partial, fitted, strict=True):
            for ours, its in zip(got, kept or (), strict=False):
                np.testing.assert_array_equal(ours, its)
        assert mean_error(model, data) < 0.6 * data.var(axis=0).sum()
    complete = LOPQModel(parameters=parameters)
    assert (complete.V, complete.M, complete.subquantizer_clusters) == (5, 4, 16)
    for ours, its in zip(complete.encode(data), whole.encode(data), strict=True):
        np.testing.assert_array_equal(ours, its)


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
    model.fit(data[:, :10], kmeans_coarse_iters=2, n_init=1)  # padded to 12
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
    assert other.ids.tolist() == whole.ids.tolist()
    assert other.search(data[0], 100) == whole.search(data[0], 100)


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


def test_arguments_of_the_old_package_are_taken(data: np.ndarray) -> None:
    model = LOPQModel(4, 4, 16).fit(data, 5, 5, 1, 0.5, 7, True, 2)
    assert (model.num_coarse_splits, model.num_fine_splits, model.dim) == (2, 2, 16)
    rows = np.sort(np.random.default_rng(7).choice(len(data), len(data) // 2, replace=False))
    same = LOPQModel(4, 4, 16, seed=7).fit(data[rows], 5, 5, 1)
    np.testing.assert_array_equal(model.encode(data).fine, same.encode(data).fine)
    for ratio in (0, 1.5):
        with pytest.raises(LOPQError, match="subquantizer_sample_ratio must be above 0"):
            model.fit(data, subquantizer_sample_ratio=ratio)
    searcher = LOPQSearcher(model)
    searcher.add_data(data[:9], num_procs=4)
    assert searcher.nb_indexed == 9
