"""benchmarks.bench_training at a tiny size, and the folders of emoji pictures."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from benchmarks import bench_training, emoji, results


@pytest.mark.usefixtures("one_thread")  # which gives back what the benchmark sets
def test_objectives_are_compared_at_a_budget(pipeline: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    argv = [f"--dpath={pipeline}", "--name=tiny", f"--output={tmp_path}", "--budget_s=0.2"]
    argv += ["--seeds", "1", "2", "--only", "original", "neck", "--arch=timm/test_resnet"]
    bench_training.run(bench_training.make_parser().parse_args([*argv, "--holdout_classes=2"]))
    table = pd.read_csv(tmp_path / "training_tiny.csv")
    n_objective = sum("original" in name for name in bench_training.OBJECTIVES)
    assert len(table) == 2 * n_objective >= 6
    assert (table["steps"] > 0).all()
    assert table.loc[:, "new_cmc1":].stack().between(0, 1).all()  # type: ignore[misc]
    text = (tmp_path / "training_tiny.md").read_text()
    assert "no ImageNet weights" in text
    assert text.count("\n| ") == 1 + n_objective


def test_variants_are_trained_at_the_rate_of_what_they_are_beside() -> None:
    assert set(bench_training.RATE_OF) | set(bench_training.RATE_OF.values()) <= set(
        bench_training.OBJECTIVES
    )


def test_every_tuned_objective_is_one_that_is_measured() -> None:
    tuned = pd.read_csv(results.FOLDER / "training_tune.csv")
    assert {*tuned["objective"]} <= {*bench_training.OBJECTIVES}


def test_emoji_of_all_vendors_become_folders(tmp_path: Path) -> None:
    for vendor in emoji.VENDORS:
        folder = tmp_path / "packages" / vendor / "package"
        pictures = folder / "img" / vendor / "64"
        pictures.mkdir(parents=True)
        names = ["1f600", "1f697"] + ["1f4a9"] * (vendor != "google")
        table = [{"unified": name.upper(), "image": f"{name}.png"} for name in names]
        (folder / "emoji.json").write_text(json.dumps(table))
        for name in names:
            Image.new("RGB", (4, 4)).save(pictures / f"{name}.png")
    assert emoji.run(tmp_path / "packages", tmp_path / "data") == 2
    found = sorted(p.relative_to(tmp_path / "data").as_posix() for p in tmp_path.glob("data/*/*/*"))
    assert [p for p in found if p.startswith("queries")] == [
        "queries/1F600/facebook.png",
        "queries/1F697/facebook.png",
    ]
    assert len(found) == 8
    with pytest.raises(SystemExit, match="unpack emoji-datasource-apple"):
        emoji.run(tmp_path / "data", tmp_path / "other")
