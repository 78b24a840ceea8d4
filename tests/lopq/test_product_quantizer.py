import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopq.codes import CodeFormat
from lopq.quantizer import nearest_entries
from lopq.train.product_quantizer import train_codebooks


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
    codebooks = rng.normal(size=(M, n_entry, dim_sub)).astype(np.float32)
    rows = rng.normal(size=(7, M * dim_sub)).astype(np.float32)
    subspaces = rows.reshape(7, M, 1, dim_sub)
    expected = ((subspaces - codebooks) ** 2).sum(axis=3).argmin(axis=2)
    fine = nearest_entries(rows, codebooks)
    np.testing.assert_array_equal(fine, expected)
    format = CodeFormat(V=1, M=M, n_entry=n_entry, n_split=1, bits=bits)
    packed = format.pack(fine)
    assert packed.shape == (7, (M * bits + 7) // 8)
    np.testing.assert_array_equal(format.unpack(packed), fine)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_fewer_rows_than_entries_are_all_kept(n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)
    codebooks = train_codebooks(rows, 2, 8, n_iter=3, seed=0)
    decoded = codebooks[np.arange(2), nearest_entries(rows, codebooks)].reshape(n, 6)
    np.testing.assert_array_equal(decoded, rows)
