"""The embedding model: backbone, pooling, projection, unit L2 norm."""

import itertools
import os
import shutil

import torch
from torch import nn
from torch.nn import functional as F

from retrieval.data.formats import InputError
from retrieval.model import backbones
from retrieval.model.model_config import ModelConfig, Pool


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


class SimplePool(nn.Module):
    """The average, the maximum, or the sum of both (Kim et al., Proxy Anchor, CVPR 2020)."""

    def __init__(self, kind: Pool) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool (n, channels, h, w) to (n, channels) float32."""
        features = features.float()
        if self.kind == "avg":
            return features.mean(dim=(2, 3))
        if self.kind == "max":
            return features.amax(dim=(2, 3))
        return features.mean(dim=(2, 3)) + features.amax(dim=(2, 3))


def make_pooling(kind: Pool) -> nn.Module:
    """Return the pooling layer of that name."""
    return GeM() if kind == "gem" else SimplePool(kind)


class EmbeddingModel(nn.Module):
    """Images -> embeddings.

    Args:
        config: Architecture and preprocessing.
        is_loaded: Weights are loaded next, so the projection needs no costly first ones.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: ModelConfig, is_loaded: bool = False) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbones.build(config.arch, config.side)
        self.pool = make_pooling(config.pool)
        self.projection = nn.Linear(backbones.width(config.arch, config.side), config.dim)
        if not is_loaded:
            # Orthogonal: at the start, the projection keeps the angles of the pooled features.
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
        """Return the features before L2 normalization, (n, dim) float32."""
        return self.neck(self.before_neck(images))

    def before_neck(self, images: torch.Tensor) -> torch.Tensor:
        """Return the input of the neck, (n, dim) float32."""
        pooled = self.pooled(images)
        with torch.autocast(pooled.device.type, enabled=False):
            return self.projection(pooled)

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Return the backbone's pooled features, (n, width) float32."""
        features = self.feature_map(images)
        with torch.autocast(features.device.type, enabled=False):
            return self.pool(features) if features.ndim == 4 else features.float()

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """Return the backbone's features, (n, width, h, w); (n, width) of those that pool."""
        pixels = images.float() / 255
        if pixels.shape[-1] != self.config.side:
            side = (self.config.side, self.config.side)
            pixels = F.interpolate(pixels, side, mode="bilinear", antialias=True)
        pixels = (pixels - self.mean) / self.std
        return self.backbone(pixels.contiguous(memory_format=torch.channels_last))

    def freeze_norms(self) -> None:
        """Freeze the backbone's batch norms: statistics, scale and shift."""
        self.has_frozen_norms = True
        for norm in self._backbone_norms():
            norm.requires_grad_(False)
        self.train(self.training)

    def freeze_stages(self, amount: float) -> None:
        """Keep the first stages of the backbone as they are: no gradient is computed there.

        Args:
            amount: A share of the stages, rounded down, if below 1; else their number.

        Raises:
            InputError: The backbone has fewer stages.
        """
        stages = backbones.stages(self.backbone)
        n = int(amount * len(stages)) if amount < 1 else int(amount)
        if n > len(stages):
            raise InputError(
                f"--frozen_stages={amount:g}: {self.config.arch} has {len(stages)}; use a smaller "
                "number"
            )
        for parameter in itertools.chain(*stages[:n]):
            parameter.requires_grad_(False)

    def freeze_backbone(self, is_frozen: bool) -> None:
        """Freeze or unfreeze the statistics of the backbone's batch norms."""
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
    """Move a model to a device, in channels-last memory format: the fastest for convolutions."""
    return model.to(device).to(memory_format=torch.channels_last)


def compile_backbone(model: EmbeddingModel) -> EmbeddingModel:
    """Compile the backbone at its first use: this takes minutes and makes it faster."""
    compilers = (os.environ.get("CXX", "g++"), "clang++", "gcc", "cc")
    if not any(map(shutil.which, compilers)):
        raise InputError("--compile needs a C++ compiler such as g++; leave it out, or install one")
    model.backbone.compile()
    return model
