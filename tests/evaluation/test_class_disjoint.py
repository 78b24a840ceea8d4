"""The protocol of Cars196: new classes, each image searched among all others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

import build_image_db
from process_data import baselines, contact_sheet, make_train_valid, mask_data, mips, nns, report
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation import metrics
from retrieval.evaluation.pipeline import RankingOptions
from retrieval.training.dataset import TrainingData
from tests.conftest import train_small


@pytest.fixture
def disjoint(pipeline: Path) -> Path:
    """The data directory of the tests, split by classes, with a model that was trained on it."""
    make_train_valid.run(pipeline, protocol="classes")
    path = train_small(pipeline, pipeline / "disjoint", epoch=1)
    for source, output in (("imageset.npy", "database.npy"), ("test_image.npy", "tdatabase.npy")):
        build_image_db.run(pipeline, path, source, output)
    mask_data.run(pipeline)
    return pipeline


def test_recall_and_map_are_those_of_pytorch_metric_learning(disjoint: Path) -> None:
    mips.run(disjoint, k=5, is_valid=True)
    found = layout.METRICS.load(disjoint)
    queries = np.array(layout.VALID_QUERIES.load(disjoint))
    embeddings = torch.from_numpy(np.array(layout.DATABASE.load(disjoint))[queries[:, 0]])
    labels = torch.from_numpy(queries[:, 1])
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, device=torch.device("cpu"))
    expected = calculator.get_accuracy(embeddings, labels)
    assert 0 < expected["precision_at_1"] < 1
    for ours, theirs in zip(("cmc@1", "r_precision", "map@R"), names, strict=True):
        assert found[ours] == pytest.approx(expected[theirs], abs=1e-6)
    assert found["n_gallery"] == len(queries) - 1
    assert found["protocol"] == "classes"


def test_the_whole_ranking_leaves_out_the_query(disjoint: Path) -> None:
    mips.run(disjoint, k=5, is_valid=True)
    found = layout.METRICS.load(disjoint)
    queries = np.array(layout.VALID_QUERIES.load(disjoint))
    embeddings, labels = layout.DATABASE.load(disjoint)[queries[:, 0]], queries[:, 1]
    similarities = (embeddings @ embeddings.T).astype(float)
    np.fill_diagonal(similarities, -np.inf)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :-1]
    hits = labels[order] == labels[:, None]
    ranks = [np.flatnonzero(row) + 1 for row in hits]
    assert found["map"] == pytest.approx(metrics.average_precision(ranks).mean(), abs=1e-6)
    assert found["minp"] == pytest.approx(metrics.inverse_negative_penalty(ranks).mean(), abs=1e-6)
    neighbors = layout.NEIGHBORS.load(disjoint)
    np.testing.assert_array_equal(neighbors, queries[order[:, :5], 0])


def test_codes_scored_exactly_find_the_same(disjoint: Path) -> None:
    mips.run(disjoint, k=5, is_valid=True)
    exact = np.array(layout.NEIGHBORS.load(disjoint))
    nns.run(disjoint, dimension=4, k=5, is_valid=True, quota=1000, rerank=1000)
    np.testing.assert_array_equal(layout.NEIGHBORS.load(disjoint), exact)
    assert layout.METRICS.load(disjoint)["recall@k vs exact"] == 1


def test_other_stages_follow(disjoint: Path) -> None:
    expanded = RankingOptions(qe=2)
    mips.run(disjoint, k=5, is_valid=True, ranking=expanded, run_name="expanded")
    own = np.array(layout.VALID_QUERIES.load(disjoint))[:, :1]
    assert (layout.NEIGHBORS.load(disjoint) != own).all()
    baselines.run(disjoint, k=5, is_valid=True)
    assert contact_sheet.run(disjoint).exists()
    assert "expanded" in report.run(disjoint).read_text()


@pytest.mark.parametrize("options", [{"dba": 2}, {"rerank_kr": 5, "kr_k1": 3, "kr_k2": 2}])
def test_rankings_in_which_a_query_helps_itself_are_refused(
    disjoint: Path, options: dict[str, int]
) -> None:
    with pytest.raises(InputError, match="leave them out"):
        mips.run(disjoint, k=5, is_valid=True, ranking=RankingOptions(**options))


def test_training_takes_the_first_half(disjoint: Path) -> None:
    data = TrainingData.load(disjoint)
    new = np.unique(layout.VALID_QUERIES.load(disjoint)[:, 1])
    assert not np.isin(data.classes, new).any()
    assert np.isin(data.labels[data.gallery], new).all()
    # Of the known classes some can be held out, of the new ones none.
    assert not np.isin(data.labels[data.hold_out(1, 0).holdout], new).any()
    path = train_small(disjoint, disjoint / "new", epoch=1, loss="ce", neck="after")
    row = (path.parent / "log.csv").read_text().splitlines()
    assert "cmc@1" in row[0] and "auc" in row[0]
