"""Many cells: two levels of k-means, and cells found by their groups."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from lopq import LOPQError, LOPQModel, LOPQSearcher, quantizer, storage
from lopq.quantizer import TwoLevelQuantizer
from lopq.train import coarse_quantizer
from lopq.train.coarse_quantizer import apportion, train_coarse


@pytest.fixture(autouse=True)
def two_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse_quantizer, "TWO_LEVELS_FROM", 16)


def test_cells_fit_as_well_as_those_of_one_level(
    data: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = train_coarse(data, 60, 20, seed=0)
    assert isinstance(coarse, TwoLevelQuantizer)
    coarse.check()
    assert coarse.C.shape == (60, 16)
    assert len(coarse.tops) == 7
    distances, exact = faiss.knn(data, coarse.C, 1)
    monkeypatch.setattr(coarse_quantizer, "TWO_LEVELS_FROM", 1000)
    one_level = train_coarse(data, 60, 20, seed=0)
    assert distances.mean() < 1.03 * faiss.knn(data, one_level.C, 1)[0].mean()
    monkeypatch.setattr(quantizer, "PROBED_GROUPS", 3)
    assert (coarse.assign(data) == exact[:, 0]).mean() > 0.97
    monkeypatch.setattr(quantizer, "PROBED_GROUPS", 7)  # all groups
    np.testing.assert_array_equal(coarse.assign(queries), faiss.knn(queries, coarse.C, 1)[1][:, 0])


def test_a_row_gets_the_same_code_in_every_batch(data: np.ndarray) -> None:
    """Rows are compared with cells and entries in pairs: the partner must not matter."""
    for M, dim in ((4, 16), (5, 15), (2, 14)):  # entries of 4, 3 and 7 dimensions
        rows = data[:, :dim]
        model = LOPQModel(V=40, M=M, subquantizer_clusters=16).fit(rows)
        whole = model.encode(rows)
        for start, stop in ((0, 1), (1, 2), (1, 300), (300, 703)):
            part = model.encode(rows[start:stop])
            np.testing.assert_array_equal(part.coarse, whole.coarse[start:stop])
            np.testing.assert_array_equal(part.fine, whole.fine[start:stop])


def test_cells_far_from_the_origin(data: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    far = data + np.float32(1000)
    coarse = train_coarse(far, 60, 20, seed=0)
    monkeypatch.setattr(quantizer, "PROBED_GROUPS", 60)  # all groups
    exact = ((far[:500, None].astype(np.float64) - coarse.C) ** 2).sum(axis=2).argmin(axis=1)
    assert (coarse.assign(far[:500]) == exact).mean() > 0.99


def test_groups_without_cells_are_left_out() -> None:
    rows = np.repeat(np.eye(3, 8, dtype=np.float32), 40, axis=0)  # three distinct rows
    coarse = train_coarse(rows, 64, 5, seed=0)
    assert isinstance(coarse, TwoLevelQuantizer)
    assert len(coarse.C) == 64
    assert (np.diff(coarse.starts) > 0).all()
    assert (rows == coarse.C[coarse.assign(rows)]).all()


def test_apportioned_parts_are_whole_and_within_the_sizes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.integers(0, 40, 9)
        total = int(rng.integers(np.count_nonzero(sizes), sizes.sum() + 1))
        parts = apportion(total, sizes)
        assert parts.sum() == total
        assert (parts <= sizes).all()
        assert (parts[sizes > 0] > 0).all()


def test_an_index_of_many_cells_is_saved_with_its_groups(
    data: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    model = LOPQModel(V=40, M=4, subquantizer_clusters=16).fit(data)
    searcher = LOPQSearcher(model)
    searcher.add_data(data)
    path = tmp_path / "index"
    searcher.save(path)
    loaded = LOPQSearcher.load(path)
    np.testing.assert_array_equal(loaded.model.encode(data).coarse, model.encode(data).coarse)
    for mine, its in zip(
        loaded.search(queries, 5, 60), searcher.search(queries, 5, 60), strict=True
    ):
        np.testing.assert_array_equal(mine, its)
    header, arrays = storage.read(path, "searcher")
    starts = np.array(arrays["starts0"])
    wrong: list[dict[str, np.ndarray]] = [
        {"starts0": starts[:-1]},
        {"starts0": starts + 1},
        {"starts0": starts[::-1].copy()},
        {"starts0": starts.astype(np.float32)},
        {"tops0": arrays["tops0"][:, :-1]},
        {"R0": arrays["R0"][:3]},
        {"R0": arrays["R0"][:, :-1]},
        {"rotation_of0": np.arange(39)},
        {"rotation_of0": np.arange(1, 41)},
        {"mu0": arrays["mu0"][:-1]},
        {"subs0": arrays["subs0"][:-1]},
        {"codes": arrays["codes"].astype(np.int64)},
        {"ids": arrays["ids"].astype(np.float32)},
    ]
    for changed in wrong:
        storage.write(path, "searcher", header, {**arrays, **changed})
        with pytest.raises(LOPQError, match="is damaged"):
            LOPQSearcher.load(path)


def test_groups_must_cover_the_cells() -> None:
    C = np.zeros((2, 4), np.float32)
    with pytest.raises(LOPQError, match="do not cover"):
        TwoLevelQuantizer(C, np.zeros((2, 4), np.float32), np.array([0, 3, 2])).check()
