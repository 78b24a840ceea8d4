"""Test-time augmentation: one embedding from several views of an image.

The views are the image at several scales, each with and without a flip. Their embeddings, of unit
L2 norm, are averaged and normalized again. Flips follow Gordo et al. (End-to-end Learning of Deep
Visual Representations for Image Retrieval, IJCV 2017), scales Radenovic et al. (Fine-tuning CNN
Image Retrieval with No Human Annotation, TPAMI 2018).
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import Tta


@dataclass(frozen=True)
class Views:
    """The views of an image to embed.

    Attributes:
        tta: ``flip`` adds the mirror image of each view.
        scales: Multiples of the model's side, each above 0.

    >>> Views("flip", (1.0, 0.5)).count
    4
    """

    tta: Tta = "none"
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= 8 for scale in self.scales):
            raise InputError(f"--scales must be above 0 and at most 8; got {self.scales}")

    @property
    def count(self) -> int:
        """The number of views."""
        return len(self.scales) * (2 if self.tta == "flip" else 1)

    @property
    def cost(self) -> float:
        """The pixels of all views together, as a multiple of those of the plain image."""
        return sum(scale**2 for scale in self.scales) * self.count / len(self.scales)

    def embed(self, model: EmbeddingModel, images: torch.Tensor) -> torch.Tensor:
        """Embed images, (n, 3, h, w) uint8 on the model's device, to (n, dim) float32.

        Rows are of unit L2 norm. Each scale is one antialiased resampling of the images as given.
        """
        shown = [images, images.flip(-1)] if self.tta == "flip" else [images]
        sizes = [at_scale(model, scale) for scale in self.scales]
        total = sum(sized(view) for sized in sizes for view in shown)
        # A single view stays as the model made it, to the last bit.
        return total if self.count == 1 else F.normalize(total)


def at_scale(model: EmbeddingModel, scale: float) -> EmbeddingModel:
    """Return the same model, sharing all weights, for images of ``scale`` times the side.

    A scale of 1 returns the model itself.

    Raises:
        InputError: A transformer, which takes images of one size only.
    """
    if scale == 1:
        return model
    if takes_one_side(model):
        raise InputError(
            f"{model.config.arch} takes images of {model.config.side} px only: leave --scales out"
        )
    scaled = copy.copy(model)
    scaled.config = replace(model.config, side=max(1, round(model.config.side * scale)))
    return scaled


def takes_one_side(model: EmbeddingModel) -> bool:
    """Return whether the backbone takes images of one size only, as most transformers do."""
    patches = getattr(getattr(model.backbone, "net", None), "patch_embed", None)
    return bool(getattr(patches, "strict_img_size", False))
