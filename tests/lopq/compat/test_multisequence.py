import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lopq import multisequence


@given(V=st.integers(1, 6), n_split=st.sampled_from([1, 2]), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_multisequence_sorts_all_cells(V: int, n_split: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Cs = [rng.normal(size=(V, 3)).astype(np.float32) for _ in range(n_split)]
    x = rng.normal(size=3 * n_split).astype(np.float32)
    parts = np.split(x, n_split)
    expected = {
        cell: sum(float(((C[c] - p) ** 2).sum()) for C, c, p in zip(Cs, cell, parts, strict=True))
        for cell in itertools.product(range(V), repeat=n_split)
    }
    found = list(multisequence(x, Cs))
    assert sorted(cell for _, cell in found) == sorted(expected)
    distances = [distance for distance, _ in found]
    assert distances == sorted(distances)
    np.testing.assert_allclose(distances, [expected[cell] for _, cell in found], rtol=1e-5)
