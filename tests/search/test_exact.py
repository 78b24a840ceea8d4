"""Exact search against a slow, obvious one; small integers make ties and float sums exact."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.formats import InputError
from retrieval.evaluation import relevant_ranks as ranks_of
from retrieval.evaluation.relevant_ranks import relevant_ranks
from retrieval.search import exact, gpu_tiles, tiles
from retrieval.search.exact import nearest_neighbors


@settings(max_examples=100, deadline=None)
@given(
    n_query=st.integers(1, 6),
    n_gallery=st.integers(1, 25),
    k=st.integers(1, 30),
    batch_size=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_against_the_oracle(
    n_query: int, n_gallery: int, k: int, batch_size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    queries = rng.integers(-2, 3, (n_query, 3)).astype(np.float32)
    gallery = rng.integers(-2, 3, (n_gallery, 3)).astype(np.float32)
    labels, gallery_labels = rng.integers(0, 3, n_query), rng.integers(0, 3, n_gallery)
    is_allowed = rng.random(n_gallery) < 0.7

    masks = {"is_allowed": is_allowed, "batch_size": batch_size}
    ids, similarities = nearest_neighbors(queries, gallery, k, **masks)
    found = relevant_ranks(queries, labels, gallery, gallery_labels, **masks)

    for row, query in enumerate(queries):
        score = [float(query @ image) for image in gallery]
        order = [i for i in sorted(range(n_gallery), key=lambda i: (-score[i], i)) if is_allowed[i]]
        padding = [-1] * (k - len(order))
        assert ids[row].tolist() == order[:k] + padding
        assert similarities[row].tolist() == [score[i] for i in order[:k]] + [-np.inf] * len(
            padding
        )
        is_relevant = [gallery_labels[i] == labels[row] for i in order]
        assert found[row].tolist() == [r + 1 for r, hit in enumerate(is_relevant) if hit]


def test_a_masked_image_never_outranks_a_negative_similarity() -> None:
    gallery = np.array([[-1, 0], [1, 0]], np.float32)
    query = np.array([[1, 0]], np.float32)
    ids, similarities = nearest_neighbors(query, gallery, 2, is_allowed=np.array([True, False]))
    assert ids.tolist() == [[0, -1]]
    assert similarities.tolist() == [[-1, -np.inf]]


def both(
    queries: np.ndarray, gallery: np.ndarray, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, similarities, and the ranks of all images with an even Index, as one array."""
    is_even = np.arange(len(gallery)) % 2 == 0
    ids, similarities = nearest_neighbors(queries, gallery, 7, **options)
    ranks = relevant_ranks(queries, np.ones(len(queries), int), gallery, is_even, **options)
    return ids, similarities, np.array(ranks)


@pytest.mark.parametrize("values", [2, 4])
def test_blocks_and_batches_make_no_difference(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.integers(0, values, (9, 4)), rng.integers(-1, values, (203, 4))
    scores = queries @ gallery.T  # whole numbers, many of them level
    order = np.argsort(-scores, axis=1, kind="stable")
    for shape, batch_size in product([(2, 8), (5, 3), (16, 64), (1024, 4096)], [1, 4, 100]):
        monkeypatch.setitem(tiles.SHAPES, "cpu", shape)
        ids, similarities, ranks = both(
            queries.astype("f4"), gallery.astype("f4"), batch_size=batch_size
        )
        case = f"{shape} {batch_size}"
        np.testing.assert_array_equal(ids, order[:, :7], case)
        found = np.take_along_axis(scores, ids, axis=1)
        np.testing.assert_array_equal(similarities, found, case)
        np.testing.assert_array_equal(ranks, np.sort(np.argsort(order)[:, ::2] + 1), case)


def test_equal_embeddings_are_ranked_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiles.SHAPES, "cpu", (2, 8))
    embeddings = np.full((50, 6), 0.3, np.float32)
    ids, _, ranks = both(embeddings[:3], embeddings)
    assert ids.tolist() == [list(range(7))] * 3
    assert ranks.tolist() == [list(range(1, 51, 2))] * 3


