"""The approximate search finds what the exact one does, and its index is used again."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from lopq import LOPQModel, LOPQSearcher, model
from lopq.index import refine
from process_data import mips, nns
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation.code_search import Keep, Rotation
from retrieval.evaluation.pipeline import RankingOptions
from tests.conftest import replace_embeddings


@pytest.mark.parametrize("is_valid", [True, False])
def test_reranking_everything_equals_the_exact_search(pipeline: Path, is_valid: bool) -> None:
    mips.run(pipeline, k=5, is_valid=is_valid)
    exact, similarities = (
        np.array(file.load(pipeline)) for file in (layout.NEIGHBORS, layout.SIMILARITIES)
    )
    expected = layout.METRICS.load(pipeline)
    nns.run(pipeline, dimension=4, k=5, is_valid=is_valid, quota=1000, rerank=1000)
    np.testing.assert_array_equal(layout.NEIGHBORS.load(pipeline), exact)
    np.testing.assert_allclose(layout.SIMILARITIES.load(pipeline), similarities, atol=1e-5)
    found = layout.METRICS.load(pipeline)
    assert found["recall@k vs exact"] == 1
    for name in ("n_query", "n_gallery", "cmc@1", "map@k", "map@R"):
        assert found[name] == expected[name]


@pytest.mark.parametrize(("keep", "error"), [("float16", 1e-3), ("int8", 1e-2)])
def test_vectors_in_the_index_rank_almost_as_the_database_does(
    pipeline: Path, keep: Keep, error: float
) -> None:
    options = {"dimension": 4, "k": 5, "quota": 1000, "rerank": 1000}
    nns.run(pipeline, **options)  # type: ignore[arg-type]
    exact = np.array(layout.SIMILARITIES.load(pipeline))
    size = layout.LOPQ_INDEX.at(pipeline).stat().st_size
    nns.run(pipeline, **options, keep=keep)  # type: ignore[arg-type]
    found = np.array(layout.SIMILARITIES.load(pipeline))
    assert 0 < np.abs(found - exact).max() < error
    assert layout.LOPQ_INDEX.at(pipeline).stat().st_size > size
    with pytest.raises(InputError, match=f"--keep={keep} .* add --rerank"):
        nns.run(pipeline, keep=keep)


def test_the_choices_are_those_of_the_library() -> None:
    assert get_args(Keep) == get_args(refine.Keep)
    assert get_args(Rotation) == model.CHOICES["rotation"]


def test_what_is_masked_is_never_returned(pipeline: Path) -> None:
    mask = np.array(layout.GALLERY_MASK.load(pipeline))
    mask[0, ::3] = 0
    layout.GALLERY_MASK.save(pipeline, mask)
    nns.run(pipeline, dimension=4, k=10, is_valid=True)
    ids = np.array(layout.NEIGHBORS.load(pipeline))
    queries = layout.VALID_QUERIES.load(pipeline)[:, 0]
    assert (ids >= 0).all()
    assert mask[0, ids].all()
    assert not np.isin(ids, queries).any()


def test_the_index_is_used_again_until_something_changes(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = layout.LOPQ_INDEX.at(pipeline)

    def fits(**options: int | str) -> bool:
        caplog.clear()
        nns.run(pipeline, **{"dimension": 4, "k": 3, **options})  # type: ignore[arg-type]
        return any("fitted" in message for message in caplog.messages)

    assert fits()
    content = path.read_bytes()
    assert not fits()
    assert not fits(quota=30, rerank=10, is_valid=True)
    assert fits(dimension=2)
    assert fits(rerank=10, keep="int8")
    assert not fits(rerank=20, keep="int8")
    assert fits()
    assert path.read_bytes() == content  # same database, options and seed
    database = np.array(layout.DATABASE.load(pipeline))
    replace_embeddings(pipeline, database[:, ::-1].copy())
    assert fits()


def test_other_validation_images_and_another_format_need_another_fit(
    pipeline: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")

    def fits() -> bool:
        caplog.clear()
        nns.run(pipeline, dimension=4, k=3)
        return any("fitted" in message for message in caplog.messages)

    assert fits()
    valid = np.array(layout.VALID_QUERIES.load(pipeline))
    layout.VALID_QUERIES.save(pipeline, valid[::-1].copy())
    assert not fits()  # the same images
    layout.VALID_QUERIES.save(pipeline, valid[1:].copy())
    assert fits()
    assert not fits()
    monkeypatch.setattr("lopq.storage.VERSION", 0)
    assert fits()


def test_an_expanded_gallery_has_an_index_of_its_own(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def fits(is_valid: bool = False, **expansion: float) -> bool:
        caplog.clear()
        ranking = RankingOptions(**expansion)  # type: ignore[arg-type]
        nns.run(pipeline, dimension=4, k=3, is_valid=is_valid, ranking=ranking)
        return any("fitted" in message for message in caplog.messages)

    assert fits()
    assert fits(dba=2)
    assert not fits(dba=2, qe=2)
    assert fits(dba=2, qe_alpha=1.0)
    assert fits(is_valid=True, dba=2, qe_alpha=1.0)  # other images move the others
    assert fits()
    assert not fits(is_valid=True)


@pytest.mark.parametrize("size", [7, 10**6])
def test_training_reads_only_the_sample(
    size: int, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lopq.train.fit.TRAIN_SIZE", size)
    monkeypatch.setattr("lopq.train.fit.TRAIN_SIZE_PER_CELL", 1)
    read, fit = [], LOPQModel.fit

    def recorded(model: LOPQModel, data: np.ndarray, **options: int) -> None:
        read.append(len(data))
        fit(model, data, **options)

    monkeypatch.setattr(LOPQModel, "fit", recorded)
    nns.run(pipeline, dimension=4, k=3)
    database = np.array(layout.DATABASE.load(pipeline))
    left = np.delete(database, layout.VALID_QUERIES.load(pipeline)[:, 0], axis=0)
    assert read == [min(size, len(left))]
    expected = LOPQModel(V=1, M=4, rotation="pca", seed=7)
    fit(expected, left)  # samples itself
    found = LOPQSearcher.load(layout.LOPQ_INDEX.at(pipeline)).model
    for mine, its in zip(expected.encode(database), found.encode(database), strict=True):
        np.testing.assert_array_equal(mine, its)
    np.testing.assert_array_equal(expected.Rs[0], found.Rs[0])


def test_mistakes_are_said(pipeline: Path) -> None:
    with pytest.raises(InputError, match="--k must be from 1"):
        nns.run(pipeline, k=10_000)
    with pytest.raises(InputError, match="must be at least 0"):
        nns.run(pipeline, quota=-1)


@pytest.mark.parametrize("damage", [b"no index", b""])
def test_an_index_that_is_not_its_records_is_fitted_again(pipeline: Path, damage: bytes) -> None:
    nns.run(pipeline, dimension=4, k=3)
    path = layout.LOPQ_INDEX.at(pipeline)
    content, ids = path.read_bytes(), np.array(layout.NEIGHBORS.load(pipeline))
    nns.run(pipeline, dimension=2, k=3)
    path.write_bytes(damage or content)  # damaged, or of another run
    nns.run(pipeline, dimension=2, k=3)
    other = path.read_bytes()
    assert other not in (damage, content)
    nns.run(pipeline, dimension=4, k=3)
    assert path.read_bytes() == content
    np.testing.assert_array_equal(layout.NEIGHBORS.load(pipeline), ids)
