"""Within-class whitening of pooled features, in closed form, at the start and the end of training.

At the start, the projection is the whitening of the pretrained features and the classifier's rows
are the class means, so that the first step already tells many classes apart. At the end, the
projection becomes the whitening of the trained features (`fit_whitening`); search with a photo,
stores and ONNX use it like any other projection.
"""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from retrieval.model.embedding import EmbeddingModel
from retrieval.search.whitening import fit_whitening
from retrieval.training.losses import TrainingLoss

CLASS_WEIGHT = 0.5  # norm of the classifier's first rows: logits of about 10


def fitted_rows(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the images that a whitening is fitted to, (n,) int64, ascending.

    Args:
        rows: (n_image,) int64 images to draw from.
        count: How many to draw; 0: all.
        seed: Seed of the draw.
    """
    if not 0 < count < len(rows):
        return np.sort(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def set_projection(model: EmbeddingModel, mean: np.ndarray, matrix: np.ndarray) -> None:
    """Make ``(x - mean) @ matrix`` the model's projection of pooled features, without a neck.

    Args:
        model: Changed in place; its neck passes features on as they are.
        mean: (width,) float64.
        matrix: (width, dim) float64.
    """
    weight, bias = torch.from_numpy(matrix.T), torch.from_numpy(-mean @ matrix)
    with torch.no_grad():
        model.projection.weight.copy_(weight)
        model.projection.bias.copy_(bias)
        if isinstance(model.neck, nn.BatchNorm1d):
            model.neck.running_mean.zero_()  # type: ignore[union-attr]
            model.neck.running_var.fill_(1 - model.neck.eps)  # type: ignore[union-attr]


def start_whitened(
    model: EmbeddingModel, loss: TrainingLoss, features: np.ndarray, labels: np.ndarray
) -> None:
    """Start the projection from the whitening of features, and classifiers from the class means.

    Args:
        model: Changed in place.
        loss: Its classifier and proxies are changed in place.
        features: (n, width) float32 pooled features of training images.
        labels: (n,) int64 class numbers; a class without an image keeps its first row.
    """
    mean, matrix = fit_whitening(features, labels, model.config.dim)
    set_projection(model, mean, matrix)
    rows = torch.from_numpy((features - mean) @ matrix).float().to(model.mean.device)
    if isinstance(model.neck, nn.BatchNorm1d):
        model.neck.running_mean.copy_(rows.mean(dim=0))  # type: ignore[union-attr]
        model.neck.running_var.copy_(rows.var(dim=0))  # type: ignore[union-attr]
    with torch.no_grad():
        units = F.normalize(model.neck.eval()(rows))
        numbers = torch.from_numpy(labels).to(units.device)
        for weight in loss.class_weights():
            counts = torch.bincount(numbers, minlength=len(weight))
            known = counts > 0
            means = torch.zeros_like(weight).index_add_(0, numbers, units)[known]
            means /= counts[known, None]
            weight[known] = CLASS_WEIGHT * F.normalize(means - means.mean(dim=0))


def whitened(model: EmbeddingModel, features: np.ndarray, labels: np.ndarray) -> EmbeddingModel:
    """Return a copy of a model whose projection is the whitening of its features.

    Args:
        model: The trained model.
        features: (n, width) float32, its pooled features of training images.
        labels: (n,) int64 classes.
    """
    result = copy.deepcopy(model).requires_grad_(False)
    set_projection(result, *fit_whitening(features, labels, model.config.dim))
    return result
