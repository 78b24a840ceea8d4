"""Random changes of training images that keep the car's model recognizable.

A whole batch is changed at once on its device, each image in its own way: crop, tilt and mirror are
one resampling, exposure and color a few products. Image by image, this would take longer than a
small network on a CPU.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

from retrieval.compute.devices import to_device
from retrieval.data.formats import InputError
from retrieval.training import surveillance_effects
from retrieval.training.config import AugmentationName

SMALLEST_PX = 4  # a quarter of the side is a pixel, and a blur reaches 2 pixels far


@dataclass(frozen=True)
class Augment:
    """The random changes, each with its largest strength.

    Attributes:
        smallest_crop: Smallest share of the area that a crop keeps.
        stretch: Largest change of the aspect ratio.
        mirror: Mirror half of the images.
        tilt: Largest slope of the perspective: 0.2 shows one edge of the crop 1.5 times as large
            as the opposite one.
        jitter: Brightness, contrast and saturation change by factors from 1 - jitter to
            1 + jitter.
        hue: Largest rotation of the hue, as a share of the circle.
        grey: Share of the images that lose their color.
        blur: Share of the images that are blurred.
        noise: Largest standard deviation of the noise, for values in [0, 1].
        night: Share of the images that are darkened.
        infrared: Share of the images whose channels are mixed into one.
        few_pixels: Share of the images that lose their details.
        compression: Share of the images that are compressed as by JPEG.
    """

    smallest_crop: float = 0.7
    stretch: float = 1.1
    mirror: bool = True
    tilt: float = 0.0
    jitter: float = 0.2
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    night: float = 0.0
    infrared: float = 0.0
    few_pixels: float = 0.0
    compression: float = 0.0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Change (n, 3, side, side) uint8 images; return the same shape and dtype."""
        pixels = self._recolor(self._resample(images.float() / 255))
        # In the order of a camera: light, lens, sensor, storage.
        for share, change in (
            (self.night, surveillance_effects.night),
            (self.infrared, surveillance_effects.infrared),
            (self.blur, lambda pixels: V.gaussian_blur(pixels, [5, 5], [1.0, 1.0])),
            (self.few_pixels, surveillance_effects.few_pixels),
            (self.noise and 1.0, self._add_noise),
            (self.compression, surveillance_effects.compression),
        ):
            if share:
                pixels = torch.where(
                    surveillance_effects.chosen(pixels, share), change(pixels), pixels
                )
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)

    def _resample(self, pixels: torch.Tensor) -> torch.Tensor:
        """Crop, mirror and tilt: each image becomes a random quadrangle of itself."""
        n = len(pixels)
        size = torch.empty(n).uniform_(self.smallest_crop, 1).sqrt()
        ratio = torch.empty(n).uniform_(1 / self.stretch, self.stretch).sqrt()
        width, height = (size * ratio).clamp(max=1), (size / ratio).clamp(max=1)
        mirrored = torch.randint(0, 2, (n,)) * 2 - 1 if self.mirror else torch.ones(n)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = width * mirrored, height
        theta[:, 0, 2] = (1 - width) * torch.empty(n).uniform_(-1, 1)
        theta[:, 1, 2] = (1 - height) * torch.empty(n).uniform_(-1, 1)
        grid = F.affine_grid(
            to_device(theta, pixels.device), list(pixels.shape), align_corners=False
        )
        if self.tilt:
            slope = torch.empty(n, 1, 1, 2).uniform_(-self.tilt, self.tilt) / 2
            slope = to_device(slope, pixels.device)
            depth = 1 + (slope * grid).sum(dim=-1, keepdim=True)
            # Scaled so that the corners stay inside.
            grid = grid / depth * (1 - slope.abs().sum(dim=-1, keepdim=True))
        return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)

    def _recolor(self, pixels: torch.Tensor) -> torch.Tensor:
        low, high = 1 - self.jitter, 1 + self.jitter
        pixels = pixels * surveillance_effects.uniform(pixels, low, high)  # brightness
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = mean + (pixels - mean) * surveillance_effects.uniform(
            pixels, low, high
        )  # contrast
        grey = V.rgb_to_grayscale(pixels)
        saturation = surveillance_effects.uniform(pixels, low, high)
        saturation = saturation.masked_fill(surveillance_effects.chosen(pixels, self.grey), 0)
        pixels = grey + (pixels - grey) * saturation
        return self._turn_hue(pixels) if self.hue else pixels

    def _turn_hue(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rotate the colors about the axis of greys (Rodrigues' formula)."""
        angle = 2 * math.pi * surveillance_effects.uniform(pixels, -self.hue, self.hue)
        axis = pixels.mean(dim=1, keepdim=True)
        across = (pixels.roll(1, dims=1) - pixels.roll(-1, dims=1)) / math.sqrt(3)
        return axis + (pixels - axis) * angle.cos() + across * angle.sin()

    def _add_noise(self, pixels: torch.Tensor) -> torch.Tensor:
        strength = surveillance_effects.uniform(pixels, 0, self.noise)
        return pixels + strength * torch.randn_like(pixels)


# ``camera`` keeps the car in place and changes exposure, color, blur and noise. ``light`` moves,
# scales and mirrors the car and varies the exposure a little. ``crop`` is the usual augmentation
# for Cars196: random crops that keep the aspect ratio, and color jitter. ``strong`` combines them,
# for queries from another camera. ``surveillance`` adds the effects of a camera over a road: tilt,
# night, infrared, few pixels, compression.
AUGMENTATIONS: dict[AugmentationName, Augment | None] = {
    "none": None,
    "camera": Augment(1, 1, mirror=False, jitter=0.4, grey=0.2, blur=0.3, noise=0.06),
    "light": Augment(),
    "crop": Augment(0.16, 1, jitter=0.3, hue=0.1),
    "strong": Augment(0.5, 1.2, jitter=0.4, grey=0.2, blur=0.3, noise=0.06),
    "surveillance": Augment(
        0.5,
        1.2,
        tilt=0.3,
        jitter=0.4,
        hue=0.05,
        blur=0.3,
        noise=0.06,
        night=0.3,
        infrared=0.2,
        few_pixels=0.3,
        compression=0.3,
    ),
}


def apply(kind: AugmentationName, images: torch.Tensor) -> torch.Tensor:
    """Change each of (n, 3, side, side) uint8 images at random, as the augmentation says."""
    augment = AUGMENTATIONS[kind]
    if augment is not None and min(images.shape[-2:]) < SMALLEST_PX:
        raise InputError(
            f"--augmentation={kind} takes images of at least {SMALLEST_PX} px; use "
            "--augmentation=none, or make imageset.npy with a larger --image_resolution"
        )
    return images if augment is None else augment(images)
