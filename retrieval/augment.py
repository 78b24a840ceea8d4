"""Random changes of training images that leave the car's model what it is."""

from typing import Literal

import torch
from torchvision.transforms import v2

Augmentation = Literal["none", "light", "strong"]


def make(kind: Augmentation, side: int) -> v2.Transform | None:
    """Return the transform of one (3, side, side) uint8 image; None for ``none``.

    ``light`` moves, scales and mirrors the car and varies the exposure. ``strong`` is for queries
    from another camera: it adds blur, noise, grey and stronger colors.
    """
    if kind == "none":
        return None
    is_strong = kind == "strong"
    jitter = 0.4 if is_strong else 0.2
    steps: list[v2.Transform] = [
        v2.RandomResizedCrop(side, scale=(0.5 if is_strong else 0.7, 1.0), ratio=(0.9, 1.1)),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter),
    ]
    if is_strong:
        steps += [
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(5, (0.2, 1.5))], 0.3),
            v2.RandomApply([_Noise(0.06)], 0.3),
        ]
    return v2.Compose(steps)


def apply(transform: v2.Transform | None, images: torch.Tensor) -> torch.Tensor:
    """Change each of (n, 3, side, side) uint8 images in its own way."""
    if transform is None:
        return images
    return torch.stack([transform(image) for image in images])


class _Noise(torch.nn.Module):
    """Gaussian noise on uint8, of a standard deviation of up to ``most`` of the value range."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        strength = torch.rand(1).item() * self.most * 255
        noise = torch.randn(image.shape, device=image.device) * strength
        return (image + noise).clamp(0, 255).to(torch.uint8)