@pytest.mark.parametrize("n_copy", [2, 60])  # of which fewer, and more, than are kept to spare
@pytest.mark.parametrize("shape", [(2, 8), (32, 64), (1024, 4096)])
def test_copies_are_ranked_by_index_wherever_they_are(
    shape: tuple[int, int], n_copy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    different = rng.standard_normal((600 // n_copy, 129), dtype=np.float32)
    gallery = rng.permutation(np.repeat(different, n_copy, axis=0))
    queries = np.concatenate([gallery[:40], rng.standard_normal((30, 129), dtype=np.float32)])
    monkeypatch.setitem(tiles.SHAPES, "cpu", shape)
    ids, similarities, ranks = both(queries, gallery)
    # One by one: a product of all would round copies differently.
    scores = np.array(
        [[np.float32(np.dot(q, g)) for g in np.float64(gallery)] for q in np.float64(queries)]
    )
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(ids, order[:, :7])
    np.testing.assert_allclose(similarities, np.take_along_axis(scores, ids, axis=1), atol=1e-4)
    np.testing.assert_array_equal(ranks, np.sort(np.argsort(order)[:, ::2] + 1))


@pytest.mark.parametrize("dim", [3, 64, 512, 2048])
def test_products_are_as_near_as_is_said(dim: int) -> None:
    rng = np.random.default_rng(5)
    queries, gallery = (rng.standard_normal((n, dim), dtype=np.float32) for n in (48, 4096))
    gallery /= (
        np.linalg.norm(gallery, axis=1, keepdims=True) / np.linalg.norm(queries, axis=1).max()
    )
    rows, ids = np.indices((48, 4096)).reshape(2, -1)
    exactly = exact.inner_products(queries, gallery, rows, ids).reshape(48, 4096)
    np.testing.assert_allclose(
        exactly, np.float64(queries) @ np.float64(gallery).T, rtol=2e-7, atol=1e-12
    )
    assert (np.abs(queries @ gallery.T - exactly) < exact.rounding(queries)).all()


@pytest.mark.parametrize("batch_size", [1, 5, 40, 1000])
def test_not_a_bit_depends_on_the_batch(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiles.SHAPES, "cpu", (32, 1024))
    rng = np.random.default_rng(1)
    queries, gallery = (rng.standard_normal((n, 33), dtype=np.float32) for n in (70, 5000))
    found = both(queries, gallery, batch_size=batch_size)
    for ours, expected in zip(found, both(queries, gallery), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_the_precision_of_others_is_left_alone_and_not_taken(device: str) -> None:
    rng = np.random.default_rng(2)
    queries, gallery = (rng.standard_normal((n, 64), dtype=np.float32) for n in (40, 5000))
    before = torch.get_float32_matmul_precision()
    found = {}
    try:
        for precision in ("highest", "medium"):
            torch.set_float32_matmul_precision(precision)
            found[precision] = both(queries, gallery, device=device)
            assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    for ours, theirs in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_ranks_as_the_cpu_does() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = (rng.integers(-2, 3, (n, 8)).astype("f4") for n in (1100, 70_000))
    cuda = "cuda"
    pairs = (
        (
            nearest_neighbors(queries, gallery, 20, device=cuda),
            nearest_neighbors(queries, gallery, 20),
        ),
        (both(queries[:9], gallery, device=cuda), both(queries[:9], gallery)),
    )
    for found, expected in pairs:
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("values", [2, 50])
def test_candidates_hold_the_best_and_as_many_that_are_level(values: int) -> None:
    rng = np.random.default_rng(3)
    scores = rng.integers(0, values, (6, 40)).astype(np.float32)
    ids, least = 100 + np.arange(40), np.array([[-1], [0], [1], [values], [0], [0]], np.float32)
    found, found_ids = gpu_tiles.candidates(torch.from_numpy(scores), ids, least, 5)
    for row in range(6):
        kept = found_ids[row][found[row] > -np.inf]
        kth = np.sort(scores[row])[-5]
        level = np.flatnonzero(scores[row] == kth)[:5]
        expected = np.sort([*np.flatnonzero(scores[row] > kth), *level])
        expected = expected[scores[row][expected] > least[row]]
        np.testing.assert_array_equal(kept, 100 + expected)
        np.testing.assert_array_equal(found[row][: len(kept)], scores[row][expected])


def test_no_query_and_bad_sizes() -> None:
    gallery = np.eye(3, dtype=np.float32)
    ids, _ = nearest_neighbors(gallery[:0], gallery, 2)
    assert ids.shape == (0, 2)
    with pytest.raises(InputError, match="k must be at least 1"):
        nearest_neighbors(gallery, gallery, 0)
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        nearest_neighbors(gallery, gallery, 1, batch_size=0)


@pytest.mark.parametrize("n_thread", [1, 3])
def test_not_a_bit_depends_on_the_threads(n_thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    queries, gallery = (rng.standard_normal((n, 33), dtype=np.float32) for n in (70, 5000))
    expected = both(queries, gallery)
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_thread))
    for ours, theirs in zip(both(queries, gallery), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_counts_of_a_gpu_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(7)
    scores = rng.integers(-4, 5, (6, 50)).astype(np.float32)
    counts, ids = np.array([3, 0, 5, 1, 2, 9]), 7 + np.arange(50)
    rows, own = np.repeat(np.arange(6), counts), rng.integers(0, 57, 20)
    wanted = rng.integers(-4, 5, 20).astype(np.float32)
    keys = ranks_of._keys(wanted, own)
    found = gpu_tiles.count_above(torch.from_numpy(scores), ids, keys, counts)
    is_above = scores[rows] > wanted[:, None]
    is_above |= (scores[rows] == wanted[:, None]) & (ids < own[:, None])
    np.testing.assert_array_equal(found, is_above.sum(axis=1))


def test_the_way_of_a_gpu_finds_the_same_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tiles, "copied", lambda rows, _: torch.from_numpy(rows.copy()))
    monkeypatch.setattr(
        gpu_tiles, "empty", lambda size, dtype, _: torch.empty(size, dtype=getattr(torch, dtype))
    )
    monkeypatch.setitem(tiles.SHAPES, "cuda", (32, 64))
    rng = np.random.default_rng(8)
    queries, gallery = (rng.integers(-2, 3, (n, 8)).astype("f4") for n in (70, 900))
    found = both(queries, gallery, device="cuda:0")
    for ours, theirs in zip(found, both(queries, gallery), strict=True):
        np.testing.assert_array_equal(ours, theirs)
