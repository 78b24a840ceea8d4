"""Each loss, and how it separates the classes."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retrieval.training import losses, monitor
from retrieval.training.config import LossName, TrainingConfig
from retrieval.training.recipes import resolve_config

CLASS_LOSSES = [loss for loss in get_args(LossName) if loss != "tuple"]


def gap(features: torch.Tensor, labels: torch.Tensor) -> float:
    """Return by how much images of one class are more similar than others, on average."""
    positive, negative = monitor.mean_similarities(features, labels).tolist()
    return positive - negative


@pytest.mark.parametrize("loss", ["tuple", *CLASS_LOSSES])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_each_loss_falls_and_separates_the_classes(loss: str) -> None:
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(4)
    points = F.normalize(torch.randn(4, 8), dim=1)[labels] + 0.8 * torch.randn(16, 8)
    tuples = torch.tensor([[i, (i // 4) * 4 + (i + 1) % 4, (i + 4) % 16] for i in range(16)])
    config = resolve_config(TrainingConfig(loss=loss))  # type: ignore[arg-type]
    objective = losses.make_loss(config, dim=8, n_class=4)
    features = points.clone().requires_grad_()
    optimizer = torch.optim.Adam([features, *objective.parameters()], 0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = objective(features, labels, tuples)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.9 * values[0]
    before = gap(points, labels)
    after = gap(features, labels)
    assert after > before + 0.2


def test_cross_entropy_with_a_neck_before_the_classifier_by_hand() -> None:
    torch.manual_seed(1)
    features, labels = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    objective = losses.CrossEntropy(3, 2, smoothing=0.2, neck="before").train()
    centered = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    logs = torch.log_softmax(centered @ objective.classifier.weight.T, dim=1)
    target = torch.nn.functional.one_hot(labels, 2) * 0.8 + 0.1
    expected = -(target * logs).sum(1).mean()
    torch.testing.assert_close(objective(features, labels, None), expected)


def test_the_tuple_loss_needs_tuples() -> None:
    with pytest.raises(ValueError, match="needs batches of tuples"):
        losses.make_loss(resolve_config(TrainingConfig()), 4, 2)(
            torch.randn(2, 4), torch.tensor([0, 1]), None
        )


def test_an_unknown_loss_is_not_taken_for_another() -> None:
    config = resolve_config(TrainingConfig()).with_values({"loss": "ce+tripled"})
    with pytest.raises(ValueError, match="no loss tripled"):
        losses.make_loss(config, 4, 3)


def test_tuple_loss_is_a_softmax_over_the_similarities() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    rows = torch.tensor([[0, 1, 2, 3], [4, 5, 0, 1]])
    expected = 0.0
    for anchor, *others in rows.tolist():
        scores = [float(embeddings[anchor] @ embeddings[other]) / 0.1 for other in others]
        expected -= scores[0] - np.log(np.exp(scores).sum())
    loss = losses.tuple_softmax(embeddings, rows, temperature=0.1)
    assert float(loss) == pytest.approx(expected / 2, rel=1e-5)


def test_batch_loss_takes_all_of_other_classes() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    rows = torch.tensor([[0, 1, 3], [3, 4, 0]])
    expected = 0.0
    for anchor, positive in rows[:, :2].tolist():
        candidates = [positive] + [i for i in range(6) if labels[i] != labels[anchor]]
        scores = [float(embeddings[anchor] @ embeddings[i]) / 0.1 for i in candidates]
        expected -= scores[0] - np.log(np.exp(scores).sum())
    loss = losses.batch_softmax(embeddings, rows, labels, temperature=0.1)
    assert float(loss) == pytest.approx(expected / 2, rel=1e-5)
