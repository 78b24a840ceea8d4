"""train.py with losses over classes: continuing, held-out classes, the log, the best epoch."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.training.recipes import RECIPES
from tests.conftest import train_small
from tests.stages.test_train import assert_equal

SMALL: dict[str, Any] = {"arch": "timm/test_resnet", "batch_size": 16, "max_tuples": 32}


def test_a_run_with_proxies_average_and_cosine_continues_exactly(
    pipeline: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    options = {**SMALL, "loss": "proxy_anchor", "ema": 0.9, "schedule": "cosine", "epoch": 3}
    options |= {"frozen_epochs": 1}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_small(pipeline, whole, holdout_classes=2, **options)
    parts.mkdir()
    for name in ("model.ep0", "log.csv"):  # as if stopped in the second epoch
        shutil.copy(whole / name, parts / name)
    train_small(
        pipeline,
        parts,
        start_epoch=0,
        arch=None,
        lr=None,
        dim=None,
    )
    found, expected = (checkpoint.load(f / "model.ep2") for f in (parts, whole))
    for key in ("state_dict", "optimizer", "loss", "raw", "metrics", "model"):
        assert_equal(found[key], expected[key])
    assert (parts / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    assert any(name.endswith("proxies") for name in expected["loss"])
    averaged, raw = expected["state_dict"], expected["raw"]["state_dict"]
    assert not torch.equal(averaged["projection.weight"], raw["projection.weight"])


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "original"])
def test_each_recipe_trains(recipe: str, pipeline: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    given = {"max_tuples": 40, "dim": None, "lr": None, "schedule": "shrink"}
    content = checkpoint.load(train_small(pipeline, tmp_path, recipe=recipe, epoch=1, **given))
    assert content["options"]["lr"] == RECIPES[recipe].options.lr
    width = content["state_dict"]["projection.weight"].shape[1]
    dim = RECIPES[recipe].options.dim
    assert content["model"]["dim"] == (min(dim, width) if dim else width)
    assert content["metrics"]["loss"] > 0


def test_the_best_epoch_on_held_out_classes_is_kept(pipeline: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    train_small(pipeline, tmp_path, holdout_classes=2, epoch=3, loss="ce", neck="after", **SMALL)
    table = pd.read_csv(tmp_path / "log.csv")
    assert table["epoch"].tolist() == [0, 1, 2]
    columns = {"loss", "positive", "negative", "auc", "cmc@1", "map@R", "new cmc@1", "new map@R"}
    assert columns <= set(table.columns)
    best = int(table["new map@R"].idxmax())
    assert checkpoint.load(tmp_path / "model.best")["epoch"] == best
    metrics = checkpoint.load(tmp_path / "model.best")["metrics"]
    assert metrics["new map@R"] == pytest.approx(table["new map@R"][best])
    (tmp_path / f"model.ep{best}").unlink()
    assert checkpoint.load(tmp_path / "model.best")["epoch"] == best


CLASSES: dict[str, Any] = {**SMALL, "loss": "proxy_anchor", "holdout_classes": 2, "seed": 3}


def go_on(data_dir: Path, save_path: Path, **options: Any) -> dict[str, Any]:
    """Continue after the first epoch with nothing but these options."""
    left_out = dict.fromkeys(("arch", "dim", "lr"))
    given = {**left_out, "start_epoch": 0, "epoch": 2, **options}
    return checkpoint.load(train_small(data_dir, save_path, **given))


def test_options_that_are_left_out_are_those_of_the_checkpoint(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("timm")
    given = CLASSES | {"scale": 0.5, "micro_batch": 8, "precision": "float32", "frozen_bn": True}
    first = checkpoint.load(train_small(pipeline, tmp_path, epoch=1, **given))
    caplog.clear()
    second = go_on(pipeline, tmp_path)
    changed = {"start_epoch", "epoch"}
    for name in set(first["options"]) - changed:
        assert second["options"][name] == first["options"][name], name
    assert "new map@R" in second["metrics"]
    assert first["frozen_norms"] and second["frozen_norms"]  # though the weights were random
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool", "avg"),
        ("dim", 8),
        ("neck", "none"),
        ("scale", 0.5),
        ("loss", "ms"),
        ("optimizer", "sgd"),
        ("frozen_bn", False),
        ("arch", "resnet18"),
        ("holdout_classes", 1),
        ("seed", 4),
    ],
)
def test_what_cannot_change_is_refused(
    trained: tuple[Path, Path], name: str, value: object
) -> None:
    with pytest.raises(InputError, match=f"--{name}"):
        go_on(*trained, **{name: value})


def test_rates_that_are_given_anew_take_effect(trained: tuple[Path, Path]) -> None:
    content = go_on(*trained, lr=0.02, weight_decay=0.3, lr_shrink=0.5)
    group = content["optimizer"]["param_groups"][0]
    assert (group["base_lr"], group["weight_decay"]) == (0.02, 0.3)
    assert group["lr"] == pytest.approx(0.02 * 0.5)
    assert content["optimizer"]["state"][0]["step"] > 2  # the moments are taken over


@pytest.fixture
def trained(pipeline: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The data directory, and the folder of a run of one epoch."""
    pytest.importorskip("timm")
    train_small(pipeline, tmp_path / "run", epoch=1, **CLASSES)
    return pipeline, tmp_path / "run"
