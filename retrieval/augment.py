"""Random changes of training images that leave the car's model what it is.

Whole batches are changed at once, each image in its own way, on the device where they are: a crop
and a mirror image are one affine resampling, exposure and color a few products. Image by image,
the same takes longer than a small network on a CPU.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

Augmentation = Literal["none", "camera", "light", "crop", "strong", "surveillance"]


@dataclass(frozen=True)
class Augment:
    """What is changed, and by how much at most.

    Attributes:
        smallest_crop: Share of the area that a crop keeps at least.
        stretch: Largest ratio of the scales of the two sides.
        mirror: Show half of the images as in a mirror.
        jitter: Of brightness, contrast and saturation: factors of 1 - jitter to 1 + jitter.
        grey: Share of the images that lose their color.
        blur: Share of the images that are blurred.
        noise: Standard deviation of the noise at most, of a value range of 1.
    """

    smallest_crop: float = 0.7
    stretch: float = 1.1
    mirror: bool = True
    jitter: float = 0.2
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Change (n, 3, side, side) uint8 images; the result has the same form."""
        pixels = self._resample(images.float() / 255)
        pixels = self._recolor(pixels)
        if self.blur:
            blurred = V.gaussian_blur(pixels, [5, 5], [1.0, 1.0])
            pixels = torch.where(self._chosen(pixels, self.blur), blurred, pixels)
        if self.noise:
            strength = self._uniform(pixels, 0, self.noise)
            pixels = pixels + strength * torch.randn_like(pixels)
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)

    def _resample(self, pixels: torch.Tensor) -> torch.Tensor:
        """Crop and mirror: what an image shows of itself is a random rectangle within it."""
        n = len(pixels)
        size = torch.empty(n).uniform_(self.smallest_crop, 1).sqrt()
        ratio = torch.empty(n).uniform_(1 / self.stretch, self.stretch).sqrt()
        width, height = (size * ratio).clamp(max=1), (size / ratio).clamp(max=1)
        mirrored = torch.randint(0, 2, (n,)) * 2 - 1 if self.mirror else 1
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = width * mirrored, height
        theta[:, 0, 2] = (1 - width) * torch.empty(n).uniform_(-1, 1)
        theta[:, 1, 2] = (1 - height) * torch.empty(n).uniform_(-1, 1)
        grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)

    def _recolor(self, pixels: torch.Tensor) -> torch.Tensor:
        low, high = 1 - self.jitter, 1 + self.jitter
        pixels = pixels * self._uniform(pixels, low, high)  # brightness
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = mean + (pixels - mean) * self._uniform(pixels, low, high)  # contrast
        grey = V.rgb_to_grayscale(pixels)
        saturation = self._uniform(pixels, low, high)
        saturation = saturation.masked_fill(self._chosen(pixels, self.grey), 0)
        return grey + (pixels - grey) * saturation

    @staticmethod
    def _uniform(pixels: torch.Tensor, low: float, high: float) -> torch.Tensor:
        """Draw one number for each image, (n, 1, 1, 1)."""
        return torch.empty(len(pixels), 1, 1, 1).uniform_(low, high).to(pixels.device)

    @classmethod
    def _chosen(cls, pixels: torch.Tensor, share: float) -> torch.Tensor:
        """Choose a share of the images at random, (n, 1, 1, 1) bool."""
        return cls._uniform(pixels, 0, 1) < share


# ``camera`` leaves the car where it is and changes the picture: exposure, color, blur, noise.
# ``light`` moves, scales and mirrors the car and varies the exposure a little. ``strong`` does all
# of it, and more: for queries from another camera.
AUGMENTATIONS: dict[Augmentation, Augment | None] = {
    "none": None,
    "camera": Augment(1, 1, mirror=False, jitter=0.4, grey=0.2, blur=0.3, noise=0.06),
    "light": Augment(),
    "crop": Augment(0.16, 1, jitter=0.3),
    "surveillance": Augment(0.5, 1.2, jitter=0.4, grey=0.3, blur=0.4, noise=0.06),
    "strong": Augment(0.5, 1.2, jitter=0.4, grey=0.2, blur=0.3, noise=0.06),
}


def apply(kind: Augmentation, images: torch.Tensor) -> torch.Tensor:
    """Change each of (n, 3, side, side) uint8 images at random."""
    augment = AUGMENTATIONS[kind]
    return images if augment is None else augment(images)
