"""Learning rates, groups of the optimizer, the moving average of weights."""

from typing import Any

import pytest
import torch

from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
from retrieval.training import losses, optim
from retrieval.training.config import TrainingConfig
from retrieval.training.recipes import resolve_config


def resolved(**options: Any) -> TrainingConfig:
    return resolve_config(TrainingConfig(**options))


def test_learning_rates_over_time() -> None:
    cosine = resolved(schedule="cosine", warmup=0.2, epoch=10)
    found = [optim.lr_factor(cosine, done) for done in (0, 1, 2, 6, 10)]
    assert found == pytest.approx([0.1, 0.55, 1, 0.5, 0])
    steps = resolved(lr_shrink=0.5, shrink_every=2, epoch=6)
    assert [optim.lr_factor(steps, d) for d in (0, 1.9, 2, 4)] == [1, 1, 0.5, 0.25]


def test_groups_of_the_optimizer() -> None:
    config = resolved(
        optimizer="sgd", lr=0.1, head_lr=2, proxy_lr=3, weight_decay=0.01, frozen_epochs=1
    )
    model = EmbeddingModel(ModelConfig("resnet18", 8, 32))
    model.freeze_norms()
    loss = losses.CrossEntropy(8, 3, 0.0, "none")
    optimizer = optim.make_optimizer(config, model, loss)
    found = [(g["base_lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
    # 20 convolutions; the projection; the bias of the projection and the p of GeM; a classifier.
    assert found == [
        (0.1, 0.01, 20),
        (0.2, 0.01, 1),
        (0.2, 0.0, 2),
        (pytest.approx(0.3), 0.01, 1),
    ]
    optim.set_rates(optimizer, config, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0, 0.2, 0.2, 0.3])
    optim.set_rates(optimizer, config, 1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.09)


def test_the_moving_average_by_hand() -> None:
    model = EmbeddingModel(ModelConfig("resnet18", 4, 32))
    average = optim.MovingAverage(model, 0.15)
    start = model.projection.bias.detach().clone()
    with torch.no_grad():
        model.projection.bias += 1
    average.follow(model)  # 1/10 of the old weights is kept at first
    torch.testing.assert_close(average.model.projection.bias, start + 0.9)
    average.follow(model)  # then 0.15 of them: less than 2/11
    torch.testing.assert_close(average.model.projection.bias, start + 1 - 0.1 * 0.15)
