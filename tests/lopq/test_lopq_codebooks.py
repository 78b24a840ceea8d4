import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopq.codebooks import Codebooks, mean_centroids, train_centroids


def nearest_entries(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The oracle: each subspace compared with each entry."""
    M, _, dim_sub = centroids.shape
    return np.array(
        [
            [
                np.argmin(((centroids[m] - row[m * dim_sub : (m + 1) * dim_sub]) ** 2).sum(axis=1))
                for m in range(M)
            ]
            for row in rows
        ]
    )


@given(
    M=st.integers(1, 5),
    n_entry=st.integers(1, 16),
    dim_sub=st.integers(1, 4),
    bits=st.sampled_from([4, 8]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_codes_name_the_nearest_entries(
    M: int, n_entry: int, dim_sub: int, bits: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(M, n_entry, dim_sub)).astype(np.float32)
    rows = rng.normal(size=(7, M * dim_sub)).astype(np.float32)
    codebooks = Codebooks(centroids, bits)
    packed = codebooks.encode(rows)
    fine = nearest_entries(rows, centroids)
    assert packed.shape == (7, (M * bits + 7) // 8)
    np.testing.assert_array_equal(codebooks.unpack(packed), fine)
    np.testing.assert_array_equal(codebooks.pack(fine), packed)
    decoded = np.concatenate([centroids[m, fine[:, m]] for m in range(M)], axis=1)
    np.testing.assert_array_equal(codebooks.decode(packed), decoded)


def test_means_are_those_of_the_rows_and_unused_entries_stay() -> None:
    rows = np.array([[0.0, 1.0], [2.0, 5.0], [4.0, 9.0]], np.float32)
    centroids = np.full((2, 3, 1), 7.0, np.float32)
    fine = np.array([[0, 1], [0, 1], [2, 1]], np.uint8)
    means = mean_centroids(rows, fine, centroids)
    np.testing.assert_array_equal(means[:, :, 0], [[1, 7, 4], [7, 5, 7]])


@pytest.mark.parametrize("n", [1, 3, 8])
def test_fewer_rows_than_entries_are_all_kept(n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)
    codebooks = Codebooks(train_centroids(rows, 2, 8, n_iter=3, seed=0))
    np.testing.assert_array_equal(codebooks.decode(codebooks.encode(rows)), rows)
