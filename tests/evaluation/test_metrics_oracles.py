"""The metrics beside those of other tools: where definitions coincide, and where they do not.

The rankings are of whole-number embeddings, so that many scores are level, with classes of very
different sizes and queries without an answer. Tools that break ties otherwise get the ranks as
scores; what remains is the definition.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import pytrec_eval
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import average_precision_score
from torchmetrics.functional import retrieval as torch_retrieval

from retrieval.evaluation import metrics
from retrieval.evaluation.metrics import Measured, measure
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.evaluation.relevant_ranks import relevant_ranks
from retrieval.search.exact import nearest_neighbors

K = 7


@dataclass
class Case:
    """A ranking of the whole gallery for each query.

    Attributes:
        query_gallery: The queries that have an answer.
        ids: (n_query, n_gallery) int64, everything, best first.
        found: What `measure` makes of it.
    """

    query_gallery: QueryGallery
    ids: np.ndarray
    found: Measured

    @property
    def hits(self) -> np.ndarray:
        return (
            self.query_gallery.gallery_labels[self.ids] == self.query_gallery.query_labels[:, None]
        )

    def values(self, name: str) -> list[float]:
        """Return a metric of each query."""
        return self.found.per_query[name].tolist()


@pytest.fixture(params=range(3), scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    rng = np.random.default_rng(request.param)
    queries, gallery = (rng.integers(-2, 3, (n, 3)).astype("f4") for n in (15, 90))
    gallery_labels = np.minimum(rng.geometric(0.25, 90), 12)  # of 1 to some 25 images
    labels = rng.integers(0, 13, 15)  # class 0, and maybe more, have none
    labels[:3] = 0, 1, 2
    has_answer = np.isin(labels, gallery_labels)
    assert not has_answer.all()
    query_gallery = QueryGallery(
        name="test",
        queries=queries[has_answer],
        query_index=np.flatnonzero(has_answer),
        query_labels=labels[has_answer],
        gallery=gallery,
        gallery_labels=gallery_labels,
        is_allowed=np.ones(90, bool),
        n_left_out=int((~has_answer).sum()),
    )
    ids, _ = nearest_neighbors(query_gallery.queries, gallery, 90)
    ranks = relevant_ranks(
        query_gallery.queries, query_gallery.query_labels, gallery, gallery_labels
    )
    return Case(query_gallery, ids, measure(query_gallery, ids, K, ranks))


def plain_metrics(hits: list[bool]) -> dict[str, float]:
    """Return all metrics of one ranking of the whole gallery, by loops."""
    ranks = [rank for rank, hit in enumerate(hits, start=1) if hit]
    n_relevant = len(ranks)
    sums = dict.fromkeys((K, n_relevant, len(hits)), 0.0)
    for depth in sums:
        for number, rank in enumerate(ranks, start=1):
            sums[depth] += number / rank if rank <= depth else 0
    n_hit = sum(hits[:K])
    return {
        **{f"cmc@{depth}": float(any(hits[:depth])) for depth in (1, 5, 10)},
        "precision@k": n_hit / K,
        "ir_recall@k": n_hit / n_relevant,
        "r_precision": sum(hits[:n_relevant]) / n_relevant,
        "map@k": sums[K] / min(K, n_relevant),
        "map@k_R": sums[K] / n_relevant,
        "map@k_hits": sums[K] / n_hit if n_hit else 0.0,
        "map@R": sums[n_relevant] / n_relevant,
        "map": sums[len(hits)] / n_relevant,
        "minp": n_relevant / ranks[-1],
    }


def test_every_metric_equals_the_plain_loop_over_a_plain_ranking(case: Case) -> None:
    query_gallery = case.query_gallery
    rows = []
    for query, label in zip(query_gallery.queries, query_gallery.query_labels, strict=True):
        score = [float(query @ image) for image in query_gallery.gallery]
        order = sorted(range(len(score)), key=lambda i: (-score[i], i))
        rows.append(plain_metrics([bool(query_gallery.gallery_labels[i] == label) for i in order]))
    assert list(rows[0]) == case.found.columns[2:]
    for name in rows[0]:
        assert case.values(name) == pytest.approx([row[name] for row in rows]), name


def test_averages_over_queries_and_over_classes(case: Case) -> None:
    record = case.found.record()
    labels = case.query_gallery.query_labels.tolist()
    assert record["n_query"] == len(labels)
    assert record["n_query_left_out"] == case.query_gallery.n_left_out > 0
    for name, macro in record["macro"].items():
        values = case.values(name)
        of_class = [
            [value for value, label in zip(values, labels, strict=True) if label == wanted]
            for wanted in set(labels)
        ]
        assert record[name] == pytest.approx(sum(values) / len(values))
        assert macro == pytest.approx(sum(sum(v) / len(v) for v in of_class) / len(of_class))


def test_scikit_learn(case: Case) -> None:
    by_rank = -np.arange(case.ids.shape[1])
    expected = [average_precision_score(hits, by_rank) for hits in case.hits]
    assert case.values("map") == pytest.approx(expected)


def test_scikit_learn_takes_level_scores_as_one_rank() -> None:
    hits = np.array([True, False, False, True])
    assert average_precision_score(hits, np.zeros(4)) == pytest.approx(2 / 4)
    # Ours are in the order of Index: ranks 1 and 4.
    assert metrics.average_precision([np.flatnonzero(hits) + 1])[0] == pytest.approx(3 / 4)


def torch_values(name: str, case: Case, **options: int) -> list[float]:
    """Return a metric of torchmetrics for each query, of scores above 0."""
    metric = getattr(torch_retrieval, name)
    scores = torch.arange(case.ids.shape[1], 0, -1) / case.ids.shape[1]
    return [float(metric(scores, torch.from_numpy(hits), **options)) for hits in case.hits]


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("map", "retrieval_average_precision", {}),
        ("map@k_hits", "retrieval_average_precision", {"top_k": K}),
        ("cmc@5", "retrieval_hit_rate", {"top_k": 5}),
        ("precision@k", "retrieval_precision", {"top_k": K}),
        ("ir_recall@k", "retrieval_recall", {"top_k": K}),
        ("r_precision", "retrieval_r_precision", {}),
    ],
)
def test_torchmetrics(case: Case, ours: str, theirs: str, options: dict[str, int]) -> None:
    assert case.values(ours) == pytest.approx(torch_values(theirs, case, **options), abs=1e-6)


def test_torchmetrics_divides_by_the_hits_and_drops_scores_that_are_not_positive() -> None:
    scores, hits = torch.tensor([0.3, 0.2, 0.1]), torch.tensor([True, False, True])
    top = torch_retrieval.retrieval_average_precision(scores, hits, top_k=2)
    assert float(top) == 1
    ranking, n_relevant = hits.numpy()[None], np.array([2])
    assert metrics.average_precision_at_k_over_hits(ranking, 2)[0] == 1
    assert metrics.average_precision_at_k(ranking, n_relevant, 2)[0] == 1 / 2
    # The same order, but what is similar by less than 0 counts as not retrieved.
    whole = torch_retrieval.retrieval_average_precision(scores, hits)
    shifted = torch_retrieval.retrieval_average_precision(scores - 0.15, hits)
    assert float(whole) == pytest.approx((1 + 2 / 3) / 2)
    assert float(shifted) == 1


def metric_learning(case: Case, k: int | None = None) -> dict[str, float]:
    """Return what pytorch-metric-learning makes of our neighbors."""

    def neighbors(queries: object, k: int, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.from_numpy(case.ids[:, :k])
        return torch.arange(k).expand(ids.shape).float(), ids

    calculator = AccuracyCalculator(
        include=(
            "precision_at_1",
            "r_precision",
            "mean_average_precision",
            "mean_average_precision_at_r",
        ),
        k=k,
        knn_func=neighbors,
        device=torch.device("cpu"),
    )
    query_gallery = case.query_gallery
    return calculator.get_accuracy(
        torch.from_numpy(query_gallery.queries),
        torch.from_numpy(query_gallery.query_labels),
        torch.from_numpy(query_gallery.gallery),
        torch.from_numpy(query_gallery.gallery_labels),
    )


def test_pytorch_metric_learning(case: Case) -> None:
    expected, found = metric_learning(case), case.found.record()
    assert found["cmc@1"] == pytest.approx(expected["precision_at_1"])
    assert found["r_precision"] == pytest.approx(expected["r_precision"])
    assert found["map@R"] == pytest.approx(expected["mean_average_precision_at_r"])
    assert found["map"] == pytest.approx(expected["mean_average_precision"])


def test_pytorch_metric_learning_divides_by_all_relevant_images_at_any_k(case: Case) -> None:
    expected, found = metric_learning(case, K), case.found.record()
    assert found["map@k_R"] == pytest.approx(expected["mean_average_precision"])
    assert found["map@k"] > expected["mean_average_precision"] + 0.001
    # Of a list that is shorter than R, it makes a value that is too low; ours is refused.
    assert case.query_gallery.n_relevant.max() > K
    assert expected["mean_average_precision_at_r"] < found["map@R"]
    with pytest.raises(ValueError, match="does not reach R"):
        metrics.average_precision_at_r(case.hits[:, :K], case.query_gallery.n_relevant)


def trec_values(name: str, key: str, case: Case) -> list[float]:
    """Return a measure of trec_eval for each query."""
    labels = case.query_gallery.gallery_labels
    relevant = {
        str(row): {str(image): int(labels[image] == label) for image in range(len(labels))}
        for row, label in enumerate(case.query_gallery.query_labels)
    }
    scores = {
        str(row): {str(image): float(-rank) for rank, image in enumerate(ids)}
        for row, ids in enumerate(case.ids)
    }
    found = pytrec_eval.RelevanceEvaluator(relevant, {name}).evaluate(scores)
    return [found[str(row)][key] for row in range(len(case.ids))]


@pytest.mark.parametrize(
    ("ours", "theirs", "key"),
    [
        ("map", "map", "map"),
        ("map@k_R", f"map_cut.{K}", f"map_cut_{K}"),
        ("precision@k", f"P.{K}", f"P_{K}"),
        ("ir_recall@k", f"recall.{K}", f"recall_{K}"),
        ("r_precision", "Rprec", "Rprec"),
        ("cmc@5", "success.5", "success_5"),
    ],
)
def test_trec_eval(case: Case, ours: str, theirs: str, key: str) -> None:
    assert case.values(ours) == pytest.approx(trec_values(theirs, key, case))


def test_trec_eval_puts_level_scores_into_the_reverse_order_of_names() -> None:
    evaluator = pytrec_eval.RelevanceEvaluator({"q": {"0": 1, "1": 0}}, {"map"})
    assert evaluator.evaluate({"q": {"0": 0.5, "1": 0.5}})["q"]["map"] == 1 / 2
    same = np.ones((2, 4), np.float32)
    ids, _ = nearest_neighbors(same[:1], same, 2)
    assert ids.tolist() == [[0, 1]]
