"""The training losses.

A loss is a module: its proxies or its classifier are parameters that are trained and saved with
the model, and dropped after training. It takes features before L2 normalization.
"""

from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retrieval.data.formats import InputError
from retrieval.model.model_config import Neck
from retrieval.training.config import Negatives, TrainingConfig


class TrainingLoss(nn.Module):
    """The base of all losses."""

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the mean loss of a step, a scalar.

        Args:
            features: (n, dim) float32, not normalized.
            labels: (n,) int64 class numbers from 0.
            local_tuples: (n_tuple, 2 + neg_count) int64 rows of ``features``; None if the
                batches hold no tuples.
        """
        raise NotImplementedError

    def class_weights(self) -> list[torch.Tensor]:
        """Return the classifiers and proxies, (n_class, dim) each, to be changed in place."""
        return []


class TupleLoss(TrainingLoss):
    """Softmax over the similarities of each tuple, or over every other class in the batch."""

    def __init__(self, negatives: Negatives, temperature: float) -> None:
        super().__init__()
        self.negatives, self.temperature = negatives, temperature

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        if local_tuples is None:
            raise ValueError("the loss of tuples needs batches of tuples")
        embeddings = F.normalize(features)
        if self.negatives == "batch":
            return batch_softmax(embeddings, local_tuples, labels, self.temperature)
        return tuple_softmax(embeddings, local_tuples, self.temperature)


class CrossEntropy(TrainingLoss):
    """A linear classifier with label smoothing, dropped after training.

    With the neck ``before``, the classifier takes the features after a batch norm without scale
    and shift, and the embedding is taken before it (Luo et al., Bag of Tricks and A Strong
    Baseline for Deep Person Re-identification, arXiv:1903.07071).
    """

    def __init__(self, dim: int, n_class: int, smoothing: float, neck: Neck) -> None:
        super().__init__()
        is_before = neck == "before"
        self.neck = nn.BatchNorm1d(dim, affine=False) if is_before else nn.Identity()
        self.classifier = nn.Linear(dim, n_class, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)
        self.smoothing = smoothing

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        logits = self.classifier(self.neck(features))
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def class_weights(self) -> list[torch.Tensor]:
        return [self.classifier.weight]


class LibraryLoss(TrainingLoss):
    """A pytorch-metric-learning loss over unit vectors, with or without a miner."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        embeddings = F.normalize(features)
        mined = None if self.miner is None else self.miner(embeddings, labels)
        return self.loss(embeddings, labels, mined)

    def class_weights(self) -> list[torch.Tensor]:
        own = dict(self.loss.named_parameters())
        if "proxies" in own:
            return [own["proxies"]]
        return [own["W"].T] if "W" in own else []  # ArcFace keeps (dim, n_class)


class LossSum(TrainingLoss):
    """The sum of several losses."""

    def __init__(self, parts: list[TrainingLoss]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        return torch.stack([part(features, labels, local_tuples) for part in self.parts]).sum()

    def class_weights(self) -> list[torch.Tensor]:
        parts = [part for part in self.parts if isinstance(part, TrainingLoss)]
        return [weight for part in parts for weight in part.class_weights()]


def make_loss(config: TrainingConfig, dim: int, n_class: int) -> TrainingLoss:
    """Return the loss of ``config`` for embeddings of ``dim`` values and ``n_class`` classes.

    ``logit_scale`` and ``margin`` have the units of each loss's paper (degrees for ``arcface``);
    left out, they are the defaults of pytorch-metric-learning.
    """
    parts = [_part(name, config, dim, n_class) for name in config.loss.split("+")]
    return parts[0] if len(parts) == 1 else LossSum(parts)


def _part(name: str, config: TrainingConfig, dim: int, n_class: int) -> TrainingLoss:
    if name == "tuple":
        return TupleLoss(config.negatives, config.temperature)
    if name == "ce":
        return CrossEntropy(dim, n_class, config.label_smoothing, config.neck)
    losses, miners = (_library(module) for module in ("losses", "miners"))
    proxies = {"num_classes": n_class, "embedding_size": dim}
    if name == "proxy_anchor":
        options = _given(alpha=config.logit_scale, margin=config.margin)
        return LibraryLoss(losses.ProxyAnchorLoss(**proxies, **options))
    if name == "arcface":
        options = _given(scale=config.logit_scale, margin=config.margin)
        return LibraryLoss(losses.ArcFaceLoss(**proxies, **options))
    if name == "supcon":
        return LibraryLoss(losses.SupConLoss(temperature=config.temperature))
    if name == "ms":
        return LibraryLoss(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner())
    if name == "triplet":
        # The hardest pair of each anchor, with log(1 + exp(...)) in place of the hinge.
        options = {"margin": 0.0 if config.margin is None else config.margin, "smooth_loss": True}
        return LibraryLoss(losses.TripletMarginLoss(**options), miners.BatchHardMiner())
    raise ValueError(f"no loss {name}")


def _given(**options: float | None) -> dict[str, float]:
    return {name: value for name, value in options.items() if value is not None}


def _library(module: str) -> Any:
    try:
        return import_module(f"pytorch_metric_learning.{module}")
    except ImportError as error:
        raise InputError(
            "this --loss needs pytorch-metric-learning; install it with: "
            "pip install pytorch-metric-learning"
        ) from error


def tuple_softmax(
    embeddings: torch.Tensor, tuples: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the mean softmax loss of each anchor over its positive and its negatives.

    The cross entropy of ``softmax(similarities / temperature)`` with the positive as the target
    (the N-pair loss of Sohn, NIPS 2016, on unit vectors and with a temperature). Without a
    temperature, similarities in [-1, 1] never let the loss fall below
    ``log(1 + neg_count * exp(-2))``, and all gradients stay small.

    Args:
        embeddings: (n, dim), rows of unit L2 norm.
        tuples: (n_tuple, 2 + neg_count) int64 rows of ``embeddings``: anchor, positive, negatives.
        temperature: Above 0; a smaller one weighs hard negatives more.
    """
    anchors = embeddings[tuples[:, 0]]  # (n_tuple, dim)
    others = embeddings[tuples[:, 1:]]  # (n_tuple, 1 + neg_count, dim)
    similarities = torch.einsum("td,tcd->tc", anchors, others)
    target = torch.zeros(len(tuples), dtype=torch.int64, device=embeddings.device)
    return F.cross_entropy(similarities / temperature, target)


def batch_softmax(
    embeddings: torch.Tensor, tuples: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the same with every image of another class in the batch as a negative.

    The images are embedded anyway, so that the harder task costs next to nothing.

    Args:
        embeddings: (n, dim), rows of unit L2 norm.
        tuples: (n_tuple, 2 + neg_count) int64 rows of ``embeddings``: anchor, positive, negatives.
        labels: (n,) int64, the class of each row of ``embeddings``.
        temperature: Above 0.
    """
    anchors, positives = tuples[:, 0], tuples[:, 1]
    logits = embeddings[anchors] @ embeddings.T / temperature  # (n_tuple, n)
    is_other = labels[anchors][:, None] != labels
    is_other[torch.arange(len(tuples), device=tuples.device), positives] = True
    return F.cross_entropy(logits.masked_fill(~is_other, -torch.inf), positives)
