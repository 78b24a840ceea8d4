import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopq import LOPQCode, LOPQError, LOPQModel, LOPQSearcher


def mean_error(model: LOPQModel, data: np.ndarray) -> float:
    return float(((model.reconstruct(model.encode(data)) - data) ** 2).sum(axis=1).mean())


def test_codes_are_those_of_the_definition(searcher: LOPQSearcher, queries: np.ndarray) -> None:
    model = searcher.model
    codes = model.encode(queries)
    rows = model.to_model_space(queries)
    for i, row in enumerate(rows):
        fine, restored = [], []
        for s, part in enumerate(np.split(row, len(model.Cs))):
            C, R = model.Cs[s], model.Rs[s]
            mu, subs = model.mus[s], model.subquantizers[s]
            cell = np.argmin(((C - part) ** 2).sum(axis=1))
            rotated = R[cell] @ (part - C[cell] - mu[cell])
            pieces = rotated.reshape(len(subs), 1, -1)
            entries = ((subs - pieces) ** 2).sum(axis=2).argmin(axis=1)
            decoded = subs[np.arange(len(subs)), entries].ravel()
            assert codes.coarse[i, s] == cell
            fine += entries.tolist()
            restored.append(R[cell].T @ decoded + C[cell] + mu[cell])
        assert codes.fine[i].tolist() == fine
        np.testing.assert_allclose(
            model.reconstruct(codes)[i], np.concatenate(restored)[:16], atol=1e-4
        )


