"""Vectors kept in the index, to re-rank from."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lopq import LOPQError, LOPQSearcher, merge_parts, read_part, save_part
from lopq.index import merge
from lopq.index.refine import Keep, pack_vectors, unpack_vectors, vector_bytes

KEEPS: list[Keep] = ["float16", "int8"]


def test_values_are_rounded_to_the_nearest(data: np.ndarray) -> None:
    rows = np.concatenate([data, np.zeros((1, data.shape[1]), np.float32), -data[:3] * 1e3])
    largest = np.abs(rows).max(axis=1, keepdims=True)
    half_steps = np.maximum(np.abs(rows) * 2.0**-11, 2.0**-25)  # of the last place
    for keep, error in (("float16", half_steps), ("int8", largest / 127 * 0.50001)):
        packed = pack_vectors(rows, keep)
        assert packed.shape == (len(rows), vector_bytes(keep, rows.shape[1]))
        assert (np.abs(unpack_vectors(packed, keep) - rows) <= error).all()


@pytest.mark.parametrize("keep", KEEPS)
def test_reranking_reads_the_kept_vectors(
    searcher: LOPQSearcher, data: np.ndarray, queries: np.ndarray, keep: Keep, tmp_path: Path
) -> None:
    """Through sorting, adding, removing, saving and loading, each id keeps its own vector."""
    rounded = unpack_vectors(pack_vectors(data, keep), keep)
    ids = np.random.default_rng(0).permutation(len(data))
    kept = LOPQSearcher(searcher.model, keep)
    plain = LOPQSearcher(searcher.model)

    def check(index: LOPQSearcher) -> None:
        vectors = np.zeros_like(rounded)
        vectors[ids] = rounded
        expected = plain.search(queries, 7, rerank=60, vectors=vectors)
        for mine, its in zip(index.search(queries, 7, rerank=60), expected, strict=True):
            np.testing.assert_array_equal(mine, its)

    edges = [0, 800, 810, 830, len(data)]  # the base, added, added, all sorted
    for first, last in pairwise(edges):
        for index in (kept, plain):
            index.add_data(data[first:last], ids[first:last])
        check(kept)
    for index in (kept, plain):
        index.remove(ids[5:300:3])
    check(kept)
    kept.save(tmp_path / "index")
    loaded = LOPQSearcher.load(tmp_path / "index")
    assert loaded.keep == keep
    check(loaded)
    kept.optimize()
    check(kept)
    np.testing.assert_array_equal(  # and other vectors may still be named
        *(s.search(queries, 7, rerank=60, vectors=data)[0] for s in (kept, plain))
    )


@pytest.mark.parametrize("keep", KEEPS)
def test_merged_parts_keep_vectors(
    searcher: LOPQSearcher,
    data: np.ndarray,
    keep: Keep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge, "WINDOW", 50)
    model, parts = searcher.model, []
    for first, last in pairwise([0, 300, 310, len(data)]):
        path, rows = tmp_path / str(first), range(first, last)
        save_part(path, model, data[first:last], first, "x", keep)
        parts.append(read_part(path, model, rows, "x", keep))
        with pytest.raises(LOPQError, match="was made from another model"):
            read_part(path, model, rows, "x")
    whole = LOPQSearcher(model, keep)
    whole.add_data(data)
    whole.save(tmp_path / "whole")
    merge_parts(tmp_path / "merged", model, parts, keep)
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_cannot_be_kept_is_refused(searcher: LOPQSearcher, data: np.ndarray) -> None:
    with pytest.raises(LOPQError, match="keep must be one of none, float16, int8; got 'int4'"):
        LOPQSearcher(searcher.model, "int4")  # type: ignore[arg-type]
    with pytest.raises(LOPQError, match="takes add_data only"):
        LOPQSearcher(searcher.model, "int8").add_codes(searcher.model.encode(data[:2]))
    with pytest.raises(LOPQError, match="takes values up to 65504"):
        LOPQSearcher(searcher.model, "float16").add_data(data[:2] + np.float32(1e5))


def test_damaged_vectors_are_noticed(
    searcher: LOPQSearcher, data: np.ndarray, tmp_path: Path
) -> None:
    index = LOPQSearcher(searcher.model, "int8")
    index.add_data(data)
    path = tmp_path / "index"
    index.save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LOPQError, match="its int8 changed since it was saved"):
        LOPQSearcher.load(path)
