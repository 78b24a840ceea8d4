"""train.py with losses over classes: continuing, held-out classes, the log, the best epoch."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.training import surveillance_effects
from retrieval.training.augment import AUGMENTATIONS, Augment, apply
from retrieval.training.recipes import RECIPES
from retrieval.training.run_log import RunLog
from tests.conftest import train_small
from tests.training.test_train import assert_equal

SMALL: dict[str, Any] = {"arch": "timm/test_resnet", "batch_size": 16, "max_tuples": 32}


def test_a_run_with_proxies_average_and_cosine_continues_exactly(
    pipeline: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    options = {**SMALL, "recipe": "proxy_anchor", "ema": 0.9, "schedule": "cosine", "epoch": 3}
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
    arch = "timm/test_vit" if recipe == "vit" else "timm/test_resnet"
    given = {"arch": arch, "max_tuples": 40, "dim": None, "lr": None, "schedule": "shrink"}
    content = checkpoint.load(train_small(pipeline, tmp_path, recipe=recipe, epoch=1, **given))
    assert content["options"]["lr"] == RECIPES[recipe].options.lr
    assert content["model"]["dim"] == RECIPES[recipe].options.dim
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


def test_the_log_drops_what_is_trained_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, tensorboard=False)
    for epoch, value in enumerate((0.2, 0.5, 0.4)):
        log.add(epoch, {"loss": 1.0 - epoch, "new map@R": value})
        assert log.is_best == (epoch < 2)
    again = RunLog(tmp_path, 2, tensorboard=False)
    again.add(2, {"loss": 7.0, "new map@R": 0.5})
    assert not again.is_best  # as good as epoch 1, which stays
    table = pd.read_csv(tmp_path / "log.csv")
    assert table["loss"].tolist() == [1.0, 0.0, 7.0]
    RunLog(tmp_path, 0, tensorboard=False).add(0, {"loss": 3.0})
    assert pd.read_csv(tmp_path / "log.csv").to_dict("records") == [{"epoch": 0, "loss": 3.0}]
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="has no column epoch"):
        RunLog(tmp_path, 1, tensorboard=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, 0, tensorboard=True)
    log.add(0, {"loss": 2.0})
    log.board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 2.0)]


def stripes() -> torch.Tensor:
    pixels = torch.zeros(6, 3, 32, 32)
    pixels[..., ::2] = 0.8
    pixels[:, 0] += 0.2
    return pixels


def test_what_another_camera_does() -> None:
    pixels = stripes()
    dark = surveillance_effects.night(pixels)
    assert dark.mean() < 0.9 * pixels.mean()
    assert (dark <= pixels + 1e-6).all()
    grey = surveillance_effects.infrared(pixels)
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    coarse = surveillance_effects.few_pixels(pixels)
    assert coarse.shape == pixels.shape
    assert coarse.std(dim=-1).max() < 0.1 * pixels.std(dim=-1).max()
    flat = torch.full((2, 3, 13, 20), 0.5)
    squeezed = surveillance_effects.compression(flat)
    assert squeezed.shape == flat.shape
    assert (squeezed.amax((2, 3)) - squeezed.amin((2, 3))).max() < 1e-5  # a constant stays one
    assert (squeezed - flat).abs().max() < 0.05


def test_compression_rounds_in_an_orthonormal_basis() -> None:
    basis = surveillance_effects._cosines()
    torch.testing.assert_close(basis @ basis.T, torch.eye(8), atol=1e-6, rtol=0)
    noise = torch.rand(2, 3, 16, 16)
    found = surveillance_effects.compression(noise)
    assert 0.01 < (found - noise).pow(2).mean().sqrt() < 0.3


def test_a_tilt_shows_no_border_and_hue_keeps_grey() -> None:
    images = torch.full((8, 3, 32, 32), 90, dtype=torch.uint8)
    tilted = Augment(0.5, 1.2, tilt=0.3, jitter=0, hue=0.5)(images)
    torch.testing.assert_close(tilted, images, atol=1, rtol=0)
    marked = (torch.arange(32.0) * 8).expand(8, 3, 32, 32).to(torch.uint8)
    assert not torch.equal(Augment(1, 1, False, tilt=0.3, jitter=0)(marked), marked)
    third = torch.tensor([[[[0.9]], [[0.3]], [[0.1]]]])
    turned = torch.cat([Augment(hue=0.3)._turn_hue(third) for _ in range(50)])
    torch.testing.assert_close(turned.mean(1), torch.full((50, 1, 1), 1.3 / 3))


@pytest.mark.parametrize("kind", [kind for kind, change in AUGMENTATIONS.items() if change])
def test_the_smallest_images_that_are_augmented(kind: Any) -> None:
    for side in (4, 5):
        assert apply(kind, torch.zeros(9, 3, side, side, dtype=torch.uint8)).shape[-1] == side
    with pytest.raises(InputError, match=f"--augmentation={kind} takes images of at least 4 px"):
        apply(kind, torch.zeros(2, 3, 3, 3, dtype=torch.uint8))


@pytest.mark.parametrize("kind", ["crop", "surveillance"])
def test_new_augmentations_keep_the_form(kind: str) -> None:
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (5, 3, 30, 30), dtype=np.uint8)
    )
    changed = AUGMENTATIONS[kind](images)  # type: ignore[index, misc]
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, images)


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
        ("neck", "after"),
        ("scale", 0.5),
        ("loss", "ms"),
        ("optimizer", "sgd"),
        ("frozen_bn", True),
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
