"""process_data.compare: two evaluations, query by query."""

from pathlib import Path

import numpy as np
import pytest

from process_data import baselines, compare, mips
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.provenance import fingerprint


def test_means_are_those_of_the_evaluations(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mips.run(pipeline, k=3)
    pixels = baselines.run(pipeline, k=3)[0]
    comparison = compare.run(pipeline, "pixels-test", "mips-test")
    record = layout.METRICS.load(pipeline)
    for name in ("cmc@1", "map@R", "map", "minp"):
        row = comparison.of(name)
        assert row is not None
        assert row.first == pytest.approx(pixels[name])
        assert row.second == pytest.approx(record[name])
        assert row.difference == pytest.approx(record[name] - pixels[name])
        assert row.low <= row.difference <= row.high
    assert comparison.of("none") is None
    assert "verdict" in capsys.readouterr().out


def test_an_evaluation_equals_itself_by_name_and_by_path(pipeline: Path) -> None:
    mips.run(pipeline, k=3)
    path = layout.EVALUATION.at(pipeline, "evaluations/mips-test.json")
    rows = compare.run(pipeline, "mips-test", str(path)).metrics
    assert {(row.difference, row.verdict, row.p) for row in rows} == {(0, "no difference shown", 1)}


def test_a_better_ranking_is_called_better(pipeline: Path) -> None:
    mips.run(pipeline, k=3)
    record = layout.EVALUATION.load(pipeline, "evaluations/mips-test.json")
    values = np.array(layout.EVALUATION_PER_QUERY.load(pipeline, "evaluations/mips-test.npy"))
    values[:, 2:] += 0.1
    record["files"] = {"better-test.npy": fingerprint(values)}
    layout.EVALUATION.save(pipeline, record, "evaluations/better-test.json")
    layout.EVALUATION_PER_QUERY.save(pipeline, values, "evaluations/better-test.npy")
    for names in (("mips-test", "better-test"), ("better-test", "mips-test")):
        rows = compare.run(pipeline, *names).metrics
        assert {row.verdict for row in rows} == {"better-test is better"}


def test_metrics_of_another_k_are_left_out(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mips.run(pipeline, k=3)
    mips.run(pipeline, k=4, run_name="four")
    metrics = [row.metric for row in compare.run(pipeline, "mips-test", "four-test").metrics]
    assert "map@R" in metrics
    assert not [name for name in metrics if "@k" in name]
    assert "k differs: 3 and 4" in caplog.messages


def test_what_cannot_be_compared_is_refused(pipeline: Path) -> None:
    mips.run(pipeline, k=3)
    with pytest.raises(InputError, match=r"evaluations/nothing\.json is missing"):
        compare.run(pipeline, "mips-test", "nothing")
    with pytest.raises(InputError, match=r"old/mips-test is neither an evaluation in evaluations/"):
        compare.run(pipeline, "mips-test", "old/mips-test")
    with pytest.raises(InputError, match=r"name that with --dpath$"):
        compare.run(None, "mips-test", "mips-test")
    with pytest.raises(InputError, match="has the valid queries and mips-test the test"):
        compare.run(pipeline, "mips-valid", "mips-test")
    values = np.array(layout.EVALUATION_PER_QUERY.load(pipeline, "evaluations/mips-test.npy"))
    layout.EVALUATION_PER_QUERY.save(pipeline, values[1:], "evaluations/mips-test.npy")
    with pytest.raises(InputError, match="is not of the run that wrote"):
        compare.run(pipeline, "mips-test", "mips-test")


def test_two_paths_take_no_data_directory(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(layout.EVALUATION.at(pipeline))
    assert compare.main([path, path]) == 0
    assert "no difference shown" in capsys.readouterr().out


def test_other_queries_are_refused_and_a_part_is_said(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queries = np.array(layout.TEST_MASKED.load(pipeline))
    layout.TEST_MASKED.save(pipeline, queries[:-4], "most.npy")
    layout.TEST_MASKED.save(pipeline, queries[4:], "others.npy")
    for name in ("most", "others"):
        mips.run(pipeline, k=5, to_test=f"{name}.npy", run_name=name)
    compare.run(pipeline, "mips-test", "most-test")
    n_query = len(queries)
    message = f"only {n_query - 4} of {n_query} and {n_query - 4} queries are in both, and compared"
    assert message in caplog.messages
    with pytest.raises(InputError, match="have different queries, and neither"):
        compare.run(pipeline, "others-test", "most-test")
