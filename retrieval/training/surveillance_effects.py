"""Effects of a surveillance camera: night, infrared, few pixels, compression.

Each function changes a batch of (n, 3, h, w) float images in [0, 1] on its device, each image in
its own way, and returns the same shape.
"""

import torch
from torch.nn import functional as F

from retrieval.compute.devices import to_device

# The quantization of luminance at quality 50 (JPEG, ITU-T T.81, Table K.1).
JPEG_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def uniform(pixels: torch.Tensor, low: float, high: float, channels: int = 1) -> torch.Tensor:
    """Draw numbers for each image, (n, channels, 1, 1), with the CPU generator."""
    return to_device(torch.empty(len(pixels), channels, 1, 1).uniform_(low, high), pixels.device)


def chosen(pixels: torch.Tensor, share: float) -> torch.Tensor:
    """Choose a share of the images at random, (n, 1, 1, 1) bool."""
    return uniform(pixels, 0, 1) < share


def night(pixels: torch.Tensor) -> torch.Tensor:
    """Darken: a gamma of 1.2 to 2.5, a gain of 0.4 to 1, a lamp's color."""
    dark = pixels.clamp(0, 1) ** uniform(pixels, 1.2, 2.5)
    return dark * uniform(pixels, 0.4, 1) * uniform(pixels, 0.8, 1, channels=3)


def infrared(pixels: torch.Tensor) -> torch.Tensor:
    """Mix the channels at random into one, as infrared film does: paints may look alike or not."""
    shares = uniform(pixels, 0, 1, channels=3) + 0.05
    grey = (pixels * shares / shares.sum(dim=1, keepdim=True)).sum(dim=1, keepdim=True)
    return grey.expand_as(pixels)


def few_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Scale down to a quarter up to half of the side, and up again."""
    size = pixels.shape[-2:]
    coarse = [
        F.interpolate(F.interpolate(pixels, scale_factor=scale, mode="area"), size, mode="bilinear")
        for scale in (0.5, 0.25)
    ]
    share = uniform(pixels, 0, 1)
    return share * coarse[0] + (1 - share) * coarse[1]


def compression(pixels: torch.Tensor) -> torch.Tensor:
    """Round the frequencies of 8 x 8 blocks as JPEG does at qualities of about 10 to 50.

    Each channel as JPEG treats luminance; colors are not subsampled.
    """
    height, width = pixels.shape[-2:]
    padded = F.pad(pixels, (0, -width % 8, 0, -height % 8), mode="replicate")
    n, channels, rows, columns = padded.shape
    blocks = padded.reshape(n, channels, rows // 8, 8, columns // 8, 8)
    basis = to_device(_cosines(), pixels.device)
    coarseness = uniform(pixels, 1, 5)[..., None, None]
    table = to_device(torch.tensor(JPEG_TABLE, dtype=torch.float32) / 255, pixels.device)
    step = table[:, None, :] * coarseness
    frequencies = torch.einsum("fi,ncrikj,gj->ncrfkg", basis, blocks, basis)
    rounded = (frequencies / step).round() * step
    restored = torch.einsum("fi,ncrfkg,gj->ncrikj", basis, rounded, basis)
    return restored.reshape(padded.shape)[..., :height, :width]


def _cosines() -> torch.Tensor:
    """Return the orthonormal basis of the discrete cosine transform, (8, 8)."""
    frequency, place = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = torch.cos(torch.pi * frequency * (2 * place + 1) / 16) / 2
    basis[0] /= 2**0.5
    return basis
