"""How the features of all places of an image become one vector."""

from typing import Literal

import torch
from torch import nn

Pool = Literal["gem", "avg", "max", "avgmax"]


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


def make(kind: Pool) -> nn.Module:
    """Return the pooling of that name."""
    return GeM() if kind == "gem" else SimplePool(kind)