@pytest.mark.parametrize("split", ["single", "multi"])
@pytest.mark.parametrize("rotation", ["pca", "none"])
def test_every_rotation_is_orthonormal_and_repeatable(
    split: str, rotation: str, data: np.ndarray
) -> None:
    def fitted() -> LOPQModel:
        model = LOPQModel(V=5, M=4, subquantizer_clusters=16, split=split, rotation=rotation)
        return model.fit(data)

    first, second = fitted(), fitted()
    for R in first.Rs:
        products = np.asarray(R) @ np.asarray(R).transpose(0, 2, 1)
        np.testing.assert_allclose(
            products, np.broadcast_to(np.eye(R.shape[1]), R.shape), atol=1e-5
        )
    for mine, its in zip(first.encode(data), second.encode(data), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert mean_error(first, data) < 0.5 * data.var(axis=0).sum()


@given(
    dim=st.integers(1, 20),
    M=st.integers(1, 9),
    V=st.integers(1, 5),
    dtype=st.sampled_from(["f2", "f4", "f8", "i4"]),
    bits=st.sampled_from([4, 8]),
    ordered=st.sampled_from("CF"),
    split=st.sampled_from(["single", "multi"]),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_and_dtype(
    dim: int, M: int, V: int, dtype: str, bits: int, ordered: str, split: str
) -> None:
    M *= 2 if split == "multi" else 1
    rng = np.random.default_rng(dim)
    X = np.asarray(rng.normal(size=(60, dim)) * 5, dtype, order=ordered)[::2]
    model = LOPQModel(V, M, 16, split=split, bits=bits)
    model.fit(X, kmeans_coarse_iters=3)
    assert model.dim % M == 0
    assert model.dim - dim < M
    reconstructed = model.reconstruct(model.encode(X))
    assert reconstructed.shape == X.shape
    searcher = LOPQSearcher(model)
    searcher.add_data(X)
    scores, ids = searcher.search(X, 40, rerank=40, vectors=X)
    assert (np.sort(ids[:, :30], axis=1) == np.arange(30)).all()
    assert (ids[:, 30:] == -1).all()
    np.testing.assert_allclose(scores[:, 0], 0, atol=1e-5)


def test_fit_returns_the_model_and_fits_again(data: np.ndarray) -> None:
    model = LOPQModel(V=4, M=4, subquantizer_clusters=16)
    assert model.fit(data) is model
    other = LOPQModel(V=4, M=4, subquantizer_clusters=16).fit(data[:700, :9])
    model.fit(data[:700, :9])
    for mine, its in zip(model.encode(data[:, :9]), other.encode(data[:, :9]), strict=True):
        np.testing.assert_array_equal(mine, its)
    with pytest.raises(LOPQError, match="row 0"):
        model.fit(data * np.nan)
    assert model.dim_in == 9  # still fitted


def test_more_dimensions_than_pca_dim_are_reduced(data: np.ndarray) -> None:
    wide = np.concatenate([data, data @ np.ones((16, 8), np.float32)], axis=1)
    model = LOPQModel(V=4, M=4, subquantizer_clusters=32, pca_dim=16)
    model.fit(wide)
    assert model.dim == 16
    assert model.pca is not None
    rows = model.to_model_space(wide)
    np.testing.assert_allclose(model.from_model_space(rows), wide, atol=1e-3)  # rank is 16
    distances = ((wide[:50, None] - wide[None, 50:100]) ** 2).sum(axis=2)
    reduced = ((rows[:50, None] - rows[None, 50:100]) ** 2).sum(axis=2)
    np.testing.assert_allclose(reduced, distances, rtol=1e-3, atol=1e-2)
    assert mean_error(model, wide) < 0.5 * wide.var(axis=0).sum()
    unit = LOPQModel(V=4, M=4, subquantizer_clusters=32, pca_dim=8, renorm=True)
    unit.fit(wide)
    np.testing.assert_allclose(np.linalg.norm(unit.to_model_space(wide), axis=1), 1, atol=1e-5)


def test_training_on_a_sample_reads_only_the_sample(data: np.ndarray) -> None:
    model = LOPQModel(V=4, M=2, subquantizer_clusters=16, seed=3)
    model.fit(data, train_size=200)
    rows = np.sort(np.random.default_rng(3).choice(len(data), 200, replace=False))
    same = LOPQModel(V=4, M=2, subquantizer_clusters=16, seed=3)
    same.fit(data[rows])
    np.testing.assert_array_equal(model.Rs[0], same.Rs[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: LOPQModel(V=0), "V must be a whole number from 1 up; got 0"),
        (lambda X: LOPQModel(M=3, split="multi"), "even number of subspaces"),
        (lambda X: LOPQModel(split="triple"), "split must be one of 'single', 'multi'"),
        (lambda X: LOPQModel(rotation="svd"), "rotation must be one of 'pca', 'none'; got 'svd'"),
        (lambda X: LOPQModel(bits=5), "bits must be one of 8, 4"),
        (lambda X: LOPQModel(subquantizer_clusters=300), "from 1 to 256"),
        (lambda X: LOPQModel().encode(X), "call fit"),
        (lambda X: LOPQSearcher(LOPQModel()), "call fit"),
        (lambda X: LOPQModel(V=2000).fit(X), "V=2000 cells need at least 2000 training vectors"),
        (lambda X: LOPQModel().fit(X[0]), r"data must have 2 axes, \(n, dim\)"),
        (lambda X: LOPQModel().fit(X[:0]), "not empty"),
        (lambda X: LOPQModel().fit(X.astype(str)), "real numbers"),
        (lambda X: LOPQModel().fit(np.where(X[3, 2] == X, np.nan, X)), "the first is row 3"),
        (lambda X: LOPQModel().fit(X.astype("f8") * 1e60), "too large"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(call, message: str, data: np.ndarray) -> None:
    with pytest.raises(LOPQError, match=message) as caught:
        call(data)
    assert "\n" not in str(caught.value)


def test_wrong_input_to_a_fitted_model(searcher: LOPQSearcher, queries: np.ndarray) -> None:
    holed = queries.copy()
    holed[2, 1] = np.inf
    calls = [
        (lambda: searcher.search(queries[:, :5], 3), "must have 16 columns"),
        (lambda: searcher.search(holed, 3), "row 2"),
        (lambda: searcher.search(queries[0], 3), r"for one vector x, pass x\[None\]"),
        (lambda: searcher.search(queries, 0), "k must be"),
        (lambda: searcher.search(queries, 3, quota=0), "quota must be"),
        (lambda: searcher.search(queries, 3, allowed=np.ones(9)), "allowed must be"),
        (lambda: searcher.add_data(holed), "row 2"),
        (lambda: searcher.add_data(queries, ids=[1, 2]), r"shape \(40,\)"),
        (lambda: searcher.add_data(queries, ids=np.arange(40.0)), "whole numbers"),
        (lambda: searcher.add_data(queries, ids=np.arange(-1, 39)), "from 0"),
        (lambda: searcher.add_codes(LOPQCode(np.zeros((2, 3)), np.zeros((2, 4)))), "codes must"),
        (lambda: searcher.model.decode(LOPQCode(*_beyond(searcher))), "from 0 to 5"),
    ]
    before = len(searcher)
    for call, message in calls:
        with pytest.raises(LOPQError, match=message):
            call()
    assert len(searcher) == before


def _beyond(searcher: LOPQSearcher) -> tuple[np.ndarray, np.ndarray]:
    return np.full((1, len(searcher.model.Cs)), 6), np.zeros((1, 4), int)


@pytest.mark.parametrize("rotation", ["pca", "none"])
def test_degenerate_data(rotation: str) -> None:
    one = np.ones((20, 6), np.float32)
    few = np.repeat(np.eye(6, dtype=np.float32)[:3], 7, axis=0)  # 3 distinct vectors, 5 cells
    for X in (one, few, few[:5]):
        model = LOPQModel(V=5, M=3, rotation=rotation)
        model.fit(X)
        searcher = LOPQSearcher(model)
        searcher.add_data(X)
        assert np.isfinite(model.Rs[0]).all()
        np.testing.assert_allclose(model.reconstruct(model.encode(X)), X, atol=1e-4)
        _, ids = searcher.search(X, len(X))
        np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(np.arange(len(X)), (len(X), 1)))
