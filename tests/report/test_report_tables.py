"""The tables of the report: what they say of the queries, and of each run beside another."""

from pathlib import Path

import numpy as np
import pytest

from process_data import compare, mips, report
from retrieval.data import layout
from retrieval.evaluation import metrics
from retrieval.evaluation.pipeline import RankingOptions
from retrieval.report import confusion, run_tables, runs
from tests.pages import read_page
from tests.report.test_report_page import load

LIST = {"query_file": "a.npy", "inputs": {"a.npy": "hash"}}


def test_gains_are_those_of_compare(pipeline: Path) -> None:
    mips.run(pipeline, k=5, run_name="mips-qe", ranking=RankingOptions(qe=2))
    (gain,) = run_tables.gains(pipeline, list(load(pipeline).values()), ("cmc@1", "map@R", "none"))
    assert (gain.run, gain.other) == ("mips-qe-test", "mips-test")
    comparison = compare.run(pipeline, gain.other, gain.run)
    assert gain.n_query == layout.METRICS.load(pipeline)["n_query"]
    for name in ("cmc@1", "map@R"):
        row = comparison.of(name)
        assert row is not None and gain.of_metric[name] == (row.difference, row.low, row.high)
    assert "none" not in gain.of_metric
    shown = read_page(report.run(pipeline)).text
    assert "Compared query by query" in shown
    assert f"{gain.of_metric['map@R'][0]:+.3f}" in shown


def test_runs_without_values_of_each_query_are_not_compared(pipeline: Path) -> None:
    mips.run(pipeline, k=5, run_name="mips-qe", ranking=RankingOptions(qe=2))
    (pipeline / "evaluations" / "mips-qe-test.npy").unlink()
    assert run_tables.gains(pipeline, list(load(pipeline).values()), ("cmc@1",)) == []
    assert "Compared query by query" not in read_page(report.run(pipeline)).text


def test_classes_are_the_means_of_their_queries(pipeline: Path) -> None:
    run = load(pipeline)["mips-test"]
    assert run.results is not None
    truth, results = run.results.truth, run.results
    table = run_tables.class_table(run, {})
    assert table["Queries"].sum() == len(truth.query_index)
    assert (table["AP"].diff().dropna() >= 0).all()
    values = metrics.average_precision_at_k(results.hits, truth.n_relevant, 5)
    for row in table.to_dict("records"):
        is_own = truth.query_labels == row["Class"]
        assert row["AP"] == pytest.approx(values[is_own].mean())
        assert row["First"] == pytest.approx(results.hits[is_own, 0].mean())
        first = truth.gallery_labels[results.ids[is_own, 0]]
        wrong = sorted(first[first != row["Class"]].tolist())
        if wrong:
            most = max(wrong.count(label) for label in wrong)
            names = {results.name(label) for label in wrong if wrong.count(label) == most}
            assert row["Mistaken"] in names
        else:
            assert row["Mistaken"] == ""


def test_confusion_counts_first_results(pipeline: Path) -> None:
    run = load(pipeline)["mips-test"]
    assert run.results is not None
    labels, first = run.results.truth.query_labels, confusion.first_results(run.results)
    pairs = confusion.worst_pairs(run.results, count=1000)
    assert pairs["Queries"].sum() == (labels != first).sum()
    assert (pairs["Queries"].diff().dropna() <= 0).all()
    for row in pairs.to_dict("records"):
        is_own = labels == row["Class"]
        assert row["Queries"] == (first[is_own] == row["Retrieved"]).sum()
        assert row["Share"] == row["Queries"] / is_own.sum()


def test_rare_groups_become_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "MOST", 2)
    found = confusion.confuse(np.array(list("aaabbc")), np.array(list("aabbcb")))
    assert found.names == ["a", "b", "others"]
    assert found.counts == [3, 2, 1]
    np.testing.assert_allclose(found.shares, [[2 / 3, 1 / 3, 0], [0, 0.5, 0.5], [0, 1, 0]])


def test_the_best_of_rivals_is_marked() -> None:
    made = [("a", "valid", 0.5), ("b", "valid", 0.7), ("c", "test", 0.1), ("d", "valid", None)]
    found = [runs.Run(n, LIST | {"queries": q} | ({"m": v} if v else {})) for n, q, v in made]
    assert [cell.is_best for cell in run_tables.metric_cells(found, "m")] == [
        False,
        True,
        False,
        False,
    ]


def test_only_runs_of_the_same_setting_are_rivals() -> None:
    same = LIST | {"queries": "test", "n_query": 9, "n_gallery": 50, "k": 5}
    others = [{}, {"inputs": {"a.npy": "other"}}, {"n_query": 8}, {"n_gallery": 51}, {"k": 6}]
    found = [
        runs.Run(str(i), same | other | {"map@k": i / 10, "map": i / 10})
        for i, other in enumerate([{}, *others], 1)
    ]
    best = {
        name: [cell.is_best for cell in run_tables.metric_cells(found, name)]
        for name in ("map@k", "map")
    }
    assert best["map@k"] == [False, True, False, False, False, False]
    assert best["map"] == [False] * 5 + [True]  # whatever the k
