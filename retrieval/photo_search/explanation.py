"""Explain a similarity: the regions of two images that contribute to it.

The last feature map F (channels, h, w) is pooled to one value per channel, and what follows is
linear up to the normalization: projection and neck. So the similarity of embeddings x and y is a
sum over the positions of x's feature map (Zhu et al., Visual Explanation for Deep Metric Learning,
IEEE TIP 2021, arXiv:1909.12977):

    pooled_c = sum over positions of F[c, position] * d pooled_c / d F[c, position]
    s(position) = sum over c of g_c * F[c, position] * d pooled_c / d F[c, position] + b / (h * w)

with g = W^T S y / |z|, where W is the projection, S the scale of the neck, z the features before
normalization, and b the part of the biases. The first line is exact for all poolings here, as they
are homogeneous of degree one (Euler): for the average, the gradient is 1 / (h * w); for GeM it is
(F / pooled) ** (p - 1) / (h * w), but for values below its eps, which count as zero; the maximum
gives all to one position. The map of y is made in the same way with x's embedding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from retrieval.compute import devices
from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.tta import Views, at_scale
from retrieval.photo_search.query_encoder import QueryEncoder

HOT, WARM = np.array([215.0, 25.0, 30.0]), np.array([255.0, 225.0, 60.0])
STRENGTH = 0.65  # of the color where the map is highest


@dataclass(frozen=True)
class SimilarityMaps:
    """The parts of a similarity at the positions of both images.

    Attributes:
        of_query: (h, w) float64; sums to the similarity. Negative parts speak against it.
        of_answer: (h, w) float64, the same for the answer.
    """

    of_query: np.ndarray
    of_answer: np.ndarray


def similarity_maps(encoder: QueryEncoder, query: np.ndarray, answer: np.ndarray) -> SimilarityMaps:
    """Decompose the similarity of two preprocessed images over their regions.

    Args:
        encoder: The model, its views and its precision.
        query: (3, side, side) uint8, RGB.
        answer: (3, side, side) uint8, RGB.

    Raises:
        InputError: The backbone has no feature map, as a vision transformer.
    """
    parts = [_parts_of_views(encoder, square) for square in (query, answer)]
    totals = [torch.stack([view.embedding for view in of_image]).sum(0) for of_image in parts]
    lengths = [total.norm() for total in totals]
    maps = [
        _joined([part.toward(totals[1 - i] / lengths[1 - i]) / lengths[i] for part in parts[i]])
        for i in (0, 1)
    ]
    return SimilarityMaps(maps[0], maps[1])


@dataclass(frozen=True)
class _Parts:
    """One view of an image, taken apart by channel and position.

    Attributes:
        channels: (channels, h, w) float64; the sum over positions is the pooled value.
        weight: (dim, channels) float64: from pooled values to the embedding.
        bias: (dim,) float64: the rest of the embedding, from biases and means.
        is_mirrored: Whether the view is a mirror image.
    """

    channels: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    is_mirrored: bool

    @property
    def embedding(self) -> torch.Tensor:
        """(dim,) float64 of unit L2 norm."""
        return self.weight @ self.channels.sum(dim=(1, 2)) + self.bias

    def toward(self, direction: torch.Tensor) -> torch.Tensor:
        """Return the parts of the inner product with a vector (dim,), by position: (h, w)."""
        n_position = self.channels[0].numel()
        along = torch.einsum("c,chw->hw", direction @ self.weight, self.channels)
        parts = along + direction @ self.bias / n_position
        return parts.flip(-1) if self.is_mirrored else parts


def _parts_of_views(encoder: QueryEncoder, square: np.ndarray) -> list[_Parts]:
    images = torch.from_numpy(square[None]).to(encoder.device)
    views: Views = encoder.views
    found = []
    for scale in views.scales:
        model = at_scale(encoder.model, scale)
        for is_mirrored in (False, True)[: 2 if views.tta == "flip" else 1]:
            shown = images.flip(-1) if is_mirrored else images
            with torch.no_grad(), devices.autocast(encoder.device, encoder.dtype):
                features = model.feature_map(shown)
            if features.ndim != 4:
                raise InputError(
                    f"{model.config.arch} has no feature map to take a similarity apart: it pools "
                    "its tokens by itself; leave --explain out"
                )
            found.append(_parts_of(model, features.float(), is_mirrored))
    return found


def _parts_of(model: EmbeddingModel, features: torch.Tensor, is_mirrored: bool) -> _Parts:
    """Decompose the embedding of one view, given its features (1, channels, h, w)."""
    channels = _by_position(model.pool, features)[0].double()
    weight = model.projection.weight.detach().double()
    scale, shift = _affine(model.neck, weight)
    weight = scale[:, None] * weight
    bias = scale * model.projection.bias.detach().double() + shift
    length = (weight @ channels.sum(dim=(1, 2)) + bias).norm()
    return _Parts(channels, weight / length, bias / length, is_mirrored)


def _by_position(pool: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Return the part of each position in the pooled values: features times their gradient.

    Args:
        pool: Pools (n, channels, h, w) to (n, channels).
        features: (n, channels, h, w) float32.
    """
    features = features.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(pool(features).sum(), features)
    return (features * gradient).detach()


def _affine(neck: nn.Module, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift of a neck in evaluation mode, (dim,) or (1,), made like a tensor."""
    if not isinstance(neck, nn.BatchNorm1d):
        return like.new_ones(1), like.new_zeros(1)
    assert neck.running_mean is not None and neck.running_var is not None
    scale = (neck.running_var.double() + neck.eps).rsqrt()
    return scale, -scale * neck.running_mean.double()


def _joined(maps: list[torch.Tensor]) -> np.ndarray:
    """Return the sum of maps at the size of the largest; the sum over positions is kept."""
    size = max((tuple(part.shape) for part in maps), key=lambda shape: shape[0] * shape[1])
    total = torch.zeros(size, dtype=torch.float64)
    for part in maps:
        part = part.cpu()
        if part.shape != total.shape:
            fine = F.interpolate(part[None, None], size, mode="bilinear")[0, 0]
            fine = fine * (part.numel() / total.numel())
            part = fine + (part.sum() - fine.sum()) / total.numel()  # what rounding at rims moved
        total += part
    return total.numpy()


def overlay(square: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Color an image where its similarity comes from: red where most of it does.

    Args:
        square: (3, side, side) uint8, RGB.
        parts: (h, w) float64; negative ones are not colored.

    Returns:
        (3, side, side) uint8, RGB.
    """
    positive = np.clip(parts, 0, None)
    small = Image.fromarray((positive / max(positive.max(), 1e-12)).astype(np.float32))
    heat = np.asarray(small.resize(square.shape[:0:-1], Image.Resampling.BICUBIC)).clip(0, 1)
    color = WARM + (HOT - WARM) * heat[..., None]
    alpha = STRENGTH * heat[..., None]
    gray = square.mean(axis=0)[..., None]
    return (gray * (1 - alpha) + color * alpha).round().astype(np.uint8).transpose(2, 0, 1)
