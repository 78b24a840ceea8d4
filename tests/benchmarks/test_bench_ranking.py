"""The measurement of the ranking switches, at a tiny size."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_ranking, results
from benchmarks.bench_ranking import SWITCHES, Switch
from retrieval.data import layout
from retrieval.evaluation.bootstrap import paired_bootstrap
from retrieval.evaluation.ranking import RankingOptions


def test_the_interval_covers_the_gain_and_widens_with_clusters() -> None:
    rng = np.random.default_rng(0)
    of_cluster = rng.normal(0.1, 0.3, 40)
    before, after = np.zeros(400), np.repeat(of_cluster, 10)
    clustered = paired_bootstrap(before, after, np.repeat(np.arange(40), 10))
    alone = paired_bootstrap(before, after, np.arange(400))
    assert clustered[0] == alone[0] == pytest.approx(of_cluster.mean())
    assert clustered[1] < alone[1] < alone[0] < alone[2] < clustered[2]
    # The standard error of a mean over 40 clusters, to within the noise of the bootstrap.
    half = 1.96 * of_cluster.std() / np.sqrt(40)
    assert (clustered[2] - clustered[1]) / 2 == pytest.approx(half, rel=0.1)


def test_a_table_of_every_kind_of_switch(pipeline: Path, tmp_path: Path) -> None:
    switches = [
        Switch("flip", {"tta": "flip"}, queries_only=True, ranking=RankingOptions(qe=2)),
        Switch("turn", transform={"power": 0.0, "center": "none"}),
    ]
    record = results.Run("ranking", argparse.Namespace(), tmp_path)
    shown: list[str] = []
    checkpoints = {7: pipeline / "para" / "model.ep0"}
    lines = bench_ranking.run(checkpoints, {}, switches, record, shown.append)
    table = results.latest(tmp_path, "ranking")
    assert table["switch"].tolist() == ["flip"] * 2 + ["turn"] * 2
    plain = layout.METRICS.load(pipeline)
    assert lines[1]["cmc@1 before"] == pytest.approx(plain["cmc@1"])
    assert lines[1]["map@R before"] == pytest.approx(plain["map@R"])
    assert lines[3]["map@R gain"] == pytest.approx(0, abs=1e-9)  # a rotation changes nothing
    assert (tmp_path / "ranking.md").read_text().count("\n") == 6
    assert len(shown) == 2


def test_boxes_are_compared_with_whole_images(pipeline: Path, tmp_path: Path) -> None:
    checkpoints = {7: pipeline / "para" / "model.ep0"}
    record = results.Run("ranking", argparse.Namespace(), tmp_path)
    lines = bench_ranking.run(checkpoints, checkpoints, [], record, lambda _: None)
    assert [line["switch"] for line in lines] == [bench_ranking.CROP] * 2
    assert [line["map@R gain"] for line in lines] == [0, 0]  # the same model twice


def test_the_switches_have_names_of_their_own() -> None:
    assert len({switch.name for switch in SWITCHES}) == len(SWITCHES)
