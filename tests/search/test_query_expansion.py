"""Query expansion and database-side augmentation against loops over the formula."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from process_data import mips, nns
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation import metrics
from retrieval.evaluation.inputs import load_query_gallery
from retrieval.evaluation.pipeline import RankingOptions, expand_gallery
from retrieval.search import query_expansion
from tests.conftest import replace_embeddings


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_unit(seed: int, n: int, dim: int = 4) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


def expanded(row: np.ndarray, neighbors: np.ndarray, alpha: float) -> np.ndarray:
    """The formula, one neighbor after the other."""
    total = row.astype(np.float64)
    for neighbor in neighbors:
        total = total + max(float(row @ neighbor), 0.0) ** alpha * neighbor
    return unit(total)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 3.0])
def test_queries_against_the_formula(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_expansion, "BLOCK_ROWS", 3)
    queries, gallery = random_unit(0, 8), random_unit(1, 6)
    scores = queries @ gallery.T
    ids = np.argsort(-scores, axis=1)  # all of them: half of the similarities are negative
    similarities = np.take_along_axis(scores, ids, 1)
    found = query_expansion.expand(queries, gallery, ids, similarities, alpha)
    for row, query in enumerate(queries):
        np.testing.assert_allclose(found[row], expanded(query, gallery, alpha), atol=1e-5)


def test_results_that_are_missing_count_for_nothing() -> None:
    queries, gallery = random_unit(0, 2), random_unit(1, 3)
    ids, similarities = np.full((2, 4), -1), np.full((2, 4), -np.inf, np.float32)
    found = query_expansion.expand(queries, gallery, ids, similarities, 3)
    np.testing.assert_allclose(found, queries, atol=1e-6)


def test_neighbors_leave_out_the_image_itself_but_not_its_copies() -> None:
    gallery = random_unit(0, 5)
    gallery[3] = gallery[1]
    is_allowed = np.array([True, True, True, True, False])
    ids, _ = query_expansion.neighbors_within(gallery, np.array([1, 3, 4]), 4, is_allowed)
    assert ids[0, 0] == 3
    assert ids[1, 0] == 1
    for row, others in zip(ids, ([0, 2, 3], [0, 1, 2], [0, 1, 2, 3]), strict=True):
        assert sorted(row[row >= 0].tolist()) == others


def test_the_gallery_against_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_expansion, "NEIGHBOR_ROWS", 4)
    gallery = random_unit(2, 11)
    is_allowed = np.arange(11) % 4 != 1
    augmented = query_expansion.augment_gallery(gallery, 3, 2.0, is_allowed)
    np.testing.assert_array_equal(augmented[~is_allowed], gallery[~is_allowed])
    for row in np.flatnonzero(is_allowed):
        others = [i for i in np.flatnonzero(is_allowed) if i != row]
        nearest = sorted(others, key=lambda i: -float(gallery[row] @ gallery[i]))[:3]
        expected = expanded(gallery[row], gallery[nearest], 2.0)
        np.testing.assert_allclose(augmented[row], expected, atol=1e-5)


def test_validation_queries_move_nothing_and_are_not_moved(pipeline: Path) -> None:
    found = load_query_gallery(pipeline, is_valid=True)
    expanded = expand_gallery(found, RankingOptions(dba=3))
    np.testing.assert_array_equal(expanded.queries, found.queries)
    changed = found.gallery.copy()
    changed[found.query_index] = random_unit(5, len(found.queries), changed.shape[1])
    other = expand_gallery(replace(found, gallery=changed), RankingOptions(dba=3))
    allowed = found.is_allowed
    np.testing.assert_array_equal(expanded.gallery[allowed], other.gallery[allowed])
    assert not np.array_equal(expanded.gallery[allowed], found.gallery[allowed])


@pytest.mark.parametrize("options", [{"qe": 3}, {"dba": 3}, {"qe": 2, "dba": 2, "rerank_kr": 8}])
def test_codes_with_exact_scores_find_what_the_exact_search_finds(
    pipeline: Path, options: dict[str, int]
) -> None:
    # Embeddings of a network of one epoch are so alike that rounding decides their order.
    for seed, name in enumerate(("database.npy", "tdatabase.npy")):
        rows = layout.DATABASE.load(pipeline, name)
        replace_embeddings(pipeline, random_unit(seed, *rows.shape), name)
    mips.run(pipeline, k=5)
    plain = np.array(layout.NEIGHBORS.load(pipeline))
    ranking = RankingOptions(kr_k1=4, kr_k2=2, **options)
    mips.run(pipeline, k=5, run_name="mips-x", ranking=ranking)
    exact = np.array(layout.NEIGHBORS.load(pipeline))
    assert not np.array_equal(exact, plain)
    assert layout.METRICS.load(pipeline)["search"] == "mips-x"
    assert {"map", "minp"} <= set(layout.METRICS.load(pipeline))
    nns.run(pipeline, 4, 5, quota=1000, rerank=1000, ranking=ranking)
    np.testing.assert_array_equal(layout.NEIGHBORS.load(pipeline), exact)
    assert layout.METRICS.load(pipeline)["recall@k vs exact"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qe": -1}, "--qe must be at least 0; got -1"),
        ({"kr_k2": 5}, "--kr_k2 must be from 1 to --kr_k1"),
        ({"kr_weight": 1.5}, "--kr_weight must be at least 0 and at most 1; got 1.5"),
        ({"rerank_kr": 3}, "--rerank_kr must be at least --kr_k1, which is 4; got 3"),
    ],
)
def test_mistakes_are_said(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    ranking = RankingOptions(**{"kr_k1": 4, "kr_k2": 2, **options})
    for stage in (mips.run, nns.run):
        with pytest.raises(InputError, match=message):
            stage(tmp_path, ranking=ranking)


def test_a_run_is_named_plainly_and_not_as_a_baseline(pipeline: Path) -> None:
    for stage in (mips, nns):
        for name in ("../x", "pixels", "histogram"):
            assert stage.main([f"--dpath={pipeline}", f"--run={name}"]) == 1
        with pytest.raises(InputError, match="--run=pixels is the name of a baseline"):
            stage.run(pipeline, k=3, run_name="pixels")
    assert not (pipeline / "evaluations" / "pixels-test.json").exists()


def test_metrics_of_the_whole_ranking_after_another_order(pipeline: Path) -> None:
    """Re-ranking everything gives the metrics of the new order; less gives those of both."""
    query_gallery = load_query_gallery(pipeline)
    n_gallery = int(query_gallery.is_allowed.sum())
    for count in (20, n_gallery + 5):
        mips.run(pipeline, k=n_gallery, ranking=RankingOptions(rerank_kr=count, kr_k1=10))
        hits = metrics.find_hits(
            layout.NEIGHBORS.load(pipeline),
            query_gallery.query_labels,
            query_gallery.gallery_labels,
        )
        whole = [np.flatnonzero(row) + 1 for row in hits]
        record = layout.METRICS.load(pipeline)
        assert record["map"] == pytest.approx(metrics.average_precision(whole).mean())
        assert record["minp"] == pytest.approx(metrics.inverse_negative_penalty(whole).mean())
