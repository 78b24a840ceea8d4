"""The whitening that a training starts and ends with."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from retrieval.data import layout
from retrieval.model import checkpoint
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.encode import pooled_features
from retrieval.model.model_config import ModelConfig
from retrieval.search.whitening import fit_whitening
from retrieval.training import closed_form, losses
from retrieval.training.config import TrainingConfig
from retrieval.training.recipes import resolve_config
from tests.conftest import train_small
from tests.stages.test_train import assert_equal, parts_of

SIDE = 32
RUN = {"recipe": "ce", "arch": "timm/test_resnet", "schedule": "shrink", "warmup": 0.0}


def of_classes(n_class: int = 6, width: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, width) features and the classes they scatter around."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_class), 20)
    mixing = rng.normal(size=(width, width)) / 20
    features = rng.normal(size=(n_class, width))[labels] + rng.normal(size=(120, width)) @ mixing
    return features.astype(np.float32), labels


def model_of(neck: str = "after") -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(ModelConfig("resnet18", 64, SIDE, neck=neck)).eval()  # type: ignore[arg-type]


def test_whitened_classes_scatter_equally_and_the_widest_directions_stay() -> None:
    features, labels = of_classes(width=10)
    mean, matrix = fit_whitening(features, labels, 4, shrinkage=1e-9)
    rows = (features - mean) @ matrix
    inner = rows - np.stack([rows[labels == label].mean(axis=0) for label in range(6)])[labels]
    np.testing.assert_allclose(inner.T @ inner / len(rows), np.eye(4), atol=1e-4)
    total = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(total, np.diag(np.diag(total)), atol=1e-4)
    assert (np.diff(np.diag(total)) <= 1e-9).all()
    _, plain = fit_whitening(features, None, shrinkage=1e-9)
    np.testing.assert_allclose(
        np.cov(((features - mean) @ plain).T, bias=True), np.eye(10), atol=1e-4
    )


def test_the_projection_is_the_whitening_and_the_neck_changes_nothing() -> None:
    model, (features, labels) = model_of(), of_classes()
    mean, matrix = fit_whitening(features, labels, 64)
    closed_form.set_projection(model, mean, matrix)
    images = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    with torch.inference_mode():
        rows = (model.pooled(images).numpy() - mean) @ matrix
        expected = F.normalize(torch.from_numpy(rows))
        torch.testing.assert_close(model(images).double(), expected, atol=1e-5, rtol=1e-5)


def test_classifiers_and_proxies_start_at_the_class_means() -> None:
    features, labels = of_classes()
    for name in ("ce", "proxy_anchor", "arcface"):
        model = model_of()
        config = resolve_config(TrainingConfig(loss=name))  # type: ignore[arg-type]
        loss = losses.make_loss(config, 64, 7)  # one class has no image
        unknown = loss.class_weights()[0][6].clone()
        closed_form.start_whitened(model, loss, features, labels)
        with torch.inference_mode():
            units = F.normalize(model.neck(model.projection(torch.from_numpy(features))))
            found = (units @ F.normalize(loss.class_weights()[0][:6]).T).argmax(dim=1)
        assert found.tolist() == labels.tolist(), name
        assert torch.equal(loss.class_weights()[0][6], unknown)


def test_the_last_checkpoint_is_whitened_and_training_goes_on_without_it(
    pipeline: Path, tmp_path: Path
) -> None:
    whole, divided = tmp_path / "whole", tmp_path / "divided"
    train_small(pipeline, whole, **RUN, ema=0.9, epoch=2)
    train_small(pipeline, divided, **RUN, ema=0.9, epoch=1)
    first = checkpoint.load(divided / "model.ep0")
    plain = checkpoint.load(whole / "model.ep0")["state_dict"]["projection.weight"]
    assert not torch.equal(first["state_dict"]["projection.weight"], plain)
    assert torch.equal(first["raw"]["average"]["projection.weight"], plain)
    train_small(pipeline, divided, **RUN, ema=0.9, epoch=2, start_epoch=0)
    assert_equal(*(parts_of(folder / "model.ep1") for folder in (whole, divided)))
    last = checkpoint.load(whole / "model.ep1")
    model = checkpoint.build_model(last, whole / "model.ep1").eval()
    images = layout.IMAGE_MATRIX.load(pipeline)
    rows = np.arange(len(images))
    pooled = pooled_features(model, images, rows, 16, torch.float32)
    moved = model.projection(torch.from_numpy(pooled)).detach().numpy()
    assert np.abs(np.cov(moved.T) - np.diag(np.var(moved, axis=0))).max() < np.var(moved)


def test_frozen_stages_keep_their_weights(pipeline: Path, tmp_path: Path) -> None:
    train_small(pipeline, tmp_path, **(RUN | {"frozen_stages": 0.5}), epoch=2)
    before, after = (
        checkpoint.load(tmp_path / name)["state_dict"] for name in ("model.ep0", "model.ep1")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "backbone.net.conv1.weight" not in changed
    assert any(name.startswith("backbone.net.layer4") for name in changed)
