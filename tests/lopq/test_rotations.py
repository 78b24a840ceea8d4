import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lopq import LOPQModel, LOPQSearcher
from lopq.pca import eigenvalue_allocation
from lopq.train.rotations import fit_rotations, nearest_cells, neighbor_weights


def three_cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    offsets = np.array([0, 200, 200, 500])  # the middle cell is empty
    rows = rng.normal(size=(500, 8)) * np.geomspace(3, 0.1, 8)
    rows[200:] = rows[200:] @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
    return rows.astype(np.float32), offsets


def test_rotations_decorrelate_each_cell() -> None:
    rows, offsets = three_cells()
    alone = np.zeros((3, 0), np.int64)  # no neighbors
    rotations = fit_rotations(rows, offsets, 4, alone)
    np.testing.assert_allclose(rotations[1] @ rotations[1].T, np.eye(8), atol=1e-6)
    for cell in (0, 2):
        turned = rows[offsets[cell] : offsets[cell + 1]] @ rotations[cell].T
        moments = turned.T @ turned / len(turned)
        np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-4)


@pytest.mark.parametrize("values", [np.zeros(8), np.geomspace(100, 1e-3, 8), np.eye(8)[3]])
@pytest.mark.parametrize("buckets", [1, 2, 3, 8])
def test_allocation_is_a_permutation_into_equal_buckets(values: np.ndarray, buckets: int) -> None:
    order = eigenvalue_allocation(buckets, values)
    assert sorted(order.tolist()) == list(range(8))


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_allocation_balances_products_at_any_scale(scale: float) -> None:
    values = np.geomspace(1000, 1, 16) * scale
    buckets = eigenvalue_allocation(4, values).reshape(4, 4)
    products = np.log2(values[buckets]).sum(axis=1)
    contiguous = np.log2(values.reshape(4, 4)).sum(axis=1)
    assert np.ptp(products) < 0.15 * np.ptp(contiguous)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-8])
@pytest.mark.parametrize("seed", range(5))
def test_allocation_is_that_of_the_old_package(seed: int, scale: float) -> None:
    values = np.random.default_rng(seed).exponential(size=24) * scale
    logs = np.log2(values / values.min())  # it too divides by the smallest first
    buckets: list[list[int]] = [[], [], [], []]
    for i in np.argsort(-values).tolist():
        open_ones = [bucket for bucket in buckets if len(bucket) < 6]
        min(open_ones, key=lambda bucket: sum(logs[bucket])).append(i)
    assert eigenvalue_allocation(4, values).tolist() == list(itertools.chain(*buckets))


@pytest.mark.parametrize("seed", range(10))
def test_allocation_is_near_the_best_of_all(seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=8) * 0.1
    logs = np.log2(values)

    def spread(first: Sequence[int]) -> float:
        return abs(2 * logs[list(first)].sum() - logs.sum())

    spreads = sorted(spread(first) for first in itertools.combinations(range(8), 4))
    chosen = spread(eigenvalue_allocation(2, values)[:4].tolist())
    assert chosen <= np.median(spreads)
    assert chosen - spreads[0] < 0.5 * (spreads[-1] - spreads[0])


def test_neighbors_leave_the_cell_itself_out() -> None:
    centroids = np.array([[0.0], [1.0], [5.0], [5.0], [9.0]], np.float32)
    near = nearest_cells(centroids)
    assert near.shape == (5, 3)
    for cell in (0, 1, 4):
        assert cell not in near[cell]
    assert near[0].tolist()[0] == 1
    assert nearest_cells(centroids[:2]).tolist() == [[1], [0]]


def test_small_cells_lean_on_their_neighbors() -> None:
    weights = neighbor_weights(np.array([0, 10, 128, 500, 5000]), 128)
    assert (np.diff(weights) <= 0).all()
    assert weights[0] == 1
    assert weights[-1] < 1e-3


@pytest.mark.parametrize("split", ["single", "multi"])
def test_cells_near_each_other_share_a_rotation(
    data: np.ndarray, queries: np.ndarray, tmp_path: Path, split: str
) -> None:
    model = LOPQModel(8, 4, 16, split=split, rotations=3).fit(data)
    for R in model.Rs:
        assert len(np.unique(R, axis=0)) == 3
    one_each = LOPQModel(8, 4, 16, split=split).fit(data)
    assert model.nbytes < one_each.nbytes
    searcher = LOPQSearcher(model)
    searcher.add_data(data)
    searcher.save(tmp_path / "index")
    loaded = LOPQSearcher.load(tmp_path / "index")
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "index").read_bytes()
    for mine, its in zip(loaded.search(queries, 5), searcher.search(queries, 5), strict=True):
        np.testing.assert_array_equal(mine, its)
    one_by_one = np.concatenate([model.encode(x[None]).fine for x in data[:50]])
    np.testing.assert_array_equal(model.encode(data[:50]).fine, one_by_one)
    error = ((model.to_model_space(data) - model.decode(model.encode(data))) ** 2).sum(axis=1)
    assert error.mean() < 0.5 * data.var(axis=0).sum()
