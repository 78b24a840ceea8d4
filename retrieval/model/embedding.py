"""The embedding model: a backbone, pooling, a projection, unit L2 norm."""

import os
import shutil
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from retrieval.data.formats import InputError
from retrieval.model import backbones, pooling
from retrieval.model.backbones import IMAGENET_MEAN, IMAGENET_STD

Neck = Literal["none", "before", "after"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that it takes to build the model again, and to feed it.

    Attributes:
        arch: One of ``backbones.RESNETS``, or ``timm/NAME``.
        dim: Length of an embedding.
        side: Side in pixels that images are scaled to before the backbone.
        mean: Of the channels R, G, B, subtracted from values in [0, 1].
        std: Of the channels, divided by.
        pool: How the backbone's features become one vector.
        neck: ``after``: the embedding is taken after a batch norm without scale and shift.
            Otherwise there is none in the model; with ``before``, the classifier has one.
    """

    arch: str
    dim: int
    side: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pool: pooling.Pool = "gem"
    neck: Neck = "none"


class EmbeddingModel(nn.Module):
    """Images -> embeddings."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbones.build(config.arch, config.side)
        self.pool = pooling.make(config.pool)
        self.projection = nn.Linear(backbones.width(config.arch, config.side), config.dim)
        # An orthogonal projection starts out as one that keeps the angles of the pooled features.
        nn.init.orthogonal_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        has_neck = config.neck == "after"
        self.neck = nn.BatchNorm1d(config.dim, affine=False) if has_neck else nn.Identity()
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.has_frozen_norms = False
        self.has_frozen_backbone = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            images: (n, 3, h, w) uint8, RGB.

        Returns:
            (n, dim) float32, rows of unit L2 norm.
        """
        return F.normalize(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is normalized to embeddings: (n, dim) float32."""
        return self.neck(self.before_neck(images))

    def before_neck(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features that the neck takes, (n, dim) float32: those of a whole step."""
        pixels = images.float() / 255
        if pixels.shape[-1] != self.config.side:
            side = (self.config.side, self.config.side)
            pixels = F.interpolate(pixels, side, mode="bilinear", antialias=True)
        pixels = (pixels - self.mean) / self.std
        features = self.backbone(pixels.contiguous(memory_format=torch.channels_last))
        with torch.autocast(features.device.type, enabled=False):
            pooled = self.pool(features) if features.ndim == 4 else features.float()
            return self.projection(pooled)

    def freeze_norms(self) -> None:
        """Keep the batch norms of the backbone as they are: their statistics, scale and shift."""
        self.has_frozen_norms = True
        for norm in self._backbone_norms():
            norm.requires_grad_(False)
        self.train(self.training)

    def freeze_backbone(self, is_frozen: bool) -> None:
        """Keep the statistics of the backbone's batch norms for some time, or no longer."""
        self.has_frozen_backbone = is_frozen
        self.train(self.training)

    def train(self, mode: bool = True) -> "EmbeddingModel":
        """Switch to training or evaluation mode; frozen norms stay in evaluation mode."""
        super().train(mode)
        if self.has_frozen_norms or self.has_frozen_backbone:
            for norm in self._backbone_norms():
                norm.eval()
        return self

    def _backbone_norms(self) -> list[nn.Module]:
        kind = nn.modules.batchnorm._BatchNorm
        return [module for module in self.backbone.modules() if isinstance(module, kind)]


def put_on(model: EmbeddingModel, device: torch.device) -> EmbeddingModel:
    """Move a model to a device, in the memory format that convolutions are fastest in there."""
    return model.to(device).to(memory_format=torch.channels_last)


def compile_backbone(model: EmbeddingModel) -> EmbeddingModel:
    """Let the backbone be compiled when it is first used: minutes, for a faster network."""
    compilers = (os.environ.get("CXX", "g++"), "clang++", "gcc", "cc")
    if not any(map(shutil.which, compilers)):
        raise InputError("--compile needs a C++ compiler such as g++; leave it out, or install one")
    model.backbone.compile()
    return model
