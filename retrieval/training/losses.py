"""The losses that a model can be trained with, each with what it learns beside the model.

A loss is a module: its proxies or its classifier are parameters of their own, which the optimizer
and the checkpoint carry along. It sees features before they are scaled to unit length.
"""

from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retrieval.data.formats import InputError
from retrieval.model.embedding import Neck
from retrieval.training import tuples
from retrieval.training.config import Negatives, Recipe


class Objective(nn.Module):
    """What training lowers."""

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the loss of a step, a scalar.

        Args:
            features: (n, dim) float32, not normalized.
            labels: (n,) int64, the class of each, numbered from 0.
            local_tuples: (n_tuple, 2 + neg_count) int64 rows of ``features``; None where the
                batches hold no tuples.
        """
        raise NotImplementedError


class TupleObjective(Objective):
    """The softmax over the similarities of each tuple, or over all other classes of the step."""

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
            return tuples.batch_loss(embeddings, local_tuples, labels, self.temperature)
        return tuples.tuple_loss(embeddings, local_tuples, self.temperature)


class CrossEntropy(Objective):
    """A linear classifier with label smoothing, which is thrown away after training.

    With the neck ``before``, the classifier sees the features after a batch norm without scale
    and shift, and the embedding is what comes before it (Luo et al., Bag of Tricks and A Strong
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


class LibraryLoss(Objective):
    """A loss of pytorch-metric-learning over unit vectors, with a miner or without."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        embeddings = F.normalize(features)
        mined = None if self.miner is None else self.miner(embeddings, labels)
        return self.loss(embeddings, labels, mined)


class Sum(Objective):
    """Several losses at once."""

    def __init__(self, parts: list[Objective]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, local_tuples: torch.Tensor | None
    ) -> torch.Tensor:
        return torch.stack([part(features, labels, local_tuples) for part in self.parts]).sum()


def make(recipe: Recipe, dim: int, n_class: int) -> Objective:
    """Return the loss of a recipe, for embeddings of ``dim`` values and ``n_class`` classes.

    ``logit_scale`` and ``margin`` are in the units of each loss's paper (degrees for
    ``arcface``); where the recipe has none, those of pytorch-metric-learning hold.
    """
    parts = [_part(name, recipe, dim, n_class) for name in recipe.loss.split("+")]
    return parts[0] if len(parts) == 1 else Sum(parts)


def _part(name: str, recipe: Recipe, dim: int, n_class: int) -> Objective:
    if name == "tuple":
        return TupleObjective(recipe.negatives, recipe.temperature)
    if name == "ce":
        return CrossEntropy(dim, n_class, recipe.label_smoothing, recipe.neck)
    losses, miners = (_library(module) for module in ("losses", "miners"))
    proxies = {"num_classes": n_class, "embedding_size": dim}
    if name == "proxy_anchor":
        options = _given(alpha=recipe.logit_scale, margin=recipe.margin)
        return LibraryLoss(losses.ProxyAnchorLoss(**proxies, **options))
    if name == "arcface":
        options = _given(scale=recipe.logit_scale, margin=recipe.margin)
        return LibraryLoss(losses.ArcFaceLoss(**proxies, **options))
    if name == "cosface":
        options = _given(scale=recipe.logit_scale, margin=recipe.margin)
        return LibraryLoss(losses.CosFaceLoss(**proxies, **options))
    if name == "norm_softmax":
        temperature = _given(
            temperature=None if recipe.logit_scale is None else 1 / recipe.logit_scale
        )
        return LibraryLoss(losses.NormalizedSoftmaxLoss(**proxies, **temperature))
    if name == "supcon":
        return LibraryLoss(losses.SupConLoss(temperature=recipe.temperature))
    if name == "ms":
        return LibraryLoss(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner())
    # The hardest of each anchor, softly: log(1 + exp(...)) in place of a hinge.
    options = {"margin": 0.0 if recipe.margin is None else recipe.margin, "smooth_loss": True}
    return LibraryLoss(losses.TripletMarginLoss(**options), miners.BatchHardMiner())


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
