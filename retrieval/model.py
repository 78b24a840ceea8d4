"""The embedding model: a ResNet trunk, GeM pooling, a projection, unit L2 norm."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that it takes to build the model again, and to feed it.

    Attributes:
        arch: One of ``ARCHITECTURES``.
        dim: Length of an embedding.
        side: Side in pixels that images are scaled to before the trunk.
        mean: Of the channels R, G, B, subtracted from values in [0, 1].
        std: Of the channels, divided by.
    """

    arch: str
    dim: int
    side: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class GeM(nn.Module):
    """Generalized-mean pooling: ``mean(x ** p) ** (1 / p)`` of each channel, with a learned p.

    p = 1 is the average, p -> inf the maximum (Radenovic et al., Fine-tuning CNN Image Retrieval
    with No Human Annotation, TPAMI 2018, arXiv:1711.02512). Computed in float32, as powers
    overflow half precision, and on values of at least ``eps``, as the gradient of p needs a log.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.eps = eps

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool (n, channels, h, w) to (n, channels) float32."""
        powers = features.float().clamp(min=self.eps).pow(self.p)
        return powers.mean(dim=(2, 3)).pow(1 / self.p)


class EmbeddingModel(nn.Module):
    """Images -> embeddings."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        resnet = torchvision.models.get_model(config.arch, weights=None)
        width = resnet.fc.in_features
        # All but the average pooling and the classifier, under their own names.
        self.trunk = nn.Sequential(OrderedDict(list(resnet.named_children())[:-2]))
        self.pool = GeM()
        self.projection = nn.Linear(width, config.dim)
        # An orthogonal projection starts out as one that keeps the angles of the pooled features.
        nn.init.orthogonal_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            images: (n, 3, h, w) uint8, RGB.

        Returns:
            (n, dim) float32, rows of unit L2 norm.
        """
        pixels = images.float() / 255
        if pixels.shape[-1] != self.config.side:
            side = (self.config.side, self.config.side)
            pixels = F.interpolate(pixels, side, mode="bilinear", antialias=True)
        pixels = (pixels - self.mean) / self.std
        features = self.trunk(pixels.contiguous(memory_format=torch.channels_last))
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(self.projection(self.pool(features)))


def trunk_width(arch: str) -> int:
    """Return the number of channels that the trunk ends with."""
    with torch.device("meta"):
        return torchvision.models.get_model(arch, weights=None).fc.in_features
