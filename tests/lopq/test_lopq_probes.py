import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopq.lists import CellLists
from lopq.probes import choose_probes, multisequence


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


@pytest.mark.parametrize("n_split", [1, 2])
@pytest.mark.parametrize("quota", [1, 7, 40, 100])
def test_probes_are_the_cells_a_plain_walk_takes(n_split: int, quota: int) -> None:
    rng = np.random.default_rng(5)
    V, n = 5, 100
    Cs = [rng.normal(size=(V, 3)).astype(np.float32) for _ in range(n_split)]
    queries = rng.normal(size=(9, 3 * n_split)).astype(np.float32)
    cells = rng.integers(V**n_split - 1, size=n)  # the last cell stays empty
    lists = CellLists.sort(cells, np.zeros((n, 1), np.uint8), np.arange(n))
    probes = choose_probes(queries, Cs, lists, quota)
    for row, query in enumerate(queries):
        taken, count = [], 0
        for _, cell in multisequence(query, Cs):
            number = sum(c * V ** (n_split - 1 - i) for i, c in enumerate(cell))
            size = int((cells == number).sum())
            if count < quota and size:
                taken.append(number)
                count += size
        mine = probes.queries == row
        assert lists.cells[probes.slots[mine]].tolist() == taken
        assert probes.ranks[mine].tolist() == list(range(len(taken)))
